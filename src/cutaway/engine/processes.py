"""A process that the spawner started: the first one of a container, or one executed in it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import NamedTuple

from cutaway.kernel import pidfd as pidfds
from cutaway.kernel import procfs


class Ended(NamedTuple):
    """How a process ended: its wait status and when, in nanoseconds since 1970."""

    status: int
    at: int


class Process:
    """Held by `pidfd`, so that a signal never reaches another one. Owns its descriptors: `terminal`, the master of its
    terminal, and `input`, the writing end of its standard input, are -1 where it has none."""

    def __init__(self, key: str, pid: int, pidfd: int) -> None:
        self.key, self.pid, self.pidfd = key, pid, pidfd
        self.terminal = self.input = -1
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._watched = False

    @property
    def start_time(self) -> int:
        """With the PID, what names it for good: clock ticks since the host's boot; 0 where it has ended."""
        try:
            return procfs.stat(self.pid).start_time
        except ProcessLookupError:
            return 0

    def signal(self, number: int, *, group: bool = False) -> None:
        """Sends a signal to it, or to its process group; nothing where it has ended."""
        try:
            pidfds.send_signal(self.pidfd, number, group=group)
        except ProcessLookupError:
            pass

    def watch(self) -> None:
        """Watches one whose parent is gone: its end is seen by its pidfd."""
        self._watched = True
        asyncio.get_running_loop().add_reader(self.pidfd, self._note_end)

    def _note_end(self) -> None:
        self._unwatch()
        status = pidfds.exit_status(self.pidfd)
        if status is None:  # it is not reaped yet, or the kernel is older; then only its corpse can tell
            status = self._corpse()
        if not self.ended.done():
            self.ended.set_result(Ended(UNKNOWN_STATUS if status is None else status, time.time_ns()))

    def _corpse(self) -> int | None:
        try:
            found = procfs.stat(self.pid)
        except ProcessLookupError:
            return pidfds.exit_status(self.pidfd)
        return found.exit_status if found.state == "Z" else None

    def _unwatch(self) -> None:
        if self._watched:
            asyncio.get_running_loop().remove_reader(self.pidfd)
            self._watched = False

    def close_input(self) -> None:
        """The end of its standard input, as far as it is ours to end."""
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    def close(self) -> None:
        """Closes what is held of it."""
        self._unwatch()
        self.close_input()
        for descriptor in (self.terminal, self.pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self.terminal = self.pidfd = -1


UNKNOWN_STATUS = 255 << 8
"""The wait status of a process whose end nobody could tell."""
