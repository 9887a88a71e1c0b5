"""Further processes in running containers: entering its namespaces is all that makes a process inside.

As in Docker an exec is first created, then started; it is known until a while after it has ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from typing import TYPE_CHECKING

from cutaway.engine import streams
from cutaway.engine.description import environment, process_capabilities, rlimits, security_options
from cutaway.engine.errors import Conflict, InvalidArgument, NotFound
from cutaway.engine.model import Exec, ProcessConfig
from cutaway.engine.signals import exit_code
from cutaway.engine.starting import BORN_WITH
from cutaway.kernel.pty import set_window_size
from cutaway.plan.operation import Context
from cutaway.runtime.compile import entering

if TYPE_CHECKING:
    from cutaway.engine.containers import Container
    from cutaway.engine.interface import Stdio, Streams
    from cutaway.engine.model import ExecConfig
    from cutaway.engine.outfit import Outfitter
    from cutaway.engine.places import Places
    from cutaway.engine.processes import Process
    from cutaway.engine.spawners import SpawnerLink
    from cutaway.plan.operation import Operation

_KILLED = 128 + signal.SIGKILL
REMEMBERED = 300.0
"""Seconds for which the exit code of an exec that has ended can be asked for; Docker's time."""


class Execution:
    """One exec: what was asked for, and its process while it has one."""

    def __init__(self, container: Container, config: ExecConfig) -> None:
        self.id, self.container, self.config = secrets.token_hex(32), container, config
        self.process: Process | None = None
        self.exit_code: int | None = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def seen(self) -> Exec:
        """What everyone may see of it."""
        config = self.config
        return Exec(
            ID=self.id,
            ContainerID=self.container.id,
            Running=self.process is not None,
            ExitCode=self.exit_code,
            Pid=self.process.pid if self.process else 0,
            ProcessConfig=ProcessConfig(
                tty=config.Tty,
                entrypoint=config.Cmd[0],
                arguments=config.Cmd[1:],
                privileged=config.Privileged,
                user=config.User,
            ),
            OpenStdin=config.AttachStdin,
            OpenStdout=config.AttachStdout,
            OpenStderr=config.AttachStderr,
        )


