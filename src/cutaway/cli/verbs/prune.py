"""`container|image|network|volume|system prune`: removing what nothing uses, once the caller has said yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.verb import verb
from cutaway.cli.verbs.common import FORCE
from cutaway.engine import filters, units
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options.option import BOOL, LIST, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import ImageDelete, Pruned

BY_AGE_AND_LABEL = Option("filter", LIST, "Only what fits: until=AGE, label=KEY[=VALUE], label!=KEY[=VALUE]")
BY_LABEL = Option("filter", LIST, "Only what fits: label=KEY[=VALUE], label!=KEY[=VALUE]")
CONTAINERS, NETWORKS = "all stopped containers", "all networks not used by at least one container"
ANONYMOUS_VOLUMES = "all anonymous volumes not used by at least one container"
VOLUMES = {
    False: "anonymous local volumes not used by at least one container",
    True: "all local volumes not used by at least one container",
}
IMAGES = {False: "all dangling images", True: "all images without at least one container associated to them"}


@verb(
    "container prune",
    usage="[OPTIONS]",
    summary="Remove all containers that do not run",
    options=[BY_AGE_AND_LABEL, FORCE],
    arguments=(0, 0),
)
async def containers(session: Session, parsed: Parsed) -> None:
    if await _confirmed(session, parsed, CONTAINERS):
        pruned = await session.engine.container_prune(_filters(parsed))
        await session.out(_section("Containers", pruned.Removed) + _total(pruned.SpaceReclaimed))


@verb(
    "image prune",
    usage="[OPTIONS]",
    summary="Remove images that have no name and that no container stands on",
    options=[Option("all", BOOL, "Those with a name too", short="a"), BY_AGE_AND_LABEL, FORCE],
    arguments=(0, 0),
)
async def images(session: Session, parsed: Parsed) -> None:
    everything = parsed.options.get("all", False)
    if await _confirmed(session, parsed, IMAGES[everything]):
        pruned = await session.engine.image_prune(_filters(parsed), all=everything)
        await session.out(_section("Images", _steps(pruned.Removed)) + _total(pruned.SpaceReclaimed))


@verb(
    "network prune",
    usage="[OPTIONS]",
    summary="Remove all networks that no container is on",
    options=[BY_AGE_AND_LABEL, FORCE],
    arguments=(0, 0),
)
async def networks(session: Session, parsed: Parsed) -> None:
    if await _confirmed(session, parsed, NETWORKS.replace("all", "all custom")):
        await session.out(_section("Networks", (await session.engine.network_prune(_filters(parsed))).Removed))


@verb(
    "volume prune",
    usage="[OPTIONS]",
    summary="Remove anonymous volumes that no container uses",
    options=[Option("all", BOOL, "Those with a name too", short="a"), BY_LABEL, FORCE],
    arguments=(0, 0),
)
async def volumes(session: Session, parsed: Parsed) -> None:
    everything = parsed.options.get("all", False)
    if await _confirmed(session, parsed, VOLUMES[everything]):
        pruned = await session.engine.volume_prune(_filters(parsed), all=everything)
        await session.out(_section("Volumes", pruned.Removed) + _total(pruned.SpaceReclaimed))


@verb(
    "system prune",
    usage="[OPTIONS]",
    summary="Remove all that nothing uses: containers, networks, images, and on request volumes",
    options=[
        Option("all", BOOL, "Also images that have a name", short="a"),
        BY_AGE_AND_LABEL,
        FORCE,
        Option("volumes", BOOL, "Also anonymous volumes"),
    ],
    arguments=(0, 0),
)
async def system(session: Session, parsed: Parsed) -> None:
    engine, wanted = session.engine, _filters(parsed)
    everything, with_volumes = parsed.options.get("all", False), parsed.options.get("volumes", False)
    if with_volumes and "until" in wanted:
        raise InvalidArgument('The "until" filter is not supported with "--volumes"')
    what = [CONTAINERS, NETWORKS, *([ANONYMOUS_VOLUMES] if with_volumes else []), IMAGES[everything]]
    if not await _confirmed(session, parsed, *what):
        return
    done: dict[str, Pruned] = {
        "Containers": await engine.container_prune(wanted),
        "Networks": await engine.network_prune(wanted),
    }
    if with_volumes:
        done["Volumes"] = await engine.volume_prune(wanted)
    pruned = await engine.image_prune(wanted, all=everything)
    text = "".join(_section(kind, each.Removed) for kind, each in done.items())
    space = sum(each.SpaceReclaimed for each in done.values()) + pruned.SpaceReclaimed
    await session.out(text + _section("Images", _steps(pruned.Removed)) + _total(space))


def _filters(parsed: Parsed) -> filters.Filters:
    return filters.read(parsed.options.get("filter", []))


async def _confirmed(session: Session, parsed: Parsed, *what: str) -> bool:
    """Asks unless told not to, once it is known that the filters make sense."""
    filters.to_prune(_filters(parsed))
    if parsed.options.get("force"):
        return True
    if len(what) == 1:
        return await session.ask(f"WARNING! This will remove {what[0]}.")
    lines = ["WARNING! This will remove:", *(f"  - {each}" for each in what), ""]
    if asked := parsed.options.get("filter"):
        lines += ["  Items to be pruned will be filtered with:", *(f"  - {each}" for each in asked), ""]
    return await session.ask("\n".join(lines))


def _section(kind: str, removed: list[str]) -> str:
    return "\n".join([f"Deleted {kind}:", *removed, "", ""]) if removed else ""


def _steps(removed: list[ImageDelete]) -> list[str]:
    return [f"untagged: {step.Untagged}" if step.Untagged else f"deleted: {step.Deleted}" for step in removed]


def _total(space: int) -> str:
    return f"Total reclaimed space: {units.size(space, 4)}\n"
