"""Forked children for tests of what a process does to itself and cannot take back."""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from cutaway.kernel.errors import KernelError
from cutaway.plan.operation import Context, Operation

T = TypeVar("T")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def in_child(act: Callable[[], T]) -> T:
    """What `act()` returns in a forked child; what it raises there is raised here, a `KernelError` as an `OSError`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            outcome: object = ("returned", act())
        except BaseException as error:
            outcome = ("raised", _travelling(error))
        with open(writer, "wb") as channel:
            pickle.dump(outcome, channel)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as channel:
        sent = channel.read()
    _, status = os.waitpid(pid, 0)
    if not sent:
        raise ChildProcessError(f"the child ended with {os.waitstatus_to_exitcode(status)}")
    kind, value = pickle.loads(sent)
    if kind == "raised":
        raise value
    return value  # type: ignore[no-any-return]


def _travelling(error: BaseException) -> BaseException:
    """The error as it can be sent; a KernelError says by its arguments less than it takes to make one."""
    if isinstance(error, KernelError):
        return OSError(error.errno, str(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(traceback.format_exc())
    return error


def exit_status(act: Callable[[], object]) -> int:
    """How a forked child ends that calls `act` and exits with 0: its code, or the negative number of a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(*operations: Operation, context: Context | None = None) -> tuple[int, str]:
    """Applies operations, of which the last executes, in a forked child: its exit status and all its output."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for number in (1, 2):
                os.dup2(writer, number)
            for operation in operations:
                operation.apply(context or Context())
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        os._exit(99)
    os.close(writer)
    with open(reader, errors="replace") as channel:
        output = channel.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def proc_status(key: str, pid: int | str = "self") -> str:
    """One field of `/proc/PID/status`."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == key:
                return value.strip()
    raise KeyError(key)


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    """Returns once `true()` is; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} seconds"
        time.sleep(0.005)
