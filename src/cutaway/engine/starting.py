"""Starting a container: its plan, from the first operation on the host to its program.

What the plan does to the host is written down before it is done; so after a crash at any moment what is written down
and not finished is undone. The process is cloned early, and born while the host is prepared for it.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from cutaway.engine import streams
from cutaway.engine.containers import now
from cutaway.engine.logs import log_settings
from cutaway.engine.model import NEVER
from cutaway.engine.processes import BOOT_ID
from cutaway.engine.spawners import Adoption
from cutaway.kernel.pty import set_window_size
from cutaway.plan.operation import Context, dump
from cutaway.plan.plan import apply

if TYPE_CHECKING:
    from cutaway.engine.containers import Container, Containers
    from cutaway.engine.database import Table
    from cutaway.engine.interface import Stdio
    from cutaway.engine.outfit import Outfit, Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.processes import Process
    from cutaway.engine.spawners import Birth, SpawnerLink

BORN_WITH = ("cgroup", "pid_namespace")
"""Descriptors that cloning needs."""


class Starter:
    """Applies plans. `unfinished` is where they are written down."""

    def __init__(
        self,
        places: Places,
        containers: Containers,
        unfinished: Table[list[Any]],
        link: SpawnerLink,
        outfitter: Outfitter,
    ) -> None:
        self._places, self._containers, self._unfinished = places, containers, unfinished
        self._link, self._outfitter = link, outfitter

    async def start(self, container: Container, stdio: Stdio | None) -> Process:
        """Returns once the program runs; `container.process` is set as soon as there is one. What had been done when
        it raises is for others to undo. Raises `NotStarted`, other `EngineError`s, `OSError`."""
        context = Context()
        try:
            await self._outfitter.hold(container)
            outfit = self._outfitter.outfit(container)
            self._unfinished.save(container.id, dump([*outfit.cgroup, *outfit.before, *outfit.after]))
            apply([*outfit.files, *outfit.cgroup], context)
            with self._ends(container, stdio) as ends:
                birth, process = await self._bear(container, outfit, context, ends)
                process.input, process.outputs = ends.take("input"), ends.take_outputs()
            container.process, context.pid = process, process.pid
            apply((operation for operation in outfit.after if operation.needs_process), context)
            await self._execute(container, process, birth, context)
        finally:
            streams.close_all(set(context.descriptors.values()))
        return process

    async def _bear(
        self, container: Container, outfit: Outfit, context: Context, ends: streams.Ends
    ) -> tuple[Birth, Process]:
        birth = await self._clone(container, outfit, context, ends)
        try:
            self._prepare(container, outfit, context, birth, ends)
            return birth, await birth.cloned()
        except BaseException:
            await birth.discard()
            raise

    async def _clone(self, container: Container, outfit: Outfit, context: Context, ends: streams.Ends) -> Birth:
        for operation in outfit.join_cgroup:
            operation.prepare(context)
        if path := outfit.shared.get("pid"):
            context.descriptors["pid_namespace"] = os.open(path, os.O_RDONLY)
        born_with = {name: context.descriptors[name] for name in BORN_WITH if name in context.descriptors}
        return await self._link.clone(
            container.id, outfit.new.flags, born_with | ends.ours(), self._exit_file(container), self._log(container)
        )

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

    async def _execute(self, container: Container, process: Process, birth: Birth, context: Context) -> None:
        self._note_running(container, process)
        if container.seen.Config.Tty:
            process.terminal = await birth.terminal()
            set_window_size(process.terminal, *reversed(container.seen.HostConfig.ConsoleSize))
            self._link.copy(process, {"output:terminal": process.terminal}, self._log(container))
        self._pass_readers(container, process)  # before the program runs, so that who waited for it misses nothing
        await self._outfitter.started(container, context)
        await birth.execute()

    def _note_running(self, container: Container, process: Process) -> None:
        state = container.state
        state.Status, state.Running, state.Restarting, state.Dead = "running", True, False, False
        state.Pid, state.ExitCode, state.Error, state.OOMKilled = process.pid, 0, "", False
        state.StartedAt, state.FinishedAt = now(), NEVER
        container.record.provisional = False
        container.record.start_time, container.record.boot_id = process.start_time, BOOT_ID
        self._containers.save(container)

    # Output

    def _ends(self, container: Container, stdio: Stdio | None) -> streams.Ends:
        """The standard streams of a process that is to be started; with a caller's own there is no log."""
        container.record.own_log = stdio is None
        if stdio:
            return streams.given(stdio)
        directory = self._places.runtime(container.id)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory, 0o700)
        config = container.seen.Config
        if config.Tty:
            return streams.Ends()
        return streams.make_pipes(directory, stdin=config.OpenStdin, stdin_once=config.StdinOnce)

    def _pass_readers(self, container: Container, process: Process) -> None:
        for attachment, _ in container.attaching:
            with attachment.readers as readers:
                self._link.attach(process, readers.named)

    def adoption(self, container: Container) -> Adoption:
        """What a new spawner is to know of a container's first process."""
        return Adoption(self._exit_file(container), self._log(container))

    def reopen(self, container: Container, process: Process) -> None:
        """Opens our ends of the pipes of a process that an engine before this one has started."""
        directory = self._places.runtime(container.id)
        process.input = streams.open_input(directory)
        process.outputs = streams.open_outputs(directory)

    def _exit_file(self, container: Container) -> str:
        return f"{self._places.container(container.id)}/exit"

    def _log(self, container: Container) -> dict[str, Any] | None:
        if not container.record.own_log:
            return None
        return log_settings(container.seen.HostConfig.LogConfig, self._places.container(container.id))
