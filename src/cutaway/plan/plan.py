"""A plan: what makes one container, as three lists of operations, and what takes it away again.

Who wants to see what is done sets `watching`, and hears of each operation when it has been done. Nobody being there,
nothing is measured and no word of an explanation is built.
"""

from __future__ import annotations

from contextvars import ContextVar
from itertools import groupby
from time import monotonic_ns

from cutaway.plan.operation import Operation, dump, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cutaway.plan.operation import Context

PREPARATION, CLONE, INSIDE, PROGRAM, TEARDOWN = "preparation", "clone", "inside", "program", "teardown"


class Step:
    """An operation that was done, or `undone`, in one of the phases above. `nanoseconds`: the time it took; None of one
    that is about to be done. `error`: what the kernel said, where it failed."""

    __slots__ = ("error", "nanoseconds", "operation", "phase", "undone")

    def __init__(
        self, phase: str, operation: Operation, nanoseconds: int | None, *, undone: bool = False, error: str = ""
    ) -> None:
        self.phase, self.operation, self.nanoseconds = phase, operation, nanoseconds
        self.undone, self.error = undone, error


watching: ContextVar[Callable[[Step], None] | None] = ContextVar("watching", default=None)
"""Who is told of each step done in this context, in whatever thread it is done; None: nobody."""


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
    watcher = watching.get()
    for operation in operations:
        if watcher:
            _apply_watched(operation, context, watcher)
        else:
            operation.apply(context)


def _apply_watched(operation: Operation, context: Context, watcher: Callable[[Step], None]) -> None:
    begun, error = monotonic_ns(), ""
    try:
        operation.apply(context)
    except OSError as problem:
        error = str(problem)
        raise
    finally:
        watcher(Step(PREPARATION, operation, monotonic_ns() - begun, error=error))


def undo(operations: Iterable[Operation], context: Context) -> list[OSError]:
    """Undoes all, the last first, whether or not they were applied; returns what the kernel refused on the way."""
    watcher = watching.get()
    refused: list[OSError] = []
    for _, group in groupby(reversed(list(operations)), type):
        alike = list(group)
        begun = monotonic_ns() if watcher else 0
        errors = alike[0].undo_all(alike, context)
        refused += errors
        if watcher:
            share, error = (monotonic_ns() - begun) // len(alike), "; ".join(map(str, errors))
            for operation in filter(_leaves_something, alike):
                watcher(Step(TEARDOWN, operation, share, undone=True, error=error))
    return refused


def _leaves_something(operation: Operation) -> bool:
    """Whether there is something to undo; all else ends with a namespace, or with a cgroup."""
    return type(operation).undo is not Operation.undo and bool(operation.shell_undo())
