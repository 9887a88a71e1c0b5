"""What the worker's processes have in common: they end with their parent, tell the engine how far they are, and hand
back what came of their work. `each` does several things at once, in a process each.

Processes share no interpreter lock, and making files is Python's own work.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from typing import Any

import msgspec

from cutaway.image.errors import ImageError, by_name
from cutaway.kernel.errors import sentence
from cutaway.kernel.prctl import set_parent_death_signal

_INTERVAL = 0.1  # seconds between two reports of progress


def end_with(parent: int) -> None:
    """Has this process killed when its parent ends, which may have happened already."""
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def attempt(work: Callable[[], Any]) -> dict[str, Any]:
    """What came of some work, in the words of `offload`: a `result`, or an `error` and its `kind`."""
    try:
        return {"result": work()}
    except (ImageError, OSError) as error:
        return {"error": sentence(error), "kind": type(error).__name__}
    except Exception as error:
        sys.excepthook(*sys.exc_info())  # for the engine's log
        return {"error": f"cannot work on the image: {error!r}", "kind": ImageError.__name__}


def report(message: dict[str, Any]) -> None:
    """One line to the engine."""
    line = memoryview(msgspec.json.encode(message) + b"\n")
    while line:
        line = line[os.write(1, line) :]


def reporter(layer: str, total: int) -> Callable[[int], None]:
    """What is to be told the bytes of a layer that are done: the engine hears of it now and then."""
    reported = time.monotonic()

    def progress(done: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= _INTERVAL:
            reported = time.monotonic()
            report({"progress": {"layer": layer, "done": done, "total": total}})

    return progress


def each(work: Mapping[str, Callable[[], Any]], most: int) -> Iterator[tuple[str, Any]]:
    """Does all of this, at most so many things at once, in the order given, and yields each name with its result.

    Raises the first `ImageError`; then what still runs is killed.
    """
    waiting, running = list(work.items()), dict[int, tuple[str, FileIO]]()
    try:
        while waiting or running:
            while waiting and len(running) < most:
                name, do = waiting.pop(0)
                outcome = os.fdopen(os.memfd_create(name), "w+b", buffering=0)  # a disk may be full
                running[_fork(do, outcome)] = name, outcome
            pid, _ = os.wait()
            name, outcome = running.pop(pid)
            with outcome:
                yield name, _result(name, outcome)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        for pid in running:
            os.waitpid(pid, 0)


def _fork(do: Callable[[], Any], outcome: FileIO) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            end_with(parent)
            outcome.write(msgspec.json.encode(attempt(do)))
        finally:
            os._exit(0)
    return pid


def _result(name: str, outcome: FileIO) -> Any:
    outcome.seek(0)
    answer = msgspec.json.decode(outcome.read() or b"{}")
    if "error" in answer:
        raise by_name(answer["kind"], f"layer {name}: {answer['error']}")
    if "result" not in answer:
        raise ImageError(f"the process that unpacked layer {name} was killed")
    return answer["result"]
