"""Reaching the engine: connect to its socket, and start it where nobody answers.

This module imports nothing that costs time: the command `cutaway` starts with it.
"""

from __future__ import annotations

import _socket
import errno
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

READY = b"ready\n"
"""What a starting engine writes to its readiness pipe once it listens; anything else is why it could not start."""


class Unreachable(Exception):
    """No engine answers and none could be started; the text is one sentence for a person."""


def runtime_dir(environment: Mapping[bytes, bytes]) -> str:
    """`CUTAWAY_RUNTIME_DIR`, or `/run/cutaway`."""
    return environment.get(b"CUTAWAY_RUNTIME_DIR", b"/run/cutaway").decode("utf-8", "surrogateescape")


def connect(environment: Mapping[bytes, bytes] = posix.environ) -> _socket.socket:
    """A blocking stream socket to the engine, which is started if it does not run. Raises `Unreachable`."""
    directory = runtime_dir(environment)
    connection = try_connect(directory)
    if connection is None:
        answer = start_engine(directory, environment)
        try:
            said = _read_answer(answer)
        finally:
            posix.close(answer)
        connection = connect_to_started(directory, said)
    return connection


def try_connect(directory: str) -> _socket.socket | None:
    """A socket to the engine with this runtime directory; None where none runs. Raises `Unreachable`."""
    path = directory + "/engine.sock"
    try:
        return _connected(path)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return None
        raise Unreachable(_refusal(path, problem)) from None


def _connected(path: str) -> _socket.socket:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _refusal(path: str, problem: OSError) -> str:
    if problem.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied on {path}: it needs root rights: run it as root (sudo cutaway …)"
    return f"cannot connect to the engine at {path}: {problem.strerror}"


def start_engine(directory: str, environment: Mapping[bytes, bytes]) -> int:
    """Starts an engine as a daemon that listens on `<directory>/engine.sock`.

    Returns a pipe, which is the caller's to close, from which `connect_to_started` has to be told all it says. The
    engine's standard output and error go to `<directory>/engine.log`. Raises `Unreachable`.
    """
    if posix.geteuid() != 0:
        raise Unreachable("containers need root rights: run it as root (sudo cutaway …)")
    answer, ready = posix.pipe()
    try:
        pid = posix.fork()
        if pid == 0:
            _leave_engine_behind(directory, environment, ready)
        posix.waitpid(pid, 0)
    except ChildProcessError:  # whoever reaps all children of this program was quicker
        pass
    except BaseException:
        posix.close(answer)
        raise
    finally:
        posix.close(ready)
    return answer


def connect_to_started(directory: str, said: bytes) -> _socket.socket:
    """A socket to the engine that `start_engine` has started and that `said` how it went. Raises `Unreachable`."""
    if said != READY:
        reason = said.decode("utf-8", "replace").strip() or f"it ended at once; see {directory}/engine.log"
        raise Unreachable(f"the engine could not start: {reason}")
    connection = try_connect(directory)
    if connection is None:
        raise Unreachable(f"the engine ended right after it had started; see {directory}/engine.log")
    return connection


def _leave_engine_behind(directory: str, environment: Mapping[bytes, bytes], ready: int) -> NoReturn:
    """In the forked child, which ends at once: so the engine is no child of a program that would have to reap it."""
    try:
        posix.setsid()
        if posix.fork() == 0:
            _become_engine(directory, environment, ready)
    finally:
        posix._exit(0)


def _become_engine(directory: str, environment: Mapping[bytes, bytes], ready: int) -> NoReturn:
    """A daemon's surroundings (`daemon(7)`), then the engine's program."""
    try:
        posix.umask(0o022)
        _make_directory(directory)
        log = posix.open(directory + "/engine.log", posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o640)
        null = posix.open("/dev/null", posix.O_RDWR)
        for descriptor, target in ((null, 0), (log, 1), (log, 2)):
            posix.dup2(descriptor, target)
        posix.set_inheritable(ready, True)
        posix.chdir("/")
        execute_engine(environment, "--ready-fd", str(ready))
    except BaseException as problem:
        posix.write(ready, str(problem).encode("utf-8", "surrogateescape"))
    finally:
        posix._exit(125)


def execute_engine(environment: Mapping[bytes, bytes], *arguments: str) -> NoReturn:
    """Replaces this process by the engine's program."""
    program = [sys.executable, "-P", "-s", "-m", "cutaway.cli.serve", *arguments]
    posix.execve(sys.executable, program, _engine_environment(environment))


def execute_local(environment: Mapping[bytes, bytes], words: Sequence[str]) -> NoReturn:
    """Replaces this process by the program that carries out verbs without an engine."""
    posix.execve(sys.executable, [sys.executable, "-I", "-m", "cutaway.cli.local", *words], environment)


def _make_directory(path: str) -> None:
    for end in [at for at, letter in enumerate(path + "/") if letter == "/" and at]:
        try:
            posix.mkdir(path[:end], 0o755)
        except FileExistsError:
            pass


def _engine_environment(environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What the engine needs of the first caller's environment, and nothing of the caller's secrets."""
    source = __file__.rpartition("/cutaway/client/")[0].encode("utf-8", "surrogateescape")
    kept = {name: value for name, value in environment.items() if name.startswith(b"CUTAWAY_") or name == b"TMPDIR"}
    path = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {b"PATH": path, b"LANG": b"C.UTF-8", b"PYTHONPATH": source}


def engine_of(connection: _socket.socket) -> int:
    """A pidfd of the engine at the other end (`SO_PEERCRED` of unix(7)); -1 where its PID is 0 here: it is in a PID
    namespace that cannot be seen from this one."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], sys.byteorder)
    return posix.pidfd_open(pid) if pid else -1


def wait_for_end(engine: int) -> None:
    """Returns once the engine of this pidfd has ended; at once for -1."""
    from select import POLLIN, poll

    if engine < 0:
        return
    ended = poll()
    ended.register(engine, POLLIN)
    ended.poll()


def _read_answer(descriptor: int) -> bytes:
    """All that the engine says before it listens, or before it ends."""
    said = b""
    while said != READY and (part := posix.read(descriptor, 4096)):
        said += part
    return said
