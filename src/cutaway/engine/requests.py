"""Requests of the Python client: each is a struct, its fields are what the client says, its `answer` does it.

One request at a time on each connection. What a request has begun ends with it: when the client hangs up in the middle,
it is cancelled and what it made is removed; so are the containers that a connection has `Open`ed, when that ends. A
client is not trusted: whatever is not one of these structs, to the letter, is refused.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
import traceback
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from cutaway.client import wire
from cutaway.engine import provision
from cutaway.engine.beside import beside
from cutaway.engine.connection import Disconnected
from cutaway.engine.errors import EngineError, InvalidArgument, NotFound
from cutaway.engine.interface import Stdio
from cutaway.engine.model import ExecConfig
from cutaway.engine.options import CREATE, EXEC, Caller, create_request, read, reads_files
from cutaway.engine.options.request import environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cutaway.engine.connection import Connection, Frame
    from cutaway.engine.interface import Engine, Exit
    from cutaway.engine.model import Created, CreateRequest

Ended = TypeVar("Ended")

Scalar = str | bool | int | float
Options = dict[str, Scalar | list[Scalar] | dict[str, Scalar] | None]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]


class TimedOut(EngineError):
    """What was waited for has not happened in time."""


class Outcome(Struct):
    """How a process has ended; `duration` in seconds."""

    exit_code: int
    oom_killed: bool
    timed_out: bool
    duration: float


class Known(Struct):
    """A container, to speak of."""

    id: str
    name: str


async def converse(engine: Engine, connection: Connection, frame: Frame | None) -> None:
    """Answers the requests of one connection, the first of which is `frame`, until it ends."""
    session = Session(engine, connection)
    answering: asyncio.Task[None] | None = None
    try:
        while frame and (answering is None or answering.done()):
            answering = asyncio.create_task(session.answer(frame))
            frame = await connection.receive()
    except wire.ProtocolError:
        pass
    finally:
        if answering:
            answering.cancel()
            await asyncio.wait({answering})
        await session.end()


class Session:
    """What belongs to one connection: the descriptors of the request under way, and the containers it owns."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self.engine, self.connection = engine, connection
        self.descriptors: tuple[int, ...] = ()
        self.owned: set[str] = set()

    async def answer(self, frame: Frame) -> None:
        """Carries out a request, and says how it went."""
        self.descriptors = frame.descriptors
        try:
            kind, answer = wire.REPLY, await _decoded(frame).answer(self)
        except EngineError as error:
            kind, answer = wire.FAILURE, {"error": type(error).__name__, "message": str(error)}
        except Disconnected:
            return
        except Exception as error:  # a traceback is for the engine's log
            traceback.print_exception(error)
            message = f"an error inside the engine: {type(error).__name__}: {error}"
            kind, answer = wire.FAILURE, {"error": "EngineError", "message": message}
        finally:
            for descriptor in frame.descriptors:
                os.close(self.connection.release(descriptor))
        try:
            await self.connection.send(kind, msgspec.json.encode(answer))
        except Disconnected:
            pass

    def descriptor(self) -> int:
        """The one that came with the request."""
        if len(self.descriptors) != 1:
            raise InvalidArgument(f"{len(self.descriptors)} descriptors came with a request that takes one")
        return self.descriptors[0]

    def stdio(self, streams: str) -> Stdio:
        """Those that came with the request, as `streams` calls them: letters of `wire.Attachment`."""
        if len(set(streams) & set("ioe")) != len(streams) or len(streams) != len(self.descriptors):
            raise InvalidArgument(f"{len(self.descriptors)} descriptors came for the streams {streams!r}")
        named = dict(zip(streams, self.descriptors, strict=True))
        return Stdio(named.get("i", -1), named.get("o", -1), named.get("e", -1))

    async def end(self) -> None:
        """Removes what is owned."""
        for container_id in self.owned:
            await remove(self.engine, container_id)


async def remove(engine: Engine, container_id: str) -> None:
    """Removes a container that nobody is left to wait for."""
    try:
        await engine.remove(container_id, force=True, volumes=True)
    except NotFound:  # it has just ended
        pass
    except Exception as error:
        traceback.print_exception(error)


class Surroundings(Struct, forbid_unknown_fields=True):
    """Where options that name files and variables take them from."""

    cwd: str
    environment: dict[str, str] = field(default_factory=dict)

    def caller(self, session: Session) -> Caller:
        return Caller(self.cwd, self.environment, session.connection.credentials.pid)


