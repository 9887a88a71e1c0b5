"""Compiles a bundle, an OCI `config.json` and what lies beside it, whole: every step of a container's life, in lists of
operations by who does them and when. Changes nothing.

    on the host                                in the container's first process

    before: its cgroup
    prepare() of `prepared`
    joins, clone with flags              ────▶ (waits)
    born: users, cgroup, devices         ────▶ setup: namespaces, mounts, devices, masks
    ready: hooks prestart, createRuntime ◀───▶ enter: hooks createContainer; root, identity, privileges
    start                                ────▶ program: seccomp; hooks startContainer; execve
    hooks poststart

`runtime.md` ("Lifecycle") has the order.
"""

from __future__ import annotations

import os

from cutaway.kernel import capabilities
from cutaway.kernel.mounts import Options
from cutaway.kernel.namespaces import mappings_of
from cutaway.kernel.procfs import is_host_root
from cutaway.plan.mounts import AttachRoot, BindMount, ChangeRoot, HideHost, OpenRoot, PivotRoot, SetPropagation
from cutaway.plan.namespaces import (
    BecomeRoot,
    BringUpOwnLoopback,
    JoinNamespace,
    MapIds,
    NewNamespaces,
    NewTimeNamespace,
)
from cutaway.plan.process import Exec, LoadSeccomp
from cutaway.runtime.compile import (
    KERNEL_NAMES,
    Given,
    is_bind,
    label,
    limits,
    machine,
    memory,
    program,
    scheduling,
    session,
    shown_hierarchies,
    tree,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.kernel.cgroups import Layout
    from cutaway.kernel.cgroups.hierarchy import Hierarchy
    from cutaway.plan.operation import Operation
    from cutaway.runtime.systemd import Manager, Unit

DEFAULT_CGROUP_PARENT = "cutaway"
_BY_PATH = ("cgroup", "ipc", "uts", "net", "pid", "mnt", "time", "user")
"""The order in which root joins namespaces: the user namespace last, as the powers to join the others end there."""
_BY_PATH_POWERLESS = ("user", *_BY_PATH[:-1])
"""An ordinary user's: there they begin."""


class Parts:
    """What makes a container of a bundle; see above. `joins`: what the process does that clones the first one, which
    can do nothing else afterwards; mostly nothing. `flags`: with which namespaces it is cloned. `cgroup`: the path of
    its cgroup, empty where it stays in the caller's; `unit`: the unit that this is of the `systemd` at that socket, if
    any. `late`: directories that are there only when it is born. `warnings`: what the specification wants told and not
    refused."""

    __slots__ = (
        "before", "born", "cgroup", "enter", "flags", "joins", "late", "program", "ready", "setup", "systemd", "unit",
        "warnings",
    )  # fmt: skip

    def __init__(self) -> None:
        self.before: list[Operation] = []
        self.joins: list[Operation] = []
        self.flags = 0
        self.born: list[Operation] = []
        self.setup: list[Operation] = []
        self.ready: list[Operation] = []
        self.enter: list[Operation] = []
        self.program: list[Operation] = []
        self.cgroup = self.unit = self.systemd = ""
        self.late: frozenset[str] = frozenset()
        self.warnings: list[str] = []

    @property
    def inside(self) -> list[Operation]:
        """What the process does itself."""
        return [*self.setup, *self.enter, *self.program]

    @property
    def prepared(self) -> list[Operation]:
        """What is to be prepared on the host before the process is born."""
        return [*self.joins, *self.born, *(each for each in self.inside if not self._is_late(each))]

    @property
    def prepared_late(self) -> list[Operation]:
        """What it has to prepare itself when it is born."""
        return [each for each in self.inside if self._is_late(each)] if self.late else []

    def _is_late(self, operation: Operation) -> bool:
        return isinstance(operation, BindMount) and operation.source in self.late


def compile_bundle(
    spec: dict[str, Any],
    bundle: str,
    identifier: str,
    layout: Layout,
    filters: str = "",
    *,
    pivot: bool = True,
    keyring: bool = True,
    preserved: int = 0,
    systemd: Manager | None = None,
    rootless: bool = False,
) -> Parts:
    """The parts of the container `identifier`. `spec`: a checked `config.json` (`specification.check`,
    `meaning.check`); `bundle`: its directory, absolute; `layout`: the host's cgroups; `filters`: a directory in which
    compiled seccomp filters are kept, if any; `preserved`: how many descriptors from 3 on the program gets;
    `systemd`: who makes its cgroup, if not this; `rootless`: whether it goes without one where it needs none.

    Raises `InvalidConfig`, `InvalidUnit`, `UnsupportedResource`, `LibseccompMissing`.
    """
    spec = _absolute(spec, bundle)
    linux = spec.get("linux", {})
    kinds = {KERNEL_NAMES.get(each["type"], each["type"]): each.get("path", "") for each in linux.get("namespaces", ())}
    parts = Parts()
    given = _given(spec, kinds, identifier if keyring else "", _filter(spec, bundle, identifier, filters), layout)
    if rootless and not systemd and _needs_no_cgroup(linux):
        _stay(kinds, layout, given)
    else:
        _place(parts, spec, kinds, identifier, layout, given, systemd=systemd)
    _birth(parts, linux, kinds)
    if "intelRdt" in linux:
        from cutaway.plan.resctrl import resctrl_operations

        made, joined = resctrl_operations(linux["intelRdt"], identifier)
        parts.before += made
        parts.born += joined
    _inside(parts, spec, kinds, given, pivot=pivot, preserved=preserved)
    if spec.get("hooks"):
        _hook(parts, spec["hooks"])
    return parts


def _hook(parts: Parts, hooks: dict[str, Any]) -> None:
    from cutaway.plan.hooks import hook_operations

    parts.ready += hook_operations(hooks, "prestart", "createRuntime")
    parts.enter[:0] = hook_operations(hooks, "createContainer")
    parts.program[-1:-1] = hook_operations(hooks, "startContainer")  # under the filter, as the program


_WITHOUT_LABEL = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")
"""File systems whose files SELinux knows by rules of its own."""


def _absolute(spec: dict[str, Any], bundle: str) -> dict[str, Any]:
    """With the paths that are relative to the bundle, or to the container's root, made whole."""
    root = spec["root"] | {"path": os.path.join(bundle, spec["root"]["path"])}
    mounts = [mount | {"destination": os.path.join("/", mount["destination"])} for mount in spec.get("mounts", ())]
    label, follows = spec.get("linux", {}).get("mountLabel"), _follows_host(spec)
    for mount in mounts:
        if is_bind(mount):
            mount["source"] = os.path.join(bundle, mount["source"])
            if follows and not Options(mount.get("options", [])).propagation:
                mount["options"] = [*mount.get("options", ()), "rslave"]
        elif label and mount.get("type") not in _WITHOUT_LABEL:
            mount["options"] = [*mount.get("options", ()), f"context={label}"]
    return spec | {"root": root, "mounts": mounts}


def _follows_host(spec: dict[str, Any]) -> bool:
    """Whether what is mounted on the host later is to be seen inside, too."""
    asked: str = spec.get("linux", {}).get("rootfsPropagation", "")
    return asked.endswith(("slave", "shared"))


def _filter(spec: dict[str, Any], bundle: str, identifier: str, filters: str) -> LoadSeccomp | None:
    profile = spec.get("linux", {}).get("seccomp")
    state = {"ociVersion": spec["ociVersion"], "id": identifier, "status": "creating", "bundle": bundle}
    state |= {"annotations": spec["annotations"]} if spec.get("annotations") else {}
    return filter_operation(profile, state, filters) if profile else None


def filter_operation(profile: dict[str, Any], state: dict[str, Any], filters: str) -> LoadSeccomp:
    """Loads the filter that `linux.seccomp` asks for, compiled anew or kept in the directory `filters`. `state`: of the
    container, for who listens to its notifications, if any."""
    from cutaway.kernel.seccomp import compile, compile_cached, notifies

    program = (compile_cached(profile, filters) if filters else compile(profile)).hex()
    if not notifies(profile):
        return LoadSeccomp(program, flags=profile.get("flags", []))
    announcement = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "metadata": profile.get("listenerMetadata", ""),
        "state": state,
    }
    return LoadSeccomp(program, "", profile.get("flags", []), profile["listenerPath"], announcement)


