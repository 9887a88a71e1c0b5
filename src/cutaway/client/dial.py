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
    from typing import NoReturn

READY = b"ready\n"
"""What a starting engine writes to its readiness pipe once it listens; anything else is why it could not start."""


class Unreachable(Exception):
    """No engine answers and none could be started; the text is one sentence for a person."""


def runtime_dir() -> str:
    """`CUTAWAY_RUNTIME_DIR`, or `/run/cutaway`."""
    return posix.environ.get(b"CUTAWAY_RUNTIME_DIR", b"/run/cutaway").decode("utf-8", "surrogateescape")


def connect() -> _socket.socket:
    """A blocking stream socket to the engine, which is started if it does not run. Raises `Unreachable`."""
    directory = runtime_dir()
    path = directory + "/engine.sock"
    try:
        return _connected(path)
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise Unreachable(_refusal(path, problem)) from None
    start_engine(directory)
    try:
        return _connected(path)
    except OSError as problem:
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
        return f"permission denied on {path}: cutaway needs root rights; run it as root (sudo cutaway …)"
    return f"cannot connect to the engine at {path}: {problem.strerror}"


def start_engine(directory: str) -> None:
    """Starts an engine as a daemon and returns once it listens on `<directory>/engine.sock`.

    Its standard output and error go to `<directory>/engine.log`. Raises `Unreachable` with what the engine said.
    """
    if posix.geteuid() != 0:
        raise Unreachable("cutaway needs root rights to start containers; run it as root (sudo cutaway …)")
    answer, ready = posix.pipe()
    try:
        pid = posix.fork()
        if pid == 0:
            _become_engine(directory, ready)
        posix.close(ready)
        said = _read_all(answer)
    finally:
        posix.close(answer)
    if said != READY:
        reason = said.decode("utf-8", "replace").strip() or f"it ended at once; see {directory}/engine.log"
        raise Unreachable(f"the engine could not start: {reason}")


def _become_engine(directory: str, ready: int) -> NoReturn:
    """In the forked child: a daemon's surroundings (`daemon(7)`), then the engine's program."""
    try:
        posix.setsid()
        posix.umask(0o022)
        _make_directory(directory)
        log = posix.open(directory + "/engine.log", posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, 0o640)
        null = posix.open("/dev/null", posix.O_RDWR)
        for descriptor, target in ((null, 0), (log, 1), (log, 2)):
            posix.dup2(descriptor, target)
        posix.set_inheritable(ready, True)
        posix.chdir("/")
        program = [sys.executable, "-P", "-s", "-m", "cutaway.cli.serve", "--ready-fd", str(ready)]
        posix.execve(sys.executable, program, _engine_environment())
    except BaseException as problem:
        posix.write(ready, str(problem).encode("utf-8", "surrogateescape"))
    finally:
        posix._exit(125)


def _make_directory(path: str) -> None:
    for end in [at for at, letter in enumerate(path + "/") if letter == "/" and at]:
        try:
            posix.mkdir(path[:end], 0o755)
        except FileExistsError:
            pass


def _engine_environment() -> dict[bytes, bytes]:
    """What the engine needs of the first caller's environment, and nothing of the caller's secrets."""
    source = __file__.rpartition("/cutaway/client/")[0].encode("utf-8", "surrogateescape")
    kept = {name: value for name, value in posix.environ.items() if name.startswith(b"CUTAWAY_") or name == b"TMPDIR"}
    path = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {b"PATH": path, b"LANG": b"C.UTF-8", b"PYTHONPATH": source}


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := posix.read(descriptor, 4096):
        parts.append(part)
    return b"".join(parts)
