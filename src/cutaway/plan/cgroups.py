"""Operations that limit and count what a container uses: its cgroup, in every hierarchy of the host. `cgroups(7)`"""

from __future__ import annotations

import os

from cutaway.kernel import procfs
from cutaway.kernel.cgroups import Cgroup, Layout, UnsupportedResource, normal
from cutaway.kernel.cgroups.devices import DeviceRule, v1_lines
from cutaway.kernel.cgroups.files import write
from cutaway.kernel.cgroups.resources import BOUNDS, writes
from cutaway.kernel.errors import KernelError
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from cutaway.kernel.cgroups import Write

NAME_ATTRIBUTE = "trusted.cutaway.name"
_ALL_CPUS = range(max(1024, os.cpu_count() or 0))
"""And more than most machines have, which the kernel does not mind: one that comes later is among them."""
_SECONDS_TO_END = 10
"""How long undoing waits for killed processes, which a broken disk or network file system can hold up."""


class CreateCgroup(Operation):
    """A directory in each hierarchy; `hierarchies` as `Layout.plain` gives them. Undo kills who is left in it.

    `parents`: those above it, the nearest first, that are there for such cgroups alone and go with the last one.
    """

    path: str
    hierarchies: list[list[Any]]
    parents: list[str] = []
    manual = "cgroups(7)"

    @property
    def cgroup(self) -> Cgroup:
        """What it makes."""
        return Cgroup(self.path, Layout.of(self.hierarchies))

    def apply(self, context: Context) -> None:  # noqa: ARG002
        self.cgroup.create()

    def undo(self, context: Context) -> None:  # noqa: ARG002
        cgroup = self.cgroup
        cgroup.kill()
        cgroup.remove(_SECONDS_TO_END)
        for parent in self._parents:
            parent.remove_unused()

    @property
    def _parents(self) -> list[Cgroup]:
        return [Cgroup(parent, Layout.of(self.hierarchies)) for parent in self.parents]

    def shell(self) -> str:
        lines = ["mkdir -p " + _words(self.cgroup.directories)]
        for version, mount_point, controllers in self.hierarchies:
            if version == 1 and "cpuset" in controllers:
                lines += _inherit_cpuset(mount_point, self.path)
            if version == 2 and controllers:
                lines += _delegate(mount_point, self.path, controllers)
        return "\n".join(lines)

    def shell_undo(self) -> str:
        directories = self.cgroup.directories
        processes = _words([f"{directories[0]}/cgroup.procs"])
        remove_unused = [f"rmdir {_words(parent.directories)} 2>/dev/null || :" for parent in self._parents]
        script = f"""\
while read -r pid; do kill -KILL "$pid"; done < {processes}
for try in 1 2 3 4 5 6 7 8 9; do read -r pid < {processes} || break; sleep 0.1; done
rmdir {_words(directories)}"""
        return "\n".join([script, *remove_unused])

    def why(self) -> str:
        return "A cgroup of its own, so that all of the container's processes are counted, limited and killed together."


class WriteCgroup(Operation):
    """`value` to a control file in `directory`; to `otherwise`, a file and a value, where the kernel has no `file`.

    `previous` is what an existing cgroup's file held, to be written back by `undo`; that of a new one goes with it.
    """

    directory: str
    file: str
    value: str
    otherwise: list[str] = []
    previous: str = ""
    manual = "cgroups(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        try:
            write(f"{self.directory}/{self.file}", self.value)
        except FileNotFoundError:
            if not self.otherwise:
                raise
            file, value = self.otherwise
            write(f"{self.directory}/{file}", value)

    def undo(self, context: Context) -> None:  # noqa: ARG002
        if self.previous:
            write(f"{self.directory}/{self.file}", self.previous)

    def subject(self) -> str:
        return f"{self.file}: {self.value}"

    def shell(self) -> str:
        path = f"{self.directory}/{self.file}"
        line = _echo(self.value, path)
        if not self.otherwise:
            return line
        file, value = self.otherwise
        return f"if [ -e {_words([path])} ]; then {line}; else {_echo(value, f'{self.directory}/{file}')}; fi"

    def shell_undo(self) -> str:
        return _echo(self.previous, f"{self.directory}/{self.file}") if self.previous else ""

    def why(self) -> str:
        meaning = _MEANINGS.get(self.file, "The limit {file} of the container's cgroup becomes {value}.")
        return meaning.format(file=self.file, value=self.value)