def _given(
    spec: dict[str, Any], kinds: dict[str, str], identifier: str, seccomp: LoadSeccomp | None, layout: Layout
) -> Given:
    linux = spec.get("linux", {})
    hierarchies, links = shown_hierarchies(layout)
    given = Given({}, [], hierarchies, links, seccomp, f"_ses.{identifier}" if identifier else "")
    given.borrows = "user" in kinds or not is_host_root()
    given.owners = linux.get("uidMappings", []), linux.get("gidMappings", [])
    if kinds.get("user") and linux.get("devices") and is_host_root():
        given.owners = mappings_of(kinds["user"])
    return given


def _place(
    parts: Parts,
    spec: dict[str, Any],
    kinds: dict[str, str],
    identifier: str,
    layout: Layout,
    given: Given,
    *,
    systemd: Manager | None,
) -> None:
    """Its place among the cgroups, and what it is limited to there."""
    from cutaway.kernel.cgroups import normal
    from cutaway.plan.cgroups import DelegateCgroup, create_operations, join_operation

    linux = spec.get("linux", {})
    asked = linux.get("cgroupsPath", "")
    unit = _unit(asked, identifier, systemd) if systemd else None
    parts.cgroup = unit.path if unit else normal(cgroup_path(asked, identifier))
    resources = with_default_devices(_resources(spec))
    delegated: list[Operation] = []
    if kinds.get("user") == kinds.get("cgroup") == "" and not given.hierarchies and _mounts_own_cgroup(spec):
        root = next((each["hostID"] for each in linux["uidMappings"] if each["containerID"] == 0), -1)
        delegated = [DelegateCgroup(layout.hierarchies[0].directory(parts.cgroup), root)]
    if unit:
        parts.unit, parts.systemd = unit.name, unit.manager.socket
        parts.born += unit.operations(identifier, resources, layout, spec.get("annotations") or {}, delegated)
    else:
        _check_unused(parts.cgroup, layout)
        parts.before += [
            *create_operations(parts.cgroup, resources, layout, _own_parents(asked, parts.cgroup)),
            *delegated,
        ]
        join = join_operation(parts.cgroup, layout)
        (parts.born if "user" in kinds else given.join_cgroup).append(join)
    if "cgroup" not in kinds:
        _show_cgroups(given, {each: each.directory(parts.cgroup) for each in layout.hierarchies})
        parts.late = frozenset(given.cgroups.values()) if unit else frozenset()


