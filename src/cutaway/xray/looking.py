"""Looking at a host, and opening one container: everything put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.kernel.namespaces import CLONE_NEWUTS, setns
from cutaway.xray import cgroup, engines, files, finding, namespaces, processes, security
from cutaway.xray.engines import Mark
from cutaway.xray.model import Container, Host, Keeper
from cutaway.xray.network import Networks
from cutaway.xray.sight import Sight, arguments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutaway.kernel.procfs import MountPoint
    from cutaway.xray.finding import Group


class NotFound(LookupError):
    """No container has this name, ID or PID, or more than one has."""


class View:
    """A host at one moment. `host` is what was seen; `open` looks closer at one of its containers."""

    def __init__(self) -> None:
        self._sight = Sight()
        self._networks = Networks()
        self._groups = finding.groups(self._sight)
        self._boot_time = procfs.boot_time()
        nameless = [group for group in self._groups if not group.mark.name]
        self._hostnames = {group.init.pid: _hostname(group, self._sight) for group in nameless}
        self._names = {group.init.pid: _name(group, self._hostnames.get(group.init.pid)) for group in self._groups}
        self._sharers = namespaces.Sharers((self._names[group.init.pid], group) for group in self._groups)
        self._roots: files.Roots | None = None
        self.host = self._look()

    def _look(self) -> Host:
        memory = procfs.memory()
        host = Host(
            name=os.uname().nodename,
            kernel=os.uname().release,
            cgroups=cgroup.host_version(),
            cpus=os.sysconf("SC_NPROCESSORS_ONLN"),
            memory=memory["MemTotal"],
            memory_available=memory.get("MemAvailable", 0),
            started=procfs.boot_time(),
            kept_namespaces=namespaces.kept(self._sight),
        )
        host.containers = [self._summary(group) for group in self._groups]
        if os.geteuid() != 0:
            host.unseen.append("namespaces, networks and files of other users' containers: that needs root rights")
        return host

    def _summary(self, group: Group) -> Container:
        init = group.init
        return Container(
            name=self._names[init.pid],
            id=group.mark.id,
            engine=group.mark.engine,
            pid=init.pid,
            hostname=self._hostnames.get(init.pid),
            started=self._boot_time + init.stat.start_time / procfs.TICKS_PER_SECOND,
            command=init.command,
            process_count=len(group.members),
            addresses=self._networks.addresses(group, self._sight),
            within=self._names[group.within.init.pid] if group.within else "",
            cgroup=cgroup.of_group(group, brief=True),
        )

    def find(self, wanted: str) -> Container:
        """A container by its name, its ID or the beginning of one, its host name, or the PID of one of its processes.
        Raises `NotFound`."""
        everything = self.host.containers
        inits = _by_pid(self._groups, wanted)
        ways = (
            (each for each in everything if wanted in (each.name, each.id)),
            (each for each in everything if each.pid in inits),
            (each for each in everything if len(wanted) > 1 and each.id.startswith(wanted)),
            (each for each in everything if wanted != self.host.name and self._calls_itself(each) == wanted),
        )
        found = next((way for way in map(list, ways) if way), [])
        if len(found) > 1:
            pids = ", ".join(f"{each.pid} ({each.engine})" for each in found)
            raise NotFound(f"{wanted} is the name of {len(found)} containers: name one by its PID: {pids}")
        if not found:
            raise NotFound(f"no container has the name, ID or PID {wanted}: `cutaway xray` lists those there are")
        return found[0]

    def _survey(self) -> None:
        """What is around the containers."""
        if not self.host.uplinks:
            self.host.uplinks, self.host.bridges = self._networks.uplinks(), self._networks.bridges()

    def open_all(self, measure: files.Measure) -> None:
        """Opens every container."""
        self._survey()
        for container in self.host.containers:
            self.open(container, measure)

    def _calls_itself(self, container: Container) -> str | None:
        if container.hostname is None:
            container.hostname = _hostname(self._group_of(container), self._sight)
        return container.hostname

    def _group_of(self, container: Container) -> Group:
        return next(group for group in self._groups if group.init.pid == container.pid)

    def open(self, container: Container, measure: files.Measure) -> None:
        """Fills in what the list of all does not need. What ends meanwhile leaves what was seen until then."""
        group, unseen = self._group_of(container), list[str]()
        self._survey()
        self._calls_itself(container)
        container.keeper, container.cgroup = _keeper(group), cgroup.of_group(group)
        container.processes = processes.of_group(group)
        container.namespaces = namespaces.of_group(group, self._sight, self._sharers)
        container.network = self._networks.of_group(group, self._sight, unseen)
        mounts = _mounts(group, unseen)
        if mounts:
            container.root = files.root(mounts, self._all_roots(), measure, unseen)
            container.mounts = files.mounts_inside(mounts)
        try:
            container.security = security.of_group(group, mounts, container.namespaces, container.cgroup, unseen)
        except (ProcessLookupError, KeyError):
            unseen.append("what it may do: its first process has ended")
        if group.mark.engine in engines.NAMELESS and len(group.mark.id) == 64 and not group.mark.name:
            unseen.append(f"the name {group.mark.engine} has for it: only {group.mark.engine} knows that")
        container.unseen = unseen

    def _all_roots(self) -> files.Roots:
        if self._roots is None:
            self._roots = files.Roots()
            for group in self._groups:
                self._roots.add(_mounts(group, []))
        return self._roots


def look() -> Host:
    """All containers of the host, as in a list."""
    return View().host


def _by_pid(groups: Sequence[Group], wanted: str) -> list[int]:
    """The first process of the container that a PID is of."""
    if not wanted.isdecimal():
        return []
    return [group.init.pid for group in groups if int(wanted) in group or int(wanted) == group.keeper]


def _keeper(group: Group) -> Keeper | None:
    words = arguments(group.keeper)
    if group.keeper <= 1 or not words:
        return None
    return Keeper(group.keeper, " ".join(words).rstrip())


def _name(group: Group, hostname: str | None) -> str:
    """What its engine calls it, or the next best thing: its ID, its host name, its program."""
    if group.mark.name or group.mark.id:
        return group.mark.name or group.mark.id[: engines.SHORT_ID]
    if hostname and hostname != os.uname().nodename:
        return hostname
    program = next((seen for seen in group.members if engines.of_keeper(seen.arguments) == Mark()), group.init)
    words = program.arguments
    return os.path.basename(words[0]) if words else program.stat.command


def _hostname(group: Group, sight: Sight) -> str | None:
    """Its host name, which only who is in its UTS namespace is told; None where it may not be entered."""
    if "uts" not in sight.own(group.init):
        return None if group.init.namespaces is None else os.uname().nodename
    try:
        theirs = os.open(f"/proc/{group.init.pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    home = os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(theirs, CLONE_NEWUTS)
        try:
            return os.uname().nodename
        finally:
            setns(home, CLONE_NEWUTS)
    except OSError:
        return None
    finally:
        os.close(home)
        os.close(theirs)


def _mounts(group: Group, unseen: list[str]) -> list[MountPoint]:
    """What its first process sees mounted; of one that has ended nothing."""
    try:
        return procfs.mounts(group.init.pid)
    except (ProcessLookupError, PermissionError, ValueError) as problem:
        unseen.append(f"its mounts: {problem}")
        return []
