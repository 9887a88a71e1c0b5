"""A process that the spawner started: the first one of a container, or one executed in it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

from cutaway.engine.streams import close_all
from cutaway.kernel import pidfd as pidfds
from cutaway.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Mapping

BOOT_ID = procfs.boot_id()


class Ended(NamedTuple):
    """How a process ended: its wait status and when, in nanoseconds since 1970."""

    status: int
    at: int


class Process:
    """Held by `pidfd`, so that a signal never reaches another one. Owns its descriptors: `terminal`, the master of its
    terminal, and `input`, the writing end of its standard input, are -1 where it has none. `outputs`, by name: our ends
    of its output pipes, so that what is in them outlives the spawner and the process; `readers`: name by descriptor
    (`reader:1`, `reader:2`) of the pipes to those who are attached."""

    def __init__(self, key: str, pid: int, pidfd: int) -> None:
        self.key, self.pid, self.pidfd = key, pid, pidfd
        self.terminal = self.input = -1
        self.outputs: dict[str, int] = {}
        self.readers: dict[int, str] = {}
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    @property
    def start_time(self) -> int:
        """With the PID, what names it for good: clock ticks since the host's boot; 0 where it has ended."""
        try:
            return procfs.stat(self.pid).start_time
        except ProcessLookupError:
            return 0

    @property
    def is_ending(self) -> bool:
        """Whether it has been killed and is only to notice, or is on its way out."""
        try:
            return procfs.is_ending(self.pid)
        except ProcessLookupError:
            return True

    def signal(self, number: int, *, group: bool = False) -> None:
        """Sends a signal to it, or to its process group; nothing where it has ended."""
        try:
            pidfds.send_signal(self.pidfd, number, group=group)
        except ProcessLookupError:
            pass

    def keep_readers(self, descriptors: Mapping[str, int]) -> None:
        """Keeps duplicates of the readers, for the case that the spawner dies, until their other ends are closed."""
        for name, descriptor in descriptors.items():
            if name.startswith("reader:"):
                kept = os.dup(descriptor)
                self.readers[kept] = name
                asyncio.get_running_loop().add_reader(kept, self._drop_reader, kept)

    def _drop_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def close_input(self) -> None:
        """The end of its standard input, as far as it is ours to end."""
        if self.input >= 0:
            os.close(self.input)
            self.input = -1

    def close(self) -> None:
        """Closes what is held of it."""
        self.close_input()
        for reader in list(self.readers):
            self._drop_reader(reader)
        close_all([self.terminal, self.pidfd, *self.outputs.values()])
        self.terminal = self.pidfd = -1
        self.outputs = {}
