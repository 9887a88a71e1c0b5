"""Volumes: directories that outlive containers, and what is mounted where in each container.

    <root>/volumes/NAME/_data       what the volume holds
    <root>/volumes/.removed-HEX     what is being thrown away; whatever is there at a start is a crash's

A volume with the options `type`, `o` and `device` is a file system that is kept elsewhere. It is mounted on `_data` for
as long as a container that uses it runs, however many do.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from cutaway.engine.beside import beside
from cutaway.engine.containers import now
from cutaway.engine.database import Table
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument, NotFound
from cutaway.engine.filling import copy_up, is_empty
from cutaway.engine.model import BindOptions, DriverConfig, Mount, Pruned, Volume, VolumeCreate, VolumeOptions
from cutaway.engine.mountpoints import mount_point, oci_mounts, ordered, wanted
from cutaway.engine.options.mounts import VOLUME_NAME
from cutaway.image import trees
from cutaway.kernel.openat2 import open_in_root
from cutaway.plan.files import FillVolume, MakeDirectory, MakeSource
from cutaway.plan.mounts import MountVolume
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply, undo

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Iterator

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.mountpoints import Asked
    from cutaway.engine.places import Places
    from cutaway.plan.operation import Operation

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that was given no name."""
_REMOVED = ".removed-"
_LONGEST_NAME = 255  # NAME_MAX
_NEEDS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}
"""Option of the driver `local` → those that must come with it."""


class _Kept:
    """A volume in the engine's memory. `users`: IDs of the containers that have it; `holders`: of those for which its
    file system is mounted; who mounts or unmounts holds `lock`."""

    def __init__(self, seen: Volume) -> None:
        self.seen = seen
        self.users: set[str] = set()
        self.holders: set[str] = set()
        self.lock = asyncio.Lock()


class Rehearsed(NamedTuple):
    """What would make a container's volumes, and what would fill them once its root is there; its OCI mounts."""

    made: list[Operation]
    filled: list[Operation]
    mounts: list[dict[str, Any]]


