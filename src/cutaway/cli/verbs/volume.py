"""`volume create|ls|inspect|rm|prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.listing import Column, Listing
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.common import FILTER, FORMAT
from cutaway.cli.verbs.network import LABEL, pairs
from cutaway.cli.verbs.ps import labels
from cutaway.engine import filters
from cutaway.engine.model import Volume, VolumeCreate
from cutaway.engine.options.option import BOOL, PAIRS, STRING, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session

LISTING: Listing[Volume] = Listing(
    "volume",
    ("Driver", "Name"),
    {
        "Driver": Column("DRIVER", lambda volume: volume.Driver),
        "Name": Column("VOLUME NAME", lambda volume: volume.Name),
        "Mountpoint": Column("MOUNTPOINT", lambda volume: volume.Mountpoint),
        "Scope": Column("SCOPE", lambda volume: volume.Scope),
        "Labels": Column("LABELS", lambda volume: labels(volume.Labels)),
        "Label": Column("", lambda volume: lambda name: volume.Labels.get(name, "")),
        "CreatedAt": Column("CREATED AT", lambda volume: volume.CreatedAt),
    },
)


@verb(
    "volume ls",
    "volume list",
    usage="[OPTIONS]",
    summary="List volumes",
    options=[FILTER, FORMAT, Option("quiet", BOOL, "Print names only", short="q")],
    arguments=(0, 0),
)
async def ls(session: Session, parsed: Parsed) -> None:
    options = parsed.options
    used = [mount.Name for container in await session.engine.containers() for mount in container.Mounts]
    wanted = filters.read(options.get("filter", []))
    found = filters.volumes(await session.engine.volumes(), wanted, used)
    found.sort(key=lambda volume: volume.Name)
    if options.get("quiet"):
        return await session.out("".join(f"{volume.Name}\n" for volume in found))
    return await session.out(LISTING.render(found, options.get("format", "")))


@verb(
    "volume create",
    usage="[OPTIONS] [VOLUME]",
    summary="Create a volume",
    options=[
        Option("driver", STRING, "Who keeps it", short="d", default='"local"', completes="local"),
        LABEL,
        Option("opt", PAIRS, "Option of the driver", short="o"),
    ],
    arguments=(0, 1),
)
async def create(session: Session, parsed: Parsed) -> None:
    options, arguments = parsed
    request = VolumeCreate(
        Name=arguments[0] if arguments else "",
        Driver=options.get("driver", "local"),
        DriverOpts=pairs(options.get("opt", [])),
        Labels=pairs(options.get("label", [])),
    )
    await session.print((await session.engine.volume_create(request)).Name)


@verb(
    "volume rm",
    "volume remove",
    usage="[OPTIONS] VOLUME [VOLUME...]",
    summary="Remove one or more volumes that no container uses",
    options=[Option("force", BOOL, "One that is not there is no error", short="f")],
    arguments=(1, UNLIMITED),
    completes="volume",
)
async def rm(session: Session, parsed: Parsed) -> int:
    force = parsed.options.get("force", False)
    return await session.for_each(parsed.arguments, lambda name: session.engine.volume_remove(name, force=force))