class Creation(Struct, forbid_unknown_fields=True):
    """A container that is to be created; `options` by their Python names."""

    image: str
    command: list[str]
    options: Options
    surroundings: Surroundings

    async def request(self, session: Session, **fixed: Any) -> CreateRequest:
        """What the engine is asked for; `fixed` are options that the client does not decide."""
        options = read(CREATE, self.options) | fixed
        if bool(self.image) == ("rootfs" in options):
            raise InvalidArgument("an image is needed, or a directory as rootfs, and not both")
        arguments = options, self.image, self.command, self.surroundings.caller(session)
        if reads_files(options):
            return await beside(lambda _: create_request(*arguments))
        return create_request(*arguments)

    async def made(self, session: Session, request: CreateRequest, *, owned: bool = False) -> Created:
        """The container of this request; its image is pulled where it is missing, unless `pull` says otherwise."""
        options = read(CREATE, {name: self.options[name] for name in ("pull", "platform") if name in self.options})
        return await provision.create(session.engine, request, options, session.engine.image_pull, owned=owned)


class Request(Struct, tag_field="method", tag=str.lower, forbid_unknown_fields=True, kw_only=True):
    """Something that is asked for. Its method is the class's name in lower case."""

    async def answer(self, session: Session) -> Any:
        """Does it, and returns what is to be said."""
        raise NotImplementedError


class Run(Request):
    """A container created, started, waited for and removed, all in one."""

    container: Creation
    timeout: Seconds | None = None
    streams: str = ""

    async def answer(self, session: Session) -> Outcome:
        engine, stdio = session.engine, session.stdio(self.streams)
        request = await self.container.request(session, rm=True)
        container_id = (await self.container.made(session, request, owned=True)).Id
        ended = asyncio.ensure_future(engine.wait(container_id, "removed"))
        try:
            await _start(session, container_id, stdio, tty=request.config.Tty)
            exit, timed_out = await _in_time(ended, self.timeout, lambda: engine.kill(container_id))
        except BaseException:
            ended.cancel()
            await remove(engine, container_id)
            raise
        return _outcome(exit, timed_out=timed_out)


class Open(Request):
    """A container created and started, which ends with the connection."""

    container: Creation

    async def answer(self, session: Session) -> Known:
        request = await self.container.request(session)
        container_id = (await self.container.made(session, request, owned=True)).Id
        session.owned.add(container_id)
        try:
            await session.engine.start(container_id)
        except BaseException:
            await remove(session.engine, container_id)
            raise
        return await _known(session.engine, container_id)


class Create(Request):
    container: Creation

    async def answer(self, session: Session) -> Known:
        created = await self.container.made(session, await self.container.request(session))
        return await _known(session.engine, created.Id)


class Containers(Request):
    all: bool

    async def answer(self, session: Session) -> list[Known]:
        found = await session.engine.containers()
        return [Known(each.Id, each.Name[1:]) for each in found if self.all or each.State.Running]


class OfContainer(Request):
    """Something that is asked of one container, by a name or ID."""

    container: str


class Find(OfContainer):
    async def answer(self, session: Session) -> Known:
        return await _known(session.engine, self.container)


class Inspect(OfContainer):
    async def answer(self, session: Session) -> Any:
        return await session.engine.inspect(self.container)


class Start(OfContainer):
    async def answer(self, session: Session) -> None:
        await session.engine.start(self.container)


class Wait(OfContainer):
    timeout: Seconds | None

    async def answer(self, session: Session) -> Outcome:
        try:
            return _outcome(await asyncio.wait_for(session.engine.wait(self.container), self.timeout))
        except TimeoutError:
            raise TimedOut(f"container {self.container} still runs after {self.timeout} seconds") from None


class Stop(OfContainer):
    timeout: int | None
    signal: str

    async def answer(self, session: Session) -> None:
        await session.engine.stop(self.container, self.timeout, self.signal)


class Restart(OfContainer):
    timeout: int | None

    async def answer(self, session: Session) -> None:
        await session.engine.restart(self.container, self.timeout)


class Kill(OfContainer):
    signal: str

    async def answer(self, session: Session) -> None:
        await session.engine.kill(self.container, self.signal)


class Pause(OfContainer):
    async def answer(self, session: Session) -> None:
        await session.engine.pause(self.container)


class Unpause(OfContainer):
    async def answer(self, session: Session) -> None:
        await session.engine.unpause(self.container)


class Remove(OfContainer):
    force: bool
    volumes: bool

    async def answer(self, session: Session) -> None:
        await session.engine.remove(self.container, force=self.force, volumes=self.volumes)


class Logs(OfContainer):
    """The lines of its log, each a frame. `since` and `until` in seconds since 1970, 0 for no bound."""

    stdout: bool
    stderr: bool
    since: Seconds
    until: Seconds
    tail: Annotated[int, Meta(ge=0)] | None
    follow: bool

    async def answer(self, session: Session) -> None:
        lines = session.engine.logs(
            self.container,
            stdout=self.stdout,
            stderr=self.stderr,
            since=int(self.since * 1e9),
            until=int(self.until * 1e9),
            tail=self.tail,
            follow=self.follow,
        )
        async for line in lines:
            await session.connection.send(wire.STDOUT if line.stream == "stdout" else wire.STDERR, line.line)


