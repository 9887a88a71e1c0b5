"""How processes end whose parent was a spawner that died: the host's init is their parent by now.

To others than the parent the kernel tells it in three ways: by the corpse in procfs, until the parent asks; by the
pidfd, from then on (since Linux 6.15); and, for kernels before that, by an event, to who has subscribed while it ran.
"""

from __future__ import annotations

import os

from cutaway.kernel import pidfd as pidfds
from cutaway.kernel.namespaces import CLONE_NEWNET, setns
from cutaway.kernel.procevents import ProcessEvents  # not later: the spawner has left the tree that it could come from
from cutaway.kernel.procfs import Stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

UNKNOWN_STATUS = 255 << 8
"""The wait status of a process whose end nobody could tell."""


class Orphans:
    """Those that run. `host`: a descriptor of the host's root directory; `watch`, `unwatch`: the loop's."""

    def __init__(
        self, host: int, watch: Callable[[int, Callable[[], object]], None], unwatch: Callable[[int], None]
    ) -> None:
        self._host, self._watch, self._unwatch = host, watch, unwatch
        self._told: dict[int, int | None] = {}
        self._events: ProcessEvents | None = None

    def add(self, pid: int) -> None:
        """From now on its end is looked out for."""
        if not self._told and not pidfds.keeps_exit_status():
            self._subscribe()
        self._told[pid] = None

    def take(self, pid: int, pidfd: int) -> int:
        """The wait status of one that has ended."""
        self._hear()
        status = self._told.pop(pid)
        if not self._told:
            self._unsubscribe()
        if status is None:
            status = pidfds.exit_status(pidfd)
        if status is None:
            status = self._corpse(pid)
        if status is None:  # its parent was quicker
            status = pidfds.exit_status(pidfd)
        return UNKNOWN_STATUS if status is None else status

    def _corpse(self, pid: int) -> int | None:
        try:
            file = os.open(f"proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._host)
            with open(file, errors="replace") as text:
                found = Stat(text.read())
        except (FileNotFoundError, ProcessLookupError):
            return None
        return found.exit_status if found.state == "Z" else None

    def _subscribe(self) -> None:
        """Events are sent in the machine's first network namespace only, so that is where the socket is opened."""
        own, first = (os.open(f"proc/{pid}/ns/net", os.O_RDONLY, dir_fd=self._host) for pid in ("self", "1"))
        try:
            setns(first, CLONE_NEWNET)
            self._events = ProcessEvents()
            self._watch(self._events.fileno(), self._hear)
        except OSError as error:
            print(f"ends of processes may go unnoticed: {error}", flush=True)
        finally:
            setns(own, CLONE_NEWNET)
            os.close(own)
            os.close(first)

    def _unsubscribe(self) -> None:
        if self._events:
            self._unwatch(self._events.fileno())
            self._events.close()
            self._events = None

    def _hear(self) -> None:
        for pid, status in self._events.exits() if self._events else ():
            if pid in self._told:
                self._told[pid] = status
