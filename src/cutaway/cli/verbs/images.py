"""`images`, `import`, `load`, `save`, `tag`, `rmi`."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.listing import Column, Listing
from cutaway.cli.output import archive_target
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.common import CHANGE, FILTER, FORMAT, NO_TRUNC, QUIET_IDS
from cutaway.engine import filters, units
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options.option import BOOL, STRING, Option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import ImageSummary

NONE = "<none>"


class Row(NamedTuple):
    """An image under one of its names."""

    image: ImageSummary
    repository: str
    tag: str
    digest: str
    now: float
    cut: bool

    @property
    def id(self) -> str:
        return self.image.Id.removeprefix("sha256:")[:12] if self.cut else self.image.Id


COLUMNS: dict[str, Column[Row]] = {
    "Repository": Column("REPOSITORY", lambda row: row.repository),
    "Tag": Column("TAG", lambda row: row.tag),
    "Digest": Column("DIGEST", lambda row: row.digest),
    "ID": Column("IMAGE ID", lambda row: row.id),
    "CreatedSince": Column("CREATED", lambda row: units.since(row.image.Created, row.now)),
    "CreatedAt": Column("CREATED AT", lambda row: units.local_time(row.image.Created)),
    "Size": Column("SIZE", lambda row: units.size(row.image.Size)),
}
LISTING = Listing("image", ("Repository", "Tag", "ID", "CreatedSince", "Size"), COLUMNS)


@verb(
    "images",
    "image ls",
    "image list",
    usage="[OPTIONS] [REPOSITORY[:TAG]]",
    summary="List images",
    options=[
        Option("all", BOOL, "All: none are hidden here, as none are made on the way to others", short="a"),
        Option("digests", BOOL, "Their digests too"),
        FILTER,
        FORMAT,
        NO_TRUNC,
        QUIET_IDS,
    ],
    arguments=(0, 1),
    completes="image",
)
async def images(session: Session, parsed: Parsed) -> None:
    options, cut = parsed.options, not parsed.options.get("no-trunc", False)
    wanted = filters.read(options.get("filter", []))
    if parsed.arguments:
        wanted.setdefault("reference", []).append(parsed.arguments[0])
    found = filters.images(await session.engine.images(), wanted)
    rows = [row for image in found for row in rows_of(image, wanted.get("reference", []), cut=cut)]
    if options.get("quiet"):
        return await session.out("".join(f"{row.id}\n" for row in rows))
    format = options.get("format", "")
    if options.get("digests") and format in ("", "table"):
        format = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    return await session.out(LISTING.render(rows, format))


def rows_of(image: ImageSummary, references: list[str], *, cut: bool) -> Iterator[Row]:
    """A row per name, of those names that were asked for."""
    digests = {name.partition("@")[0]: name.partition("@")[2] for name in image.RepoDigests}
    names = [name for name in image.RepoTags if not references or filters.names_match(name, references)]
    for name in names:
        repository, _, tag = name.rpartition(":")
        yield Row(image, repository, tag, digests.get(repository, NONE), time.time(), cut)
    if not image.RepoTags:
        for repository, digest in (digests or {NONE: NONE}).items():
            yield Row(image, repository, NONE, digest, time.time(), cut)


@verb(
    "import",
    "image import",
    usage="[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
    summary="Make an image of a tar archive of a file system",
    options=[
        CHANGE,
        Option("message", STRING, "What the image's history says of it", short="m"),
    ],
    arguments=(1, 2),
    completes="file",
)
async def import_(session: Session, parsed: Parsed) -> None:
    options, (source, *reference) = parsed
    with _opened(session, source) as descriptor:
        importing = session.engine.image_import(
            descriptor, reference[0] if reference else "", options.get("change", []), options.get("message", "")
        )
        image_id = await session.while_here(importing)
    await session.print(image_id)


@verb(
    "load",
    "image load",
    usage="[OPTIONS]",
    summary="Load images from an archive of Docker's or of the OCI's layout",
    options=[
        Option("input", STRING, "Archive to read in the place of standard input", short="i", completes="file"),
        Option("quiet", BOOL, "Say less", short="q"),
    ],
    arguments=(0, 0),
)
async def load(session: Session, parsed: Parsed) -> None:
    with _opened(session, parsed.options.get("input", "-")) as descriptor:
        loaded = await session.while_here(session.engine.image_load(descriptor))
    for name in loaded:
        await session.print(f"Loaded image{' ID' if name.startswith('sha256:') else ''}: {name}")


@contextmanager
def _opened(session: Session, source: str) -> Iterator[int]:
    """A descriptor of a file of the caller's, or of its standard input for `-`."""
    if source == "-":
        if session.is_terminal(0):
            raise InvalidArgument("an archive is to be read from standard input, which is a terminal")
        yield session.command.descriptors[0]
        return
    try:
        descriptor = os.open(session.caller.path(source), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise InvalidArgument(f"open {source}: {(problem.strerror or '').lower()}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@verb(
    "save",
    "image save",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    summary="Write images to an archive that is Docker's and an OCI layout",
    options=[Option("output", STRING, "File to write in the place of standard output", short="o", completes="file")],
    arguments=(1, UNLIMITED),
    completes="image",
)
async def save(session: Session, parsed: Parsed) -> None:
    with archive_target(session, parsed.options.get("output", ""), "save") as descriptor:
        await session.while_here(session.engine.image_save(parsed.arguments, descriptor))


@verb(
    "tag",
    "image tag",
    usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    summary="Give an image another name",
    arguments=(2, 2),
    completes="image",
)
async def tag(session: Session, parsed: Parsed) -> None:
    await session.engine.image_tag(*parsed.arguments)


@verb(
    "rmi",
    "image rm",
    "image remove",
    usage="[OPTIONS] IMAGE [IMAGE...]",
    summary="Remove one or more images",
    options=[
        Option("force", BOOL, "Also where stopped containers use it, or where it has several names", short="f"),
        Option("no-prune", BOOL, "Keep parents that have no name"),
    ],
    arguments=(1, UNLIMITED),
    completes="image",
)
async def rmi(session: Session, parsed: Parsed) -> int:
    force, prune = parsed.options.get("force", False), not parsed.options.get("no-prune", False)

    async def remove(name: str) -> None:
        for step in await session.engine.image_remove(name, force=force, prune=prune):
            await session.print(f"Untagged: {step.Untagged}" if step.Untagged else f"Deleted: {step.Deleted}")

    return await session.for_each(parsed.arguments, remove, report=False)
