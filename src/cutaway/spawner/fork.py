"""From a list of operations to a running process: clone, apply them inside, execute.

The child reports over the socket `report`: nothing but its closing, by `execve`, when all went well; otherwise one
message that says which operation failed and how. There it also waits, before it executes, for one byte, while the
engine wires its network.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os

from cutaway.kernel.namespaces import CLONE_NEWPID, clone, setns
from cutaway.plan import cgroups, mounts, namespaces, process  # noqa: F401, so that `load` knows them
from cutaway.plan.namespaces import JoinNamespace, JoinProcess, NewNamespaces
from cutaway.plan.operation import Context, Operation
from cutaway.spawner.messages import send

_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)


def start(operations: list[Operation], context: Context, own_pid_namespace: int) -> tuple[int, int]:
    """Clones a process that applies `operations`, the last of which executes a program. Returns its PID and pidfd."""
    joined = _pid_namespace(operations, context)
    if joined >= 0:
        setns(joined, CLONE_NEWPID)
    try:
        pid, pidfd = clone(_flags(operations), context.descriptors.get("cgroup", -1))
    finally:
        if joined >= 0:
            setns(own_pid_namespace, CLONE_NEWPID)
    if pid == 0:
        _become(operations, context)
    return pid, pidfd


def _flags(operations: list[Operation]) -> int:
    first = operations[0]
    return first.flags if isinstance(first, NewNamespaces) else 0


def _pid_namespace(operations: list[Operation], context: Context) -> int:
    """A descriptor of the PID namespace to be born in, -1 for this one or a new one: only children enter one."""
    for operation in operations:
        if isinstance(operation, JoinNamespace) and operation.kind == "pid":
            return context.descriptors[operation.held_as]
        if isinstance(operation, JoinProcess) and "pid" in operation.kinds_joined:
            return context.descriptors[operation.descriptor]
    return -1


def _become(operations: list[Operation], context: Context) -> None:
    """The child, from here to the program; never returns."""
    *setup, execute = operations[1:] if _flags(operations) else operations
    current: Operation = execute
    try:
        for signal in _IGNORED_BY_PYTHON:
            _signal.signal(signal, _signal.SIG_DFL)
        _connect_streams(context.descriptors)
        for current in setup:
            current.apply(context)
        if os.read(context.descriptors["report"], 1):
            current = execute
            execute.apply(context)
    except BaseException as error:
        _report(context.descriptors["report"], current, error)
    os._exit(127)


def _connect_streams(descriptors: dict[str, int]) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if name in descriptors:
            os.dup2(descriptors[name], number)


def _report(report: int, operation: Operation, error: BaseException) -> None:
    failure = {
        "operation": type(operation).__name__,
        "why": operation.why(),
        "kind": type(error).__name__,
        "errno": getattr(error, "errno", None) or 0,
        "message": str(error),
    }
    send(_socket.socket(fileno=report), failure)
