"""A container's life: started from a plan, watched, stopped, taken away again.

What the plan does to the host is written down before it is done; so after a crash at any moment what is written down
and not finished is undone. Whoever changes a container's state holds its lock.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

from cutaway.engine import streams
from cutaway.engine.containers import moment, now, seconds_between
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument, NotStarted
from cutaway.engine.interface import Exit
from cutaway.engine.model import NEVER
from cutaway.engine.networks import is_of_networks
from cutaway.engine.options.values import size as size_in_bytes
from cutaway.engine.processes import UNKNOWN_STATUS, Ended, Process
from cutaway.plan.operation import Context, dump, load
from cutaway.plan.plan import apply

if TYPE_CHECKING:
    from collections.abc import Callable

    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.interface import Stdio, Streams
    from cutaway.engine.janitor import Janitor
    from cutaway.engine.model import LogConfig
    from cutaway.engine.outfit import Outfit, Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.spawners import Birth, Child, SpawnerLink

DEFAULT_STOP_TIMEOUT = 10  # seconds
LOG_DEFAULTS = {"local": (20 << 20, 5), "json-file": (1 << 62, 1)}
"""Driver → the size in bytes at which a file is rotated and how many there are, unless `--log-opt` says otherwise."""


BORN_WITH = ("cgroup", "pid_namespace")
"""Descriptors that cloning needs."""


class Lifecycle:
    """Starts and ends containers. `outfitter` says what a container needs of the host; `janitor` undoes plans."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        unfinished: Table[Any],
        link: SpawnerLink,
        outfitter: Outfitter,
        janitor: Janitor,
    ) -> None:
        self._places, self._containers, self._unfinished = places, containers, unfinished
        self._link, self._outfitter, self._janitor = link, outfitter, janitor
        self._tasks: set[asyncio.Task[None]] = set()
        self._end_listeners: list[Callable[[Container], None]] = []

    def on_container_end(self, listener: Callable[[Container], None]) -> None:
        """Has `listener` called when a container's first process has ended."""
        self._end_listeners.append(listener)

    # Starting

    async def start(self, container: Container, stdio: Stdio | None = None) -> None:
        """Returns once the program runs; nothing where it runs already. Raises `NotStarted` and its kinds."""
        async with container.lock:
            if container.removed:
                raise Conflict(f"container {container.name} is marked for removal and cannot be started")
            if container.state.Paused:
                raise Conflict(f"cannot start a paused container, try unpause instead: {container.name}")
            if not container.state.Running:
                container.record.stopped = False
                await self._start(container, stdio)

    async def _start(self, container: Container, stdio: Stdio | None) -> None:
        context = Context()
        try:
            await self._apply(container, context, stdio)
        except BaseException as error:
            failure = NotStarted(sentence(error)) if isinstance(error, OSError) else error
            await self._give_up(container, failure)
            raise failure from None
        finally:
            streams.close_all(set(context.descriptors.values()))
        process = container.process
        assert process
        self._watch(container, process)
        self._attach_waiting(container, process)

    async def _apply(self, container: Container, context: Context, stdio: Stdio | None) -> None:
        """The plan, from the first operation on the host to the program."""
        outfit = self._outfitter.outfit(container)
        self._unfinished.save(container.id, dump([*outfit.cgroup, *outfit.before, *outfit.after]))
        container.record.own_log = stdio is None
        apply(outfit.cgroup, context)
        with self._ends(container, stdio) as ends:
            birth = await self._clone(container, outfit, context, ends)
            try:
                self._prepare(container, outfit, context, birth, ends)
                process = container.process = await birth.cloned()
            except BaseException:
                await birth.discard()
                raise
            process.input = ends.take("input")
        context.pid = process.pid
        apply((operation for operation in outfit.after if operation.needs_process), context)
        self._note_running(container, process)
        self._pass_readers(container)
        await self._outfitter.started(container)
        process.terminal = await birth.execute()

    def _prepare(
        self, container: Container, outfit: Outfit, context: Context, birth: Birth, ends: streams.Ends
    ) -> None:
        """The host's part, while the process is born, and then while it does its own."""
        apply(outfit.before, context)
        operations = self._outfitter.inside(container, outfit, context)
        for operation in operations:
            operation.prepare(context)
        birth.send(operations, outfit.for_inside(context.descriptors) | ends.of_process())
        apply((operation for operation in outfit.after if not operation.needs_process), context)

    async def _clone(self, container: Container, outfit: Outfit, context: Context, ends: streams.Ends) -> Birth:
        for operation in outfit.join_cgroup:
            operation.prepare(context)
        if path := outfit.shared.get("pid"):
            context.descriptors["pid_namespace"] = os.open(path, os.O_RDONLY)
        born_with = {name: context.descriptors[name] for name in BORN_WITH if name in context.descriptors}
        return await self._link.clone(
            container.id, outfit.new.flags, born_with | ends.ours(), self._exit_file(container), self.log_of(container)
        )

    def _ends(self, container: Container, stdio: Stdio | None) -> streams.Ends:
        """The standard streams of a process that is to be started."""
        if stdio:
            return streams.given(stdio)
        directory = self._places.runtime(container.id)
        _make_empty(directory)
        if container.seen.Config.Tty:
            return streams.Ends()
        return streams.make_pipes(directory, stdin=container.seen.Config.OpenStdin)

    def _exit_file(self, container: Container) -> str:
        return f"{self._places.container(container.id)}/exit"

    def log_of(self, container: Container) -> dict[str, Any] | None:
        """What the spawner has to know of a container's log; None where it keeps none."""
        if not container.record.own_log:
            return None
        return log_settings(container.seen.HostConfig.LogConfig, self._places.container(container.id))

    def _note_running(self, container: Container, process: Process) -> None:
        state = container.state
        state.Status, state.Running, state.Restarting, state.Dead = "running", True, False, False
        state.Pid, state.ExitCode, state.Error, state.OOMKilled = process.pid, 0, "", False
        state.StartedAt, state.FinishedAt = now(), NEVER
        container.record.start_time = process.start_time
        self._containers.save(container)

    def _pass_readers(self, container: Container) -> None:
        """Before the program runs, so that who waited for it misses nothing. A terminal's output is read later."""
        if container.seen.Config.Tty:
            return
        for attachment, _ in container.attaching:
            with attachment.readers as readers:
                self._link.attach(container.id, readers.named)

    def _attach_waiting(self, container: Container, process: Process) -> None:
        if process.terminal >= 0:
            self.copy_terminal(container, process)
        waiting, container.attaching = container.attaching, []
        for attachment, future in waiting:
            if process.terminal >= 0:
                with attachment.readers as readers:
                    self._link.attach(container.id, readers.named)
            if future.done():
                attachment.abandon()
            else:
                future.set_result(None)

    def copy_terminal(self, container: Container, process: Process) -> None:
        """Has the spawner copy what comes out of the container's terminal."""
        self._link.adopt(container.id, process.pid, {"output:terminal": process.terminal}, self.log_of(container))

    async def _give_up(self, container: Container, error: BaseException) -> None:
        """Takes back what was done of a start that failed."""
        if container.process:
            container.process.signal(signal.SIGKILL)
            await container.process.ended
        self._let_go(container)
        state = container.state
        state.Status, state.Running, state.Restarting, state.Pid = "created", False, False, 0
        state.ExitCode = getattr(error, "exit_code", 128)
        state.Error = str(error)
        for attachment, future in container.attaching:
            attachment.abandon()
            if not future.done():
                future.set_exception(error if isinstance(error, EngineError) else EngineError(str(error)))
        container.attaching = []
        await self._clean(container)
        if container.seen.HostConfig.AutoRemove:
            await self._remove(container, volumes=True)
        else:
            self._containers.save(container)

    # Ending

    def _watch(self, container: Container, process: Process) -> None:
        task = asyncio.get_running_loop().create_task(self._until_ended(container, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_ended(self, container: Container, process: Process) -> None:
        ended = await process.ended
        async with container.lock:
            if container.process is process:
                await self._ended(container, ended)

    async def _ended(self, container: Container, ended: Ended) -> None:
        """What follows the end of a container's first process; its lock is held."""
        state = container.state
        state.ExitCode, state.FinishedAt = exit_code(ended.status), moment(ended.at)
        state.OOMKilled = self._outfitter.was_killed_for_memory(container)
        state.Status, state.Running, state.Paused, state.Pid = "exited", False, False, 0
        self._let_go(container)
        await self._clean(container)
        exit = Exit(state.ExitCode)
        if container.seen.HostConfig.AutoRemove:
            await self._remove(container, volumes=True)
        elif self._is_to_restart(container):
            self._restart_later(container)
        self._containers.save(container)
        container.settle("next-exit", exit)

    def _let_go(self, container: Container) -> None:
        process, container.process = container.process, None
        if process:
            process.close()
        for listener in self._end_listeners:
            listener(container)
        self._outfitter.ended(container)
        shutil.rmtree(self._places.runtime(container.id), ignore_errors=True)
        _unlink(self._exit_file(container))

    async def _clean(self, container: Container) -> None:
        """Undoes what the plan did to the host. What takes the kernel long goes on behind: `cleaned` waits for it."""
        operations = load(self._unfinished.get(container.id) or [])
        slow = [operation for operation in operations if operation.slow_to_undo]
        quick = [operation for operation in operations if not operation.slow_to_undo]
        await self._janitor.undo(container.id, quick)
        if slow:
            self._unfinished.save(container.id, dump(slow))
            self._janitor.undo_later(container.id, slow, lambda: self._unfinished.delete(container.id))
        else:
            self._unfinished.delete(container.id)

    def _is_to_restart(self, container: Container) -> bool:
        policy, state = container.seen.HostConfig.RestartPolicy, container.state
        if container.record.stopped:
            return False
        if policy.Name == "on-failure":
            tries_left = not policy.MaximumRetryCount or container.seen.RestartCount < policy.MaximumRetryCount
            return state.ExitCode != 0 and tries_left
        return policy.Name in ("always", "unless-stopped")

    def _restart_later(self, container: Container) -> None:
        """Each restart in a row waits twice as long as the one before; a quiet run forgives them all."""
        state = container.state
        state.Status, state.Restarting = "restarting", True
        container.seen.RestartCount += 1
        delay = container.restart_delay.after(seconds_between(state.StartedAt, state.FinishedAt))
        container.restarting = asyncio.get_running_loop().create_task(self._restart_after(container, delay))

    async def _restart_after(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        async with container.lock:
            container.restarting = None
            if container.state.Status != "restarting" or container.removed:
                return
            try:
                await self._start(container, None)
            except EngineError:
                self._give_up_restarting(container)

    def _give_up_restarting(self, container: Container) -> None:
        if not container.removed:
            container.state.Status, container.state.Restarting = "exited", False
            self._containers.save(container)

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
        attachment = streams.Attachment(stdout=stdout or (terminal and stderr), stderr=stderr and not terminal)
        if container.state.Paused:
            attachment.abandon()
            raise Conflict("You cannot attach to a paused container, unpause it first")
        process = container.process
        if process and container.state.Running:
            with attachment.readers as readers:
                self._link.attach(container.id, readers.named)
        else:
            started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            container.attaching.append((attachment, started))
            await started
            process = container.process
        if process is None:  # it has ended already; what it wrote is in the pipes
            return attachment.streams()
        process_input = self._input(container, process) if stdin else -1
        return attachment.streams(process_input, streams.duplicate(process.terminal))

    def _input(self, container: Container, process: Process) -> int:
        """The writing end of its standard input, for the caller. One that ends with the first attached is given away."""
        if process.terminal >= 0:
            return streams.duplicate(process.terminal)
        if not container.seen.Config.StdinOnce:
            return streams.duplicate(process.input)
        self._link.release_input(container.id)
        taken, process.input = process.input, -1
        return taken

    async def wait(self, container: Container, condition: str) -> Exit:
        """Waits for a container to be not running, to exit the next time, or to be removed."""
        if condition == "not-running" and not container.state.Running and not container.state.Restarting:
            return Exit(container.state.ExitCode, container.state.Error)
        event = "removed" if condition == "removed" else "next-exit"
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        container.waiting[event].append(future)
        return await future

    async def stop(self, container: Container, timeout: int | None, number: int | None) -> None:
        """The stop signal, then SIGKILL after `timeout` seconds (None: the container's own; negative: never)."""
        container.record.stopped = True
        self.stop_restarting(container)
        process = container.process
        if not container.state.Running or process is None:
            self._containers.save(container)
            return
        seconds = timeout if timeout is not None else container.seen.Config.StopTimeout
        process.signal(number or signal_number(container.seen.Config.StopSignal or "SIGTERM"))
        self.thaw(container)
        await self._ended_within(process, DEFAULT_STOP_TIMEOUT if seconds is None else seconds)
        if not process.ended.done():
            self.kill_all(container, process)
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
            async with container.lock:
                pass
            await asyncio.sleep(0)

    async def kill(self, container: Container, number: int) -> None:
        """Signals the first process. SIGKILL and the stop signal count as stopping by a person."""
        process = container.process
        if not container.state.Running or process is None:
            raise Conflict(f"Cannot kill container: {container.name}: Container {container.id} is not running")
        if number in (signal.SIGKILL, signal_number(container.seen.Config.StopSignal or "SIGTERM")):
            container.record.stopped = True
        if number == signal.SIGKILL:
            self.thaw(container)
        process.signal(number)

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
        """Stops it and starts it again."""
        await self.stop(container, timeout, number)
        await self.start(container)

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """Removes it and all that was its own; returns when nothing of it is left on the host."""
        process = container.process
        if process and not force:
            raise Conflict(
                f'cannot remove container "/{container.name}": container is {container.state.Status}: '
                "stop the container before removing or force remove"
            )
        container.record.stopped = True
        self.stop_restarting(container)
        if process:
            self.kill_all(container, process)
            await self._until_settled(container, process)
        async with container.lock:
            if not container.removed:
                await self._remove(container, volumes=volumes)
        await self._janitor.finished(container.id)

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        await self._clean(container)
        self._containers.remove(container)
        self._outfitter.removed(container, volumes=volumes)
        await self._janitor.remove_tree(self._places.container(container.id))
        for attachment, future in container.attaching:
            attachment.abandon()
            future.cancel()
        exit = Exit(container.state.ExitCode, container.state.Error)
        container.settle("removed", exit)
        container.settle("next-exit", exit)

    # After another engine

    async def recover(self, children: dict[str, Child]) -> None:
        """Takes over what an engine before this one left: running containers, ends not yet noted, half-done plans."""
        for container in self._containers:
            if container.state.Running:
                await self._take_over(container, children.pop(container.id, None))
            elif container.state.Status in ("restarting", "removing"):
                self._give_up_restarting(container)
        for key in children:
            self._link.forget(key)
        await self._finish_the_unfinished()

    async def _take_over(self, container: Container, child: Child | None) -> None:
        process = _reopen(container)
        if process is None:
            async with container.lock:
                await self._ended(container, self._end_of(container, child))
            return
        container.process = process
        process.input = streams.open_input(self._places.runtime(container.id))
        if child is None:
            self.copy_output_again(container, process)
        else:
            self._link.follow(process)
        if child and container.seen.Config.Tty:
            process.terminal = await self._link.terminal(container.id)
        await self._outfitter.taken_over(container)
        self._watch(container, process)

    def copy_output_again(self, container: Container, process: Process) -> None:
        """Has a new spawner copy the output of a container that is not its child, and watches for its end here."""
        process.watch()
        if process.terminal >= 0:
            self.copy_terminal(container, process)
        elif container.record.own_log and not container.seen.Config.Tty:
            with streams.open_outputs(self._places.runtime(container.id)) as ends:
                self._link.adopt(container.id, process.pid, ends.named, self.log_of(container))

    def _end_of(self, container: Container, child: Child | None) -> Ended:
        if child and child.ended:
            return child.ended
        return read_exit_file(self._exit_file(container)) or Ended(UNKNOWN_STATUS, time.time_ns())

    async def _finish_the_unfinished(self) -> None:
        for container_id, operations in self._unfinished.items():
            container = self._containers.get(container_id)
            if not is_of_networks(container_id) and (container is None or not container.state.Running):
                await self._janitor.undo(container_id, load(operations))
                self._unfinished.delete(container_id)

    async def on_loss(self) -> None:
        """The spawner is gone: a new one copies the output of what still runs, and ends are watched for here."""
        if not any(container.process for container in self._containers):
            return
        children = await self._link.connect()
        for container in self._containers:
            if container.process and container.id not in children:
                self.copy_output_again(container, container.process)


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def signal_number(name: str) -> int:
    """`9`, `KILL` or `SIGKILL` as a number. Raises `InvalidArgument`."""
    if name.isdigit() and 0 < int(name) <= signal.SIGRTMAX:
        return int(name)
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    if full.startswith("SIGRTMIN+") and full[9:].isdigit():
        return int(signal.SIGRTMIN) + int(full[9:])
    if full.startswith("SIGRTMAX-") and full[9:].isdigit():
        return int(signal.SIGRTMAX) - int(full[9:])
    if full in signal.Signals.__members__:
        return signal.Signals[full].value
    raise InvalidArgument(f"Invalid signal: {name}")


def sentence(error: BaseException) -> str:
    """What went wrong, without a traceback."""
    return str(error) or type(error).__name__


def log_settings(config: LogConfig, directory: str) -> dict[str, Any] | None:
    """`--log-driver` and `--log-opt` as the spawner takes them; None for the driver `none`."""
    if config.Type == "none":
        return None
    limits = LOG_DEFAULTS[config.Type]
    size = config.Config.get("max-size")
    return {
        "directory": directory,
        "driver": config.Type,
        "max_size": size_in_bytes(size) if size and size != "-1" else limits[0],
        "max_files": int(config.Config.get("max-file", limits[1])),
    }


def read_exit_file(path: str) -> Ended | None:
    """What the spawner wrote down about a process's end, if it did."""
    try:
        with open(path, encoding="ascii") as file:
            status, at = file.read().split()
    except (OSError, ValueError):
        return None
    return Ended(int(status), int(at))


def _reopen(container: Container) -> Process | None:
    """The container's first process, if it is still the one that was started."""
    pid = container.state.Pid
    try:
        process = Process(container.id, pid, os.pidfd_open(pid))
        if process.start_time == container.record.start_time:
            return process
    except (OSError, ValueError):
        return None
    process.close()
    return None


def _make_empty(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, 0o700)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
