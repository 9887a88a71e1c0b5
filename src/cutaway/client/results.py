"""What calls of the Python client return. Durations are in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cutaway.client.errors import CommandFailed

if TYPE_CHECKING:
    from typing import Literal


class Outcome(NamedTuple):
    """How a container, or a command in one, has ended.

    `exit_code`: its own, or 128 and the number of the signal that ended it; `oom_killed`: the kernel killed it, or a
    process of it, at its memory limit; `timed_out`: it was killed because its time was up; `duration`: how long it ran.
    """

    exit_code: int
    oom_killed: bool
    timed_out: bool
    duration: float


class Result(NamedTuple):
    """An `Outcome` and what was written until then; `truncated`: there was more than `max_output`, which is dropped."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    oom_killed: bool
    timed_out: bool
    duration: float
    truncated: bool

    def check(self) -> Result:
        """Itself; raises `CommandFailed` where the exit code is not 0."""
        if self.exit_code:
            raise CommandFailed(self)
        return self


class Line(NamedTuple):
    """A line as it was written, with its line end if it has one: `for stream, line in box.stream(…)`."""

    stream: Literal["stdout", "stderr"]
    line: bytes
