"""Work beside the engine: a child process for whatever reads, hashes or walks much, so that the event loop goes on.

The child (`cutaway.image.worker`) is told its job as one JSON argument, inherits the descriptors the job names, and
answers in JSON lines on its standard output: any number of `{"progress": …}`, then `{"result": …}` or `{"error": …}`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
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
    path = ":".join(filter(None, sys.path))
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, path, msgspec.json.encode(job).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
    )
    process = os.pidfd_open(child.pid)
    try:
        answer = await _answer(child, progress)
    finally:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        await _readable(process)
        os.close(process)
        status = child.wait()
    if "error" in answer:
        raise by_name(answer["kind"], answer["error"])
    if "result" not in answer:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise ImageError(f"the process that works on images ended {how} before it had finished")
    return answer["result"]


async def _answer(child: subprocess.Popen[bytes], progress: Progress) -> dict[str, Any]:
    """The last thing the child says."""
    lines = asyncio.StreamReader(_LINE_LARGEST)
    protocol = asyncio.StreamReaderProtocol(lines)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, child.stdout)
    answer: dict[str, Any] = {}
    try:
        async for line in lines:
            answer = msgspec.json.decode(line)
            if "progress" in answer:
                progress(answer["progress"])
    finally:
        transport.close()
    return answer


async def _readable(descriptor: int) -> None:
    """Waits for a descriptor; of a process, until it ends. asyncio's own subprocesses would take a thread to wait."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