class Exec(OfContainer):
    """A command in a running container; it is killed, with its process group, when its time is up or the client hangs
    up."""

    command: list[str]
    options: Options
    surroundings: Surroundings
    timeout: Seconds | None = None
    streams: str = ""

    async def answer(self, session: Session) -> Outcome:
        engine, stdio = session.engine, session.stdio(self.streams)
        exec_id = await engine.exec_create(self.container, await self._config(session))
        try:
            return await self._outcome(engine, exec_id, stdio)
        finally:
            await engine.exec_forget(exec_id)

    async def _outcome(self, engine: Engine, exec_id: str, stdio: Stdio) -> Outcome:
        oom_kills = await _oom_kills(engine, self.container)
        await engine.exec_start(exec_id, stdio)
        begin, ended = time.monotonic(), asyncio.ensure_future(engine.exec_wait(exec_id))
        try:
            code, timed_out = await _in_time(ended, self.timeout, lambda: _kill_exec(engine, exec_id))
        except BaseException:
            await _kill_exec(engine, exec_id)
            await ended
            raise
        oom_killed = await _oom_kills(engine, self.container) > oom_kills
        return Outcome(code, oom_killed, timed_out, time.monotonic() - begin)

    async def _config(self, session: Session) -> ExecConfig:
        options, caller = read(EXEC, self.options), self.surroundings.caller(session)
        arguments = options.get("env-file", []), options.get("env", []), caller
        from_files = reads_files(options)
        return ExecConfig(
            User=options.get("user", ""),
            Privileged=options.get("privileged", False),
            Env=await beside(lambda _: environment(*arguments)) if from_files else environment(*arguments),
            WorkingDir=options.get("workdir", ""),
            Cmd=self.command,
        )


class Put(OfContainer):
    """The archive that comes with it, unpacked in a directory of the container."""

    directory: str

    async def answer(self, session: Session) -> None:
        await session.engine.archive_in(self.container, self.directory, session.descriptor(), past_read_only=True)


class Get(OfContainer):
    """An archive of one regular file of the container, which may be behind a link."""

    path: str
    streams: str = ""

    async def answer(self, session: Session) -> None:
        engine, target = session.engine, session.stdio(self.streams).stdout
        path, found = self.path, await engine.path_stat(self.container, self.path)
        if stat.S_ISLNK(found.mode):
            path, found = found.linkTarget, await engine.path_stat(self.container, found.linkTarget)
        if not stat.S_ISREG(found.mode):
            raise InvalidArgument(f"{self.path} is not a regular file")
        await engine.archive_out(self.container, path, target)


def _every(kind: type[Request]) -> list[type[Request]]:
    """All kinds of requests that are no base of others."""
    kinds = kind.__subclasses__()
    return [each for below in kinds for each in _every(below)] if kinds else [kind]


_DECODER: msgspec.json.Decoder[Request] = msgspec.json.Decoder(reduce(or_, _every(Request)))


def _decoded(frame: Frame) -> Request:
    try:
        return _DECODER.decode(frame.body)
    except msgspec.MsgspecError as problem:
        raise InvalidArgument(f"not a request of this version of the engine: {problem}") from None


async def _known(engine: Engine, name: str) -> Known:
    container = await engine.inspect(name)
    return Known(container.Id, container.Name.removeprefix("/"))


async def _start(session: Session, container_id: str, stdio: Stdio, *, tty: bool) -> None:
    """With the client's descriptors as its own; or with a terminal, whose output the client gets to read."""
    if not tty:
        return await session.engine.start(container_id, stdio)
    if stdio.stdin >= 0:
        raise InvalidArgument("what is typed on a terminal cannot be given beforehand: leave out input, or tty")
    attaching = asyncio.ensure_future(session.engine.attach(container_id, stdin=False, stdout=True, stderr=False))
    await asyncio.sleep(0)  # it is waiting before the container starts
    try:
        await session.engine.start(container_id)
        streams = await attaching
    except BaseException:
        attaching.cancel()
        raise
    try:
        return await session.connection.attach(wire.Attachment("o", b"", [streams.stdout]))
    finally:
        for descriptor in set(streams) - {-1}:
            os.close(descriptor)


async def _in_time(
    ended: asyncio.Future[Ended], timeout: float | None, kill: Callable[[], Awaitable[None]]
) -> tuple[Ended, bool]:
    """How something has ended, and whether that was because its time was up."""
    await asyncio.wait({ended}, timeout=timeout)
    timed_out = not ended.done()
    if timed_out:
        with suppress(EngineError):  # it has just ended
            await kill()
    return await ended, timed_out


async def _oom_kills(engine: Engine, name: str) -> int:
    try:
        return await engine.oom_kills(name)
    except NotFound:  # it has been removed meanwhile
        return 0


async def _kill_exec(engine: Engine, exec_id: str) -> None:
    with suppress(EngineError):
        await engine.exec_kill(exec_id, "KILL", group=True)


def _outcome(exit: Exit, *, timed_out: bool = False) -> Outcome:
    return Outcome(exit.code, exit.oom_killed, timed_out, exit.duration)
