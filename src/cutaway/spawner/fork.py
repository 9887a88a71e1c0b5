"""From a request to a running process: clone, receive the operations, apply them, execute.

The process is cloned while the engine still prepares the host, and then gets its operations from the engine itself,
over the socket `report`. There it also waits, before it executes, for one byte, while its network is wired; and there
it says how it went: nothing but the socket's closing, by `execve`, when all went well; otherwise one message that tells
which operation failed and how. Asked to be `timed`, it also says when it began to be cloned, was there, got its
operations, and had done each of them: nanoseconds on the monotonic clock.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
from time import monotonic_ns

from cutaway.kernel.descriptors import close_range
from cutaway.kernel.namespaces import CLONE_NEWPID, clone, setns
from cutaway.plan import cgroups, mounts, namespaces, process  # noqa: F401, so that `load` knows them
from cutaway.plan.operation import Context, load
from cutaway.spawner.messages import receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from cutaway.plan.operation import Operation

_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)


def start(descriptors: dict[str, int], flags: int, host: int, own_pid_namespace: int) -> tuple[int, int]:
    """Clones a process into new namespaces (`flags`) that takes its operations from `descriptors["report"]`.

    It is born in the cgroup v2 directory `cgroup` and in the PID namespace of `pid_namespace` (of a namespace or a
    process), where `descriptors` has them: only children enter a PID namespace. Returns its PID and a pidfd.
    """
    joined = descriptors.get("pid_namespace", -1)
    if joined >= 0:
        setns(joined, CLONE_NEWPID)
    begun = monotonic_ns()
    try:
        pid, pidfd = clone(flags, descriptors.get("cgroup", -1))
        if pid == 0:
            _become(descriptors["report"], Context(host=host), flags != 0, [begun, monotonic_ns()])
    finally:  # which a child never reaches
        if joined >= 0:
            setns(own_pid_namespace, CLONE_NEWPID)
    return pid, pidfd


def _become(report: int, context: Context, cloned_into: bool, times: list[int]) -> NoReturn:
    """The child, which whatever happens never comes back: it would be a second spawner."""
    try:
        _keep_only(report, context.host)
        _run(_socket.socket(fileno=report), context, cloned_into, times)
    finally:
        os._exit(127)


def _keep_only(*descriptors: int) -> None:
    """Closes what else the spawner has open: with its link to the engine in here, its death would go unnoticed."""
    first = 3
    for kept in sorted(descriptors):
        close_range(first, kept - 1)
        first = kept + 1
    close_range(first)


def _run(report: _socket.socket, context: Context, cloned_into: bool, times: list[int]) -> None:
    """From here to the program. The first operation, new namespaces, was done by cloning if so."""
    current: Operation | None = None
    try:
        for signal in _IGNORED_BY_PYTHON:
            _signal.signal(signal, _signal.SIG_DFL)
        (*setup, execute), timed = _received(report, context)
        times.append(monotonic_ns())
        for current in setup[cloned_into:]:
            current.apply(context)
            if timed:
                times.append(monotonic_ns())
        if timed:
            send(report, {"times": times})
        if report.recv(1):
            current = execute
            execute.apply(context)
    except BaseException as error:
        _say(report, current, error, times)


def _received(report: _socket.socket, context: Context) -> tuple[list[Operation], bool]:
    """The operations, with what they need in `context.descriptors`, and whether they are to be timed; ends the process
    where the engine is gone."""
    message, descriptors = receive(report)
    if message is None:
        os._exit(127)
    context.descriptors = dict(zip(message["descriptors"], descriptors, strict=True))
    context.descriptors["console"] = report.fileno()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if name in context.descriptors:
            os.dup2(context.descriptors[name], number)
    return load(message["operations"]), message["timed"]


def _say(report: _socket.socket, operation: Operation | None, error: BaseException, times: list[int]) -> None:
    failure = {
        "operation": type(operation).__name__ if operation else "start",
        "kind": type(error).__name__,
        "errno": getattr(error, "errno", None) or 0,
        "message": str(error),
        "times": [*times, monotonic_ns()],
    }
    send(report, failure)
