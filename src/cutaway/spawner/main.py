"""The spawner's loop: requests of the engine, ends of children, output in between.

It lives on when the engine dies: then it goes on copying output to logs, keeps what ended, and tells the next engine
that connects. It never grows: requests are forgotten once done, and of a container it keeps two or three descriptors.
"""

from __future__ import annotations

import _socket
import errno
import gc
import os
import select
import sys
from time import time_ns

from cutaway.kernel.memfd import sealed_copy
from cutaway.kernel.mounts import MS_PRIVATE, attach_at, enter_root, new_mount, set_attributes
from cutaway.kernel.namespaces import CLONE_NEWNS, unshare
from cutaway.kernel.prctl import set_dumpable
from cutaway.kernel.signals import stop_ignoring_reserved
from cutaway.spawner.fork import start
from cutaway.spawner.logs import DRIVERS
from cutaway.spawner.messages import receive, send
from cutaway.spawner.orphans import Orphans
from cutaway.spawner.output import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from cutaway.spawner.logs import Log

_PATIENCE = 30.0  # seconds in which the engine that has started it is to connect
_NOTHING: Mapping[str, int] = {}
_STREAMS = {"output:stdout": 1, "output:stderr": 2, "output:terminal": 1}


class Child:
    """A process and its output. `is_orphan`: a spawner that died was its parent; `status`: its wait status once it has
    ended; `input`: the writing end of its standard input, kept open so that a dying engine does not end it."""

    __slots__ = ("ended_at", "exit_file", "input", "is_orphan", "log", "pid", "pidfd", "sources", "status", "terminal")

    def __init__(self, pid: int, pidfd: int, exit_file: str, *, is_orphan: bool) -> None:
        self.pid, self.pidfd, self.exit_file, self.is_orphan = pid, pidfd, exit_file, is_orphan
        self.sources: list[Source] = []
        self.log: Log | None = None
        self.status: int | None = None
        self.ended_at = 0
        self.input = -1
        self.terminal: Source | None = None


