"""What a process that becomes a container's program tells of its operations, for whoever watches them being applied.

It is done in another process, and in no time: so it is timed there, and told of when all is set up.
"""

from __future__ import annotations

from itertools import pairwise
from time import monotonic_ns
from typing import TYPE_CHECKING

from cutaway.plan.plan import CLONE, INSIDE, PROGRAM, Step, watching

if TYPE_CHECKING:
    from cutaway.plan.operation import Operation


class Told:
    """For who watches now. `cloned_into`: the first operation is done by cloning the process.

    `times`, on the monotonic clock, in nanoseconds: when it began to be cloned, was there, had its operations, and had
    done each of them.
    """

    def __init__(self, *, cloned_into: bool) -> None:
        self._watcher, self._cloned_into = watching.get(), cloned_into
        self._operations: list[Operation] = []
        self._passed_on, self._executed_at = 0, 0

    def about(self, operations: list[Operation]) -> None:
        """These are what it is about to do."""
        self._operations = operations
        if self._watcher:
            for number in range(len(operations) - 1):
                self._watcher(Step(self._phase(number), operations[number], None))

    @property
    def is_needed(self) -> bool:
        return self._watcher is not None

    def set_up(self, times: list[int]) -> None:
        """All but its last operation is done, which is about to be."""
        self._pass_on(times)
        if self._watcher:
            self._watcher(Step(PROGRAM, self._operations[-1], None))
        self._executed_at = monotonic_ns()

    def executed(self) -> None:
        """Its program runs."""
        if self._watcher:
            self._watcher(Step(PROGRAM, self._operations[-1], monotonic_ns() - self._executed_at))

    def failed(self, times: list[int], reason: str) -> None:
        """What it was at when the last of `times` was noted went wrong."""
        self._pass_on(times, reason)

    def _pass_on(self, times: list[int], error: str = "") -> None:
        begun, born, *ends = times
        took = [born - begun] if self._cloned_into else []
        took += [end - start for start, end in pairwise(ends)]
        done = list(zip(self._operations, took, strict=False))
        for number, (operation, nanoseconds) in list(enumerate(done))[self._passed_on :]:
            failed = error if number == len(done) - 1 else ""
            if self._watcher:
                self._watcher(Step(self._phase(number), operation, nanoseconds, error=failed))
        self._passed_on = len(done)

    def _phase(self, number: int) -> str:
        if number == 0 and self._cloned_into:
            return CLONE
        return PROGRAM if number == len(self._operations) - 1 else INSIDE
