"""`--dry-run`: what running a container would do, as a script, and none of it done.

Everything is decided as for a container that is run, by the same code: its name and ID, its address and ports, who its
user is. What it would hold is given back at once; nothing is written, nothing mounted where anybody could see it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cutaway.engine.beside import beside
from cutaway.engine.creation import directory_operations, new_container
from cutaway.engine.description import security_options
from cutaway.kernel.cgroups import Cgroup, host_layout
from cutaway.kernel.mounts import attach_at, new_mount
from cutaway.kernel.openat2 import open_in_root
from cutaway.kernel.overlay import mount_overlay
from cutaway.plan.cgroups import CreateCgroup
from cutaway.plan.mounts import BindMount, MakeDevice, MakeLink, MakeReadonly, MaskPaths, Mount, MountCgroups
from cutaway.plan.process import ChangeDirectory, LoadSeccomp
from cutaway.plan.script import left_out, script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.endpoints import Endpoints
    from cutaway.engine.model import CreateRequest
    from cutaway.engine.networks import Networks
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.procview import ProcView
    from cutaway.engine.volumes import Volumes
    from cutaway.image.store import Image
    from cutaway.plan.operation import Operation

_MOUNTED = (Mount, BindMount, MountCgroups)
_PLACES: dict[type[Operation], str] = {
    Mount: "target", BindMount: "target", MountCgroups: "target", MakeDevice: "path", MakeLink: "path",
    ChangeDirectory: "path", MaskPaths: "paths", MakeReadonly: "paths",
}  # fmt: skip
"""The fields that are paths inside the container, which the engine resolves there when it comes to them."""


class Replay(NamedTuple):
    """A script that makes, runs and removes a container, and what in it stock tools cannot do, a phrase each."""

    script: str
    left_out: list[str]


class Rehearsal:
    """Plans containers without making them."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        networks: Networks,
        endpoints: Endpoints,
        volumes: Volumes,
        proc_view: ProcView,
        outfitter: Outfitter,
    ) -> None:
        self._places, self._containers, self._networks = places, containers, networks
        self._endpoints, self._volumes, self._outfitter = endpoints, volumes, outfitter
        self._proc_view = proc_view

    async def replay(self, request: CreateRequest, image: Image | None, title: str) -> Replay:
        """The script for a container; `title`: what was typed. Raises `EngineError` as creating and starting would."""
        container = new_container(request, image, self._places, self._containers, self._networks)
        root, namespace = await beside(lambda _: (_open_root(container), _own_mounts()), own_mounts=True)
        try:
            host, inside = self._plan(container, root)
        finally:
            os.close(root)
            os.close(namespace)
        text = script(title, host, inside, stdin=container.seen.Config.OpenStdin)
        return Replay(text, left_out([*host, *inside]))

    def _plan(self, container: Container, root: int) -> tuple[list[Operation], list[Operation]]:
        """What is done on the host, and by the process."""
        volumes = self._volumes.rehearse(container)
        missing = [*self._endpoints.missing(container), *self._proc_view.missing(container)]
        with self._outfitted(container):
            outfit = self._outfitter.outfit(container, volumes.mounts)
            user = self._outfitter.identity(container, root)
            inside = self._outfitter.operations(container, outfit, user, _filter(container))
        made = [*directory_operations(container, self._places), *volumes.made, *missing, *outfit.files]
        host = [*made, *self._parent_cgroup(), *outfit.cgroup, *outfit.before, *volumes.filled, *outfit.after]
        return host, list(_resolved(inside, root))

    @contextmanager
    def _outfitted(self, container: Container) -> Iterator[None]:
        """What it takes of addresses and ports is given back."""
        try:
            yield
        finally:
            self._endpoints.ended(container)

    def _parent_cgroup(self) -> list[Operation]:
        parent = Cgroup(self._places.cgroup_parent)
        return [] if parent.exists() else [CreateCgroup(parent.path, host_layout().plain())]


def _filter(container: Container) -> LoadSeccomp | None:
    """That there is a filter; it need not be compiled for being left out."""
    host = container.seen.HostConfig
    option = security_options(host).get("seccomp") or ("unconfined" if host.Privileged else "builtin")
    return None if option == "unconfined" else LoadSeccomp()


def _open_root(container: Container) -> int:
    """A descriptor of the root that the container would have, to look things up in. To be called in a thread with
    mounts of its own: there it is put together, under an upper directory in memory, and is gone when it is closed."""
    merged = container.seen.GraphDriver.Data["MergedDir"]
    if container.seen.HostConfig.Rootfs:
        return os.open(merged, os.O_PATH | os.O_DIRECTORY)
    place = os.path.dirname(os.path.dirname(merged))  # where the containers are: it is there
    memory = new_mount("tmpfs", "tmpfs", ["mode=700"])
    try:
        attach_at(memory, place)
    finally:
        os.close(memory)
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{place}/{name}")
    mount_overlay(f"{place}/merged", container.record.lower_dirs, f"{place}/upper", f"{place}/work")
    return os.open(f"{place}/merged", os.O_PATH | os.O_DIRECTORY)


def _own_mounts() -> int:
    """The mount namespace of this thread, which outlives it for as long as this is open: of a mount that is attached
    nowhere any more the kernel resolves no `..`."""
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _resolved(operations: list[Operation], root: int) -> Iterator[Operation]:
    """The same with the paths that links inside the container lead to: a script's `mkdir` and `mount` would follow
    them on the host. What has been mounted by then covers what the image has there."""
    covered: list[str] = []
    for operation in operations:
        field = _PLACES.get(type(operation))
        if field is None:
            yield operation
            continue
        value = getattr(operation, field)
        paths = [_resolve(root, path, covered) for path in (value if isinstance(value, list) else [value])]
        yield type(operation)(**operation.values() | {field: paths if isinstance(value, list) else paths[0]})
        if isinstance(operation, _MOUNTED):
            covered += paths


def _resolve(root: int, path: str, covered: list[str]) -> str:
    if any(path == place or path.startswith(f"{place}/") for place in covered):
        return path
    try:
        found = open_in_root(root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):  # it is still to be made
        above, _, name = path.rstrip("/").rpartition("/")
        return f"{_resolve(root, above or '/', covered).rstrip('/')}/{name}"
    try:
        beginning = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
        return os.readlink(f"/proc/self/fd/{found}").removeprefix(beginning).rstrip("/") or "/"
    finally:
        os.close(found)
