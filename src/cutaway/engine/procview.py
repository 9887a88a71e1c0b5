"""`--proc-view`: lxcfs, run for as long as a container needs it, and what is bound from it into containers.

One lxcfs serves all containers of an engine. It outlives the engine, and the next one takes it over. When it dies, the
files that containers have of it are dead: another is started, and its files are put in their place.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING, Any

from cutaway.engine.beside import beside
from cutaway.engine.errors import Conflict, EngineError
from cutaway.plan.namespaces import JoinProcess
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply, undo
from cutaway.plan.procview import FILES, OPTIONS, RenewBindMount, ServeProcView, reap

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.places import Places
    from cutaway.plan.operation import Operation

MISSING = "--proc-view needs lxcfs, which is not installed here: apt-get install lxcfs"
_KEY = "lxcfs"
_PAUSE = 1.0  # seconds between two tries to start it again


def program() -> str:
    """Where lxcfs is; empty where it is not installed."""
    return shutil.which("lxcfs") or ""


class ProcView:
    """The one lxcfs of an engine. `table` is where it is written down before it is started."""

    def __init__(self, places: Places, table: Table[list[Any]], containers: Containers) -> None:
        self._directory = f"{places.runtime_dir}/proc-view"
        self._log = f"{places.runtime_dir}/lxcfs.log"
        self._table, self._containers = table, containers
        self._users: set[str] = set()
        self._lock = asyncio.Lock()
        self._pidfd = -1
        self._renewing: asyncio.Task[None] | None = None

    def mounts(self, container: Container) -> list[dict[str, Any]]:
        """As OCI mounts, what the container sees in the place of the kernel's files; nothing unless it is asked for."""
        if not container.seen.HostConfig.ProcView:
            return []
        return [
            {"destination": path, "type": "bind", "source": f"{self._directory}{path}", "options": OPTIONS}
            for path in FILES
        ]

    def missing(self, container: Container) -> list[Operation]:
        """What `hold` would have to do."""
        return [self._operation()] if container.seen.HostConfig.ProcView and self._pidfd < 0 else []

    async def hold(self, container: Container) -> None:
        """Has lxcfs run until `let_go`, if the container needs it. Raises `EngineError`."""
        if container.seen.HostConfig.ProcView:
            async with self._lock:
                if self._pidfd < 0:
                    await self._start()
                self._users.add(container.id)

    async def let_go(self, container: Container) -> None:
        """The opposite of `hold`; nothing where it is not held."""
        if container.id in self._users:
            async with self._lock:
                self._users.discard(container.id)
                if not self._users:
                    await self._stop()

    async def recover(self) -> None:
        """Takes over the lxcfs of an engine before this one, or ends it where no container needs it any more."""
        written = self._table.get(_KEY)
        if written is None or self._pidfd >= 0:
            return
        self._users = {each.id for each in self._containers if each.process and each.seen.HostConfig.ProcView}
        (operation,) = load(written)
        assert isinstance(operation, ServeProcView)
        if not self._users:
            await self._stop()
        elif (pidfd := operation.process()) >= 0:
            self._watch(pidfd)
        else:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    def close(self) -> None:
        """Leaves it to the next engine."""
        if self._renewing:
            self._renewing.cancel()
        self._forget()

    def _operation(self) -> ServeProcView:
        if not (found := program()):
            raise Conflict(MISSING)
        return ServeProcView(self._directory, found, f"{self._directory}.pid", self._log)

    async def _start(self) -> None:
        operation = self._operation()
        await self._stop()  # what is left of one that died
        self._table.save(_KEY, dump([operation]))
        try:
            await beside(lambda _: apply([operation], Context()))
        except OSError as error:
            await self._stop()
            raise EngineError(f"lxcfs, which --proc-view needs, could not be started: {error}") from None
        self._watch(operation.process())

    async def _stop(self) -> None:
        self._forget()
        operations = load(self._table.get(_KEY) or [])
        for error in await beside(lambda _: undo(operations, Context())):
            print(f"lxcfs: {error}", flush=True)
        self._table.delete(_KEY)

    def _watch(self, pidfd: int) -> None:
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._died)

    def _forget(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            reap(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _died(self) -> None:
        print("lxcfs has died: another one is started", flush=True)
        self._forget()
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        """Starts another, and has it serve those whom the dead one served; tries until it does or nobody needs it."""
        while self._users:
            async with self._lock:
                try:
                    if self._users and self._pidfd < 0:
                        await self._start()
                    for container in [each for each in self._containers if each.id in self._users and each.process]:
                        await self._renew_in(container)
                    return
                except EngineError as error:
                    print(f"lxcfs: {error}", flush=True)
            await asyncio.sleep(_PAUSE)

    async def _renew_in(self, container: Container) -> None:
        assert container.process
        context = Context({"process": os.dup(container.process.pidfd)})
        operations = [RenewBindMount(m["source"], m["destination"], m["options"]) for m in self.mounts(container)]
        try:
            await beside(lambda _: _renew_mounts(operations, context))
        except OSError as error:  # it has just ended
            print(f"lxcfs: container {container.name}: {error}", flush=True)
        finally:
            for descriptor in context.descriptors.values():
                os.close(descriptor)


def _renew_mounts(operations: list[RenewBindMount], context: Context) -> None:
    """To be called in a thread that is about to end: it enters the container's mount namespace."""
    for operation in operations:
        operation.prepare(context)
    JoinProcess("process", ["mnt"]).apply(context)
    context.root = context.descriptors["root"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    apply(operations, context)
