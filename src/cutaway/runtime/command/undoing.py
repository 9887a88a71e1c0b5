"""`kill` and `delete`: a container's end, and what was made for it taken away again."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
from time import monotonic, sleep

from cutaway.kernel.errors import sentence
from cutaway.runtime.command.container import Container, NoSuchContainer, forget_unborn
from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cutaway.kernel.cgroups import Cgroup
    from cutaway.runtime.command.log import Log
    from cutaway.runtime.command.main import Invocation

_TO_NOBODY = 0  # a signal that only asks whether one may
_GRACE, _PAUSE = 1.0, 0.01  # seconds
_PATIENCE = 10.0
"""Seconds in which a process that was killed is to end."""


def kill(invocation: Invocation) -> int:
    """`kill ID [SIGNAL]`: signals the first process; with `--all`, and where KILL would spare others, every one."""
    container = Container.find(invocation.root, invocation.operands[0])
    number = _number_of((invocation.operands[1:] or ["SIGTERM"])[0])
    if invocation.options["all"] or (number == _signal.SIGKILL and _outlived(container)):
        _signal_all(container, number)
        return 0
    try:
        _signal.pidfd_send_signal(container.pidfd(), number)
    except ProcessLookupError:
        raise Failure("container not running") from None
    _let_die(container, number)
    return 0


def _outlived(container: Container) -> bool:
    """Whether its other processes do not end with its first one: they are in a PID namespace that is not its own. Those
    that ended before it count, too, as it is a cgroup that is looked at."""
    linux = container.config.get("linux") or {}
    kinds = {each["type"]: each.get("path", "") for each in linux.get("namespaces", ())}
    return kinds.get("pid", "shared") != "" and bool(container.facts["cgroup"])


def delete(invocation: Invocation) -> int:
    """`delete ID`: takes away what is left of a stopped container; with `--force` of any, and of none, too."""
    force, identifier = bool(invocation.options["force"]), invocation.operands[0]
    try:
        container = (_seized if force else _locked)(invocation.root, identifier)
    except NoSuchContainer:
        if not force:
            raise
        forget_unborn(invocation.root, identifier)
        return 0
    status = container.status()
    if status not in ("stopped", "creating") and not force:
        raise Failure(f"cannot delete container {container.id} that is not stopped: {status}")
    remove(container, invocation.log)
    return 0


def _locked(root: str, identifier: str) -> Container:
    return Container.find(root, identifier, lock=True)


def _seized(root: str, identifier: str) -> Container:
    """Whoever creates or starts it has its first process ended, and where that does not help, as a hook hangs, is not
    waited for: what it made on the host, it had made before there was a process."""
    container = Container.find(root, identifier)
    if container.is_busy() and container.pid:
        end(container)
        deadline = monotonic() + _GRACE
        while container.is_busy():
            if monotonic() > deadline:
                return container
            sleep(_PAUSE)
    return _locked(root, identifier)


def remove(container: Container, log: Log) -> None:
    """Ends what still runs, undoes what was done and forgets the container; then its poststop hooks run, of which one
    that fails holds up nothing. Raises `Failure` where the kernel refuses: then the container is still there."""
    from cutaway.plan.operation import Context, load
    from cutaway.plan.plan import undo

    if not os.path.isdir(container.directory):  # another `delete` was here first
        return
    end(container)
    for module in container.facts["modules"]:
        __import__(module)
    operations = load(container.facts["undo"])
    log.operations("undo", reversed(operations))
    refused = undo(operations, Context(pid=container.pid))
    if refused:
        raise Failure(f"unable to remove container {container.id}: " + "; ".join(map(str, refused)))
    hooks = container.config.get("hooks") or {}
    container.forget()
    if hooks.get("poststop"):
        _run_poststop(container, hooks, log)


def _run_poststop(container: Container, hooks: dict[str, Any], log: Log) -> None:
    from cutaway.plan.hooks import hook_operations
    from cutaway.plan.operation import Context

    context = Context()
    context.state = container.state("stopped")
    for hook in hook_operations(hooks, "poststop"):
        try:
            hook.apply(context)
        except OSError as error:
            log.warning(sentence(error))


def end(container: Container) -> None:
    """Kills the first process, with which all others of its PID namespace end (and those that share the host's: with
    their cgroup), and waits until it has ended."""
    from select import POLLIN, poll

    try:
        pidfd = container.pidfd()
    except ProcessLookupError:
        return
    _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    _let_die(container, _signal.SIGKILL)
    ended = poll()
    ended.register(pidfd, POLLIN)
    if not ended.poll(_PATIENCE * 1000):
        raise Failure(f"unable to remove container {container.id}: process {container.pid} does not end")
    os.close(pidfd)


def cgroup_of(container: Container) -> Cgroup:
    """The container's cgroup. Raises `Failure` where it has none of its own."""
    from cutaway.kernel.cgroups import Cgroup

    if not container.facts["cgroup"]:
        raise Failure(f"container {container.id} has no cgroup of its own")
    return Cgroup(container.facts["cgroup"])


def _signal_all(container: Container, number: int) -> None:
    for pid in cgroup_of(container).processes():
        try:
            pidfd = os.pidfd_open(pid)
            _signal.pidfd_send_signal(pidfd, number)
            os.close(pidfd)
        except ProcessLookupError:
            continue
    _let_die(container, number)


def _let_die(container: Container, number: int) -> None:
    """What version 1 has frozen does not die of SIGKILL before it is thawed. `cgroup-v1/freezer-subsystem.rst`"""
    if number == _signal.SIGKILL and container.is_frozen():
        cgroup_of(container).thaw()


def _number_of(signal: str) -> int:
    """The number of `KILL`, `SIGKILL`, `9`, `RTMIN+3`. Raises `Failure`."""
    if signal.isdecimal() and int(signal) in (_TO_NOBODY, *_signal.valid_signals()):
        return int(signal)
    name, plus, more = signal.upper().partition("+")
    number = getattr(_signal, f"SIG{name.removeprefix('SIG')}", None)
    if not isinstance(number, int) or name.removeprefix("SIG").startswith("_") or (plus and not more.isdecimal()):
        raise Failure(f'unknown signal "{signal}"')
    return number + int(more or 0)