class Spawner:
    """Serves one engine at a time on `listener`; the latest to connect is the one."""

    def __init__(self, listener: _socket.socket, host: int, version: str) -> None:
        self._listener, self._host, self._version = listener, host, version
        self._engine: _socket.socket | None = None
        self._unsent: list[tuple[dict[str, Any], list[int]]] = []
        self._children: dict[str, Child] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._orphans = Orphans(host, self._watch, self._unwatch)
        self._watch(listener.fileno(), self._accept)

    def serve(self) -> None:
        """Runs until an engine says stop, or there is neither an engine nor a process that runs.

        Its requests come first: it asks for an output to be copied before it lets a program write any.
        """
        self._accept()  # from the engine that has started it
        while self._handlers and (self._engine or self._has_running_children()):
            ready = [(descriptor, self._handlers.get(descriptor)) for descriptor, _events in self._poll.poll()]
            _guarded(self._take_requests)
            for descriptor, handler in ready:
                if handler and self._handlers.get(descriptor) is handler:  # none before it has closed or reused it
                    _guarded(handler)

    def _has_running_children(self) -> bool:
        return any(child.status is None for child in self._children.values())

    def _accept(self) -> None:
        descriptor, _address = self._listener._accept()  # type: ignore[attr-defined]
        if self._engine:
            self._disconnect()
        self._engine = _socket.socket(fileno=descriptor)
        self._engine.setblocking(False)
        self._watch(descriptor, self._take_requests)
        self._tell({"version": self._version, "pid": os.getpid(), "children": len(self._children)})
        for key, child in self._children.items():
            held = {"process": child.pidfd} if child.status is None else {}
            if child.terminal and child.terminal.open:
                held["terminal"] = child.terminal.descriptor
            self._tell({"child": key, "pid": child.pid, "status": child.status, "at": child.ended_at}, held)

    def _disconnect(self) -> None:
        assert self._engine
        self._unwatch(self._engine.fileno())
        self._engine.close()
        self._engine = None
        for _message, descriptors in self._unsent:
            _close_all(descriptors)
        self._unsent.clear()

    def _take_requests(self) -> None:
        while self._engine and self._request(self._engine):
            pass

    def _request(self, engine: _socket.socket) -> bool:
        """Does what the engine asks for next; False where that is nothing."""
        if self._unsent:
            self._send_unsent()
        try:
            message, descriptors = receive(engine)
        except BlockingIOError:
            return False
        except OSError:
            message, descriptors = None, []
        if message is None:
            self._disconnect()
            return False
        named = dict(zip(message["descriptors"], descriptors, strict=False))
        try:
            if len(named) < len(message["descriptors"]):
                raise OSError(errno.EMFILE, "the spawner has as many files open as it may (RLIMIT_NOFILE)")
            _REQUESTS[message["do"]](self, message, named)
        except Exception as error:
            print(f"{message['do']}: {type(error).__name__}: {error}", flush=True)
            self._tell({"failed": message.get("key"), "message": str(error)})
        finally:
            _close_all(named.values())
        return True

    def _start(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        key = message["key"]
        pid, pidfd = start(descriptors, message["flags"], self._host, self._own_pid_namespace)
        child = self._children[key] = Child(pid, pidfd, message["exit_file"], is_orphan=False)
        self._watch(pidfd, lambda: self._ended(key))
        self._copy_output(child, message, descriptors)
        self._tell({"started": key, "pid": pid}, {"process": pidfd})

    def _adopt(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        """Takes over a process from a spawner that has died."""
        key, pid, pidfd = message["key"], message["pid"], descriptors.pop("process")
        child = self._children[key] = Child(pid, pidfd, message["exit_file"], is_orphan=True)
        self._orphans.add(pid)
        self._watch(pidfd, lambda: self._ended(key))
        self._copy_output(child, message, descriptors)

    def _copy(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        """Has output copied that was not there when the process was started: its terminal's."""
        if child := self._children.get(message["key"]):
            self._copy_output(child, message, descriptors)

    def _copy_output(self, child: Child, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        if message.get("log") and not child.log:
            child.log = self._open_log(**message["log"])
        for name, stream in _STREAMS.items():
            if name in descriptors:
                source = Source(descriptors.pop(name), stream, child.log, self._poll, self._handlers)
                child.sources.append(source)
                if name == "output:terminal":
                    child.terminal = source
        child.input = descriptors.pop("input", child.input)
        self._add_readers(child, descriptors)

    def _attach(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        if child := self._children.get(message["key"]):
            self._add_readers(child, descriptors)

    def _add_readers(self, child: Child, descriptors: dict[str, int]) -> None:
        for source in child.sources:
            for name in [name for name in descriptors if name.startswith(f"reader:{source.stream}")]:
                source.add_reader(descriptors.pop(name))

    def _release(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        if child := self._children.get(message["key"]):
            _close_input(child)

    def _forget(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        self._children.pop(message["key"], None)

    def _stop(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        self._handlers.clear()

    def _ended(self, key: str) -> None:
        child = self._children[key]
        child.status, child.ended_at = self._status(child), time_ns()
        self._unwatch(child.pidfd)
        os.close(child.pidfd)
        self._finish_output(child)
        if child.exit_file:
            self._write_exit_file(child)
        self._tell({"exited": key, "status": child.status, "at": child.ended_at})

    def _status(self, child: Child) -> int:
        return self._orphans.take(child.pid, child.pidfd) if child.is_orphan else os.waitpid(child.pid, 0)[1]

    def _write_exit_file(self, child: Child) -> None:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            file = os.open(child.exit_file[1:], flags, 0o600, dir_fd=self._host)
            os.write(file, f"{child.pid} {child.status} {child.ended_at}\n".encode())
            os.close(file)
        except OSError as error:
            print(f"{child.exit_file}: {error}", flush=True)

    def _finish_output(self, child: Child) -> None:
        _close_input(child)
        for source in child.sources:
            source.finish()
        child.sources.clear()
        if child.log:
            child.log.close()
            child.log = None

    def _open_log(self, directory: str, driver: str, max_size: int, max_files: int) -> Log:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        return DRIVERS[driver](os.open(directory[1:], flags, dir_fd=self._host), max_size, max_files)

    def _tell(self, message: dict[str, Any], held: Mapping[str, int] = _NOTHING) -> None:
        """Sends to the engine, if one is there, with `held`, descriptors by name. What does not fit now waits."""
        if not self._engine:
            return
        message["descriptors"] = list(held)
        self._unsent.append((message, [os.dup(descriptor) for descriptor in held.values()]))
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._engine:
            message, descriptors = self._unsent[0]
            try:
                send(self._engine, message, descriptors)
            except BlockingIOError:
                self._poll.modify(self._engine.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self._disconnect()
                return
            self._unsent.pop(0)
            _close_all(descriptors)
        if self._engine:
            self._poll.modify(self._engine.fileno(), select.EPOLLIN)

    def _watch(self, descriptor: int, handler: Callable[[], object]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.EPOLLIN)

    def _unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)


_REQUESTS: dict[str, Callable[[Spawner, dict[str, Any], dict[str, int]], None]] = {
    "start": Spawner._start,
    "adopt": Spawner._adopt,
    "copy": Spawner._copy,
    "attach": Spawner._attach,
    "release": Spawner._release,
    "forget": Spawner._forget,
    "stop": Spawner._stop,
}


def _guarded(handler: Callable[[], object]) -> None:
    """Calls `handler`. Whatever goes wrong concerns one container, and must not end the parent of all."""
    try:
        handler()
    except Exception as error:
        print(f"{handler}: {type(error).__name__}: {error}", flush=True)


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _close_input(child: Child) -> None:
    if child.input >= 0:
        os.close(child.input)
        child.input = -1


def command(listener: int, version: str, package: str) -> tuple[str, list[str], int]:
    """How the engine executes a spawner: the file, the arguments and the descriptor of the file, to be kept open.

    `listener` is a listening socket's descriptor that the process inherits, `version` what it says it is of, `package`
    where `cutaway` is imported from. The interpreter is a sealed copy in memory, so that a container which gets hold of
    it cannot change the host's.
    """
    interpreter = os.path.realpath(sys.executable)
    copy = sealed_copy(interpreter)
    call = f"main({listener}, {version!r})"
    program = f"import sys; sys.path.insert(0, {package!r}); from cutaway.spawner.main import main; {call}"
    return f"/proc/self/fd/{copy}", [interpreter, "-I", "-S", "-X", "utf8", "-c", program], copy


def main(listener: int, version: str) -> None:
    """The whole process; `listener` is the descriptor of a listening seqpacket socket, `version` the engine's."""
    set_dumpable(False)
    stop_ignoring_reserved()
    os.umask(0o022)
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.set_inheritable(listener, False)
    server = _socket.socket(fileno=listener)
    server.settimeout(_PATIENCE)
    spawner = Spawner(server, host, version)
    _leave_the_hosts_tree()
    gc.disable()
    gc.freeze()
    spawner.serve()


def _leave_the_hosts_tree() -> None:
    """Enters a mount namespace that holds one empty tmpfs: a container's own begins as a copy of it."""
    unshare(CLONE_NEWNS)
    root = os.open("/", os.O_PATH)
    set_attributes(root, 0, propagation=MS_PRIVATE, recursive=True)
    os.close(root)
    empty = new_mount("tmpfs", "cutaway", ["size=4k", "mode=755"])
    os.mkdir("root", dir_fd=empty)
    attach_at(empty, "/proc")
    enter_root(empty)
    os.close(empty)
