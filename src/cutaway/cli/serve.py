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
from typing import TYPE_CHECKING

from cutaway.cli.dispatch import carry_out
from cutaway.client.dial import READY
from cutaway.engine.connection import Connection, Disconnected
from cutaway.engine.engine import LocalEngine
from cutaway.engine.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_TIME = 300.0
"""Seconds without a running container or a caller after which an engine that nobody needs ends."""
_LOCK_PATIENCE = 15.0  # seconds


class Server:
    """Accepts connections for one engine until it ends."""

    def __init__(self, engine: LocalEngine, listener: socket.socket) -> None:
        self._engine, self._listener = engine, listener
        self._open: dict[asyncio.Task[None], Connection] = {}
        self._idle_since = time.monotonic()

    async def serve(self, *, idle_time: float | None) -> None:
        """Until the engine ends, or has had nothing to do for `idle_time` seconds (None: for ever)."""
        accepting = asyncio.create_task(self._accept())
        resting = asyncio.create_task(self._rest(idle_time))
        await self._engine.ending.wait()
        for task in (accepting, resting):
            task.cancel()
        for connection in self._open.values():
            connection.stop_receiving()
        if self._open:
            await asyncio.wait(self._open, timeout=2)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            peer, _ = await loop.sock_accept(self._listener)
            connection = Connection(peer)
            task = loop.create_task(self._answer(connection))
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
                await self._engine.shutdown()
                return


def main() -> int:
    """The whole process."""
    options = _options()
    if options.ready_fd >= 0:  # inherited from who waits for its end; the spawner is not to hold it open
        os.set_inheritable(options.ready_fd, False)
    try:
        places = Places.of_environment()
        os.makedirs(places.runtime_dir, 0o755, exist_ok=True)
        if os.geteuid() != 0:
            raise SystemExit("cutaway needs root rights to start containers; run it as root (sudo cutaway …)")
        lock = _lock(places)
        if lock < 0:  # another engine was quicker, and listens
            _tell(options.ready_fd, READY)
            return 0
        asyncio.run(_run(places, options))
    except (OSError, SystemExit) as problem:
        _tell(options.ready_fd, str(problem).encode())
        print(problem, file=sys.stderr)
        return 125
    return 0


async def _run(places: Places, options: argparse.Namespace) -> None:
    engine = await LocalEngine.open(places)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with _listen(places.engine_socket) as listener:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _end, engine)
        _tell(options.ready_fd, READY)
        try:
            await Server(engine, listener).serve(idle_time=IDLE_TIME if options.ready_fd >= 0 else None)
        finally:
            os.unlink(places.engine_socket)
            await engine.close()


def _end(engine: LocalEngine) -> None:
    asyncio.get_running_loop().create_task(engine.shutdown())


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
