"""Terminals of a lesson: each a real shell that is told one line after the other and keeps its variables and directory.

A line is followed by one that prints a mark with the exit status; what comes before the mark is the output. A shell in
namespaces or a container of its own is the only one to read its terminal: were there another behind it, on the machine
itself, that one would carry out what is left to read once the inner one is killed.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.lessons.interruption import Interrupted
from cutaway.lessons.processes import kill_descendants, wait_for_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutaway.lessons.interruption import Interruption

PATIENCE = 120.0
"""Seconds after which a command counts as hanging."""
_LEAVING, _MOMENT = 10.0, 0.05  # seconds: for a shell to end that was told to; between two attempts to kill


class Result(NamedTuple):
    """`output` is of both streams."""

    output: str
    status: int


class Ended(Exception):
    """The shell is gone, or hangs; the text is the last it said."""


class Terminal:
    """A shell that starts in `directory` with `environment`: a bash, or the one that `command` starts."""

    def __init__(
        self, directory: str, environment: Mapping[str, str], interruption: Interruption, command: str = ""
    ) -> None:
        self._interruption, self._of_command = interruption, bool(command)
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", *(["-c", command] if command else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=directory, env=environment, start_new_session=True, bufsize=0,
        )  # fmt: skip
        assert self._shell.stdin and self._shell.stdout
        self._input, self._output = self._shell.stdin, self._shell.stdout
        self._numbers = itertools.count()
        self._pidfd = os.pidfd_open(self._shell.pid)

    def run(self, line: str, *, heed: bool = True) -> Result:
        """Types a line and waits until it has been carried out.

        Raises `Ended` where the shell did not survive it, and `Interrupted` where a signal comes meanwhile, after the
        line's processes were killed, and with them a shell that a command started; signals not to `heed` count later.
        """
        try:
            return self._until(self._mark(f"{line}\n"), heed=heed)
        except Interrupted:
            if self._of_command:
                self._kill()
            else:
                self._until(self._mark(), heed=False, killing=True)
            raise

    def _kill(self) -> None:
        """The shell with all that it runs, so that it does not go on with its next line in between."""
        self._shell.send_signal(signal.SIGSTOP)
        kill_descendants(self._shell.pid)
        self._shell.kill()
        self._shell.wait()

    def _mark(self, text: str = "") -> int:
        """Types a text and a mark; returns the mark's number."""
        number = next(self._numbers)
        self._type(f"{text}printf '\\036%d %d\\036' {number} $?\n")
        return number

    def _type(self, text: str) -> None:
        try:
            self._input.write(text.encode("utf-8", "surrogateescape"))
        except BrokenPipeError:
            raise Ended("the shell has ended") from None

    def _until(self, number: int, *, heed: bool, killing: bool = False) -> Result:
        """What comes before that mark; `killing` what the shell runs before it gets there, and may only be starting."""
        mark, said, deadline = re.compile(rb"\x1e%d (\d+)\x1e" % number), b"", time.monotonic() + PATIENCE
        while not (found := mark.search(said)):
            if killing:
                kill_descendants(self._shell.pid)
            left = deadline - time.monotonic()
            if self._interruption.wait(self._output.fileno(), min(left, _MOMENT) if killing else left, heed=heed):
                said += self._read(said)
            elif left <= 0:
                raise Ended(f"{_text(said)}\nit hangs")
        return Result(_text(said[: found.start()]), int(found[1]))

    def _read(self, said: bytes) -> bytes:
        part = os.read(self._output.fileno(), 1 << 16)
        if not part:
            raise Ended(_text(said))
        return part

    def close(self) -> None:
        """Types `exit`, in every shell that was started here, and ends what is left of it."""
        try:
            self._type("exit\n")
        except Ended:
            pass
        self._input.close()
        wait_for_end(self._pidfd, _LEAVING)
        kill_descendants(self._shell.pid)
        self._shell.kill()
        self._shell.wait()
        self._output.close()
        os.close(self._pidfd)


def _text(said: bytes) -> str:
    return said.decode("utf-8", "replace").replace("\r", "").strip("\n")
