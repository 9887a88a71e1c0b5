"""A plan: what makes one container, as three lists of operations, and what takes it away again."""

from __future__ import annotations

from itertools import groupby

from cutaway.plan.operation import dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cutaway.plan.operation import Context, Operation


class Plan:
    """`before`: on the host; `inside`: by the first process, in its new namespaces; `after`: on the host again."""

    def __init__(self, before: list[Operation], inside: list[Operation], after: list[Operation]) -> None:
        self.before, self.inside, self.after = before, inside, after

    def host_operations(self) -> list[Operation]:
        """What changes the host, in the order it is done: what must be undone, in the reverse of it."""
        return [*self.before, *self.after]

    def dump(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {"before": dump(self.before), "inside": dump(self.inside), "after": dump(self.after)}

    @classmethod
    def load(cls, values: dict[str, Any]) -> Plan:
        """The inverse of `dump`."""
        return cls(load(values["before"]), load(values["inside"]), load(values["after"]))


def apply(operations: Iterable[Operation], context: Context) -> None:
    """Applies one after the other; what had been applied when one fails stays, for `undo`."""
    for operation in operations:
        operation.apply(context)


def undo(operations: Iterable[Operation], context: Context) -> list[OSError]:
    """Undoes all, the last first, whether or not they were applied; returns what the kernel refused on the way."""
    refused: list[OSError] = []
    for _, group in groupby(reversed(list(operations)), type):
        alike = list(group)
        refused += alike[0].undo_all(alike, context)
    return refused
