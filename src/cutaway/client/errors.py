"""What can go wrong, as Python programs catch it: each error is one sentence for a person.

CutawayError
├── Unreachable           no engine answers, and none could be started
├── EngineLost            the engine went away before it answered
├── TimedOut              what was waited for has not happened in time; it is a `TimeoutError` too
├── TooLarge              more was to be read than was asked for
├── CommandFailed         a command has ended with another exit code than 0, and `Result.check` was called
└── EngineError           the engine refused, or failed
    ├── NotFound              no such container, image, network, volume or path
    ├── Conflict              it is there already, in use, or in a state that does not allow it
    ├── InvalidArgument       what was asked for makes no sense
    └── NotStarted            the program could not be started
        ├── CannotInvoke          it is there and cannot be executed
        └── CommandNotFound       it is not there
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutaway.client.results import Result


class CutawayError(Exception):
    """Anything that goes wrong between a program and the engine."""


class Unreachable(CutawayError):
    pass


class EngineLost(CutawayError):
    pass


class TimedOut(CutawayError, TimeoutError):
    pass


class TooLarge(CutawayError):
    pass


class CommandFailed(CutawayError):
    """`result` holds what the command has written."""

    def __init__(self, result: Result) -> None:
        last_words = result.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        super().__init__(f"exit code {result.exit_code}" + (f": {last_words}" if last_words else ""))
        self.result = result


class EngineError(CutawayError):
    """`exit_code` is the one that the command `cutaway` ends with."""

    exit_code = 125


class NotFound(EngineError):
    pass


class Conflict(EngineError):
    pass


class InvalidArgument(EngineError):
    pass


class NotStarted(EngineError):
    pass


class CannotInvoke(NotStarted):
    exit_code = 126


class CommandNotFound(NotStarted):
    exit_code = 127


_OF_ENGINE = {
    kind.__name__: kind
    for kind in (NotFound, Conflict, InvalidArgument, NotStarted, CannotInvoke, CommandNotFound, TimedOut)
}


def from_engine(failure: Mapping[str, str]) -> CutawayError:
    """The error that an `F` frame tells of (`wire`)."""
    kind: type[CutawayError] = _OF_ENGINE.get(failure["error"], EngineError)
    return kind(failure["message"])