class NameCgroup(Operation):
    """Writes the container's name on its cgroup, as an extended attribute of the directory, for whoever looks at the
    host without asking an engine."""

    directory: str
    name: str
    manual = "xattr(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        try:
            os.setxattr(self.directory, NAME_ATTRIBUTE, os.fsencode(self.name))
        except OSError as error:
            raise KernelError(error.errno or 0, "setxattr", f"{self.directory}, {self.name}") from None

    def shell(self) -> str:
        return ""  # setfattr is no tool of every host, and a script needs no name

    def why(self) -> str:
        return f"Who looks at this cgroup without an engine can tell that it is {self.name}'s."


class LimitDevices(Operation):
    """Which device files the container's processes may make, read and write: of `rules` such as `allow c 1:3 rwm`, the
    last that matches decides. `directory` is a cgroup of `version`."""

    directory: str
    version: int
    rules: list[str]
    manual = "bpf(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        rules = map(DeviceRule.parse, self.rules)
        if self.version == 2:
            from cutaway.kernel.bpf import limit_devices

            limit_devices(self.directory, rules)
            return
        for file, lines in v1_lines(rules):
            write(f"{self.directory}/{file}", *lines)

    def subject(self) -> str:
        return f"{len(self.rules)} rules"

    def shell(self) -> str:
        if self.version == 2:
            shown = "\n".join(f"#   {rule}" for rule in self.rules)
            return f"# no stock tool compiles these rules to the program that cgroup v2 asks:\n{shown}"
        files = v1_lines(map(DeviceRule.parse, self.rules))
        return "\n".join(_echo(line, f"{self.directory}/{file}") for file, lines in files for line in lines)

    def why(self) -> str:
        return "Only these devices can be opened or made inside: not the host's disks, whatever device files are there."


class JoinCgroup(Operation):
    """The container's first process goes into its cgroup: into version 2's by being cloned into `directory`, which the
    descriptor "cgroup" is of, into version 1's by writing itself down in each of the files `tasks`. It must not have a
    cgroup namespace of its own yet: that would begin where the process came from.

    Then it may run on all CPUs of that cgroup: which ones its caller was limited to is nothing to it, and since Linux
    6.2 does not pass by itself.
    """

    tasks: list[str]
    directory: str = ""
    manual = "clone(2)"

    def prepare(self, context: Context) -> None:
        if self.directory and "cgroup" not in context.descriptors:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            context.descriptors["cgroup"] = os.open(self.directory, flags)

    def apply(self, context: Context) -> None:
        for file in self.tasks:
            write(file.lstrip("/"), str(context.pid), root=context.host)
        os.sched_setaffinity(context.pid, _ALL_CPUS)

    def subject(self) -> str:
        return self.directory or f"{len(self.tasks)} hierarchies"

    def shell(self) -> str:
        files = [*self.tasks, f"{self.directory}/cgroup.procs"] if self.directory else self.tasks
        return f'for file in {_words(files)}; do echo 0 > "$file"; done'

    def why(self) -> str:
        return "From here on all that the process and its children use is counted and limited."


class DelegateCgroup(Operation):
    """Gives the cgroup at `directory`, of version 2, to the user `uid`, who may then make others below it: the
    directory and the files that the kernel says go with it, not the limits."""

    directory: str
    uid: int
    manual = "cgroups(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        for path in [self.directory, *(f"{self.directory}/{file}" for file in _delegated())]:
            try:
                os.chown(path, self.uid, -1)
            except FileNotFoundError:  # the kernel has no such controller
                continue

    def shell(self) -> str:
        directory = _words([self.directory])
        files = f"sed s,^,{self.directory}/, {_DELEGATED}"
        return f"chown {self.uid} {directory} $({files})"

    def why(self) -> str:
        return "The container's root may make cgroups of its own below, as an init like systemd does."


_DELEGATED = "/sys/kernel/cgroup/delegate"


def _delegated() -> list[str]:
    try:
        with open(_DELEGATED, encoding="ascii") as names:
            return names.read().split()
    except FileNotFoundError:  # before Linux 4.15
        return ["cgroup.procs", "cgroup.subtree_control"]


class CountBlockIO(Operation):
    """Has version 1 count what goes to and from the host's disks, for every cgroup, where the kernel (6.11 and later)
    does so only once a limit, if of nothing, has been set for a disk in some cgroup: in `directory`, of blkio."""

    directory: str
    manual = "cgroups(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        write(f"{self.directory}/{_READ_LIMIT}", *(f"{disk} 0" for disk in _disks()))

    def shell(self) -> str:
        file = _words([f"{self.directory}/{_READ_LIMIT}"])
        return f'for disk in /sys/block/*/dev; do echo "$(cat $disk) 0" > {file}; done'

    def why(self) -> str:
        return "So that `stats` can tell what each container reads and writes."


