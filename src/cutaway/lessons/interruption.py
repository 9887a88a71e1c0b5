"""Signals that end a lesson, noticed where it waits and nowhere else, so that nothing is left half written down.

The handlers do nothing; what the kernel writes to the wake-up descriptor (`signal.set_wakeup_fd`) ends a wait.
"""

from __future__ import annotations

import math
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(Exception):
    """A signal came, or the reader has left; `signal` is 0 for that."""

    def __init__(self, signal: int = 0) -> None:
        super().__init__(signal)
        self.signal = signal


class Interruption:
    """A context in which the signals of `ENDING` are caught. `caught`: the first that came, 0 before."""

    def __init__(self) -> None:
        self.caught = 0

    def __enter__(self) -> Self:
        self._woken, self._wakes = socket.socketpair()
        for end in (self._woken, self._wakes):
            end.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
        self._handlers_before = {number: signal.signal(number, _take_note) for number in ENDING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._woken.close()
        self._wakes.close()

    def wait(self, descriptor: int, timeout: float, *, heed: bool = True) -> bool:
        """Whether there is something to read from `descriptor` (-1: only time passes) within `timeout` seconds.

        Raises `Interrupted` at once where a signal comes, or came before; where not to `heed` them, they count later.
        """
        deadline = time.monotonic() + timeout
        poll = select.poll()
        for watched in {descriptor, self._woken.fileno()} - {-1}:
            poll.register(watched, select.POLLIN)
        while True:
            left = max(0, deadline - time.monotonic())
            ready = [found for found, _ in poll.poll(None if left == math.inf else left * 1000)]
            self._note_signals()
            if heed and self.caught:
                raise Interrupted(self.caught)
            if descriptor in ready or time.monotonic() >= deadline:
                return descriptor in ready

    def _note_signals(self) -> None:
        try:
            came = [number for number in self._woken.recv(64) if number in ENDING]
        except BlockingIOError:
            return
        self.caught = self.caught or next(iter(came), 0)


def _take_note(_number: int, _frame: FrameType | None) -> None:
    """The wake-up descriptor has it."""
