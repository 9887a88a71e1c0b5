"""The process that does the heavy work for the engine: `python -I -S … cutaway.image.worker`, see `offload`.

It may be killed at any moment: all it makes is in a staging directory that the engine, or the next one, removes.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from cutaway.image import intake, trees
from cutaway.image.compression import PIECE
from cutaway.image.errors import BrokenArchive, ImageError
from cutaway.kernel.prctl import set_parent_death_signal
from cutaway.kernel.syscalls import libc

_STEP = 4 << 20  # bytes between two reports of progress


def main() -> None:
    """Does the job that the command line names and reports on standard output."""
    set_parent_death_signal(signal.SIGKILL)
    job = msgspec.json.decode(sys.argv[1])
    try:
        report(result=_JOBS[job.pop("do")](**job))
    except (ImageError, OSError) as error:
        report(error=_sentence(error), kind=type(error).__name__)
    except Exception as error:
        traceback.print_exc()
        report(error=f"cannot work on the image: {error!r}", kind=ImageError.__name__)
    sys.stdout.flush()
    os._exit(0)  # threads may still wait for input that nobody wants


def report(**message: Any) -> None:
    """One line to the engine, in one write."""
    os.write(1, msgspec.json.encode(message) + b"\n")


def _sentence(error: Exception) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else str(error)


def import_tar(staging: str) -> intake.StagedLayer:
    """Takes the tar archive on standard input in as the layer `0`."""
    layer = intake.take_in(_chunks(0), staging, "0", progress=_reporter("0"))
    if not layer.entries:
        raise BrokenArchive("the archive holds no files")
    _sync(staging)
    return layer


def remove(directory: str, names: list[str]) -> None:
    """Removes whole trees from `directory`."""
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        trees.remove(parent, name)


def _chunks(source: int) -> Iterator[bytes]:
    while chunk := os.read(source, PIECE):
        yield chunk


def _reporter(layer: str) -> Callable[[int], None]:
    reported = 0

    def progress(done: int) -> None:
        nonlocal reported
        if done - reported >= _STEP:
            reported = done
            report(progress={"layer": layer, "done": done})

    return progress


def _sync(directory: str) -> None:
    """Waits until all that was written is on the disk: the database must not name what a power cut can take away."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    if libc.syncfs(descriptor) != 0:
        raise ImageError("cannot write the layer to the disk; is it full or failing?")
    os.close(descriptor)


_JOBS: dict[str, Callable[..., Any]] = {"import": import_tar, "remove": remove}