_READ_LIMIT = "blkio.throttle.read_bps_device"


def _disks() -> Iterator[str]:
    """`"8:0"` for each disk of the host."""
    for name in os.listdir("/sys/block"):
        with open(f"/sys/block/{name}/dev", encoding="ascii") as number:
            yield number.read().strip()


class FreezeCgroup(Operation):
    """Stops all of a container's processes at once, where they are; undone, they run on."""

    path: str
    hierarchies: list[list[Any]]
    manual = "cgroups(7)"

    @property
    def cgroup(self) -> Cgroup:
        """What it freezes."""
        return Cgroup(self.path, Layout.of(self.hierarchies))

    def apply(self, context: Context) -> None:  # noqa: ARG002
        self.cgroup.freeze()

    def undo(self, context: Context) -> None:  # noqa: ARG002
        if self.cgroup.exists():
            self.cgroup.thaw()

    def shell(self) -> str:
        return _echo(*self._commands()[0])

    def shell_undo(self) -> str:
        return _echo(*self._commands()[1])

    def why(self) -> str:
        return (
            "Every process stops where it is, and cannot tell: unlike SIGSTOP, the cgroup's freezer is not seen inside."
        )

    def _commands(self) -> tuple[tuple[str, str], tuple[str, str]]:
        directory = self.cgroup.directory("freezer")
        if Layout.of(self.hierarchies).find("freezer", version=1):
            return ("FROZEN", f"{directory}/freezer.state"), ("THAWED", f"{directory}/freezer.state")
        return ("1", f"{directory}/cgroup.freeze"), ("0", f"{directory}/cgroup.freeze")


def create_operations(
    path: str, resources: Mapping[str, Any], layout: Layout, parents: list[str] | None = None
) -> list[Operation]:
    """What makes the cgroup at `path` and limits it to `resources`, OCI's `linux.resources`, on a host of `layout`.

    `parents`: those above it that go with the last one in them, the nearest first.

    Raises `UnsupportedResource` for a limit this host does not have, `ValueError` for the root cgroup as `path`.
    """
    cgroup = Cgroup(path, layout)
    limits = [_write(cgroup, wanted) for wanted in writes(resources, layout)]
    return [CreateCgroup(cgroup.path, layout.plain(), parents or []), *_limit_devices(cgroup, resources), *limits]


def name_operation(path: str, name: str, layout: Layout) -> NameCgroup:
    """What writes the container's name on the cgroup at `path`."""
    return NameCgroup((layout.unified or layout.hierarchies[0]).directory(normal(path)), name)


def join_operation(path: str, layout: Layout, init: int = 0) -> JoinCgroup:
    """What brings a process into the cgroup at `path`; later ones follow `init`, the container's first process.

    Version 2 has processes in leaves only: an init that makes cgroups for its services has left `path` for one of them.
    """
    path = normal(path)
    tasks = [each.join_file(path) for each in layout.hierarchies if each.version == 1]
    if layout.unified is None:
        return JoinCgroup(tasks)
    _, separator, below = procfs.cgroups(init)[""].partition(f"/{path}/") if init else ("", "", "")
    return JoinCgroup(tasks, layout.unified.directory(f"{path}/{below}" if separator else path))


def count_block_operations(path: str, layout: Layout) -> list[Operation]:
    """What has the host count block I/O, by the cgroup at `path`, which stays; nothing where it does so by itself."""
    hierarchy = layout.find("blkio", version=1)
    return [CountBlockIO(hierarchy.directory(normal(path)))] if hierarchy else []


def update_operations(cgroup: Cgroup, resources: Mapping[str, Any]) -> list[Operation]:
    """What changes the limits of an existing cgroup to `resources`, each write with what it takes to undo it.

    Raises `UnsupportedResource` as `create_operations` does, and where `memory.checkBeforeUpdate` is asked for and more
    than the new limit is in use.
    """
    _check_memory(cgroup, resources.get("memory") or {})
    current = {file: cgroup.read(file.partition(".")[0], file) for file in BOUNDS if _has(cgroup, file)}
    return [
        *_limit_devices(cgroup, resources),
        *(
            _write(cgroup, wanted, previous=_previous(cgroup, wanted))
            for wanted in writes(resources, cgroup.layout, current)
        ),
    ]


