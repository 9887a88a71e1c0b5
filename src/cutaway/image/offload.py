"""Work beside the engine: a child process for whatever reads, hashes or walks much, so that the event loop goes on.

The child (`cutaway.image.worker`) reads its job, a JSON object, from standard input, inherits the descriptors that the
job names, and answers in JSON lines on standard output: any number of `{"progress": …}`, then `{"result": …}` or
`{"error": …}`. It may have children of its own; nobody is left when standard output is at its end.
"""

from __future__ import annotations

import asyncio
import os
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
    child = _start(job, descriptors)
    lines = asyncio.StreamReader(_LINE_LARGEST)
    protocol = asyncio.StreamReaderProtocol(lines)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, child.stdout)
    try:
        answer = await _answer(lines, progress)
    finally:
        child.kill()
        await lines.read()
        transport.close()
        status = child.wait()
    if "error" in answer:
        raise by_name(answer["kind"], answer["error"])
    if "result" not in answer:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise ImageError(f"the process that works on images ended {how} before it had finished")
    return answer["result"]


def _start(job: Mapping[str, Any], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """asyncio's own subprocesses take a thread each, and never end when cancelled while they start."""
    with open(os.memfd_create("job"), "w+b") as file:
        file.write(msgspec.json.encode({**job, "parent": os.getpid()}))
        file.seek(0)
        path = ":".join(filter(None, sys.path))
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, path]
        return subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, pass_fds=descriptors)


async def _answer(lines: asyncio.StreamReader, progress: Progress) -> dict[str, Any]:
    """The last thing the child says."""
    answer: dict[str, Any] = {}
    async for line in lines:
        answer = msgspec.json.decode(line)
        if "progress" in answer:
            progress(answer["progress"])
    return answer