def _check_unused(path: str, layout: Layout) -> None:
    """Whoever is in a container's cgroup is limited, frozen and killed with it. Raises `InvalidConfig`."""
    from cutaway.kernel.cgroups import Cgroup
    from cutaway.runtime.specification import InvalidConfig

    cgroup = Cgroup(path, layout)
    if not (layout.find("freezer") and os.path.isdir(cgroup.directory("freezer"))):
        return
    if strangers := cgroup.processes():
        raise InvalidConfig("linux.cgroupsPath", f"{path} is not empty: {len(strangers)} process(es) found")
    if cgroup.is_frozen:
        raise InvalidConfig("linux.cgroupsPath", f"{path} is frozen: no process could get out of it")


def _needs_no_cgroup(linux: dict[str, Any]) -> bool:
    """Device rules alone are no reason: who has no powers over the host's devices gives none."""
    limits = (name for name, value in linux.get("resources", {}).items() if value and name != "devices")
    return not linux.get("cgroupsPath") and not any(limits)


def _stay(kinds: dict[str, str], layout: Layout, given: Given) -> None:
    """It stays in the caller's cgroups."""
    from cutaway.kernel import procfs

    if "cgroup" not in kinds:
        own = procfs.cgroups()
        _show_cgroups(given, {each: each.directory(own[each.name].strip("/")) for each in layout.hierarchies})


def _show_cgroups(given: Given, directories: dict[Hierarchy, str]) -> None:
    """Of each hierarchy, only the container's own directory."""
    by_name = {os.path.basename(each.mount_point): directory for each, directory in directories.items()}
    shown = {name: directory for name, directory in by_name.items() if name in given.hierarchies}
    given.cgroups = shown or {"": next(iter(by_name.values()))}


