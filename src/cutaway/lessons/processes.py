"""Ending all that a process has started, each process by a descriptor that means it alone (`pidfd_open(2)`)."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.kernel.pidfd import pidfd_open, send_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 5.0  # seconds for processes to end that were killed


def descendants(pid: int) -> Iterator[int]:
    """The PIDs of children, children's children and so on, each before its own."""
    try:
        children = procfs.children(pid)
    except (FileNotFoundError, ProcessLookupError):
        return
    for child in children:
        yield child
        yield from descendants(child)


def kill_descendants(pid: int) -> None:
    """Ends them, and those they start meanwhile; returns when they have ended, or will not."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        reap()
        pidfds = {child: pidfd for child in descendants(pid) if (pidfd := _try_open(child)) is not None}
        if not pidfds:
            return
        try:
            _kill(pidfds, set(descendants(pid)), deadline)
        finally:
            for pidfd in pidfds.values():
                os.close(pidfd)


def _try_open(pid: int) -> int | None:
    try:
        return pidfd_open(pid)
    except ProcessLookupError:
        return None


def _kill(pidfds: dict[int, int], still_there: set[int], deadline: float) -> None:
    """A PID that is found again once its descriptor is open has not been given to a stranger in between."""
    for pid in pidfds.keys() & still_there:
        try:
            send_signal(pidfds[pid], signal.SIGKILL)
        except ProcessLookupError:
            pass
    for pid in pidfds.keys() & still_there:
        wait_for_end(pidfds[pid], deadline - time.monotonic())


def wait_for_end(pidfd: int, timeout: float) -> bool:
    """Whether the process ends within `timeout` seconds."""
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(max(0, timeout) * 1000))


def reap() -> None:
    """Takes note of the children of this process that have ended, adopted ones included."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:  # there are none
        pass
