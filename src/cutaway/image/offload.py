"""Work beside the engine: a child process for whatever reads, hashes or walks much, so that the event loop goes on.

The child (`cutaway.image.worker`) is told its job as one JSON argument, inherits the descriptors the job names, and
answers in JSON lines on its standard output: any number of `{"progress": …}`, then `{"result": …}` or `{"error": …}`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cutaway.image.errors import ImageError, by_name

_START = "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from cutaway.image.worker import main; main()"
_LINE_LARGEST = 4 << 20

Progress = Callable[[Mapping[str, Any]], None]


async def run(job: Mapping[str, Any], descriptors: Sequence[int] = (), progress: Progress = lambda _: None) -> Any:
    """Does `job` in a child process and returns its result; the child ends with this call, however it ends.

    `descriptors` keep their numbers in the child. Raises the `ImageError` that the child reports.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-X", "utf8", "-c", _START,
        ":".join(filter(None, sys.path)), msgspec.json.encode(job).decode(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, pass_fds=descriptors, limit=_LINE_LARGEST,
    )  # fmt: skip
    try:
        return await _answer(child, progress)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _answer(child: asyncio.subprocess.Process, progress: Progress) -> Any:
    assert child.stdout
    answer: dict[str, Any] = {}
    async for line in child.stdout:
        answer = msgspec.json.decode(line)
        if "progress" in answer:
            progress(answer["progress"])
    status = await child.wait()
    if "result" in answer:
        return answer["result"]
    if "error" in answer:
        raise by_name(answer["kind"], answer["error"])
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    raise ImageError(f"the process that works on images ended {how} before it had finished")


def processors() -> int:
    """How many processes may usefully run at once."""
    return len(os.sched_getaffinity(0))