def _resources(spec: dict[str, Any]) -> dict[str, Any]:
    """`linux.resources`. Before version 1.3, a `pids.limit` of 0 was no limit. Whoever is root in a user namespace has
    no say about devices."""
    resources: dict[str, Any] = spec.get("linux", {}).get("resources", {})
    if "devices" in resources and not is_host_root():
        resources = {name: value for name, value in resources.items() if name != "devices"}
    if resources.get("pids", {}).get("limit") != 0 or _minor_version(spec) >= 3:
        return resources
    return resources | {"pids": {"limit": -1}}


def _minor_version(spec: dict[str, Any]) -> int:
    return int(spec["ociVersion"].split(".")[1])


def _unit(asked: str, identifier: str, manager: Manager) -> Unit:
    from cutaway.runtime.systemd import Unit

    return Unit.of(asked, identifier, manager)


def _mounts_own_cgroup(spec: dict[str, Any]) -> bool:
    """Whether its cgroup can be written to inside."""
    return any(each.get("type") == "cgroup" and "ro" not in each.get("options", ()) for each in spec["mounts"])


def cgroup_path(asked: str, identifier: str) -> str:
    """Where a container's cgroup is in each hierarchy, for `linux.cgroupsPath`: a relative one is below ours."""
    return asked if asked.startswith("/") else f"/{DEFAULT_CGROUP_PARENT}/{asked or identifier}"


def _own_parents(asked: str, path: str) -> list[str]:
    """The cgroups above the one at `path` that nobody asked for by their whole name, the nearest first."""
    if asked.startswith("/"):
        return []
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


def with_default_devices(resources: dict[str, Any]) -> dict[str, Any]:
    """`linux.resources` whose device rules, if there are any, end with what every container may do: use the devices
    that it has by default, and make others that it cannot open."""
    rules = resources.get("devices")
    if rules is None or _allow_all(rules):
        return resources
    return resources | {"devices": [*rules, *_DEFAULT_RULES]}


def _allow_all(rules: list[dict[str, Any]]) -> bool:
    """Whether they allow every device but for some: then there is nothing to add."""
    general = [rule for rule in rules if rule.get("type", "a") == "a" and not {"major", "minor"} & rule.keys()]
    return bool(general) and general[-1]["allow"]


def _rule(kind: str, major: int, minor: int, access: str = "rwm") -> dict[str, Any]:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


_ANY = -1
_DEFAULT_RULES = [
    _rule("c", _ANY, _ANY, "m"),
    _rule("b", _ANY, _ANY, "m"),
    *(_rule("c", 1, minor) for minor in (3, 5, 7, 8, 9)),  # null, zero, full, random, urandom
    *(_rule("c", 5, minor) for minor in (0, 1, 2)),  # tty, console, ptmx
    _rule("c", 10, 200),  # /dev/net/tun, which images make themselves and only CAP_NET_ADMIN does anything with
    _rule("c", 136, _ANY),  # terminals
]


def _birth(parts: Parts, linux: dict[str, Any], kinds: dict[str, str]) -> None:
    """Which namespaces it is born into, which it joins, and where that must happen before it is born: to enter a PID or
    user namespace, and to enter others while the powers of the host's user namespace last."""
    new = [kind for kind, path in kinds.items() if not path and kind not in ("cgroup", "time")]
    parts.flags = NewNamespaces(new).flags
    order = _BY_PATH_POWERLESS if os.geteuid() else _BY_PATH
    joined: list[Operation] = [JoinNamespace(kind, kinds[kind]) for kind in order if kinds.get(kind)]
    beforehand = kinds.get("pid") or "user" in kinds
    (parts.joins if beforehand else parts.setup).extend(joined)
    if kinds.get("time") == "":
        offsets = {clock: [each.get("secs", 0), each.get("nanosecs", 0)] for clock, each in _clocks(linux)}
        first = 1 if os.geteuid() and kinds.get("user") else 0
        parts.joins.insert(first, NewTimeNamespace(offsets))
    if kinds.get("user") == "":
        parts.born.append(MapIds(linux["uidMappings"], linux["gidMappings"]))
    if linux.get("netDevices"):
        from cutaway.plan.interfaces import MoveInterface

        devices = linux["netDevices"].items()
        parts.born += [MoveInterface(name, each.get("name") or name, kinds["net"]) for name, each in devices]


