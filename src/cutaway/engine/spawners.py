"""The engine's end of the spawner: starting it, asking it for processes, hearing how they end.

One that dies is noticed by its socket and replaced at the next request; its children run on and are watched by pidfd.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import CannotInvoke, CommandNotFound, EngineError, NotStarted
from cutaway.engine.processes import Ended, Process
from cutaway.plan.operation import dump
from cutaway.spawner import main as spawner
from cutaway.spawner.messages import receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cutaway.plan.operation import Operation

_GO = b"g"


class Child(NamedTuple):
    """A process as the spawner knows it; `ended` is None while it runs."""

    pid: int
    ended: Ended | None


class Birth:
    """A process that is being cloned, waits for its operations, applies them, and then waits for `execute`."""

    def __init__(self, cloned: asyncio.Future[Process], report: socket.socket) -> None:
        self._cloned, self._report = cloned, report

    async def cloned(self) -> Process:
        """The process, now the caller's to close. Raises `NotStarted`."""
        return await self._cloned

    def send(self, operations: list[Operation], descriptors: Mapping[str, int]) -> None:
        """What it is to do, and the descriptors for that; the last operation executes its program."""
        message = {"operations": dump(operations), "descriptors": list(descriptors)}
        try:
            send(self._report, message, list(descriptors.values()))
        except OSError:
            pass  # it has ended; `execute` tells

    async def discard(self) -> None:
        """Has it end before it executes anything, and waits for that."""
        self._report.close()
        process = await self._cloned
        await process.ended
        process.close()

    async def terminal(self) -> int:
        """The master of the terminal that it has opened, now the caller's. Raises `NotStarted`."""
        message, descriptors = await _next_message(self._report)
        if descriptors:
            return descriptors[0]
        self._report.close()
        raise _not_started(message) if message else NotStarted("the process ended before it had opened its terminal")

    async def execute(self) -> None:
        """Lets it execute its program. Raises `CommandNotFound`, `CannotInvoke` or `NotStarted`; the process has then
        ended."""
        try:
            self._report.send(_GO, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has failed already, and said why
        with self._report:
            message, _ = await _next_message(self._report)
        if message:
            raise _not_started(message)


class SpawnerLink:
    """Requests go out at once. The end of a process settles its `ended`."""

    def __init__(self, path: str, log: str, on_loss: Callable[[], None]) -> None:
        self._path, self._log, self._on_loss = path, log, on_loss
        self._processes: dict[str, Process] = {}
        self._socket: socket.socket | None = None
        self._connecting = asyncio.Lock()
        self._starting: dict[str, asyncio.Future[Process]] = {}
        self._terminals: dict[str, asyncio.Future[int]] = {}
        self.pid = 0

    async def connect(self) -> dict[str, Child]:
        """Connects, to a spawner that is there or to a new one; returns the children it has, by key."""
        async with self._connecting:
            if self._socket:
                return {}
            peer = _try_connect(self._path) or self._launch()
            greeting, _ = await _next_message(peer)
            if greeting is None:
                raise EngineError(f"the spawner ended at once; {self._log} may say why")
            self.pid, self._socket = greeting["pid"], peer
            peer.setblocking(False)
            asyncio.get_running_loop().add_reader(peer, self._receive)
            return {key: _child(*fields) for key, fields in greeting["children"].items()}

    async def clone(
        self,
        key: str,
        flags: int,
        descriptors: Mapping[str, int],
        exit_file: str = "",
        log: dict[str, Any] | None = None,
    ) -> Birth:
        """Has a process cloned into new namespaces, CLONE_NEW* in `flags`, which then waits for its operations.

        `descriptors`: see `spawner.fork.start`; and our ends of its streams: `output:stdout`, `output:stderr`, `input`.
        """
        await self.connect()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            named = {**descriptors, "report": theirs.fileno()}
            future = self._starting[key] = asyncio.get_running_loop().create_future()
            self._send({"do": "start", "key": key, "flags": flags, "exit_file": exit_file, "log": log}, named)
        return Birth(future, ours)

    def follow(self, process: Process) -> None:
        """Settles `process.ended` when the spawner tells of its end: it is the spawner's child."""
        self._processes[process.key] = process

    def adopt(self, key: str, pid: int, descriptors: Mapping[str, int], log: dict[str, Any] | None) -> None:
        """Has the output of a running process copied: `output:stdout`, `output:stderr`, to `reader:1`, `reader:2`."""
        self._send({"do": "adopt", "key": key, "pid": pid, "log": log}, descriptors)

    def attach(self, key: str, descriptors: Mapping[str, int]) -> None:
        """Has a process's output copied to `reader:1`, `reader:2` also."""
        self._send({"do": "attach", "key": key}, descriptors)

    async def terminal(self, key: str) -> int:
        """A duplicate of the master of a process's terminal, -1 where it has none."""
        future = self._terminals[key] = asyncio.get_running_loop().create_future()
        self._send({"do": "terminal", "key": key}, {})
        held: int = await future
        return held

    def release_input(self, key: str) -> None:
        """Has the spawner let go of the process's standard input."""
        self._send({"do": "release", "key": key}, {})

    def forget(self, key: str) -> None:
        """The end of this process has been dealt with."""
        self._send({"do": "forget", "key": key}, {})

    def stop(self) -> None:
        """Ends the spawner; processes that still run are left to themselves."""
        self._send({"do": "stop"}, {})
        self._lose()

    def close(self) -> None:
        """Leaves the spawner to the next engine."""
        self._lose()

    def _launch(self) -> socket.socket:
        """A new spawner, which listens already: its socket is made here."""
        if os.path.lexists(self._path):
            os.unlink(self._path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            before = os.umask(0o177)
            try:
                listener.bind(self._path)
            finally:
                os.umask(before)
            listener.listen(4)
            _execute_spawner(listener.fileno(), self._log)
        peer = _try_connect(self._path)
        if peer is None:
            raise EngineError(f"the spawner could not be started; {self._log} may say why")
        return peer

    def _send(self, message: dict[str, Any], descriptors: Mapping[str, int]) -> None:
        if self._socket is None:
            return
        message["descriptors"] = list(descriptors)
        try:
            send(self._socket, message, list(descriptors.values()))
        except BlockingIOError:
            # The packets it has not read yet fill the buffer: it is alive, and reads them soon
            self._socket.setblocking(True)
            send(self._socket, message, list(descriptors.values()))
            self._socket.setblocking(False)
        except OSError:
            self._lose()

    def _receive(self) -> None:
        while self._socket:
            try:
                message, descriptors = receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                message, descriptors = None, []
            if message is None:
                self._lose()
            else:
                self._handle(message, descriptors)

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "started" in message:
            process = Process(message["started"], message["pid"], descriptors[0])
            self.follow(process)
            self._starting.pop(process.key).set_result(process)
        elif "failed" in message:
            future = self._starting.pop(message["failed"], None)
            if future:
                future.set_exception(NotStarted(f"the process could not be cloned: {message['message']}"))
        elif "terminal" in message:
            self._terminals.pop(message["terminal"]).set_result(descriptors[0] if descriptors else -1)
        elif "exited" in message:
            self._note_end(message["exited"], Ended(message["status"], message["at"]))

    def _note_end(self, key: str, ended: Ended) -> None:
        process = self._processes.pop(key, None)
        if process and not process.ended.done():
            process.ended.set_result(ended)
        self.forget(key)

    def _lose(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket, self.pid = None, 0
        futures: list[asyncio.Future[Any]] = [*self._starting.values(), *self._terminals.values()]
        for future in futures:
            future.set_exception(EngineError("the spawner died while it was asked for something; try again"))
        self._starting.clear()
        self._terminals.clear()
        self._processes.clear()
        self._on_loss()


def _try_connect(path: str) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.connect(path)
    except OSError:
        peer.close()
        return None
    return peer


def _execute_spawner(listener: int, log: str) -> None:
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    program, arguments, copy = spawner.command(listener, package)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o640),
               (os.POSIX_SPAWN_DUP2, 1, 2)]  # fmt: skip
    try:
        os.set_inheritable(listener, True)
        pidfd = os.pidfd_open(os.posix_spawn(program, arguments, {}, file_actions=actions, setsid=True))
    finally:
        os.close(copy)
    asyncio.get_running_loop().add_reader(pidfd, _reap, pidfd)


def _reap(pidfd: int) -> None:
    asyncio.get_running_loop().remove_reader(pidfd)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


async def _next_message(peer: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    peer.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        try:
            return receive(peer)
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_reader(peer, _settle, ready)
            try:
                await ready
            finally:
                loop.remove_reader(peer)
        except ConnectionResetError:
            return None, []


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _child(pid: int, status: int | None, at: int) -> Child:
    return Child(pid, None if status is None else Ended(status, at))


def _not_started(failure: dict[str, Any]) -> NotStarted:
    kinds = {"CommandNotFound": CommandNotFound, "CannotInvoke": CannotInvoke}
    if failure["kind"] in kinds:
        return kinds[failure["kind"]](failure["message"])
    return NotStarted(f"{failure['operation']}: {failure['message']}")
