"""The spawner's loop: requests of the engine, ends of children, output in between.

It lives on when the engine dies: then it goes on copying output to logs, keeps what ended, and tells the next engine
that connects. It never grows: requests are forgotten once done, and of a container it keeps two or three descriptors.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import sys
from time import time_ns

from cutaway.kernel.memfd import sealed_copy
from cutaway.kernel.mounts import MS_PRIVATE, attach_at, enter_root, new_mount, set_attributes
from cutaway.kernel.namespaces import CLONE_NEWNS, unshare
from cutaway.kernel.prctl import set_dumpable
from cutaway.spawner.fork import start
from cutaway.spawner.logs import DRIVERS
from cutaway.spawner.messages import receive, send
from cutaway.spawner.output import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cutaway.spawner.logs import Log

_STREAMS = {"output:stdout": 1, "output:stderr": 2, "output:terminal": 1}


class Child:
    """A process and its output. `status`: its wait status once it has ended; `pidfd`: -1 if it is not our child;
    `input`: the writing end of its standard input, kept open so that a dying engine does not end it."""

    __slots__ = ("ended_at", "exit_file", "has_terminal", "input", "log", "pid", "pidfd", "sources", "status")

    def __init__(self, pid: int, pidfd: int, exit_file: str) -> None:
        self.pid, self.pidfd, self.exit_file = pid, pidfd, exit_file
        self.sources: list[Source] = []
        self.log: Log | None = None
        self.status: int | None = None
        self.ended_at = 0
        self.input = -1
        self.has_terminal = False


class Spawner:
    """Serves one engine at a time on `listener`; the latest to connect is the one."""

    def __init__(self, listener: _socket.socket, host: int) -> None:
        self._listener, self._host = listener, host
        self._engine: _socket.socket | None = None
        self._unsent: list[tuple[dict[str, Any], int]] = []
        self._children: dict[str, Child] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], object]] = {}
        self._watch(listener.fileno(), self._accept)

    def serve(self) -> None:
        """Runs until an engine says stop.

        Its requests come first: it asks for an output to be copied before it lets a program write any.
        """
        while self._handlers:
            ready = self._poll.poll()
            _guarded(self._take_requests)
            for descriptor, _events in ready:
                if handler := self._handlers.get(descriptor):
                    _guarded(handler)

    def _accept(self) -> None:
        descriptor, _address = self._listener._accept()  # type: ignore[attr-defined]
        self._disconnect()
        self._engine = _socket.socket(fileno=descriptor)
        self._engine.setblocking(False)
        self._watch(descriptor, self._take_requests)
        children = {key: (child.pid, child.status, child.ended_at) for key, child in self._children.items()}
        self._tell({"pid": os.getpid(), "children": children})

    def _disconnect(self) -> None:
        if self._engine:
            self._unwatch(self._engine.fileno())
            self._engine.close()
        self._engine = None
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
        named = dict(zip(message.get("descriptors", ()), descriptors, strict=True))
        try:
            _REQUESTS[message["do"]](self, message, named)
        except OSError as error:
            self._tell({"failed": message["key"], "errno": error.errno, "message": str(error)})
        finally:
            for descriptor in named.values():
                os.close(descriptor)
        return True

    def _start(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        key = message["key"]
        pid, pidfd = start(descriptors, message["flags"], self._host, self._own_pid_namespace)
        child = self._children[key] = Child(pid, pidfd, message["exit_file"])
        self._watch(pidfd, lambda: self._ended(key))
        self._copy_output(child, message, descriptors)
        self._tell({"started": key, "pid": pid}, pidfd)

    def _adopt(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        """Takes over the output of a process that is not a child of this spawner, or one's terminal."""
        child = self._children.setdefault(message["key"], Child(message["pid"], -1, ""))
        self._copy_output(child, message, descriptors)

    def _copy_output(self, child: Child, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        if message.get("log") and not child.log:
            child.log = self._open_log(**message["log"])
        for name, stream in _STREAMS.items():
            if name in descriptors:
                source = Source(descriptors.pop(name), stream, child.log, self._poll, self._handlers)
                child.sources.append(source)
                child.has_terminal = name == "output:terminal"
        child.input = descriptors.pop("input", child.input)
        self._add_readers(child, descriptors)

    def _attach(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:
        if child := self._children.get(message["key"]):
            self._add_readers(child, descriptors)

    def _add_readers(self, child: Child, descriptors: dict[str, int]) -> None:
        for source in child.sources:
            name = f"reader:{source.stream}"
            if name in descriptors:
                source.add_reader(descriptors.pop(name))

    def _terminal(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        child = self._children.get(message["key"])
        held = child.sources[0].descriptor if child and child.has_terminal and child.sources else -1
        self._tell({"terminal": message["key"]}, held)

    def _release(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        if child := self._children.get(message["key"]):
            _close_input(child)

    def _forget(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        child = self._children.pop(message["key"], None)
        if child:
            self._close_output(child)

    def _stop(self, message: dict[str, Any], descriptors: dict[str, int]) -> None:  # noqa: ARG002
        self._handlers.clear()

    def _ended(self, key: str) -> None:
        child = self._children[key]
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if not pid:  # the event was another descriptor's, of the same number
            return
        self._unwatch(child.pidfd)
        os.close(child.pidfd)
        child.pidfd, child.status = -1, status
        child.ended_at = time_ns()
        for source in child.sources:
            source.drain()
        if child.exit_file:
            self._write_exit_file(child)
        self._close_output(child)
        self._tell({"exited": key, "status": status, "at": child.ended_at})

    def _write_exit_file(self, child: Child) -> None:
        try:
            file = os.open(child.exit_file[1:], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._host)
            os.write(file, f"{child.status} {child.ended_at}\n".encode())
            os.close(file)
        except OSError as error:
            print(f"{child.exit_file}: {error}", flush=True)

    def _close_output(self, child: Child) -> None:
        _close_input(child)
        for source in child.sources:
            source.close()
        child.sources.clear()
        if child.log:
            child.log.close()
            child.log = None

    def _open_log(self, directory: str, driver: str, max_size: int, max_files: int) -> Log:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        return DRIVERS[driver](os.open(directory[1:], flags, dir_fd=self._host), max_size, max_files)

    def _tell(self, message: dict[str, Any], descriptor: int = -1) -> None:
        """Sends to the engine, if one is there. What does not fit now waits, each descriptor as a duplicate."""
        self._unsent.append((message, os.dup(descriptor) if descriptor >= 0 else -1))
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent and self._engine:
            message, descriptor = self._unsent[0]
            try:
                send(self._engine, message, [descriptor] if descriptor >= 0 else [])
            except BlockingIOError:
                self._poll.modify(self._engine.fileno(), select.EPOLLIN | select.EPOLLOUT)
                return
            except OSError:
                self._disconnect()
                return
            self._unsent.pop(0)
            if descriptor >= 0:
                os.close(descriptor)
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
    "attach": Spawner._attach,
    "release": Spawner._release,
    "terminal": Spawner._terminal,
    "forget": Spawner._forget,
    "stop": Spawner._stop,
}


def _guarded(handler: Callable[[], object]) -> None:
    """Calls `handler`. Whatever goes wrong concerns one container, and must not end the parent of all."""
    try:
        handler()
    except Exception as error:
        print(f"{handler}: {type(error).__name__}: {error}", flush=True)


def _close_input(child: Child) -> None:
    if child.input >= 0:
        os.close(child.input)
        child.input = -1


def command(listener: int, package: str) -> tuple[str, list[str], int]:
    """How the engine executes a spawner: the file, the arguments and the descriptor of the file, to be kept open.

    `listener` is a listening socket's descriptor that the process inherits, `package` where `cutaway` is imported from.
    The interpreter is a sealed copy in memory, so that a container which gets hold of it cannot change the host's.
    """
    interpreter = os.path.realpath(sys.executable)
    copy = sealed_copy(interpreter)
    program = f"import sys; sys.path.insert(0, {package!r}); from cutaway.spawner.main import main; main({listener})"
    return f"/proc/self/fd/{copy}", [interpreter, "-I", "-S", "-X", "utf8", "-c", program], copy


def main(listener: int) -> None:
    """The whole process; `listener` is the descriptor of a listening seqpacket socket."""
    set_dumpable(False)
    os.umask(0o022)
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.set_inheritable(listener, False)
    spawner = Spawner(_socket.socket(fileno=listener), host)
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
