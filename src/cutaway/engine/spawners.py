"""The engine's end of the spawner: starting it, asking it for processes, hearing how they end.

One that dies is noticed by its socket and replaced at the next request; its children run on and are watched by pidfd.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway import __version__
from cutaway.engine.errors import CannotInvoke, CommandNotFound, EngineError, NotStarted
from cutaway.engine.processes import Ended, Process
from cutaway.engine.streams import close_all
from cutaway.engine.told import Told
from cutaway.plan.operation import dump
from cutaway.spawner import main as spawner
from cutaway.spawner.messages import receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cutaway.plan.operation import Operation

_GO = b"g"


class Adoption(NamedTuple):
    """What a new spawner is told of a process that runs already; see `SpawnerLink.clone`."""

    exit_file: str = ""
    log: dict[str, Any] | None = None


class Birth:
    """A process that is being cloned, waits for its operations, applies them, and then waits for `execute`. Who watches
    hears of what it did when it has done it all, and again when it has executed its program."""

    def __init__(self, cloned: asyncio.Future[Process], report: socket.socket, told: Told) -> None:
        self._cloned, self._report, self._told = cloned, report, told

    async def cloned(self) -> Process:
        """The process, now the caller's to close. Raises `NotStarted`. Who is cancelled here has to `discard`."""
        return await asyncio.shield(self._cloned)

    def send(self, operations: list[Operation], descriptors: Mapping[str, int]) -> None:
        """What it is to do, and the descriptors for that; the last operation executes its program."""
        message = {"operations": dump(operations), "descriptors": list(descriptors), "timed": self._told.is_needed}
        self._told.about(operations)
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
        raise self._failure(message) if message else NotStarted("the process ended before it had opened its terminal")

    async def execute(self) -> None:
        """Lets it execute its program. Raises `CommandNotFound`, `CannotInvoke` or `NotStarted`; the process has then
        ended."""
        with self._report:
            if self._told.is_needed:
                await self._until_set_up()
            try:
                self._report.send(_GO, socket.MSG_NOSIGNAL)
            except OSError:
                pass  # it has failed already, and said why
            message, _ = await _next_message(self._report)
            if message:
                raise self._failure(message)
        self._told.executed()

    async def _until_set_up(self) -> None:
        """So that what was done is told before the program can say a word."""
        message, _ = await _next_message(self._report)
        if message and "kind" in message:
            raise self._failure(message)
        if message:
            self._told.set_up(message["times"])
            await asyncio.sleep(0)

    def _failure(self, message: dict[str, Any]) -> NotStarted:
        self._told.failed(message["times"], message["message"])
        return _not_started(message)


