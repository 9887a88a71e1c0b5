"""A container's life: started, watched, stopped, restarted, taken away. Whoever changes its state holds its lock."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from cutaway.engine import streams
from cutaway.engine.containers import moment, seconds_between
from cutaway.engine.errors import Conflict, EngineError, NotStarted
from cutaway.engine.interface import Exit
from cutaway.engine.model import NEVER
from cutaway.engine.processes import Ended, Process
from cutaway.engine.restarts import delay, is_to_restart
from cutaway.engine.signals import exit_code, signal_number
from cutaway.kernel.errors import sentence
from cutaway.plan.operation import load
from cutaway.plan.plan import TEARDOWN, Step, watching
from cutaway.plan.process import SendSignal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.interface import Stdio, Streams
    from cutaway.engine.janitor import Janitor
    from cutaway.engine.model import State
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.spawners import SpawnerLink
    from cutaway.engine.starting import Starter

DEFAULT_STOP_TIMEOUT = 10  # seconds


class Lifecycle:
    """Starts and ends containers. `outfitter` says what a container needs of the host; `janitor` undoes plans."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        unfinished: Table[Any],
        link: SpawnerLink,
        outfitter: Outfitter,
        starter: Starter,
        janitor: Janitor,
    ) -> None:
        self._places, self._containers, self._unfinished = places, containers, unfinished
        self._link, self._outfitter, self._starter, self._janitor = link, outfitter, starter, janitor
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._end_listeners: list[Callable[[Container], None]] = []
        self._removal_listeners: list[Callable[[], Awaitable[None]]] = []
        self._at_rest = False

    def on_container_end(self, listener: Callable[[Container], None]) -> None:
        """Has `listener` called when a container's first process has ended."""
        self._end_listeners.append(listener)

    def on_container_removal(self, listener: Callable[[], Awaitable[None]]) -> None:
        """Has `listener` awaited when a container has been removed."""
        self._removal_listeners.append(listener)

    # Starting

    async def start(self, container: Container, stdio: Stdio | None = None) -> None:
        """Returns once the program runs; nothing where it runs already. Raises `NotStarted` and its kinds."""
        async with container.lock:
            if self._at_rest:
                raise Conflict(f"the engine ends, and starts no container any more: {container.name}")
            if container.removed:
                raise Conflict(f"container {container.name} is marked for removal and cannot be started")
            if container.state.Paused:
                raise Conflict(f"cannot start a paused container, try unpause instead: {container.name}")
            if not container.state.Running:
                container.record.stopped = False
                container.watcher = watching.get()
                await self._start(container, stdio)

    async def _start(self, container: Container, stdio: Stdio | None) -> None:
        await self._janitor.finished(container.id)
        try:
            process = await self._starter.start(container, stdio)
        except BaseException as error:
            failure = NotStarted(sentence(error)) if isinstance(error, OSError) else error
            await self._give_up(container, failure)
            raise failure from None
        self.watch(container, process)
        waiting, container.attaching = container.attaching, []
        for attachment, future in waiting:
            if future.done():
                attachment.abandon()
            else:
                future.set_result(None)

    async def _give_up(self, container: Container, error: BaseException) -> None:
        """Takes back what was done of a start that failed."""
        if container.process:
            container.process.signal(signal.SIGKILL)
            await container.process.ended
        await self._let_go(container)
        state = container.state
        state.Status, state.Running, state.Restarting, state.Pid = "created", False, False, 0
        state.ExitCode, state.Error = getattr(error, "exit_code", 128), str(error)
        for attachment, future in container.attaching:
            attachment.abandon()
            if not future.done():
                future.set_exception(error if isinstance(error, EngineError) else EngineError(str(error)))
        container.attaching = []
        await self._clean(container)
        if container.seen.HostConfig.AutoRemove:
            await self._remove(container, volumes=True)
        else:
            self._note(container)

    # Ending

    def watch(self, container: Container, process: Process) -> None:
        """Deals with the end of a container's first process when it comes."""
        task = asyncio.get_running_loop().create_task(self._until_ended(container, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_ended(self, container: Container, process: Process) -> None:
        ended = await process.ended
        task = asyncio.current_task()
        assert task
        self._ending.add(task)
        try:
            async with container.lock:
                if container.process is process:
                    watching.set(container.watcher)
                    await self._ended(container, ended)
        finally:
            self._ending.discard(task)

    async def come_to_rest(self) -> None:
        """From now on nothing is started. Returns when every start that is underway, and every end, is dealt with."""
        self._at_rest = True
        for container in self._containers:
            async with container.lock:
                pass
        while self._ending:
            await asyncio.wait(self._ending)

    async def _ended(self, container: Container, ended: Ended) -> None:
        """What follows the end of a container's first process; its lock is held."""
        state = container.state
        state.ExitCode, state.FinishedAt = exit_code(ended.status), moment(ended.at)
        state.OOMKilled = self._outfitter.oom_kills(container) > 0
        state.Status, state.Running, state.Paused, state.Pid = "exited", False, False, 0
        to_be_removed = container.seen.HostConfig.AutoRemove and not container.is_restarted
        if to_be_removed and _shares_nothing(container):
            self._forget(container)  # nobody need wait for what is left to do: no other can meet with it
        await self._let_go(container)
        await self._clean(container)
        if to_be_removed:
            await self._remove(container, volumes=True)
        elif is_to_restart(container):
            container.seen.RestartCount += 1
            self.restart_later(container)
        self._note(container)
        _unlink(f"{self._places.container(container.id)}/exit")  # not before its exit code is kept
        container.settle("next-exit", _exit(state))

    async def _let_go(self, container: Container) -> None:
        process, container.process = container.process, None
        if process:
            process.close()
        for listener in self._end_listeners:
            listener(container)
        await self._outfitter.ended(container)
        shutil.rmtree(self._places.runtime(container.id), ignore_errors=True)

    async def _clean(self, container: Container) -> None:
        """Undoes what the plan did to the host. What takes the kernel long goes on behind: `cleaned` waits for it."""
        operations = load(self._unfinished.get(container.id) or [])
        slow = [operation for operation in operations if operation.slow_to_undo]
        quick = [operation for operation in operations if not operation.slow_to_undo]
        await self._janitor.undo(container.id, quick)
        if slow:
            self._janitor.undo_later(container.id, slow, lambda: self._note_clean(container))
        else:
            self._note_clean(container)

    def _note_clean(self, container: Container) -> None:
        try:
            self._unfinished.delete(container.id)
        except EngineError as error:  # what is undone is then undone again, by the next engine
            print(f"{container.id}: {error}", flush=True)

    def _note(self, container: Container) -> None:
        """Keeps it as it has become, if it can be kept: a full disk must not keep it from becoming so."""
        try:
            self._containers.save(container)
        except EngineError as error:
            print(f"{container.id}: {error}", flush=True)

    async def ended_unseen(self, container: Container, ended: Ended) -> None:
        """A container's first process ended while no engine was there."""
        async with container.lock:
            await self._ended(container, ended)

    def restart_later(self, container: Container) -> None:
        """Starts a container again after a while."""
        container.state.Status, container.state.Restarting = "restarting", True
        container.restarting = asyncio.get_running_loop().create_task(self._restart_after(container, delay(container)))

    async def _restart_after(self, container: Container, seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with container.lock:
            container.restarting = None
            if container.state.Status == "restarting" and not container.removed and not self._at_rest:
                try:
                    await self._start(container, None)
                except EngineError:
                    self._give_up_restarting(container)

    def _give_up_restarting(self, container: Container) -> None:
        container.state.Status, container.state.Restarting = "exited", False
        self._note(container)

    def stop_restarting(self, container: Container) -> None:
        """Cancels a restart that is waiting."""
        if container.restarting:
            container.restarting.cancel()
            container.restarting = None
        if container.state.Status == "restarting":
            self._give_up_restarting(container)

    # What people do to containers

    async def attach(self, container: Container, *, stdin: bool, stdout: bool, stderr: bool) -> Streams:
        """Our ends of a container's streams; one that does not run is waited for."""
        terminal = container.seen.Config.Tty
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with container.lock:  # a start that is underway comes first
            if container.state.Paused:
                raise Conflict("You cannot attach to a paused container, unpause it first")
            attachment = streams.Attachment(stdout=stdout or (terminal and stderr), stderr=stderr and not terminal)
            if container.process:
                with attachment.readers as readers:
                    self._link.attach(container.process, readers.named)
                started.set_result(None)
            else:
                container.attaching.append((attachment, started))
        try:
            await started
        except asyncio.CancelledError:
            self._stop_attaching(container, attachment)
            raise
        process = container.process
        if process is None:  # it has ended already; what it wrote is in the pipes
            return attachment.streams()
        process_input = self._input(container, process) if stdin else -1
        return attachment.streams(process_input, streams.duplicate(process.terminal))

    def _stop_attaching(self, container: Container, attachment: streams.Attachment) -> None:
        left = [each for each in container.attaching if each[0] is not attachment]
        if len(left) < len(container.attaching):
            attachment.abandon()
        container.attaching = left

    def _input(self, container: Container, process: Process) -> int:
        """The writing end of its standard input, for the caller; given away where it ends with the first attached."""
        if process.terminal >= 0:
            return streams.duplicate(process.terminal)
        if not container.seen.Config.StdinOnce:
            return streams.duplicate(process.input)
        if process.input >= 0:
            streams.give_input_away(self._places.runtime(container.id))
            self._link.release_input(container.id)
        taken, process.input = process.input, -1
        return taken

    async def wait(self, container: Container, condition: str) -> Exit:
        """Waits for a container to be not running, to exit the next time, or to be removed."""
        if condition == "not-running" and not container.state.Running and not container.state.Restarting:
            return _exit(container.state)
        return await container.expect("removed" if condition == "removed" else "next-exit")

    async def stop(self, container: Container, timeout: int | None, number: int | None) -> None:
        """The stop signal, then SIGKILL after `timeout` seconds (None: the container's own; negative: never)."""
        async with container.lock:  # a start that is underway comes first
            container.record.stopped = True
            self.stop_restarting(container)
            process = container.process
            if process is None:
                self._note(container)
                return
            container.watcher = watching.get() or container.watcher
            number = number or signal_number(container.seen.Config.StopSignal or "SIGTERM")
            begun = time.monotonic_ns()
            process.signal(number)
            self.thaw(container)
        seconds = timeout if timeout is not None else container.seen.Config.StopTimeout
        await self._ended_within(process, DEFAULT_STOP_TIMEOUT if seconds is None else seconds)
        _tell_of_signal(process, number, begun)
        if not process.ended.done():
            begun = time.monotonic_ns()
            self.kill_all(container, process)
            await process.ended
            _tell_of_signal(process, signal.SIGKILL, begun)
        await self._until_settled(container, process)

    async def _ended_within(self, process: Process, seconds: float) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(process.ended), None if seconds < 0 else seconds)
        except TimeoutError:
            pass

    async def _until_settled(self, container: Container, process: Process) -> None:
        """Until the end of `process` has been dealt with."""
        await process.ended
        while container.process is process:
            await asyncio.sleep(0)
            async with container.lock:
                pass
        async with container.lock:  # what it had of the host is being taken away
            pass

    async def kill(self, container: Container, number: int) -> None:
        """Signals the first process. SIGKILL and the stop signal count as stopping by a person."""
        async with container.lock:  # a start that is underway comes first
            if container.process is None:
                raise Conflict(f"Cannot kill container: {container.name}: Container {container.id} is not running")
            if number in (signal.SIGKILL, signal_number(container.seen.Config.StopSignal or "SIGTERM")):
                container.record.stopped = True
            if number == signal.SIGKILL:
                self.thaw(container)
            container.process.signal(number)

    def kill_all(self, container: Container, process: Process) -> None:
        """Ends every process of a container: with PID 1 of a PID namespace all others end."""
        self.thaw(container)
        process.signal(signal.SIGKILL)

    def thaw(self, container: Container) -> None:
        """Lets a paused container run on: what is frozen cannot die."""
        if container.state.Paused:
            self._outfitter.cgroup(container).thaw()
            container.state.Paused, container.state.Status = False, "running"

    async def restart(self, container: Container, timeout: int | None, number: int | None) -> None:
        """Stops it and starts it again, one too that is removed when it ends otherwise."""
        container.is_restarted = True
        try:
            await self.stop(container, timeout, number)
            await self.start(container)
        finally:
            container.is_restarted = False

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Removes it and all that was its own; returns when nothing of it is left on the host."""
        async with container.lock:  # a start that is underway comes first
            if (container.process or container.state.Restarting) and not force:
                raise Conflict(
                    f'cannot remove container "/{container.name}": container is {container.state.Status}: '
                    "stop the container before removing or force remove"
                )
            container.record.stopped = True
            self.stop_restarting(container)
            if container.process:
                begun, process = time.monotonic_ns(), container.process
                self.kill_all(container, process)
                ended = await process.ended
                _tell_of_signal(process, signal.SIGKILL, begun)
                await self._ended(container, ended)
            if not container.removed:
                await self._remove(container, volumes=volumes)
        await self._janitor.finished(container.id)

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        if volumes:
            self._outfitter.doom(container)
        self._containers.strike(container)  # from here on a crash, too, leads to its removal
        try:
            await self._outfitter.removed(container, volumes=volumes)
            await self._janitor.remove_tree(self._places.container(container.id))
        finally:
            self._forget(container)
        for listener in self._removal_listeners:
            await listener()

    def _forget(self, container: Container) -> None:
        """Its name is free, and who waited for its end or removal hears of it."""
        self._containers.remove(container)
        for attachment, future in container.attaching:
            attachment.abandon()
            future.cancel()
        container.attaching = []
        for event in ("removed", "next-exit"):
            container.settle(event, _exit(container.state))


def _tell_of_signal(process: Process, number: int, begun: int) -> None:
    """Who watches hears what has become of a signal that asked the process to end."""
    if watcher := watching.get():
        watcher(Step(TEARDOWN, SendSignal(process.pid, number), time.monotonic_ns() - begun))


def _exit(state: State) -> Exit:
    ran = 0.0 if state.FinishedAt == NEVER else seconds_between(state.StartedAt, state.FinishedAt)
    return Exit(state.ExitCode, state.Error, state.OOMKilled, ran)


def _shares_nothing(container: Container) -> bool:
    """Whether it has neither ports nor volumes, which others may want as soon as it has ended."""
    return not container.seen.NetworkSettings.Ports and not container.seen.Mounts


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
