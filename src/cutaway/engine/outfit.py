"""What a container gets from the host: its cgroup, its layers, its network, its mounts, its filter.

It is said here as operations, and as the values that the description needs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cutaway.engine.description import Surroundings, describe, namespaces, process_capabilities, resources
from cutaway.engine.errors import Conflict, InvalidArgument
from cutaway.engine.mountpoints import ordered
from cutaway.kernel.cgroups import Cgroup, UnsupportedResource, host_layout
from cutaway.kernel.namespaces import identity
from cutaway.plan.cgroups import count_block_operations, create_operations, join_operation, name_operation
from cutaway.plan.mounts import MountOverlay, MountTmpfs
from cutaway.plan.operation import Context
from cutaway.runtime.compile import Given, inside, new_namespaces, shown_hierarchies
from cutaway.runtime.identity import IdentityError, identify

if TYPE_CHECKING:
    from typing import Any

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.endpoints import Endpoints
    from cutaway.engine.places import Places
    from cutaway.engine.procview import ProcView
    from cutaway.engine.seccomp import Filters
    from cutaway.engine.volumes import Volumes
    from cutaway.plan.namespaces import NewNamespaces
    from cutaway.plan.operation import Operation
    from cutaway.plan.process import LoadSeccomp
    from cutaway.runtime.identity import Identity

_HELD_FOR_THE_HOST = ("netns:route", "cgroup", "pid_namespace")
_JOINED = ("cgroup", "ipc", "uts", "net", "pid", "mnt")


class Outfit(NamedTuple):
    """`files`: operations that write what it reads in /etc; there is no need to undo them. `cgroup`, `before`, `after`:
    operations on the host, the first before there is a process, the second while it is born. `new`: the namespaces that
    it is born into. `join_cgroup`: by which the first process joins its cgroup.
    `held`: kind of namespace → name of its descriptor. `shared`: OCI namespace type → path of the one it joins, empty
    for the host's. `mounts`: OCI mounts. `shm`: a directory of the host that is to be /dev/shm, if it is shared."""

    files: list[Operation]
    cgroup: list[Operation]
    before: list[Operation]
    after: list[Operation]
    new: NewNamespaces
    join_cgroup: list[Operation]
    held: dict[str, str]
    shared: dict[str, str]
    mounts: list[dict[str, Any]]
    shm: str

    def for_inside(self, descriptors: dict[str, int]) -> dict[str, int]:
        """Those of the context's descriptors that the first process needs."""
        return {name: held for name, held in descriptors.items() if name not in _HELD_FOR_THE_HOST}


