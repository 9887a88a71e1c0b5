"""`system df`: what takes how much of the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.listing import Column, Listing
from cutaway.cli.verb import verb
from cutaway.cli.verbs import images, ps
from cutaway.cli.verbs.common import FORMAT
from cutaway.engine import units
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.options.option import BOOL, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import Container, DiskUsage, Volume


class Kind(NamedTuple):
    """How many there are of a kind, how many of them are in use, and bytes."""

    name: str
    total: int
    active: int
    size: int
    reclaimable: int

    @property
    def share(self) -> str:
        part = f" ({100 * self.reclaimable // self.size}%)" if self.size else ""
        return units.size(self.reclaimable, 4) + part


KINDS: Listing[Kind] = Listing(
    "diskUsage",
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
    {
        "Type": Column("TYPE", lambda kind: kind.name),
        "TotalCount": Column("TOTAL", lambda kind: str(kind.total)),
        "Active": Column("ACTIVE", lambda kind: str(kind.active)),
        "Size": Column("SIZE", lambda kind: units.size(kind.size, 4)),
        "Reclaimable": Column("RECLAIMABLE", lambda kind: kind.share),
    },
)
IMAGES: Listing[images.Row] = Listing(
    "image",
    ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"),
    images.COLUMNS
    | {
        "SharedSize": Column("SHARED SIZE", lambda row: units.size(row.image.SharedSize)),
        "UniqueSize": Column("UNIQUE SIZE", lambda row: units.size(row.image.Size - row.image.SharedSize)),
        "Containers": Column("CONTAINERS", lambda row: str(row.image.Containers)),
    },
)
CONTAINERS = Listing(
    "container",
    ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"),
    ps.COLUMNS,
)
VOLUMES: Listing[Volume] = Listing(
    "volume",
    ("Name", "Links", "Size"),
    {
        "Name": Column("VOLUME NAME", lambda volume: volume.Name),
        "Links": Column("LINKS", lambda volume: str(_users(volume))),
        "Size": Column("SIZE", lambda volume: units.size(_size(volume))),
    },
)


@verb(
    "system df",
    usage="[OPTIONS]",
    summary="Show what takes how much of the disk",
    options=[FORMAT, Option("verbose", BOOL, "Each image, container and volume by itself", short="v")],
    arguments=(0, 0),
)
async def df(session: Session, parsed: Parsed) -> None:
    format, verbose = parsed.options.get("format", ""), parsed.options.get("verbose", False)
    if format and verbose:
        raise InvalidArgument("the verbose and format options conflict")
    usage = await session.engine.disk_usage()
    await session.out(_each(usage) if verbose else KINDS.render(_kinds(usage), format))


def _kinds(usage: DiskUsage) -> list[Kind]:
    running = [each for each in usage.Containers if _is_active(each)]
    held = [volume for volume in usage.Volumes if _users(volume)]
    containers, volumes = sum(map(_written, usage.Containers)), sum(map(_size, usage.Volumes))
    return [
        Kind(
            "Images",
            len(usage.Images),
            sum(image.Containers > 0 for image in usage.Images),
            usage.LayersSize,
            usage.LayersReclaimable,
        ),
        Kind("Containers", len(usage.Containers), len(running), containers, containers - sum(map(_written, running))),
        Kind("Local Volumes", len(usage.Volumes), len(held), volumes, volumes - sum(map(_size, held))),
        Kind("Build Cache", 0, 0, 0, 0),  # nothing is cached between builds
    ]


def _each(usage: DiskUsage) -> str:
    now = time.time()
    rows = [row for image in usage.Images for row in images.rows_of(image, [], cut=True)]
    containers = [ps.Row(container, now, cut=True) for container in usage.Containers]
    tables = {
        "Images": IMAGES.render(rows),
        "Containers": CONTAINERS.render(containers),
        "Local Volumes": VOLUMES.render(usage.Volumes),
    }
    return "\n".join(f"{kind} space usage:\n\n{table}" for kind, table in tables.items())


def _is_active(container: Container) -> bool:
    return container.State.Running or container.State.Restarting


def _written(container: Container) -> int:
    return container.SizeRw or 0


def _size(volume: Volume) -> int:
    return volume.UsageData.Size if volume.UsageData else 0


def _users(volume: Volume) -> int:
    return volume.UsageData.RefCount if volume.UsageData else 0
