"""What the caller of a verb gives its process besides the words: descriptors to keep, a file for the PID."""

from __future__ import annotations

import os

from cutaway.runtime.command.failure import Failure

_STANDARD = 3
_MORE_THAN_ANY = 1 << 30


def preserve(more: int | None) -> int:
    """How many descriptors from 3 on are passed on: those of socket activation, and `more` (`--preserve-fds`). All that
    the caller has open beyond them is closed: a process that waits to be started would hold it open.

    Raises `Failure` where one that is to be kept is not open.
    """
    kept = int(os.environ.get("LISTEN_FDS") or 0) + (more or 0)
    for descriptor in range(_STANDARD, _STANDARD + kept):
        try:
            os.set_inheritable(descriptor, True)
        except OSError:
            raise Failure(f"file descriptor {descriptor} is to be preserved, but is not open") from None
    os.closerange(_STANDARD + kept, _MORE_THAN_ANY)
    return kept


def write_pid_file(path: str, pid: int) -> None:
    """Writes it in one step, as whoever waits for the file reads it at once; nothing for an empty path."""
    if not path:
        return
    passing = f"{path}.{os.getpid()}"
    with open(passing, "x", encoding="utf-8") as file:
        file.write(str(pid))
    os.rename(passing, path)
