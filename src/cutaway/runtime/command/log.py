"""The log that an engine reads after a failure (`--log`, `--log-format`), in the two formats of runc's logger."""

from __future__ import annotations

import os
import sys
import time

from cutaway.runtime.command.document import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.plan.operation import Operation

STYLES = ("text", "json")
_MOST_CHARACTERS = 300
"""Of an operation: a seccomp filter has thousands."""


class Log:
    """Writes to the file `path`, or to standard error where that is empty; `style`: "text" or "json".

    `shares_stderr`: standard error is what the container's program has, too.
    """

    shares_stderr = False

    def __init__(self, path: str, style: str, *, debug: bool) -> None:
        self._path, self._style, self._debug = path, style, debug

    def operations(self, moment: str, operations: Iterable[Operation]) -> None:
        """What is about to be done, if that is wanted."""
        for operation in operations if self._debug else ():
            self._write("debug", f"{moment}: {operation!r}"[:_MOST_CHARACTERS])

    def warning(self, message: str) -> None:
        """What is no failure; where standard error is shared, only for who asked for a log."""
        if self._path or self._debug or not self.shares_stderr:
            self._write("warning", message)

    def error(self, message: str) -> None:
        """In a file it would not be seen by a person, so it goes to standard error, too."""
        self._write("error", message)
        if self._path:
            _complain(message)

    def _write(self, level: str, message: str) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._style == "json":
            line = text_of({"level": level, "msg": message, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg={text_of(message)}'
        if self._path:
            _append(self._path, line)
        else:
            _complain(line)


def _complain(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
    except OSError:  # nobody is there to read it
        pass


def _append(path: str, line: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        _complain(line)
        return
    os.write(file, f"{line}\n".encode())
    os.close(file)