class Executions:
    """All that are known, by ID."""

    def __init__(self, places: Places, link: SpawnerLink, outfitter: Outfitter) -> None:
        self._places, self._link, self._outfitter = places, link, outfitter
        self._all: dict[str, Execution] = {}

    def create(self, container: Container, config: ExecConfig) -> str:
        """Returns its ID. Raises `Conflict` where the container does not run or is paused."""
        if not container.process:
            raise Conflict(f"container {container.id} is not running")
        if container.state.Paused:
            raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
        if not config.Cmd or not config.Cmd[0]:
            raise InvalidArgument("No exec command specified")
        execution = Execution(container, config)
        self._all[execution.id] = execution
        container.seen.ExecIDs = [*(container.seen.ExecIDs or ()), execution.id]
        return execution.id

    def find(self, exec_id: str) -> Execution:
        """Raises `NotFound`."""
        if exec_id not in self._all:
            raise NotFound(f"No such exec instance: {exec_id}", "exec", exec_id)
        return self._all[exec_id]

    async def start(self, exec_id: str, stdio: Stdio | None) -> Streams:
        """Returns our ends of its streams once its program runs. Raises `NotStarted`."""
        execution = self.find(exec_id)
        if execution.process or execution.exit_code is not None:
            raise Conflict(f"Error: Exec command {exec_id} is already running")
        config, context = execution.config, Context()
        attachment = streams.Attachment(
            stdout=config.AttachStdout and not stdio, stderr=config.AttachStderr and not stdio and not config.Tty
        )
        try:
            return await self._start(execution, context, stdio, attachment)
        except BaseException as error:
            attachment.abandon()
            if execution.process:
                execution.process.signal(signal.SIGKILL)
            self._finish(execution, getattr(error, "exit_code", 126))
            raise
        finally:
            streams.close_all(set(context.descriptors.values()))

    async def _start(
        self, execution: Execution, context: Context, stdio: Stdio | None, attachment: streams.Attachment
    ) -> Streams:
        config = execution.config
        try:
            join, namespaces = self._way_in(execution.container, context)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            raise Conflict(f"container {execution.container.id} is not running") from None
        with streams.given(stdio) if stdio else streams.piped(attachment, config) as ends:
            born_with = {name: context.descriptors[name] for name in BORN_WITH if name in context.descriptors}
            birth = await self._link.clone(execution.id, 0, born_with)
            try:  # while it is born
                operations = self._operations(execution, join, namespaces, context)
                birth.send(operations, context.descriptors | ends.of_process())
                process = execution.process = await birth.cloned()
            except BaseException:
                await birth.discard()
                raise
            process.input = ends.take("input")
        if config.Tty:
            process.terminal = await birth.terminal()
            set_window_size(process.terminal, *reversed(config.ConsoleSize))
            self._copy_terminal(process, attachment)
        await birth.execute()
        process.ended.add_done_callback(lambda ended: self._finish(execution, exit_code(ended.result().status)))
        return self._connected(process, attachment)

    def _copy_terminal(self, process: Process, attachment: streams.Attachment) -> None:
        """A terminal's output goes through the spawner, so that one can detach."""
        with attachment.readers as readers:
            self._link.copy(process, {"output:terminal": process.terminal} | readers.named, None)

    def _connected(self, process: Process, attachment: streams.Attachment) -> Streams:
        """Our ends, for who is attached."""
        if process.terminal >= 0:
            return attachment.streams(streams.duplicate(process.terminal), streams.duplicate(process.terminal))
        process_input, process.input = process.input, -1
        return attachment.streams(process_input)

    def _way_in(self, container: Container, context: Context) -> tuple[list[Operation], list[str]]:
        """What joins the container's cgroup, and the kinds of namespace to join; `context` gets what they need."""
        assert container.process
        join = self._outfitter.join(container, container.process.pid)
        for operation in join:
            operation.prepare(context)
        namespaces = self._outfitter.own_namespaces(container)
        context.descriptors["process"] = os.dup(container.process.pidfd)
        if "pid" in namespaces:
            context.descriptors["pid_namespace"] = os.dup(container.process.pidfd)
        return join, namespaces

    def _operations(
        self, execution: Execution, join: list[Operation], namespaces: list[str], context: Context
    ) -> list[Operation]:
        """The plan of an exec: into the cgroup and the namespaces, then become who it is to be."""
        config, container = execution.config, execution.container
        assert container.process
        root = os.open(f"/proc/{container.process.pid}/root", os.O_PATH | os.O_DIRECTORY)
        try:
            identity = self._outfitter.identity(container, root, config.User or None)
        finally:
            os.close(root)
        host = container.seen.HostConfig
        capabilities = process_capabilities(host, identity.uid, privileged=config.Privileged)
        process = {
            "terminal": config.Tty,
            "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.additional_gids},
            "args": config.Cmd,
            "env": environment(container.seen, identity.home, config.Env or [], terminal=config.Tty),
            "cwd": config.WorkingDir or container.seen.Config.WorkingDir or "/",
            "capabilities": capabilities,
            "noNewPrivileges": "no-new-privileges" in security_options(host),
            "rlimits": rlimits(host),
        }
        seccomp = None
        if not config.Privileged:
            seccomp = self._outfitter.filter(container, capabilities["bounding"], context)
        return entering(process, join, namespaces, seccomp)

    async def wait(self, exec_id: str) -> int:
        """Its exit code, when it has one."""
        return await asyncio.shield(self.find(exec_id).ended)

    def forget(self, exec_id: str) -> None:
        """It is known no more."""
        self._all.pop(exec_id, None)

    def container_ended(self, container: Container) -> None:
        """Its execs end with it."""
        for execution in [each for each in self._all.values() if each.container is container]:
            self._finish(execution, _KILLED)

    def _finish(self, execution: Execution, code: int) -> None:
        """It runs no more; who asks for its exit code in time hears it."""
        process, execution.process = execution.process, None
        if process:
            process.close()
        if execution.exit_code is None:
            execution.exit_code = code
            execution.ended.set_result(code)
            seen = execution.container.seen
            seen.ExecIDs = [other for other in seen.ExecIDs or () if other != execution.id] or None
            asyncio.get_running_loop().call_later(REMEMBERED, self.forget, execution.id)
