"""Processes in a cgroup, for tests of what the cgroup does to them."""

from __future__ import annotations

import mmap
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cutaway.kernel.cgroups import Cgroup

DEADLINE = 10
"""Seconds within which what is waited for must have happened."""


@contextmanager
def new_cgroup(name: str = "box") -> Iterator[Cgroup]:
    """A cgroup `name` in a parent of its own, and neither afterwards."""
    parent = Cgroup(f"cutaway-test-{os.getpid()}-{secrets.token_hex(4)}")
    cgroup = Cgroup(f"{parent.path}/{name}")
    cgroup.create()
    try:
        yield cgroup
    finally:
        parent.kill()
        parent.remove(DEADLINE)


class Member:
    """A child process that joins a cgroup, says so, and runs `work`; it ends with what `work` returns, as exit code."""

    def __init__(self, cgroup: Cgroup, work: Callable[[], int | None]) -> None:
        self._cgroup = cgroup
        self.joined, told = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.joined)
            os._exit(self._child(cgroup, work, told))
        os.close(told)
        self.pidfd = os.pidfd_open(self.pid)
        assert os.read(self.joined, 1) == b".", "the process did not join"

    @staticmethod
    def _child(cgroup: Cgroup, work: Callable[[], int | None], told: int) -> int:
        try:
            cgroup.join()
            os.write(told, b".")
            return work() or 0
        except BaseException as error:
            os.write(2, f"in the cgroup: {error!r}\n".encode())
            return 99

    def wait(self) -> int:
        """Its exit code, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def end(self) -> None:
        """Ends it, if it has not ended."""
        with suppress(FileNotFoundError):
            self._cgroup.thaw()  # a test that fails may leave it frozen, and undying
        try:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.pidfd)
        os.close(self.joined)


@contextmanager
def member(cgroup: Cgroup, work: Callable[[], int | None] = lambda: signal.pause()) -> Iterator[Member]:
    """A process in `cgroup`; ended and waited for at the end."""
    process = Member(cgroup, work)
    try:
        yield process
    finally:
        process.end()


class Counter:
    """A number that a child process can count up while the parent watches."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        return int.from_bytes(self._memory[:8], "little")

    def count(self) -> None:
        """One more."""
        self._memory[:8] = (self.value + 1).to_bytes(8, "little")

    def count_for_ever(self) -> None:
        """For the child: counts until it is ended."""
        while True:
            self.count()


def burn(seconds: float) -> None:
    """Uses so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within `DEADLINE` seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True
