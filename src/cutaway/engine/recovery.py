"""What an engine takes over from the one before it, and what it does when the spawner is lost.

Containers outlive both. A spawner that lives hands over those that it has. Any other is found by its PID, its start
time and the host's boot together, as a PID alone may be another's by now, and handed to a new spawner.
"""

from __future__ import annotations

import asyncio
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from cutaway.engine.errors import EngineError
from cutaway.engine.networks import is_of_networks
from cutaway.engine.processes import BOOT_ID, Ended, Process
from cutaway.engine.restarts import is_to_start_with_engine
from cutaway.engine.spawners import Adoption
from cutaway.plan.operation import load
from cutaway.spawner.orphans import UNKNOWN_STATUS

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.janitor import Janitor
    from cutaway.engine.lifecycle import Lifecycle
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.spawners import SpawnerLink
    from cutaway.engine.starting import Starter

_PAUSE = 1.0  # seconds


class Recovery:
    def __init__(
        self,
        places: Places,
        containers: Containers,
        unfinished: Table[list[Any]],
        link: SpawnerLink,
        outfitter: Outfitter,
        starter: Starter,
        lifecycle: Lifecycle,
        janitor: Janitor,
    ) -> None:
        self._places, self._containers, self._unfinished = places, containers, unfinished
        self._link, self._outfitter, self._starter = link, outfitter, starter
        self._lifecycle, self._janitor = lifecycle, janitor

    async def take_over(self) -> None:
        """Running containers, ends not noted, plans half done; and starts what is to run whenever an engine does."""
        children = await self._link.connect()
        for container in self._containers:
            container.seen.ExecIDs = None
            if container.state.Running:
                await self._take_over(container, children.pop(container.id, None))
        for process in children.values():  # executed in containers, or not wholly started
            process.ended.add_done_callback(partial(_close, process))
            if not process.ended.done():
                self._link.adopt(process)
        await self._finish_the_unfinished()
        await self._remove_owned()
        await self._sweep()
        for container in self._containers:
            if not container.process and is_to_start_with_engine(container):
                self._lifecycle.restart_later(container)
            elif container.state.Status == "restarting":
                self._lifecycle.stop_restarting(container)
        await self._see_the_killed_end()

    async def spawner_lost(self) -> None:
        """Has a new spawner copy the output of what runs, and see how it ends; tries until there is one."""
        while self._link.is_needed:
            try:
                await self._link.connect()
                return
            except (EngineError, OSError) as error:
                print(f"starting another spawner: {error}", flush=True)
                await asyncio.sleep(_PAUSE)

    def adoption(self, process: Process) -> Adoption:
        """What a new spawner is to know of a process that runs."""
        container = self._containers.get(process.key)
        if container and container.process is process:
            return self._starter.adoption(container)
        return Adoption()

    async def _take_over(self, container: Container, process: Process | None) -> None:
        container.process = process or _reopened(container)
        if container.process is None:
            await self._lifecycle.ended_unseen(container, self._end_of(container))
        elif container.process.ended.done():
            await self._lifecycle.ended_unseen(container, container.process.ended.result())
        else:
            self._starter.reopen(container, container.process)
            self._link.adopt(container.process)
            await self._outfitter.taken_over(container)
            self._lifecycle.watch(container, container.process)

    def _end_of(self, container: Container) -> Ended:
        written = _read_exit_file(f"{self._places.container(container.id)}/exit", container.state.Pid)
        return written or Ended(UNKNOWN_STATUS, time.time_ns())

    async def _see_the_killed_end(self) -> None:
        """Of what the engine before this one was about to end: nobody is to find it running."""
        processes = [container.process for container in self._containers if container.process]
        ends = [process.ended for process in processes if process.is_ending]
        if ends:
            await asyncio.wait(ends, timeout=_PAUSE)

    async def _finish_the_unfinished(self) -> None:
        for container_id, operations in self._unfinished.items():
            container = self._containers.get(container_id)
            if not is_of_networks(container_id) and (container is None or not container.process):
                await self._janitor.undo(container_id, load(operations))
                self._unfinished.delete(container_id)

    async def _remove_owned(self) -> None:
        """Those whose owners were connected to the engine before this one."""
        for container in self._containers:
            if container.record.owned or container.record.provisional:
                await self._lifecycle.remove(container, force=True, volumes=True)

    async def _sweep(self) -> None:
        """Directories of containers that are known no more, or do not run."""
        for container_id in _names_in(self._places.container("")):
            if self._containers.get(container_id) is None:
                await self._janitor.remove_tree(self._places.container(container_id))
        for container_id in _names_in(self._places.runtime("")):
            container = self._containers.get(container_id)
            if container is None or container.process is None:
                await self._janitor.remove_tree(self._places.runtime(container_id))


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _read_exit_file(path: str, pid: int) -> Ended | None:
    """What the spawner wrote down about the end of process `pid`, if it did."""
    try:
        with open(path, encoding="ascii") as file:
            written = [int(word) for word in file.read().split()]
    except (FileNotFoundError, ValueError):
        return None
    return Ended(*written[1:]) if written[:1] == [pid] and len(written) == 3 else None


def _reopened(container: Container) -> Process | None:
    """The container's first process, if it is still the one that was started."""
    pid = container.state.Pid
    try:
        process = Process(container.id, pid, os.pidfd_open(pid))
    except OSError:
        return None
    if (BOOT_ID, process.start_time) == (container.record.boot_id, container.record.start_time):
        return process
    process.close()
    return None


def _close(process: Process, _: object) -> None:
    process.close()
