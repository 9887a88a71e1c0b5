"""What an engine takes over from the one before it, and what it does when the spawner is lost.

Containers outlive both. One whose parent still lives is followed through it; any other by its pidfd, and by PID and
start time together, as a PID alone may be another's by now.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from cutaway.engine import streams
from cutaway.engine.networks import is_of_networks
from cutaway.engine.processes import UNKNOWN_STATUS, Ended, Process
from cutaway.engine.restarts import is_to_start_with_engine
from cutaway.plan.operation import load

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.janitor import Janitor
    from cutaway.engine.lifecycle import Lifecycle
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.spawners import Child, SpawnerLink
    from cutaway.engine.starting import Starter


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
            if container.state.Running:
                await self._take_over(container, children.pop(container.id, None))
        for key in children:
            self._link.forget(key)
        await self._finish_the_unfinished()
        await self._remove_owned()
        await self._sweep()
        for container in self._containers:
            if not container.process and is_to_start_with_engine(container):
                self._lifecycle.restart_later(container)
            elif container.state.Status == "restarting":
                self._lifecycle.stop_restarting(container)

    async def spawner_lost(self) -> None:
        """A new spawner copies the output of what still runs; how it ends is seen here."""
        if any(container.process for container in self._containers):
            children = await self._link.connect()
            for container in self._containers:
                if container.process and container.id not in children:
                    self._follow_alone(container, container.process)

    async def _take_over(self, container: Container, child: Child | None) -> None:
        process = _reopened(container)
        if process is None:
            await self._lifecycle.ended_unseen(container, self._end_of(container, child))
            return
        container.process = process
        process.input = streams.open_input(self._places.runtime(container.id))
        if child is None:
            self._follow_alone(container, process)
        else:
            self._link.follow(process)
            if container.seen.Config.Tty:
                process.terminal = await self._link.terminal(container.id)
        await self._outfitter.taken_over(container)
        self._lifecycle.watch(container, process)

    def _follow_alone(self, container: Container, process: Process) -> None:
        process.watch()
        self._starter.copy_again(container, process)

    def _end_of(self, container: Container, child: Child | None) -> Ended:
        if child and child.ended:
            return child.ended
        written = read_exit_file(f"{self._places.container(container.id)}/exit")
        return written or Ended(UNKNOWN_STATUS, time.time_ns())

    async def _finish_the_unfinished(self) -> None:
        for container_id, operations in self._unfinished.items():
            container = self._containers.get(container_id)
            if not is_of_networks(container_id) and (container is None or not container.process):
                await self._janitor.undo(container_id, load(operations))
                self._unfinished.delete(container_id)

    async def _remove_owned(self) -> None:
        """Those whose owners were connected to the engine before this one."""
        for container in self._containers:
            if container.record.owned:
                await self._lifecycle.remove(container, force=True, volumes=True)

    async def _sweep(self) -> None:
        """Directories of containers that are known no more."""
        directory = self._places.container("").rstrip("/")
        for name in os.listdir(directory):
            if self._containers.get(name) is None:
                await self._janitor.remove_tree(f"{directory}/{name}")


def read_exit_file(path: str) -> Ended | None:
    """What the spawner wrote down about a process's end, if it did."""
    try:
        with open(path, encoding="ascii") as file:
            status, at = file.read().split()
    except (OSError, ValueError):
        return None
    return Ended(int(status), int(at))


def _reopened(container: Container) -> Process | None:
    """The container's first process, if it is still the one that was started."""
    pid = container.state.Pid
    try:
        process = Process(container.id, pid, os.pidfd_open(pid))
    except OSError:
        return None
    if process.start_time == container.record.start_time:
        return process
    process.close()
    return None
