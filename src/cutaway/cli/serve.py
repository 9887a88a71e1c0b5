"""The engine's process: `python -m cutaway.cli.serve`. Listens on the engine's socket and carries out what comes.

Started by the first command that finds nobody there, or by hand (`cutaway engine run`, for systemd). Whoever started it
hears over a pipe when it listens, or in one sentence why it cannot.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

from cutaway.cli.dispatch import carry_out
from cutaway.client.dial import READY
from cutaway.engine.connection import Connection, Disconnected
from cutaway.engine.engine import LocalEngine
from cutaway.engine.errors import EngineError
from cutaway.engine.places import Places
from cutaway.kernel import rlimits
from cutaway.kernel.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_TIME = 300.0
"""Seconds without a running container or a caller after which an engine that nobody needs ends, unless the variable
`CUTAWAY_IDLE_TIME` says otherwise."""
_LOCK_PATIENCE = 15.0  # seconds
_PARTING = 2.0  # seconds in which callers of an engine that ends may hear what it has to say
_PAUSE = 0.1  # seconds until the next try to accept a connection, when there were no descriptors left


class Server:
    """Answers those who connect to an engine's socket at `path`, until the engine ends."""

    def __init__(self, engine: LocalEngine, path: str) -> None:
        self._engine, self._path = engine, path
        self._open: dict[asyncio.Task[None], Connection] = {}
        self._idle_since = time.monotonic()
        self._open_door()

    async def serve(self, *, idle_time: float | None) -> None:
        """Until the engine ends, or has had nothing to do for `idle_time` seconds (None: for ever)."""
        resting = asyncio.create_task(self._rest(idle_time))
        await self._engine.ending.wait()
        resting.cancel()
        self._shut_door()
        for connection in self._open.values():
            connection.stop_receiving()
        if self._open:
            await asyncio.wait(self._open, timeout=_PARTING)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _open_door(self) -> None:
        self._listener = _listen(self._path)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _shut_door(self) -> bool:
        """From now on who calls finds nobody, and starts another engine; answers those who came just before. Returns
        whether there were any."""
        if self._listener.fileno() < 0:
            return False
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.shutdown(socket.SHUT_RD)
        before = len(self._open)
        with self._listener:
            try:
                while True:
                    self._welcome(self._listener.accept()[0])
            except OSError:  # there are no more
                return len(self._open) > before

    def _accept(self) -> None:
        try:
            self._welcome(self._listener.accept()[0])
        except BlockingIOError:  # the caller has gone away again
            pass
        except OSError as problem:
            print(f"accepting a connection: {problem}", flush=True)
            asyncio.get_running_loop().remove_reader(self._listener)
            asyncio.get_running_loop().call_later(_PAUSE, self._accept_again)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _welcome(self, peer: socket.socket) -> None:
        connection = Connection(peer)
        task = asyncio.get_running_loop().create_task(self._answer(connection))
        self._open[task] = connection
        task.add_done_callback(self._closed)

    async def _answer(self, connection: Connection) -> None:
        async with connection:
            try:
                await carry_out(self._engine, connection)
            except Disconnected:
                pass

    def _closed(self, task: asyncio.Task[None]) -> None:
        del self._open[task]
        self._idle_since = time.monotonic()
        if not task.cancelled() and (problem := task.exception()):
            print(f"connection: {problem!r}", flush=True)

    async def _rest(self, idle_time: float | None) -> None:
        while idle_time is not None:
            await asyncio.sleep(idle_time / 10)
            if self._open or self._engine.is_needed():
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since > idle_time:
                if not self._shut_door():
                    return await self._engine.shutdown()
                self._open_door()
        return None


def main() -> int:
    """The whole process."""
    options = _options()
    if options.ready_fd >= 0:  # inherited from who waits for its end; the spawner is not to hold it open
        os.set_inheritable(options.ready_fd, False)
    try:
        places = Places.of_environment()
        os.makedirs(places.runtime_dir, 0o755, exist_ok=True)
        if os.geteuid() != 0:
            raise SystemExit("containers need root rights: run it as root (sudo cutaway …)")
        lock = _lock(places)
        if lock < 0:  # another engine was quicker, and listens
            _tell(options.ready_fd, READY)
            return 0
        rlimits.raise_soft("RLIMIT_NOFILE")
        asyncio.run(_run(places, options.ready_fd, _idle_time() if options.ready_fd >= 0 else None))
    except OSError as problem:
        return _fail(options.ready_fd, sentence(problem))
    except (EngineError, SystemExit) as problem:
        return _fail(options.ready_fd, str(problem))
    except Exception as problem:
        traceback.print_exception(problem)
        return _fail(options.ready_fd, f"{type(problem).__name__}: {problem}")
    return 0


def _fail(ready: int, reason: str) -> int:
    _tell(ready, reason.encode())
    print(reason, file=sys.stderr)
    return 125


async def _run(places: Places, ready: int, idle_time: float | None) -> None:
    engine = await LocalEngine.open(places)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    server = Server(engine, places.engine_socket)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, engine.end)
    _tell(ready, READY)
    try:
        await server.serve(idle_time=idle_time)
    finally:
        os.unlink(places.engine_socket)
        await engine.close()


def _idle_time() -> float:
    wanted = os.environ.get("CUTAWAY_IDLE_TIME") or IDLE_TIME
    try:
        return float(wanted)
    except ValueError:
        raise SystemExit(f"CUTAWAY_IDLE_TIME is {wanted!r}, which is no number of seconds") from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cutaway engine run")
    parser.add_argument("--ready-fd", type=int, default=-1)
    return parser.parse_args()


def _lock(places: Places) -> int:
    """The descriptor that makes this the one engine of its places; -1 where another one is and answers."""
    lock = os.open(f"{places.runtime_dir}/engine.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    return lock if _wait_until(lambda: _try_lock(lock), places) else -1


def _wait_until(locked: Callable[[], bool], places: Places) -> bool:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while time.monotonic() < deadline:
        if locked():
            return True
        if _answers(places.engine_socket):
            return False
        time.sleep(0.02)
    raise OSError(f"another engine holds {places.runtime_dir}/engine.lock and does not answer")


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _listen(path: str) -> socket.socket:
    """The engine's socket, for root and its group alone."""
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o117)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(512)
    listener.setblocking(False)
    return listener


def _tell(ready: int, message: bytes) -> None:
    if ready >= 0:
        os.write(ready, message)
        os.close(ready)


if __name__ == "__main__":
    sys.exit(main())
