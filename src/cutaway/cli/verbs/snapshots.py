"""`commit` and `export`: what a container has become, as an image or as an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.output import archive_target
from cutaway.cli.verb import verb
from cutaway.cli.verbs.common import CHANGE
from cutaway.engine.interface import Commit
from cutaway.engine.options.option import BOOL, STRING, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


@verb(
    "commit",
    "container commit",
    usage="[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    summary="Make an image of what a container has become",
    options=[
        Option("author", STRING, 'Who made it: "Grace Hopper <grace@example.org>"', short="a"),
        CHANGE,
        Option("message", STRING, "What the image's history says of it", short="m"),
        Option("pause", BOOL, "Have the container stand still meanwhile", short="p", default="true"),
    ],
    arguments=(1, 2),
    completes="container",
)
async def commit(session: Session, parsed: Parsed) -> None:
    options, (name, *reference) = parsed
    asked = Commit(
        reference[0] if reference else "",
        options.get("author", ""),
        options.get("message", ""),
        options.get("change", []),
        options.get("pause", True),
    )
    await session.print(await session.while_here(session.engine.commit(name, asked)))


@verb(
    "export",
    "container export",
    usage="[OPTIONS] CONTAINER",
    summary="Write a container's root file system as a tar archive",
    options=[Option("output", STRING, "File to write, in the place of standard output", short="o", completes="file")],
    arguments=(1, 1),
    completes="container",
)
async def export(session: Session, parsed: Parsed) -> None:
    with archive_target(session, parsed.options.get("output", ""), "export") as descriptor:
        await session.while_here(session.engine.export(parsed.arguments[0], descriptor))
