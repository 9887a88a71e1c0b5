"""The command `cutaway`: hands what was typed to the engine, and shows what comes back.

The engine's process parses the arguments and formats the output, so this side needs next to nothing imported and adds
a few milliseconds to the start of a bare interpreter. What stays here is what belongs to the caller's process: its
descriptors, its signals and its terminal.
"""

from __future__ import annotations

import errno
import posix
import sys

from cutaway.client import dial, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
else:
    import _signal  # `signal` imports enum

ENGINE_FAILED, NOT_RUNNING = 125, 1
_RUN, _STOP = ["engine", "run"], ["engine", "stop"]
LOCAL = frozenset({"enter", "learn", "xray"})
"""Verbs that run in the caller's own process: they need its terminal and no engine."""
_OF_A_RUNNING_ENGINE = (_STOP, ["engine", "status"], ["engine", "logs"])
"""What does not start an engine to ask it."""
_NOT_PROXIED = frozenset(
    {
        _signal.SIGKILL, _signal.SIGSTOP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGCHLD, _signal.SIGPIPE,
        _signal.SIGURG, _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGTRAP,
        _signal.SIGSYS, _signal.SIGABRT,
    }
)  # fmt: skip


class OutputFailed(OSError):
    """Standard output or standard error takes nothing any more."""


def main() -> int:
    """Runs one command line and returns its exit code."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # dies of it at once, as other programs do
    standard = _standard_descriptors()
    directory, verb = dial.runtime_dir(posix.environ), sys.argv[1:3]
    if verb == _RUN:
        dial.execute_engine(posix.environ)
    if LOCAL.intersection(verb[:1]):
        dial.execute_local(posix.environ, sys.argv[1:])
    try:
        connection = dial.try_connect(directory) if verb in _OF_A_RUNNING_ENGINE else dial.connect()
        if connection is None:
            return _failed("the engine is not running", 0 if verb == _STOP else NOT_RUNNING)
        engine = dial.engine_of(connection) if verb == _STOP else -1
        wire.send(connection, wire.COMMAND, _command(), standard)
        code = _follow(connection)
        if verb == _STOP and code == 0:
            dial.wait_for_end(engine)
        posix._exit(code)  # everything is written, and to take an interpreter apart costs a millisecond
    except (dial.Unreachable, wire.ProtocolError) as problem:
        return _failed(str(problem))
    except OutputFailed as problem:
        return _without_output(problem)
    except OSError as problem:
        return _failed(f"lost the engine: {problem.strerror}")


def _failed(reason: str, code: int = ENGINE_FAILED) -> int:
    posix.write(2, b"cutaway: " + _bytes(reason) + b"\n")
    return code


def _without_output(problem: OutputFailed) -> int:
    """Where nobody reads it any more, the end that other programs come to: of SIGPIPE, which Python ignores."""
    if problem.errno == errno.EPIPE:
        _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
        posix.kill(posix.getpid(), _signal.SIGPIPE)
    return _failed(f"cannot write output: {problem.strerror}")


def _command() -> bytes:
    return wire.command(_working_directory(), [_bytes(argument) for argument in sys.argv[1:]], posix.environ)


def _bytes(text: str) -> bytes:
    return text.encode(sys.getfilesystemencoding(), "surrogateescape")


def _working_directory() -> bytes:
    try:
        return posix.getcwdb()
    except FileNotFoundError:  # it was removed; absolute paths still work
        return b"/"


def _standard_descriptors() -> list[int]:
    """0, 1 and 2, with `/dev/null` in the place of any that is closed."""
    while (descriptor := posix.open("/dev/null", posix.O_RDWR)) <= 2:
        pass
    posix.close(descriptor)
    return [0, 1, 2]


def _follow(connection: _socket.socket) -> int:
    """Shows what the engine sends until it sends the exit code."""
    code = None
    while code is None:
        kind, body, descriptors = wire.receive(connection)
        if kind == wire.ATTACH:
            return _attach(connection, wire.Attachment.decode(body, descriptors))
        code = show(kind, body)
    return code


def _attach(connection: _socket.socket, attachment: wire.Attachment) -> int:
    if attachment.proxies_signals:
        _proxy_signals(connection)
    if "t" in attachment.descriptors:
        from cutaway.client import terminal

        return terminal.attach(connection, attachment)
    from cutaway.client.pump import Pump

    return Pump(connection, attachment).run()


def _proxy_signals(connection: _socket.socket) -> None:
    def forward(number: int, _frame: object) -> None:
        try:
            wire.send(connection, wire.SIGNAL, b"%d" % number)
        except OSError:  # the engine is gone, which the loop is about to find out
            pass

    for number in range(1, _signal.NSIG):
        if number not in _NOT_PROXIED and not 31 < number < _signal.SIGRTMIN:
            _signal.signal(number, forward)


def show(kind: bytes, body: bytes) -> int | None:
    """Writes out a frame of output; returns the exit code where the frame is one."""
    if kind == wire.EXIT:
        return int(body)
    if kind not in (wire.STDOUT, wire.STDERR):
        raise wire.ProtocolError(f"the engine sent a frame of the unknown kind {kind!r}")
    write_all(int(kind), body)
    return None


def write_all(descriptor: int, part: bytes) -> None:
    """Writes all of it, also where someone has made the descriptor non-blocking. Raises `OutputFailed`."""
    view = memoryview(part)
    while view:
        try:
            view = view[posix.write(descriptor, view) :]
        except BlockingIOError:
            _wait_for_room(descriptor)
        except OSError as problem:
            raise OutputFailed(problem.errno, problem.strerror) from None


def _wait_for_room(descriptor: int) -> None:
    import select

    waiting = select.poll()
    waiting.register(descriptor, select.POLLOUT)
    waiting.poll()
