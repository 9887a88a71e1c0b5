"""Taking things away beside the event loop: undoing plans, removing directories.

What the kernel is slow to take back (network devices: about 20 ms each, as all CPUs must have let go of them) is
gathered and undone together; who must be sure that it is gone waits with `finished`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cutaway.image import trees
from cutaway.plan.files import MakeDirectory
from cutaway.plan.operation import Context
from cutaway.plan.plan import TEARDOWN, Step, undo, watching

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutaway.plan.operation import Operation

Result = TypeVar("Result")


class Janitor:
    """Two threads: one for what is waited for, one for what is slow."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(1, "janitor")
        self._slow = ThreadPoolExecutor(1, "janitor-slow")
        self._pending: dict[str, _Slow] = {}
        self._round: asyncio.Task[None] | None = None
        self._underway: dict[str, asyncio.Future[None]] = {}

    async def undo(self, name: str, operations: list[Operation]) -> None:
        """Undoes operations, the last first, and says in the log of the engine what the kernel refused."""
        if operations:
            refused = await self._do_quickly(undo, operations, Context())
            _report(name, refused)

    def undo_later(self, name: str, operations: list[Operation], done: Callable[[], None]) -> None:
        """Undoes what is slow, together with all else that has come by then; calls `done` afterwards."""
        self._pending[name] = _Slow(operations, done, watching.get())
        self._underway[name] = asyncio.get_running_loop().create_future()
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._work())

    async def finished(self, name: str) -> None:
        """Until nothing slow is to be done any more under this name."""
        if name in self._underway:
            await asyncio.shield(self._underway[name])

    async def all_finished(self) -> None:
        """Until there is nothing left to do."""
        while self._round:
            await asyncio.shield(self._round)

    async def remove_tree(self, directory: str) -> None:
        """Removes a directory and all in it, which a container may have made as deep as it liked."""
        begun = time.monotonic_ns()
        await self._do_quickly(_remove_tree, directory)
        if watcher := watching.get():
            purpose = "What lasted of the container goes: its own layer, its log, its files for /etc."
            removed = MakeDirectory(directory, purpose=purpose)
            watcher(Step(TEARDOWN, removed, time.monotonic_ns() - begun, undone=True))

    async def _do_quickly(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """In the thread for what is waited for; who watches the caller watches that too."""
        run = copy_context().run
        return await asyncio.get_running_loop().run_in_executor(self._quick, run, work, *arguments)

    def close(self) -> None:
        """Waits for the threads to end."""
        self._quick.shutdown()
        self._slow.shutdown()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            batch, self._pending = self._pending, {}
            operations = [operation for each in batch.values() for operation in each.operations]
            begun = time.monotonic_ns()
            _report("network", await loop.run_in_executor(self._slow, undo, operations, Context()))
            for name, each in batch.items():
                each.tell(time.monotonic_ns() - begun)
                each.done()
                self._underway.pop(name).set_result(None)
        self._round = None


class _Slow(NamedTuple):
    """What is to be undone when it is its turn, who is to know then, and who watches."""

    operations: list[Operation]
    done: Callable[[], None]
    watcher: Callable[[Step], None] | None

    def tell(self, nanoseconds: int) -> None:
        """It took so long, all that was undone together."""
        if self.watcher:
            for operation in self.operations:
                self.watcher(Step(TEARDOWN, operation, nanoseconds, undone=True))


def _remove_tree(directory: str) -> None:
    parent = os.open(os.path.dirname(directory), os.O_RDONLY | os.O_DIRECTORY)
    try:
        _persistently(lambda: trees.remove(parent, os.path.basename(directory)))
    except OSError as error:
        _report(directory, [error])
    finally:
        os.close(parent)


def _persistently(remove: Callable[[], None]) -> None:
    """A few times where something is in the way: the kernel may let go of an overlay a moment after its last user."""
    for _ in range(4):
        try:
            return remove()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            time.sleep(0.01)
    return remove()


def _report(name: str, refused: list[OSError]) -> None:
    for error in refused:
        print(f"{name}: {error}", flush=True)
