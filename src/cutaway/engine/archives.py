"""Files in and out of containers, as tar streams: `cp`, whether the container runs or not.

A container may change its files while we look at them, so every path is looked up inside its root, link by link, by the
kernel (`openat2(2)`), and what was found is used by its descriptor.
"""

from __future__ import annotations

import os
import select
import stat
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from cutaway.engine.beside import beside
from cutaway.engine.containers import moment
from cutaway.engine.errors import EngineError, InvalidArgument, NotFound
from cutaway.engine.images import explained
from cutaway.engine.model import Change, PathStat
from cutaway.engine.roots import assembled, open_running, tree_size, writable
from cutaway.image import archive
from cutaway.kernel.openat2 import open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cutaway.engine.containers import Container
    from cutaway.engine.model import Container as Seen
    from cutaway.engine.volumes import Volumes
    from cutaway.image.images import Images

Result = TypeVar("Result")

_PIECE = 1 << 16  # bytes: what a pipe holds
_MOST_LINKS = 40  # MAXSYMLINKS of the kernel
MADE_FOR_MOUNTS = {"/dev", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
"""Where something is mounted in every container, and what is therefore made where the image has nothing there."""

_CHANGES: dict[str, int] = {"C": 0, "A": 1, "D": 2}


class Archives:
    """Reaches into containers; of one that does not run, the volumes are there too."""

    def __init__(self, volumes: Volumes, images: Images) -> None:
        self._volumes, self._images = volumes, images

    async def stat(self, container: Container, path: str) -> PathStat:
        """What is at a path, a last link not followed. Raises `NotFound`."""

        def work(root: int, abandoned: int) -> PathStat:  # noqa: ARG001
            with _explained(container, path):
                return path_stat(root, path)

        return await self._inside(container, work)

    async def pack(self, container: Container, path: str, descriptor: int, called: str = "") -> None:
        """Writes a tar archive of what is at `path`, a last link not followed unless a slash comes after it. In the
        archive it is named as `called`, or by its own last component."""
        name = called or os.path.basename(os.path.normpath(path)) or "."

        def work(root: int, abandoned: int) -> None:
            with _explained(container, path):
                place = resolved(root, path) if path.endswith(("/", "/.")) else path
                with closing(archive.packed(root, place, name)) as chunks:
                    _write(target, chunks, abandoned)

        with _own(descriptor) as target:
            await self._inside(container, work)

    async def unpack(
        self, container: Container, path: str, descriptor: int, *, keep_ids: bool, past_read_only: bool
    ) -> None:
        """Makes the files of a tar archive in the directory `path`, for the container's root unless `keep_ids`; where
        `past_read_only`, also on a root file system that is read-only to the container itself."""

        def work(root: int, abandoned: int) -> None:
            pieces = _read(source, abandoned)
            with _explained(container, path), ExitStack() as stack:
                if past_read_only:
                    root = stack.enter_context(writable(container, root, path))
                archive.unpack(root, path, pieces, None if keep_ids else (0, 0), keep_kind=True)
                for _ in pieces:
                    pass  # what follows the archive's end, so that who writes it is not broken off

        with _own(descriptor) as source:
            await self._inside(container, work, past_read_only=past_read_only)

    async def diff(self, container: Container) -> list[Change]:
        """What is changed, added and deleted in the container's own layer, by path."""
        if container.seen.HostConfig.Rootfs:
            raise InvalidArgument(f"container {container.name} has no layer of its own to compare with an image")
        with explained():
            found = await self._images.changes(container.seen.GraphDriver.Data["UpperDir"], container.record.lower_dirs)
        return [Change(Path=path, Kind=_CHANGES[kind]) for kind, path in _without_ours(found)]  # type: ignore[arg-type]

    async def measured(self, container: Container) -> Seen:
        """The container as `inspect` shows it, with the size of its own layer, and with that of the image's added."""
        seen = container.seen
        if seen.HostConfig.Rootfs:
            return seen
        own = await beside(lambda _: tree_size(seen.GraphDriver.Data["UpperDir"]))
        return replace(seen, SizeRw=own, SizeRootFs=self._images.by_id(seen.Image).size + own)

    async def _inside(
        self, container: Container, work: Callable[[int, int], Result], *, past_read_only: bool = False
    ) -> Result:
        """Does `work(root, abandoned)`. One that does not run must not start meanwhile: its layers would be mounted
        twice. One that is being started is waited for: until it is there, its first process sees another root."""
        async with container.lock:
            if container.removed:
                raise NotFound(f"No such container: {container.name}", "container", container.name)
            if not container.process:
                return await self._inside_stopped(container, work, past_read_only)
            root = open_running(container)
        try:
            return await beside(lambda abandoned: work(root, abandoned))
        finally:
            os.close(root)

    async def _inside_stopped(
        self, container: Container, work: Callable[[int, int], Result], past_read_only: bool
    ) -> Result:
        mounts = self._volumes.mounts(container)

        def assembled_work(abandoned: int) -> Result:
            with assembled(container, mounts, past_read_only=past_read_only) as root:
                return work(root, abandoned)

        await self._volumes.hold(container)
        try:
            return await beside(assembled_work, own_mounts=True)
        finally:
            await self._volumes.let_go(container)


def _without_ours(changes: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without the places that every container is given to mount on; and /etc, where nothing else in it is changed."""
    others = [(kind, path) for kind, path in changes if kind != "A" or path not in MADE_FOR_MOUNTS]
    etc_is_changed = any(path.startswith("/etc/") for _, path in others)
    return [(kind, path) for kind, path in others if path != "/etc" or etc_is_changed]


def path_stat(root: int, path: str) -> PathStat:
    """What is at `path` inside the directory `root`, and where it leads if it is a link. Raises `OSError`."""
    found = archive.status(root, path)
    target = resolved(root, path) if stat.S_ISLNK(found.mode) else ""
    return PathStat(name=found.name, size=found.size, mode=found.mode, mtime=moment(found.mtime), linkTarget=target)


def resolved(root: int, path: str) -> str:
    """`path` with all its links followed as a process whose root is `root` would; what is missing stays as written.

    Only to be shown: by the time it is used, the container may have changed it. Raises `OSError` for a loop.
    """
    done, links = "/", 0
    waiting = _parts(path)
    while waiting:
        part = waiting.pop()
        if part == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, part)
        target = _link_target(root, here)
        if target is None:
            done = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(40, os.strerror(40), path)  # ELOOP
        done = "/" if target.startswith("/") else done
        waiting += _parts(target)
    return done


def _parts(path: str) -> list[str]:
    """The last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_target(root: int, path: str) -> str | None:
    try:
        link = open_in_root(root, path, os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.readlink("", dir_fd=link) if stat.S_ISLNK(os.fstat(link).st_mode) else None
    finally:
        os.close(link)


@contextmanager
def _explained(container: Container, path: str) -> Iterator[None]:
    try:
        with explained():
            yield
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container {container.name}", "path", path) from None
    except NotADirectoryError:
        raise InvalidArgument(f"{path} in container {container.name}: not a directory") from None
    except OSError as error:
        raise EngineError(f"{path} in container {container.name}: {error.strerror}") from None


@contextmanager
def _own(descriptor: int) -> Iterator[int]:
    """A duplicate: whoever gives up waiting closes the other while the thread has still to notice."""
    own = os.dup(descriptor)
    try:
        yield own
    finally:
        os.close(own)


def _write(descriptor: int, chunks: Iterable[bytes], abandoned: int) -> None:
    unwanted = select.poll()
    unwanted.register(abandoned, select.POLLIN)
    for piece in archive.gathered(chunks):
        left = memoryview(piece)
        while left:
            if unwanted.poll(0):
                return
            left = left[os.write(descriptor, left) :]


def _read(descriptor: int, abandoned: int) -> Iterator[bytes]:
    """All that can be read, until nobody waits for it any more."""
    readable = select.poll()
    for each in (descriptor, abandoned):
        readable.register(each, select.POLLIN)
    while abandoned not in (ready for ready, _ in readable.poll()):
        piece = os.read(descriptor, _PIECE)
        if not piece:
            return
        yield piece
    raise EngineError("the archive was given up before its end")
