"""`start`: the program of a created container."""

from __future__ import annotations

import _socket
import os

from cutaway.runtime.command.container import Container, NoSuchContainer
from cutaway.runtime.command.failure import Failure
from cutaway.runtime.command.talk import NotExecuted, Process
from cutaway.runtime.command.undoing import end, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.runtime.command.main import Invocation


def start(invocation: Invocation) -> int:
    """`start ID`: has the waiting process of a created container execute the program. Where a hook fails, the container
    is destroyed. `runtime.md` ("Lifecycle")"""
    container = Container.find(invocation.root, invocation.operands[0], lock=True)
    status = container.status()
    if status != "created":
        words = {
            "running": "cannot start an already running container",
            "stopped": "cannot start a container that has stopped",
        }
        raise Failure(words.get(status, f"cannot start a container in the {status} state"))
    gate = _connect_to(container)
    os.unlink(container.gate)
    process = Process(container.pid, container.pidfd(), gate)
    process.go()
    try:
        process.expect_execution()
    except NotExecuted:
        end(container)  # who deletes it at once is to find it stopped
        raise
    except Failure:
        remove(container, invocation.log)
        raise
    container.unlock()
    try:
        started(container, container.config)
    except OSError:
        _destroy(invocation)
        raise
    return 0


def _destroy(invocation: Invocation) -> None:
    """Removes it with what its hooks did to it, unless somebody has done so."""
    try:
        container = Container.find(invocation.root, invocation.operands[0], lock=True)
    except NoSuchContainer:
        return
    remove(container, invocation.log)


def started(container: Container, spec: dict[str, Any]) -> None:
    """Runs the poststart hooks. Where one fails the container is ended; it is to be destroyed then. `runtime.md`"""
    if not (spec.get("hooks") or {}).get("poststart"):
        return
    from cutaway.plan.hooks import hook_operations
    from cutaway.plan.operation import Context
    from cutaway.plan.plan import apply

    context = Context(pid=container.pid)
    context.state = container.state("running")
    try:
        apply(hook_operations(spec["hooks"], "poststart"), context)
    except OSError:
        end(container)
        raise


def _connect_to(container: Container) -> _socket.socket:
    gate = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    os.chdir(container.directory)
    gate.connect("start")
    return gate
