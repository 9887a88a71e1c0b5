"""From operations to a process: cloned into its namespaces, made ready there, held until it may execute its program.

    parent                                     child, not dumpable, without a descriptor of the caller's
    ──────                                     ─────────────────────────────────────────────────────────
    clone ───────────────────────────────────▶ born
    what needs it (ID mappings, …) ──────────▶ go
                                               setup: mounts, devices, masks
    prestart, createRuntime hooks ◀─────────── mounted
                                  ───────────▶ go
                                               createContainer hooks; enter: root, identity, privileges
                                  ◀─────────── ready
    …                                          waits at its gate: `create` leaves a socket in the container's
                                               directory and ends, `run` and `exec` go on over the same one
    start ───────────────────────────────────▶ go
                                               program: seccomp, startContainer hooks, execve
    the socket closes by `execve` ◀─────────── runs

The two talk over a socket pair. Where the child fails it says so in one message and ends; where the parent is gone, so
is the child. A stop at which the parent has nothing to do is left out.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os

from cutaway.kernel.descriptors import close_range
from cutaway.kernel.namespaces import CLONE_PARENT, clone
from cutaway.kernel.prctl import set_dumpable, set_parent_death_signal
from cutaway.plan.plan import apply
from cutaway.plan.process import Exec, ExecError, own_pid
from cutaway.runtime.command.failure import Failure, said
from cutaway.runtime.command.talk import GO, MOUNTED, READY, Process, hear, tell, tell_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from cutaway.plan.operation import Context, Operation

_STANDARD = 3
_PID_BYTES = 4
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)


def has_home(process: dict[str, Any]) -> bool:
    """Whether the environment of a `process` of the OCI runtime-spec has HOME, which engines leave to the runtime."""
    homes = [entry for entry in process.get("env", ()) if entry.startswith("HOME=")]
    return homes[-1:] not in ([], ["HOME="])


class Child:
    """What a process that is to be cloned does. It waits for its parent at birth and when it is mounted, if so asked,
    and before its program at the listening socket `gate`, or (None) for its parent.

    `joins` is done before it is cloned, into new namespaces (`flags`), by a process made for that. `lock`: a descriptor
    of the parent's that it must not hold on to. `prepares`: operations that it prepares itself, as its parent cannot,
    or not yet. `dumpable`: it is until it enters its root. `homeless`: the user whose home its program is to know.
    """

    def __init__(
        self,
        setup: Sequence[Operation],
        enter: Sequence[Operation],
        program: list[Operation],
        *,
        joins: Sequence[Operation] = (),
        flags: int = 0,
        lock: int = -1,
        preserved: int = 0,
        gate: _socket.socket | None = None,
        waits_at_birth: bool = False,
        waits_mounted: bool = False,
        prepares: Sequence[Operation] = (),
        dumpable: bool = False,
        homeless: int | None = None,
    ) -> None:
        if homeless is not None:  # in there it could not be imported any more
            from cutaway.runtime import identity  # noqa: F401
        self.prepares, self.dumpable, self.homeless = prepares, dumpable, homeless
        self.joins, self.flags, self.lock, self.preserved = joins, flags, lock, preserved
        self.setup, self.enter, self.program = setup, enter, program
        self.gate, self.waits_at_birth, self.waits_mounted = gate, waits_at_birth, waits_mounted


def bear(child: Child, context: Context) -> Process:
    """Clones the process. Raises `Failure`, `OSError`."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    set_dumpable(child.dumpable)
    if child.joins:
        return _bear_elsewhere(child, context, ours, theirs)
    pid, pidfd = clone(child.flags, context.descriptors.get("cgroup", -1))
    if pid == 0:
        ours.close()
        _become(theirs, child, context)
    theirs.close()
    return Process(pid, pidfd, ours)


def _bear_elsewhere(child: Child, context: Context, ours: _socket.socket, theirs: _socket.socket) -> Process:
    """Has it cloned by a process that joins namespaces first, and could not come back. It becomes this one's child."""
    number, told = os.pipe()  # of its own: over the socket, the process may speak before it is known
    helper = os.fork()
    if helper == 0:
        ours.close()
        _clone_sibling(theirs, told, child, context)
    theirs.close()
    os.close(told)
    os.waitpid(helper, 0)
    pid = int.from_bytes(os.read(number, _PID_BYTES), "little")
    os.close(number)
    if not pid:
        hear(ours)
        raise Failure("the process ended before it was born")
    return Process(pid, os.pidfd_open(pid), ours)


def _clone_sibling(report: _socket.socket, told: int, child: Child, context: Context) -> NoReturn:
    try:
        apply(child.joins, context)
        pid, _ = clone(child.flags | CLONE_PARENT, context.descriptors.get("cgroup", -1))
        if pid == 0:
            os.close(told)
            _become(report, child, context)
        os.write(told, pid.to_bytes(_PID_BYTES, "little"))
    except BaseException as error:
        _tell_failure(report, error)
    finally:
        os._exit(0)


def _tell_failure(report: _socket.socket, error: BaseException) -> None:
    how = said(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    executing = isinstance(error, ExecError)
    tell_failure(report, f"unable to start container process: {how}" if executing else how, executing=executing)


def _become(report: _socket.socket, child: Child, context: Context) -> NoReturn:
    """The child, which whatever happens never comes back."""
    try:
        set_parent_death_signal(_signal.SIGKILL)
        if child.lock >= 0:
            os.close(child.lock)
        if child.waits_at_birth:
            _await(report)
        _settle(report, child, context)
        report = _wait_to_start(report, child, context)
        apply(child.program, context)
    except BaseException as error:
        _tell_failure(report, error)
    finally:
        os._exit(1)


def _settle(report: _socket.socket, child: Child, context: Context) -> None:
    """From birth to where only the program is missing."""
    for operation in child.prepares:
        operation.prepare(context)
    apply(child.setup, context)
    execute = child.program[-1]
    if child.homeless is not None and isinstance(execute, Exec):
        from cutaway.runtime.identity import home

        execute = child.program[-1] = Exec(execute.args, [*execute.env, f"HOME={home(context.root, child.homeless)}"])
    if child.waits_mounted:
        tell(report, MOUNTED)
        _await(report)
    set_dumpable(False)
    apply(child.enter, context)
    if isinstance(execute, Exec):
        execute.find()
        context.environment = execute.env


def _wait_to_start(report: _socket.socket, child: Child, context: Context) -> _socket.socket:
    """Returns where what happens from now on is to be reported."""
    if child.gate is None:
        tell(report, READY)
        _await(report)
        set_parent_death_signal(0)
        return report
    for number in _ENDING:  # as PID 1 it would otherwise be deaf to them
        _signal.signal(number, lambda received, _: os._exit(128 + received))
    set_parent_death_signal(0)
    if "listener" in context.descriptors:
        context.own_pid = own_pid(context)
    tell(report, READY)
    _close_all_but([child.gate.fileno(), context.descriptors.get("listener", -1)], _STANDARD + child.preserved)
    descriptor, _address = child.gate._accept()  # type: ignore[attr-defined]
    starter = _socket.socket(fileno=descriptor)
    _await(starter)
    return starter


def _close_all_but(kept: Sequence[int], first: int) -> None:
    """Nothing of the host's is open in a process that the container's others may see for a long time."""
    for descriptor in sorted(each for each in kept if each >= first):
        close_range(first, descriptor - 1)
        first = descriptor + 1
    close_range(first)


def _await(report: _socket.socket) -> None:
    if os.read(report.fileno(), len(GO)) != GO:  # not `recv`, which a filter may forbid
        os._exit(1)
