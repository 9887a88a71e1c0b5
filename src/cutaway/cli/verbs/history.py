"""`history`: the steps in which an image was made."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.listing import Column, Listing
from cutaway.cli.verb import verb
from cutaway.cli.verbs.common import FORMAT, NO_TRUNC, QUIET_IDS
from cutaway.cli.verbs.ps import SHORT_ID
from cutaway.engine import units
from cutaway.engine.options.option import BOOL, Option

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import HistoryStep

LONGEST_COMMAND = 45


class Row(NamedTuple):
    """A step, the moment of the list (seconds since 1970), and whether long texts are cut and numbers made readable."""

    step: HistoryStep
    now: float
    cut: bool
    human: bool

    @property
    def id(self) -> str:
        return self.step.Id.removeprefix("sha256:")[:SHORT_ID] if self.cut else self.step.Id

    @property
    def created_by(self) -> str:
        text = self.step.CreatedBy.replace("\t", " ")
        return text[: LONGEST_COMMAND - 1] + "…" if self.cut and len(text) > LONGEST_COMMAND else text

    @property
    def created_at(self) -> str:
        return datetime.fromtimestamp(self.step.Created).astimezone().isoformat().replace("+00:00", "Z")


COLUMNS: dict[str, Column[Row]] = {
    "ID": Column("IMAGE", lambda row: row.id),
    "CreatedSince": Column("CREATED", lambda row: units.since(row.step.Created, row.now)),
    "CreatedAt": Column("CREATED AT", lambda row: row.created_at),
    "CreatedBy": Column("CREATED BY", lambda row: row.created_by),
    "Size": Column("SIZE", lambda row: units.size(row.step.Size) if row.human else str(row.step.Size)),
    "Comment": Column("COMMENT", lambda row: row.step.Comment),
}
LISTING = Listing("history", ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"), COLUMNS)
EXACT = Listing("history", ("ID", "CreatedAt", "CreatedBy", "Size", "Comment"), COLUMNS)


@verb(
    "history",
    "image history",
    usage="[OPTIONS] IMAGE",
    summary="List the steps in which an image was made",
    options=[
        FORMAT,
        Option("human", BOOL, "Sizes and times as people read them", short="H", default="true"),
        NO_TRUNC,
        QUIET_IDS,
    ],
    arguments=(1, 1),
    completes="image",
)
async def history(session: Session, parsed: Parsed) -> None:
    options, human = parsed.options, parsed.options.get("human", True)
    steps = await session.engine.image_history(parsed.arguments[0])
    rows = [Row(step, time.time(), not options.get("no-trunc", False), human) for step in steps]
    if options.get("quiet"):
        return await session.out("".join(f"{row.id}\n" for row in rows))
    return await session.out((LISTING if human else EXACT).render(rows, options.get("format", "")))