class Volumes:
    """The volumes of one engine, and their use by `containers`."""

    def __init__(self, places: Places, database: sqlite3.Connection, containers: Containers) -> None:
        os.makedirs(places.volumes, 0o700, exist_ok=True)  # a container can leave setuid programs in a volume
        self._directory, self._containers = places.volumes, containers
        self._table: Table[Volume] = Table(database, "volumes", Volume)
        self._mounted: Table[list[Any]] = Table(database, "mounted_volumes", list)
        self._fleeting: Table[str] = Table(database, "fleeting_volumes", str)  # those that go without this container
        self._by_name: dict[str, _Kept] = {}
        self._filling = asyncio.Lock()
        for seen in list(self._table.all()):
            if os.path.isdir(seen.Mountpoint):
                self._by_name[seen.Name] = _Kept(seen)
            else:
                self._table.delete(seen.Name)
        for container in containers:
            self._note_use(container)

    def _note_use(self, container: Container) -> None:
        for volume in self._of(container):
            volume.users.add(container.id)
            if volume.seen.Options and container.state.Running:
                volume.holders.add(container.id)

    async def recover(self) -> None:
        """Unmounts what an engine before this one left mounted; before its containers are looked at."""
        for name, operations in self._mounted.items():
            if name not in self._by_name or not self._by_name[name].holders:
                await self._take_down(name, operations)

    async def sweep(self) -> None:
        """Removes what a crash left behind; to be awaited once, when it is known which containers there are."""
        for name, container_id in self._fleeting.items():
            if self._containers.get(container_id) is None and os.path.isdir(f"{self._directory}/{name}"):
                await self._delete(self._by_name.get(name) or _Kept(Volume(Name=name, Mountpoint="")))
            self._fleeting.delete(name)
        for name in os.listdir(self._directory):
            if name.startswith(_REMOVED):
                await self._throw_away(name)

    # What people do with volumes

    def create(self, request: VolumeCreate) -> Volume:
        """The volume of this name, made if there is none. Raises `InvalidArgument`, `NotFound` for the driver."""
        return self._made(request).seen

    def all(self) -> list[Volume]:
        """By their names."""
        return [self._by_name[name].seen for name in sorted(self._by_name)]

    def inspect(self, name: str) -> Volume:
        """Raises `NotFound`."""
        return self._find(name).seen

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Raises `Conflict` where a container has it, and `NotFound` unless `force`."""
        if force and name not in self._by_name:
            return
        volume = self._find(name)
        if volume.users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(sorted(volume.users))}]")
        await self._delete(volume)

    def users(self, name: str) -> int:
        """How many containers have it."""
        return len(self._find(name).users)

    async def prune(self, wanted: Callable[[Volume], bool], *, named: bool) -> Pruned:
        """Removes those `wanted` that no container has: the anonymous ones, and with `named` the others."""
        pruned = Pruned()
        for volume in list(self._by_name.values()):
            if not volume.users and (named or ANONYMOUS in volume.seen.Labels) and wanted(volume.seen):
                pruned.Removed.append(volume.seen.Name)
                pruned.SpaceReclaimed += await self._delete(volume)
        return pruned

    def _find(self, name: str) -> _Kept:
        if name not in self._by_name:
            raise NotFound(f"get {name}: no such volume", "volume", name)
        return self._by_name[name]

    def _made(self, request: VolumeCreate, container: Container | None = None) -> _Kept:
        """`container`: the one that it is made for."""
        seen = self._defined(request)
        if request.Name in self._by_name:
            return self._by_name[request.Name]
        if container:
            self._fleeting.save(seen.Name, container.id)
        self._table.save(seen.Name, seen)  # first: one that is known and not there is forgotten by the next engine
        apply(_make_directories(seen), Context())
        os.chmod(seen.Mountpoint, 0o755)
        self._by_name[seen.Name] = _Kept(seen)
        return self._by_name[seen.Name]

    def _defined(self, request: VolumeCreate) -> Volume:
        """The volume of this name, or what it would be if there were one. Changes nothing."""
        _check(request)
        if request.Name in self._by_name:
            return self._by_name[request.Name].seen
        name, labels = request.Name, request.Labels
        if not name:
            name, labels = secrets.token_hex(32), {ANONYMOUS: "", **labels}
        directory = f"{self._directory}/{name}/_data"
        return Volume(
            CreatedAt=now(), Labels=labels, Mountpoint=directory, Name=name, Options=request.DriverOpts or None
        )

    async def _delete(self, volume: _Kept) -> int:
        """Returns how many bytes it took. From the first moment on, nobody finds it any more."""
        name, removed = volume.seen.Name, _REMOVED + secrets.token_hex(8)
        if volume.seen.Options:
            _remove_mount_point(volume.seen)
        os.rename(f"{self._directory}/{name}", f"{self._directory}/{removed}")
        self._table.delete(name)
        self._fleeting.delete(name)
        self._by_name.pop(name, None)
        return await self._throw_away(removed)

    async def _throw_away(self, name: str) -> int:
        return await beside(lambda _: _remove(self._directory, name))

    # What containers have

    async def prepare(self, container: Container) -> None:
        """Makes the volumes that a new container is to have and fills them; then its mounts are known.

        Raises `EngineError`; then no volume that was made for it is left.
        """
        before = set(self._by_name)
        try:
            self._place(container)
            await self._fill(container)
        except BaseException:
            for volume in self._of(container):
                volume.users.discard(container.id)
                if volume.seen.Name not in before and not volume.users:
                    await self._delete(volume)
            raise

    def mounts(self, container: Container) -> list[dict[str, Any]]:
        """The container's volumes, bind mounts and tmpfs as OCI mounts, in the order in which they are to be made.

        Raises `InvalidArgument` where one cannot be.
        """
        record = container.record
        for mount in record.mounts:
            if mount.Type == "bind":
                _make_source(mount)
            elif mount.Type == "volume":
                self._check_subpath(mount)
        return ordered(oci_mounts(record.mounts, record.seen.Mounts, record.seen.HostConfig.Tmpfs))

    def rehearse(self, container: Container) -> Rehearsed:
        """What would make and fill the volumes that a new container is to have, and its mounts. Changes nothing but
        what is known of the container. Raises `EngineError`."""
        made: list[Operation] = []
        volumes: list[Volume] = []

        def define(request: VolumeCreate) -> Volume:
            volumes.append(self._defined(request))
            return volumes[-1]

        self._list_mounts(container, define, lambda mount: made.extend(_missing_source(mount)))
        seen, record = container.seen, container.record
        for volume in volumes:
            kept = self._by_name.get(volume.Name)
            made += [] if kept else _make_directories(volume)
            made += [_mount_operation(volume)] if volume.Options and not (kept and kept.holders) else []
        filled: list[Operation] = [
            FillVolume(point.Source, seen.GraphDriver.Data["MergedDir"], point.Destination)
            for mount, point in zip(record.mounts, seen.Mounts, strict=True)
            if mount.Type == "volume" and _takes_a_copy(mount) and not _holds_something(point.Source)
        ]
        return Rehearsed(made, filled, ordered(oci_mounts(record.mounts, seen.Mounts, seen.HostConfig.Tmpfs)))

    def settle(self, container: Container) -> None:
        """The container that has been prepared is kept, and so are its volumes."""
        for volume in self._of(container):
            self._fleeting.delete(volume.seen.Name)

    def doom(self, container: Container) -> None:
        """Its anonymous volumes are to go with it, now or after a crash."""
        for volume in self._of(container):
            if volume.seen.Name in container.record.anonymous and volume.users == {container.id}:
                self._fleeting.save(volume.seen.Name, container.id)

    async def release(self, container: Container, *, remove_anonymous: bool) -> None:
        """The container is there no more."""
        for volume in self._of(container):
            volume.users.discard(container.id)
            anonymous = volume.seen.Name in container.record.anonymous
            if remove_anonymous and anonymous and not volume.users:
                await self._delete(volume)

    async def hold(self, container: Container) -> None:
        """Has the file systems of its volumes mounted until `let_go`. May raise `EngineError`; it is due then too."""
        for volume in self._of(container):
            if volume.seen.Options:
                async with volume.lock:
                    if not volume.holders:
                        await self._mount(volume)
                    volume.holders.add(container.id)

    async def let_go(self, container: Container) -> None:
        """The opposite of `hold`; nothing where it is not held."""
        for volume in self._of(container):
            if container.id in volume.holders:
                async with volume.lock:
                    volume.holders.discard(container.id)
                    if not volume.holders:
                        await self._unmount(volume)

    @asynccontextmanager
    async def held(self, container: Container) -> AsyncIterator[None]:
        """The same for a while, for a container that does not run."""
        try:
            await self.hold(container)
            yield
        finally:
            await self.let_go(container)

    def _of(self, container: Container) -> Iterator[_Kept]:
        for point in container.seen.Mounts:
            if point.Type == "volume" and point.Name in self._by_name:
                yield self._by_name[point.Name]

    def _place(self, container: Container) -> None:
        self._list_mounts(container, lambda request: self._made(request, container).seen, _make_source)
        for volume in self._of(container):
            volume.users.add(container.id)

    def _list_mounts(
        self, container: Container, define: Callable[[VolumeCreate], Volume], find: Callable[[Mount], None]
    ) -> None:
        """Notes what the container has mounted; `define` gives each volume, `find` sees to what -v names."""
        seen = container.seen
        for mount, mode in wanted(seen.Config, seen.HostConfig, self._inherited(seen.HostConfig.VolumesFrom or [])):
            _check_labels(mount, mode)
            volume = None
            if mount.Type == "bind":
                find(mount)
            elif mount.Type == "volume":
                volume = define(_request_of(container, mount))
                if not mount.Source:
                    container.record.anonymous.append(volume.Name)
            seen.Mounts.append(mount_point(mount, mode, volume))
            container.record.mounts.append(replace(mount, Source=volume.Name) if volume else mount)

    def _inherited(self, volumes_from: list[str]) -> Iterator[Asked]:
        """`--volumes-from CONTAINER[:ro]`: what the other container has, without its tmpfs."""
        for entry in volumes_from:
            name, _, mode = entry.partition(":")
            other = self._containers.find(name)
            for mount, point in zip(other.record.mounts, other.seen.Mounts, strict=True):
                if mount.Type != "tmpfs":
                    yield replace(mount, ReadOnly=mount.ReadOnly or mode == "ro"), point.Mode

    def _check_subpath(self, mount: Mount) -> None:
        subpath = (mount.VolumeOptions or VolumeOptions()).Subpath
        if not subpath:
            return
        directory = os.open(self._find(mount.Source).seen.Mountpoint, os.O_PATH)
        try:
            os.close(open_in_root(directory, subpath, os.O_PATH))
        except OSError as error:
            raise InvalidArgument(f"cannot access {subpath} in volume {mount.Source}: {error.strerror}") from None
        finally:
            os.close(directory)

    # The first contents

    async def _fill(self, container: Container) -> None:
        """An empty volume gets what the image has at its place."""
        places = [
            (point.Destination, point.Source)
            for mount, point in zip(container.record.mounts, container.seen.Mounts, strict=True)
            if mount.Type == "volume" and self._may_be_filled(mount)
        ]
        if places:
            async with self._filling, self.held(container):
                await beside(lambda _: copy_up(container, places), own_mounts=True)

    def _may_be_filled(self, mount: Mount) -> bool:
        """Whether one that is kept elsewhere is empty is not for the event loop to ask."""
        seen = self._by_name[mount.Source].seen
        return _takes_a_copy(mount) and (bool(seen.Options) or is_empty(seen.Mountpoint))

    # File systems that are kept elsewhere

    async def _mount(self, volume: _Kept) -> None:
        seen = volume.seen
        operation = _mount_operation(seen)
        self._mounted.save(seen.Name, dump([operation]))
        try:
            await beside(lambda _: operation.apply(Context()))
        except BaseException as error:
            await self._unmount(volume)
            if isinstance(error, OSError):
                raise EngineError(f"error while mounting volume {seen.Name}: {error}") from None
            raise

    async def _unmount(self, volume: _Kept) -> None:
        operations = self._mounted.get(volume.seen.Name)
        if operations is not None:
            await self._take_down(volume.seen.Name, operations)

    async def _take_down(self, name: str, operations: list[Any]) -> None:
        for error in await beside(lambda _: undo(load(operations), Context())):
            print(f"volume {name}: {error}", flush=True)
        self._mounted.delete(name)


def _check(request: VolumeCreate) -> None:
    """Docker's rules, in Docker's words."""
    name, options = request.Name, request.DriverOpts
    if request.Driver != "local":
        raise NotFound(
            f'create {name}: error looking up volume plugin {request.Driver}: plugin "{request.Driver}" not found'
        )
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if len(name) > _LONGEST_NAME:
        raise InvalidArgument(f"create {name[:32]}…: volume name is longer than {_LONGEST_NAME} characters")
    if name and not VOLUME_NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    for option in options:
        if option not in _NEEDS:
            raise InvalidArgument(f'create {name}: invalid option: "{option}"')
        for needed in _NEEDS[option]:
            if needed not in options:
                raise InvalidArgument(f'create {name}: missing required option: "{needed}"')


def _request_of(container: Container, mount: Mount) -> VolumeCreate:
    options = mount.VolumeOptions or VolumeOptions()
    driver = options.DriverConfig or DriverConfig()
    kind = driver.Name or container.seen.HostConfig.VolumeDriver or "local"
    return VolumeCreate(Name=mount.Source, Driver=kind, DriverOpts=driver.Options, Labels=options.Labels)


def _takes_a_copy(mount: Mount) -> bool:
    """Whether a volume gets what the image has at its place, if it is empty."""
    options = mount.VolumeOptions or VolumeOptions()
    return not options.NoCopy and not options.Subpath


def _holds_something(directory: str) -> bool:
    return os.path.isdir(directory) and not is_empty(directory)


def _make_directories(volume: Volume) -> list[Operation]:
    purposes = {
        os.path.dirname(volume.Mountpoint): "A volume's own place.",
        volume.Mountpoint: "What the volume holds: it outlives the containers that have it.",
    }
    return [MakeDirectory(path, purpose=purpose) for path, purpose in purposes.items()]


def _mount_operation(volume: Volume) -> MountVolume:
    options = volume.Options or {}
    words = list(filter(None, options.get("o", "").split(",")))
    return MountVolume(volume.Mountpoint, options["type"], options["device"], words)


def _check_labels(mount: Mount, mode: str) -> None:
    """`z` and `Z` ask for SELinux labels: nothing to be done where there is no SELinux."""
    if {"z", "Z"} & set(mode.split(",")) and os.path.exists("/sys/fs/selinux/enforce"):
        raise InvalidArgument(
            f"{mount.Target}: this host has SELinux, and files are not labelled here; leave z and Z away and label "
            f"them yourself: chcon -R -t container_file_t {mount.Source}"
        )


def _missing_source(mount: Mount) -> list[Operation]:
    """What `-v` names is made if missing; what `--mount` names must be there."""
    if os.path.exists(mount.Source):
        return []
    if not (mount.BindOptions or BindOptions()).CreateMountpoint:
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {mount.Source}')
    return [MakeSource(mount.Source)]


def _make_source(mount: Mount) -> None:
    try:
        apply(_missing_source(mount), Context())
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgument(
            f"error while creating mount source path '{mount.Source}': mkdir {mount.Source}: {reason}"
        ) from None


def _remove_mount_point(seen: Volume) -> None:
    """It holds nothing itself, and whatever should still be mounted there must not be taken for what it holds."""
    try:
        os.rmdir(seen.Mountpoint)
    except OSError as error:
        raise Conflict(f"remove {seen.Name}: {seen.Mountpoint}: {error.strerror}: unmount it first") from None


def _remove(directory: str, name: str) -> int:
    """Removes a tree; returns how many bytes of the disk that gives back."""
    size = trees.disk_usage(f"{directory}/{name}")
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        trees.remove(parent, name)
    finally:
        os.close(parent)
    return size