def _clocks(linux: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    return list(linux.get("timeOffsets", {}).items())


def _inside(
    parts: Parts, spec: dict[str, Any], kinds: dict[str, str], given: Given, *, pivot: bool, preserved: int
) -> None:
    linux = spec.get("linux", {})
    given.preserved = preserved
    place = _place_of_root(spec, kinds)
    parts.setup += [*given.join_cgroup, *label(spec["process"]), *_root(spec, kinds, place)]
    if "user" in kinds:
        parts.setup.append(BecomeRoot())
    if kinds.get("cgroup") == "":
        parts.setup.append(NewNamespaces(["cgroup"]))
    if kinds.get("net") == "":
        parts.setup.append(BringUpOwnLoopback())
    parts.setup += [*session(given), *tree(spec, given)]
    parts.enter += _entering(linux.get("rootfsPropagation", ""), kinds, place, pivot=pivot)
    parts.enter += [*machine(spec), *memory(linux)]
    steps = list(program(_process(parts, spec["process"], in_user_namespace="user" in kinds), given))
    first = first_of_last(steps)
    parts.enter += steps[:first]
    parts.program = steps[first:]


def first_of_last(steps: list[Operation]) -> int:
    """From where on they are done only when the program may run: a filter that comes so late may allow nothing else."""
    return next(number for number in range(len(steps), 0, -1) if not isinstance(steps[number - 1], _LAST))


_LAST = (LoadSeccomp, Exec)


def _place_of_root(spec: dict[str, Any], kinds: dict[str, str]) -> str:
    """Where the root is attached: for hooks, where it is on the host, as they reach what is mounted in it there. Else
    over `/`, to which nobody is denied the way. A mount namespace that is joined need not have the other place."""
    return spec["root"]["path"] if spec.get("hooks") and not kinds.get("mnt") else "/"


def _root(spec: dict[str, Any], kinds: dict[str, str], place: str) -> list[Operation]:
    """Attached by who the process was born as, who may look into directories that no user of the container may."""
    path = spec["root"]["path"]
    if "mnt" not in kinds:
        return [OpenRoot(path)]
    return [SetPropagation("rslave"), AttachRoot(path, place, _follows_host(spec))]


def _entering(propagation: str, kinds: dict[str, str], place: str, *, pivot: bool) -> list[Operation]:
    """A root that is shared cannot be pivoted to, and of one that is unbindable nothing be made read-only."""
    late = [SetPropagation(propagation)] if propagation.endswith(("shared", "unbindable")) else []
    if pivot and "mnt" in kinds:
        return [PivotRoot(), *late]
    hidden = [HideHost()] if kinds.get("mnt") == "" else []
    return [*hidden, ChangeRoot(moves="mnt" in kinds and place != "/"), *late]


def _process(parts: Parts, process: dict[str, Any], *, in_user_namespace: bool) -> dict[str, Any]:
    """What is left for the process to do to itself. In a user namespace it may not raise limits or lower scores."""
    wanted, parts.warnings = granted(process.get("capabilities", {}), everything=in_user_namespace)
    if not in_user_namespace:
        parts.enter += scheduling(process)
        return process | {"capabilities": wanted}
    parts.ready += [*scheduling(process), *limits(process)]
    left = {key: value for key, value in process.items() if key not in ("oomScoreAdj", "rlimits")}
    return left | {"capabilities": wanted}


def granted(asked: dict[str, list[str]], *, everything: bool) -> tuple[dict[str, list[str]], list[str]]:
    """The capabilities that there are to give, and a warning for each that is not, which must not make it fail."""
    held = set(capabilities.NAMES if everything else capabilities.names(capabilities.capget()[1]))
    sets = {name: [each for each in asked.get(name, ()) if each in held] for name in _SETS}
    sets["effective"] = [each for each in sets["effective"] if each in sets["permitted"]]
    usable = {*sets["permitted"]} & {*sets["inheritable"]}
    sets["ambient"] = [each for each in sets["ambient"] if each in usable]
    warnings = [
        f"process.capabilities.{name}: {each} cannot be granted"
        for name in _SETS
        for each in asked.get(name, ())
        if each not in sets[name]
    ]
    return sets, warnings


_SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")