class SpawnerLink:
    """Requests go out at once. The end of a process settles its `ended`, whether or not its spawner is still there.

    `adoption` says what a new spawner is to be told of a process; `on_loss` is called when there is none any more.
    """

    def __init__(
        self, path: str, log: str, adoption: Callable[[Process], Adoption], on_loss: Callable[[], None]
    ) -> None:
        self._path, self._log, self._adoption, self._on_loss = path, log, adoption, on_loss
        self._processes: dict[str, Process] = {}
        self._socket: socket.socket | None = None
        self._connecting = asyncio.Lock()
        self._starting: dict[str, asyncio.Future[Process]] = {}
        self.pid = 0

    @property
    def is_needed(self) -> bool:
        """Whether there are processes whose output is to be copied and whose end is to be seen."""
        return bool(self._processes)

    async def connect(self) -> dict[str, Process]:
        """Connects, to a spawner that is there or to a new one, which adopts what runs. Raises `EngineError`.

        Returns the processes of the spawner that was there, by key. Those that run are followed from here on, unless it
        was of another version: then they are to be adopted.
        """
        async with self._connecting:
            if self._socket:
                return {}
            peer = _try_connect(self._path)
            found = await self._join(peer) if peer else {}
            if self._socket is None:
                await self._join(self._launch())
                for process in self._processes.values():
                    self._send_adoption(process)
            if self._socket is None:
                raise EngineError(f"the spawner could not be started: {_last_line(self._log)} ({self._log})")
            return found

    async def _join(self, peer: socket.socket) -> dict[str, Process]:
        """Learns what processes a spawner has, and stays with it; one of another version is ended, its processes are
        not: they are for the next."""
        greeting, _ = await _next_message(peer)
        if greeting is None:
            peer.close()
            return {}
        children = [await _next_message(peer) for _ in range(greeting["children"])]
        found = {child["child"]: self._take(child, descriptors) for child, descriptors in children if child}
        if greeting["version"] == __version__:
            self.pid, self._socket = greeting["pid"], peer
            asyncio.get_running_loop().add_reader(peer, self._receive)
        else:
            for key in found:
                self._processes.pop(key, None)
            print(
                f"the spawner is of version {greeting['version']}, the engine of {__version__}: another one is started",
                flush=True,
            )
            await _retire(peer)
        return found

    def _take(self, child: dict[str, Any], descriptors: list[int]) -> Process:
        """The process that a spawner tells of; followed while it runs."""
        held = dict(zip(child["descriptors"], descriptors, strict=True))
        known = self._processes.pop(child["child"], None)
        process = known or Process(child["child"], child["pid"], held.pop("process", -1))
        if not known:
            process.terminal = held.pop("terminal", -1)
        close_all(held.values())
        if child["status"] is None:
            self._processes[process.key] = process
        elif not process.ended.done():
            process.ended.set_result(Ended(child["status"], child["at"]))
        return process

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
        return Birth(future, ours, Told(cloned_into=flags != 0))

    def adopt(self, process: Process) -> None:
        """Follows a process that runs, whose spawner is there no more; nothing where it is followed."""
        if process.key not in self._processes:
            self._processes[process.key] = process
            self._send_adoption(process)

    def copy(self, process: Process, descriptors: Mapping[str, int], log: dict[str, Any] | None) -> None:
        """Has the output copied that was not there when the process was started: `output:terminal`, to `reader:1`."""
        process.keep_readers(descriptors)
        self._send({"do": "copy", "key": process.key, "log": log}, descriptors)

    def attach(self, process: Process, descriptors: Mapping[str, int]) -> None:
        """Has a process's output copied to `reader:1`, `reader:2` also."""
        process.keep_readers(descriptors)
        self._send({"do": "attach", "key": process.key}, descriptors)

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

    def _send_adoption(self, process: Process) -> None:
        exit_file, log = self._adoption(process)
        message = {"do": "adopt", "key": process.key, "pid": process.pid, "exit_file": exit_file, "log": log}
        readers = {f"{name}:{descriptor}": descriptor for descriptor, name in process.readers.items()}
        own = {"process": process.pidfd, "input": process.input, "output:terminal": process.terminal}
        held = {name: descriptor for name, descriptor in own.items() if descriptor >= 0}
        self._send(message, held | process.outputs | readers)

    def _send(self, message: dict[str, Any], descriptors: Mapping[str, int]) -> None:
        if self._socket is None:
            return
        message["descriptors"] = list(descriptors)
        try:
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
            except ConnectionResetError:
                continue  # it has left something unread; what it had said before is still to be read
            except OSError:
                message, descriptors = None, []
            if message is None:
                self._lose()
            else:
                self._handle(message, descriptors)

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if "started" in message:
            process = Process(message["started"], message["pid"], descriptors[0])
            self._processes[process.key] = process
            self._starting.pop(process.key).set_result(process)
        elif "failed" in message:
            future = self._starting.pop(message["failed"], None)
            if future:
                future.set_exception(NotStarted(f"the process could not be cloned: {message['message']}"))
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
        for future in self._starting.values():
            future.set_exception(EngineError("the spawner died while it started this; try again"))
        self._starting.clear()
        self._on_loss()


def _try_connect(path: str) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.connect(path)
    except OSError:
        peer.close()
        return None
    return peer


def _last_line(path: str) -> str:
    with open(path, errors="replace") as log:
        return next(iter(deque(log, 1)), "it says nothing").strip()


async def _retire(peer: socket.socket) -> None:
    """Ends a spawner and waits until it has let go of what it copied. All versions know this message."""
    with peer:
        try:
            send(peer, {"do": "stop", "descriptors": []})
            while (await _next_message(peer))[0]:
                pass
        except OSError:
            pass  # it has ended already


def _execute_spawner(listener: int, log: str) -> None:
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    program, arguments, copy = spawner.command(listener, __version__, package)
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
            continue  # the peer has left something unread; what it had said before is still to be read


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _not_started(failure: dict[str, Any]) -> NotStarted:
    kinds = {"CommandNotFound": CommandNotFound, "CannotInvoke": CannotInvoke}
    if failure["kind"] in kinds:
        return kinds[failure["kind"]](failure["message"])
    return NotStarted(f"{failure['operation']}: {failure['message']}")
