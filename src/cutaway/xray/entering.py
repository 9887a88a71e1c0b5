"""Running a program of the host inside namespaces of a container: `nsenter(1)`, by name, with the host's files.

    cutaway enter web -- tcpdump -i eth0

What it joins are namespaces; it stays in the host's cgroups, keeps root's capabilities and meets no seccomp filter. By
default it joins all but the mount and the user namespace, so that it is the host's program with the host's libraries
and sees the container's network, processes and names.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from cutaway.kernel import procfs
from cutaway.kernel.pidfd import pidfd_open
from cutaway.plan.entering import EnterRoot, ShowEntered
from cutaway.plan.namespaces import JoinProcess
from cutaway.plan.operation import Context
from cutaway.plan.process import ChangeDirectory, CloseDescriptors, Exec, SetUser
from cutaway.xray.sight import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cutaway.plan.operation import Operation

DEFAULT_KINDS = tuple(kind for kind in KINDS if kind not in ("mnt", "user"))
_TARGET, _ROOT = "target", "root"
_WITH_CHILDREN = frozenset({"pid", "time"})
"""Namespaces that only the children of who joins them are in: `setns(2)`."""
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
_FROM_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP)
"""What a terminal sends to the program as well as to us, who only follow it: had we stopped at the same time, then we
could wake up first, see it stopped, and stop once more."""


class Visit(NamedTuple):
    """`kinds`: of namespaces to join. `root`: whether the container's root directory becomes the program's; that of its
    mount namespace always does. `directory`: where it starts; "" is where the caller is, or `/` of the container."""

    kinds: Sequence[str]
    root: bool
    directory: str
    command: Sequence[str]


class Gone(OSError):
    """The process has ended before it could be entered."""


def differing(pid: int, kinds: Iterable[str]) -> list[str]:
    """Those of the kinds in which process `pid` is in another namespace than this one: one's own cannot be joined
    again."""
    here, there = procfs.namespaces(), procfs.namespaces(pid)
    return [kind for kind in kinds if kind in there and there[kind] != here.get(kind)]


def enter(pid: int, visit: Visit) -> int:
    """Runs the program and returns its exit code, 128 and the number of the signal that ended it. Raises `OSError`,
    `ExecError` where it cannot be executed."""
    identity = procfs.identity(pid)
    kinds = differing(pid, visit.kinds)
    context = Context({_TARGET: pidfd_open(pid)})
    if visit.root:
        context.descriptors[_ROOT] = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not identity.is_alive():
        raise Gone(f"process {pid} has ended")
    if kinds:
        JoinProcess(_TARGET, kinds).apply(context)
    if not _WITH_CHILDREN.isdisjoint(kinds):
        child = os.fork()
        if child:
            return _follow(child)
    for operation in _inside(visit, kinds):
        operation.apply(context)
    raise AssertionError("execve has returned")


def _inside(visit: Visit, kinds: Sequence[str]) -> list[Operation]:
    """What the process does once it has joined."""
    steps: list[Operation] = []
    shown = {"/proc": "proc"} if "pid" in kinds else {}
    shown |= {"/sys": "sysfs"} if "net" in kinds else {}
    if shown and "mnt" not in kinds and not visit.root and "user" not in kinds:
        steps.append(ShowEntered(shown))
    if visit.root:
        steps.append(EnterRoot(_ROOT))
    if "user" in kinds:
        steps.append(SetUser(0, 0))
    if visit.directory or visit.root or "mnt" in kinds:
        steps.append(ChangeDirectory(visit.directory or "/", make=False))
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    return [*steps, CloseDescriptors(), Exec(list(visit.command), environment)]


def _follow(child: int) -> int:
    """Waits for the program, passes signals on to it, and stops and goes on with it."""
    for number in _PASSED_ON:
        signal.signal(number, lambda sent, _: os.kill(child, sent))
    for number in _FROM_THE_TERMINAL:
        signal.signal(number, signal.SIG_IGN)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(child, signal.SIGCONT)