def _limit_devices(cgroup: Cgroup, resources: Mapping[str, Any]) -> list[Operation]:
    if resources.get("devices") is None:
        return []
    rules = [DeviceRule.of(rule) for rule in resources["devices"]]
    hierarchy = cgroup.layout.find("devices")
    if hierarchy is None:
        raise UnsupportedResource(f"devices: {cgroup.layout} have no devices controller")
    if hierarchy.version == 1:
        v1_lines(rules)  # raises what version 1 cannot do
    return [LimitDevices(hierarchy.directory(cgroup.path), hierarchy.version, list(map(str, rules)))]


def _write(cgroup: Cgroup, wanted: Write, previous: str = "") -> WriteCgroup:
    directory = cgroup.directory(wanted.controller)
    return WriteCgroup(directory, wanted.file, wanted.value, list(wanted.otherwise or ()), previous)


def _check_memory(cgroup: Cgroup, memory: Mapping[str, Any]) -> None:
    limit = memory.get("limit") or -1
    if memory.get("checkBeforeUpdate") and 0 < limit < (used := cgroup.memory().usage):
        raise UnsupportedResource(f"a memory limit of {limit} bytes: {used} are in use")


def _has(cgroup: Cgroup, file: str) -> bool:
    controller = file.partition(".")[0]
    return cgroup.layout.find(controller) is not None and os.path.exists(f"{cgroup.directory(controller)}/{file}")


def _previous(cgroup: Cgroup, wanted: Write) -> str:
    """What the file holds that the write changes: all of it, or the line of the device that is written about."""
    if not _has(cgroup, wanted.file):
        return ""
    held = cgroup.read(wanted.controller, wanted.file).splitlines()
    subject, _, _ = wanted.value.partition(" ")
    if ":" not in subject:
        return held[0] if held else ""
    return next((line for line in held if line.split()[0] == subject), f"{subject} {_UNSET.get(wanted.file, '0')}")


_UNSET = {"io.max": "rbps=max wbps=max riops=max wiops=max", "io.weight": "default", "io.bfq.weight": "default"}
"""What a device's line holds where none is shown; 0 elsewhere."""


def _echo(value: str, path: str) -> str:
    return f"echo {_words([value])} > {_words([path])}"


def _words(values: list[str]) -> str:
    from shlex import join  # imports `re`; only a script needs it

    return join(values)


def _ancestors(mount_point: str, path: str) -> list[str]:
    parts = path.split("/")
    return [f"{mount_point}/{'/'.join(parts[:count])}".rstrip("/") for count in range(len(parts))]


def _inherit_cpuset(mount_point: str, path: str) -> list[str]:
    directories = [*_ancestors(mount_point, path)[1:], f"{mount_point}/{path}"]
    return [
        f"cat {_words([f'{os.path.dirname(directory)}/cpuset.{file}'])} > {_words([f'{directory}/cpuset.{file}'])}"
        for directory in directories
        for file in ("cpus", "mems")
    ]


def _delegate(mount_point: str, path: str, controllers: list[str]) -> list[str]:
    names = " ".join(f"+{controller}" for controller in controllers)
    return [_echo(names, f"{directory}/cgroup.subtree_control") for directory in _ancestors(mount_point, path)]


_MEANINGS = {
    "memory.limit_in_bytes": "The processes may use {value} bytes of memory together; one that takes more is killed.",
    "memory.memsw.limit_in_bytes": "Memory and swap together may grow to {value} bytes.",
    "memory.soft_limit_in_bytes": "When the host runs short, the processes are pressed down to {value} bytes.",
    "memory.max": "The processes may use {value} bytes of memory together; one that takes more is killed.",
    "memory.swap.max": "Of what the processes use, {value} bytes may be swapped out.",
    "memory.low": "When the host runs short, {value} bytes are left to the processes.",
    "memory.swappiness": "How readily the kernel swaps the processes' memory out, from 0 to 100: {value}.",
    "memory.oom_control": "Beyond the limit, processes wait for memory instead of being killed.",
    "cpu.cfs_period_us": "The CPU quota is renewed every {value} microseconds.",
    "cpu.cfs_quota_us": "In each period the processes may run for {value} microseconds together.",
    "cpu.max": "How many microseconds the processes may run together in a period, and the period: {value}.",
    "cpu.shares": "When CPUs are short, the processes get {value} parts where others get 1024.",
    "cpu.weight": "When CPUs are short, the processes get {value} parts where others get 100.",
    "cpuset.cpus": "The processes run on these CPUs only: {value}.",
    "cpuset.mems": "The processes' memory comes from these nodes only: {value}.",
    "pids.max": "There may be {value} processes and threads at a time: a fork bomb ends there.",
}
