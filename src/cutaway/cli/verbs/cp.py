"""`cp`: files between a container and this host, as a tar stream that one side packs and the other unpacks."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.verb import verb
from cutaway.engine.errors import EngineError, InvalidArgument, NotFound
from cutaway.engine.options.option import BOOL, Option
from cutaway.image import offload
from cutaway.image.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session

MAX_LINKS = 40
"""How many links in a row are followed (`path_resolution(7)`)."""


class Place(NamedTuple):
    """Where something is copied from or to. `mode` as in `stat(2)`, 0 where there is nothing yet."""

    path: str
    mode: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def means_contents(self) -> bool:
        """`DIRECTORY/.` is what the directory holds, not itself."""
        return self.path == "." or self.path.endswith("/.")

    @property
    def name(self) -> str:
        return os.path.basename(os.path.normpath(self.path))


@verb(
    "cp",
    "container cp",
    usage="[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-  or  SRC_PATH|- CONTAINER:DEST_PATH",
    summary="Copy files between a container and this host; - is a tar archive on standard input or output",
    options=[
        Option("archive", BOOL, "Keep owners and groups", short="a"),
        Option("follow-link", BOOL, "Where the source is a link, copy what it leads to", short="L"),
        Option("quiet", BOOL, "Do not say what was copied", short="q"),
    ],
    arguments=(2, 2),
    completes="path",
)
async def cp(session: Session, parsed: Parsed) -> None:
    source, target = parsed.arguments
    (from_container, from_path), (to_container, to_path) = _split(source), _split(target)
    if from_container and to_container:
        raise InvalidArgument("copying between containers is not supported")
    if not from_container and not to_container:
        raise InvalidArgument("must specify at least one container source")
    archive, follow = parsed.options.get("archive", False), parsed.options.get("follow-link", False)
    if from_container:
        copying = _copy_out(session, from_container, from_path, to_path, archive=archive, follow=follow)
    else:
        copying = _copy_in(session, from_path, to_container, to_path, archive=archive, follow=follow)
    await session.while_here(copying)
    if not parsed.options.get("quiet") and session.is_terminal(2):
        await session.complain(f"Copied {source} to {target}")


def _split(text: str) -> tuple[str, str]:
    """`web:/etc` as container and path; a local path has no container, also where it holds a colon after a slash."""
    container, separator, path = text.partition(":")
    if not separator or text.startswith(("/", ".")) or "/" in container:
        return "", text
    return container, path


def placing(source: Place, target: Place) -> tuple[str, str]:
    """In which directory the source is put, and what it is called there (`"."`: what it holds goes in directly).

    Raises `InvalidArgument` for a directory onto a file, or a file into a directory that is not there.
    """
    above, name = os.path.split(os.path.normpath(target.path))
    if target.is_directory:
        return target.path, "." if source.is_directory and source.means_contents else source.name
    if target.mode and source.is_directory:
        raise InvalidArgument(f"cannot copy directory {source.path} to {target.path}, which is not a directory")
    if target.path.endswith("/") and not source.is_directory:
        raise InvalidArgument(f"{target.path}: no such directory")
    return above, name


async def _copy_out(session: Session, container: str, path: str, to: str, *, archive: bool, follow: bool) -> None:
    engine = session.engine
    source = await _in_container(session, container, path, follow=follow)
    if to == "-":
        if session.is_terminal(1):
            raise InvalidArgument("refusing to write an archive to a terminal: redirect standard output")
        name = "." if source.means_contents else source.name
        return await engine.archive_out(container, source.path, session.command.descriptors[1], name)
    directory, name = placing(source, _local(session, to, follow=True))
    credentials = session.connection.credentials
    owner = None if archive else (credentials.uid, credentials.gid)
    return await _through_pipe(
        lambda pipe: engine.archive_out(container, source.path, pipe, name),
        lambda pipe: _unpack_local(directory, pipe, owner),
    )


async def _copy_in(session: Session, path: str, container: str, to: str, *, archive: bool, follow: bool) -> None:
    engine = session.engine
    target = await _target_in_container(session, container, to)
    if path == "-":
        if not target.is_directory:
            raise InvalidArgument(f"{to} is not a directory in the container: an archive is unpacked in a directory")
        return await engine.archive_in(container, to, session.command.descriptors[0], keep_ids=archive)
    source = _local(session, path, follow=follow)
    if not source.mode:
        raise InvalidArgument(f"{path}: no such file or directory")
    directory, name = placing(source, target)
    return await _through_pipe(
        lambda pipe: _pack_local(source.path, name, pipe),
        lambda pipe: engine.archive_in(container, directory, pipe, keep_ids=archive),
    )


async def _in_container(session: Session, container: str, path: str, *, follow: bool) -> Place:
    """What is at a path in a container, at the end of its links if they are to be followed."""
    for _ in range(MAX_LINKS):
        found = await session.engine.path_stat(container, path)
        if not (follow and stat.S_ISLNK(found.mode)):
            return Place(path, found.mode)
        path = os.path.join(os.path.dirname(os.path.normpath(path)), found.linkTarget)
    raise InvalidArgument(f"{path}: too many levels of symbolic links")


async def _target_in_container(session: Session, container: str, path: str) -> Place:
    await session.engine.inspect(container)
    try:
        return (await _in_container(session, container, path, follow=True))._replace(path=path)
    except NotFound:
        return Place(path, 0)


def _local(session: Session, path: str, *, follow: bool) -> Place:
    whole = session.caller.path(path)
    try:
        mode = (os.stat if follow else os.lstat)(whole).st_mode
    except OSError:
        mode = 0
    ending = next((ending for ending in ("/.", "/") if path.endswith(ending)), "/." if path == "." else "")
    return Place(whole + ending, mode)


async def _through_pipe(write: Callable[[int], Awaitable[None]], read: Callable[[int], Awaitable[None]]) -> None:
    """One side writes what the other reads; where both fail, the reader's reason is the one that is told."""
    reading, writing = os.pipe()

    async def closing(descriptor: int, work: Callable[[int], Awaitable[None]]) -> None:
        try:
            await work(descriptor)
        finally:
            os.close(descriptor)

    written, was_read = await asyncio.gather(closing(writing, write), closing(reading, read), return_exceptions=True)
    for outcome in (was_read, written):
        if isinstance(outcome, BaseException):
            raise outcome


async def _pack_local(path: str, name: str, pipe: int) -> None:
    with _Root("/") as root:
        await _offload({"do": "pack", "root": root, "path": path, "name": name, "target": pipe}, root, pipe)


async def _unpack_local(directory: str, pipe: int, owner: tuple[int, int] | None) -> None:
    with _Root(directory) as root:
        job = {"do": "unpack", "root": root, "path": ".", "source": pipe, "owner": owner, "keep_kind": True}
        await _offload(job, root, pipe)


class _Root:
    """A directory held open."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as problem:
            raise InvalidArgument(f"{self._path}: {problem.strerror}") from None
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


async def _offload(job: dict[str, object], *descriptors: int) -> None:
    try:
        await offload.run(job, descriptors)
    except ImageError as problem:
        raise EngineError(str(problem)) from None
