"""`ps`: the list of containers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.gotemplate.printf import quoted
from cutaway.cli.listing import Column, Listing
from cutaway.cli.verb import verb
from cutaway.cli.verbs.common import FILTER, FORMAT, NO_TRUNC, QUIET_IDS
from cutaway.engine import filters, summary, units
from cutaway.engine.options.option import BOOL, INT, Option

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import Container

SHORT_ID, LONGEST_COMMAND, LONGEST_MOUNT = 12, 20, 15


class Row(NamedTuple):
    """A container, the moment of the list (seconds since 1970), and whether long texts are cut."""

    container: Container
    now: float
    cut: bool

    def shortened(self, text: str, most: int) -> str:
        return text[: most - 1] + "…" if self.cut and len(text) > most else text


def command(row: Row) -> str:
    words = [row.container.Path, *row.container.Args]
    text = " ".join(word if word and not set(word) & set(" '\"$&|;<>") else f"'{word}'" for word in words)
    return quoted(row.shortened(text, LONGEST_COMMAND))


def image(row: Row) -> str:
    name, image_id = row.container.Config.Image, row.container.Image.removeprefix("sha256:")
    if not name:
        return row.container.HostConfig.Rootfs
    return image_id[:SHORT_ID] if row.cut and name.removeprefix("sha256:") == image_id else name


def mounts(row: Row) -> str:
    return ",".join(row.shortened(mount.Name or mount.Source, LONGEST_MOUNT) for mount in row.container.Mounts)


def local_volumes(row: Row) -> str:
    return str(sum(mount.Type == "volume" and mount.Driver == "local" for mount in row.container.Mounts))


def size(row: Row) -> str:
    written, whole = row.container.SizeRw or 0, row.container.SizeRootFs or 0
    return units.size(written) + (f" (virtual {units.size(whole)})" if whole else "")


def labels(of: dict[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((of or {}).items()))


def label(row: Row) -> Callable[[str], str]:
    return lambda name: (row.container.Config.Labels or {}).get(name, "")


COLUMNS: dict[str, Column[Row]] = {
    "ID": Column("CONTAINER ID", lambda row: row.container.Id[: SHORT_ID if row.cut else None]),
    "Image": Column("IMAGE", image),
    "Command": Column("COMMAND", command),
    "CreatedAt": Column("CREATED AT", lambda row: units.local_time(units.seconds_of(row.container.Created))),
    "RunningFor": Column("CREATED", lambda row: units.ago(row.container.Created, row.now)),
    "Status": Column("STATUS", lambda row: summary.status(row.container.State, row.now)),
    "State": Column("STATE", lambda row: row.container.State.Status),
    "Ports": Column("PORTS", lambda row: summary.ports_text(summary.ports(row.container))),
    "Names": Column("NAMES", lambda row: row.container.Name.removeprefix("/")),
    "Size": Column("SIZE", size),
    "Labels": Column("LABELS", lambda row: labels(row.container.Config.Labels)),
    "Label": Column("", label),
    "Mounts": Column("MOUNTS", mounts),
    "LocalVolumes": Column("LOCAL VOLUMES", local_volumes),
    "Networks": Column("NETWORKS", lambda row: ",".join(sorted(row.container.NetworkSettings.Networks))),
}
LISTING = Listing("container", ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"), COLUMNS)


@verb(
    "ps",
    "container ls",
    "container list",
    "container ps",
    usage="[OPTIONS]",
    summary="List containers",
    options=[
        Option("all", BOOL, "Those that do not run too", short="a"),
        FILTER,
        FORMAT,
        Option("last", INT, "The last N that were created, whatever their state", short="n"),
        Option("latest", BOOL, "The last that was created, whatever its state", short="l"),
        NO_TRUNC,
        QUIET_IDS,
        Option("size", BOOL, "How much they have written too", short="s"),
    ],
    arguments=(0, 0),
)
async def ps(session: Session, parsed: Parsed) -> None:
    options = parsed.options
    found = await _wanted(session, parsed)
    cut = not options.get("no-trunc", False)
    if options.get("quiet"):
        return await session.out("".join(f"{each.Id[: SHORT_ID if cut else None]}\n" for each in found))
    format = options.get("format", "")
    if options.get("size") or ("size" not in options and LISTING.uses(format, "Size")):
        found = await asyncio.gather(*(session.engine.inspect(each.Id, size=True) for each in found))
    also = ("Size",) if options.get("size") else ()
    rows = [Row(container, time.time(), cut) for container in found]
    return await session.out(LISTING.render(rows, format, also=also))


async def _wanted(session: Session, parsed: Parsed) -> list[Container]:
    options = parsed.options
    wanted = filters.read(options.get("filter", []))
    last = 1 if options.get("latest") else options.get("last", -1)
    everything = await session.engine.containers()
    descendants = {name: await session.engine.image_descendants(name) for name in wanted.get("ancestor", [])}
    found = filters.containers(everything, wanted, descendants)
    if last >= 0:
        return found[:last]
    if not options.get("all") and not wanted.keys() & {"status", "exited"}:
        found = [container for container in found if container.State.Running or container.State.Restarting]
    return found
