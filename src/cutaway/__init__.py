"""Cutaway: a container engine you can see inside. `docs/python.md` says what programs can do with it.

    done = cutaway.run("busybox", ["sh", "-c", "echo hi"], memory="64m", network="none", timeout=5)
    with cutaway.container("debian", read_only=True) as box: box.exec(["id"])

Names are imported when they are first used: the command `cutaway` starts through this package too, and needs none.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cutaway.client import aio as aio
    from cutaway.client.blocking import Container, Engine, Sandbox, Stream, connect, container, run, stream
    from cutaway.client.errors import (
        CannotInvoke,
        CommandFailed,
        CommandNotFound,
        Conflict,
        CutawayError,
        EngineError,
        EngineLost,
        InvalidArgument,
        NotFound,
        NotStarted,
        TimedOut,
        TooLarge,
        Unreachable,
    )
    from cutaway.client.options import CreateOptions, ExecOptions, RunOptions
    from cutaway.client.results import Line, Outcome, Result

__all__ = [
    "CannotInvoke",
    "CommandFailed",
    "CommandNotFound",
    "Conflict",
    "Container",
    "CreateOptions",
    "CutawayError",
    "Engine",
    "EngineError",
    "EngineLost",
    "ExecOptions",
    "InvalidArgument",
    "Line",
    "NotFound",
    "NotStarted",
    "Outcome",
    "Result",
    "RunOptions",
    "Sandbox",
    "Stream",
    "TimedOut",
    "TooLarge",
    "Unreachable",
    "aio",
    "connect",
    "container",
    "run",
    "stream",
]
_MODULES = ("aio", "blocking", "results", "errors", "options")


if not TYPE_CHECKING:  # to which any name would be there

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"cutaway.client.{name}")
        modules = (import_module(f"cutaway.client.{module}") for module in _MODULES[1:])
        value = globals()[name] = next(getattr(module, name) for module in modules if hasattr(module, name))
        return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