class Outfitter:
    """Puts together what the rooms of the engine know about a container."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        endpoints: Endpoints,
        volumes: Volumes,
        proc_view: ProcView,
        filters: Filters,
    ) -> None:
        self._places, self._containers = places, containers
        self._endpoints, self._volumes, self._filters = endpoints, volumes, filters
        self._proc_view = proc_view
        self._layout = host_layout()
        self._hierarchies, self._links = shown_hierarchies(self._layout)
        memory = self._layout.find("memory")
        self._swap = memory is not None and _accounts_swap(memory.mount_point, memory.version)
        self._counts_blocks = False

    async def hold(self, container: Container) -> None:
        """What must be there before the operations: the file systems of its volumes, its networks, lxcfs."""
        await self._volumes.hold(container)
        await self._proc_view.hold(container)
        self._endpoints.hold(container)

    def outfit(self, container: Container, mounts: list[dict[str, Any]] | None = None) -> Outfit:
        """What the container gets; changes nothing. `mounts`: of its volumes, where they are not yet there.

        Raises `EngineError` where it asks for what the host cannot give.
        """
        mounts = self._volumes.mounts(container) if mounts is None else mounts
        network = self._endpoints.outfit(container)
        shared = self._shared_namespaces(container) | network.shared
        shm, shm_operations = self._shared_memory(container)
        return Outfit(
            files=network.files,
            cgroup=self._cgroup_operations(container),
            before=[*self._root(container), *shm_operations, *network.before],
            after=network.after,
            new=new_namespaces(namespaces(shared), network.held),
            join_cgroup=self.join(container),
            held=network.held,
            shared=shared,
            mounts=ordered([*network.mounts, *mounts, *self._proc_view.mounts(container)]),
            shm=shm,
        )

    def inside(self, container: Container, outfit: Outfit, context: Context) -> list[Operation]:
        """The operations of the first process; its root is mounted by now, and who the user is can be looked up."""
        merged = container.seen.GraphDriver.Data["MergedDir"]
        root = os.open(merged, os.O_PATH | os.O_DIRECTORY)
        try:
            user = self.identity(container, root)
        finally:
            os.close(root)
        bounding = process_capabilities(container.seen.HostConfig, user.uid)["bounding"]
        return self.operations(container, outfit, user, self.filter(container, bounding, context))

    def operations(
        self, container: Container, outfit: Outfit, user: Identity, seccomp: LoadSeccomp | None
    ) -> list[Operation]:
        """The same, where it is known who the user is and how the filter is loaded. Changes nothing."""
        root = container.seen.GraphDriver.Data["MergedDir"]
        around = Surroundings(user, outfit.mounts, outfit.shared, root, outfit.shm, self._hidden(container))
        spec = describe(container.seen, around)
        given = Given(
            outfit.held,
            outfit.join_cgroup,
            self._hierarchies,
            self._links,
            seccomp,
            container.id,
            container.seen.HostConfig.Init,
        )
        return inside(spec, given)

    def _hidden(self, container: Container) -> list[str]:
        """From who has the host's files: what belongs to the engine, and so to other containers."""
        of_host = container.record.lower_dirs == ["/"]
        return [self._places.root, self._places.runtime_dir] if of_host else []

    def identity(self, container: Container, root: int, user: str | None = None) -> Identity:
        """Who a program of the container runs as; `root` is a descriptor of the container's root directory."""
        wanted = container.seen.Config.User if user is None else user
        try:
            return identify(root, wanted, container.seen.HostConfig.GroupAdd or [])
        except IdentityError as error:
            raise InvalidArgument(str(error)) from None

    def join(self, container: Container, init: int = 0) -> list[Operation]:
        """By which a process joins the container's cgroup, where `init`, its first process, is if there is one."""
        return [join_operation(self._cgroup_path(container), self._layout, init)]

    def filter(self, container: Container, bounding: list[str], context: Context) -> LoadSeccomp | None:
        """By which a process of the container loads its seccomp filter."""
        return self._filters.operation(container.seen.HostConfig, bounding, context)

    def own_namespaces(self, container: Container) -> list[str]:
        """The kinds of namespace in which the container's first process is not where the host's are."""
        assert container.process
        return [kind for kind in _JOINED if identity(kind, container.process.pid) != identity(kind)]

    def cgroup(self, container: Container) -> Cgroup:
        """The container's cgroup."""
        return Cgroup(self._cgroup_path(container), self._layout)

    def oom_kills(self, container: Container) -> int:
        """How many processes of the container the kernel has killed because of its memory limit."""
        try:
            return self.cgroup(container).oom_kills()
        except OSError:  # there is no cgroup any more
            return 0

    async def started(self, container: Container, context: Context) -> None:
        """The program is about to run."""
        await self._endpoints.started(container, context.descriptors.get("netns", -1))

    async def taken_over(self, container: Container) -> None:
        """It has been running since an engine before this one."""
        await self._endpoints.taken_over(container)

    async def ended(self, container: Container) -> None:
        """Its first process has ended."""
        self._endpoints.ended(container)
        await self._proc_view.let_go(container)
        await self._volumes.let_go(container)

    def doom(self, container: Container) -> None:
        """It is to be removed with its volumes, though the engine should die on the way."""
        self._volumes.doom(container)

    async def removed(self, container: Container, *, volumes: bool) -> None:
        """It is there no more."""
        await self._volumes.release(container, remove_anonymous=volumes)

    def swap_is_accounted(self) -> bool:
        """Whether swap can be limited on this host."""
        return self._swap

    def name_cgroup(self, container: Container) -> None:
        """Writes its name, which has changed, on the cgroup of a running container."""
        try:
            self._name_operation(container).apply(Context())
        except FileNotFoundError:  # it has none while it does not run
            pass

    def _name_operation(self, container: Container) -> Operation:
        return name_operation(self._cgroup_path(container), container.name, self._layout)

    def _cgroup_path(self, container: Container) -> str:
        parent = container.seen.HostConfig.CgroupParent or self._places.cgroup_parent
        return f"{parent.strip('/')}/{container.id}"

    def _cgroup_operations(self, container: Container) -> list[Operation]:
        wanted, path = resources(container.seen.HostConfig, swap=self._swap), self._cgroup_path(container)
        try:
            operations = [*create_operations(path, wanted, self._layout), self._name_operation(container)]
        except UnsupportedResource as error:
            raise InvalidArgument(str(error)) from None
        if not self._counts_blocks:
            self._counts_blocks = True
            operations += count_block_operations(os.path.dirname(path), self._layout)
        return operations

    def _root(self, container: Container) -> list[Operation]:
        if container.seen.HostConfig.Rootfs:
            return []
        layers = container.seen.GraphDriver.Data
        # What is removed when it ends need not survive a crash of the host: the kernel then never waits for the disk
        options = ["volatile"] if container.seen.HostConfig.AutoRemove else []
        lower_dirs = container.record.lower_dirs
        return [MountOverlay(layers["MergedDir"], lower_dirs, layers["UpperDir"], layers["WorkDir"], options)]

    def _shared_namespaces(self, container: Container) -> dict[str, str]:
        host = container.seen.HostConfig
        shared = {}
        for kind, mode in (("pid", host.PidMode), ("ipc", host.IpcMode), ("uts", host.UTSMode)):
            if mode == "host":
                shared[kind] = ""
            elif mode.startswith("container:"):
                shared[kind] = f"/proc/{self._running_pid(mode)}/ns/{kind}"
        if host.CgroupnsMode == "host":
            shared["cgroup"] = ""
        return shared

    def _running_pid(self, mode: str) -> int:
        other = self._containers.find(mode.partition(":")[2])
        if not other.state.Running:
            raise Conflict(f"cannot join the namespaces of container {other.name}: it is not running")
        return other.state.Pid

    def _shared_memory(self, container: Container) -> tuple[str, list[Operation]]:
        """The directory that is /dev/shm inside: one's own needs none on the host, a shared one is mounted there."""
        mode = container.seen.HostConfig.IpcMode
        if mode == "host":
            return "/dev/shm", []
        if mode.startswith("container:"):
            return self._shared_memory_of(self._containers.find(mode.partition(":")[2])), []
        if mode != "shareable":
            return "", []
        shm = f"{self._places.container(container.id)}/shm"
        options = ["nosuid", "nodev", "noexec", "mode=1777", f"size={container.seen.HostConfig.ShmSize}"]
        return shm, [MountTmpfs(shm, options)]

    def _shared_memory_of(self, donor: Container) -> str:
        shm, _ = self._shared_memory(donor)
        if not shm:
            raise Conflict(
                f"cannot join IPC of container {donor.name}: non-shareable IPC (start it with --ipc shareable)"
            )
        return shm


def _accounts_swap(mount_point: str, version: int) -> bool:
    if version == 1:
        return os.path.exists(f"{mount_point}/memory.memsw.limit_in_bytes")
    return any(os.path.exists(f"{mount_point}/{child}/memory.swap.max") for child in os.listdir(mount_point))
