"""Containers as Python programs use them. Each call is written here once, as a coroutine, for both flavours.

`aio` offers these classes as they are. `blocking` offers them with the same words and without `await`: there a
coroutine never suspends, because what it awaits, `channel.Ready`, blocks.
"""

from __future__ import annotations

import os
from collections import deque

from cutaway.client import errors
from cutaway.client.channel import Channels
from cutaway.client.exchange import Capture, Exchange, Lines
from cutaway.client.results import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self, Unpack

    from cutaway.client.channel import Ready
    from cutaway.client.exchange import Name
    from cutaway.client.options import CreateOptions, ExecOptions, RunOptions
    from cutaway.client.results import Line, Result

LARGEST_FILE = 64 << 20
"""Bytes that `Container.get` reads unless told otherwise."""
_BOTH: tuple[Name, ...] = ("stdout", "stderr")


class Engine:
    """The engine, started if it does not run, and the connections to it: `with connect() as engine`."""

    def __init__(self, ready: Ready, *, keep: bool = True) -> None:
        self._channels = Channels(ready, keep=keep)

    async def __aenter__(self) -> Self:
        await self._channels.give_back(await self._channels.take())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections. Containers made by `create` stay."""
        self._channels.close()

    async def run(
        self,
        image: str | None,
        command: Sequence[str] = (),
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        max_output: int | None = None,
        **options: Unpack[RunOptions],
    ) -> Result:
        """Runs a command in a new container, which is gone when this returns. No image goes with the option `rootfs`.

        `input` is its standard input; after `timeout` seconds it is killed; of what it writes to standard output, and
        to standard error, `max_output` bytes are kept. Raises `EngineError`, among them `CommandNotFound`.
        """
        parameters = {"container": _creation(image, command, options), "timeout": timeout}
        return await _captured(self._channels, "run", parameters, input, max_output)

    def stream(
        self,
        image: str | None,
        command: Sequence[str] = (),
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        **options: Unpack[RunOptions],
    ) -> Stream:
        """As `run`, with its output line by line while it runs. Nothing happens until the first line is asked for."""
        parameters = {"container": _creation(image, command, options), "timeout": timeout}
        return Stream(Exchange(self._channels, "run", parameters, pipes=_BOTH, input=_bytes(input)))

    def container(self, image: str | None, command: Sequence[str] = (), **options: Unpack[RunOptions]) -> Sandbox:
        """A container that runs for as long as the block: `with container("debian") as box`.

        Without a command of its own it does nothing but wait for what is executed in it. It is removed when the block
        or the program ends, however it ends.
        """
        if not command:
            options = {"init": True, "entrypoint": "", **options}  # nothing but an init
        return Sandbox(self._channels.ready, _creation(image, command, options))

    async def create(
        self, image: str | None, command: Sequence[str] = (), **options: Unpack[CreateOptions]
    ) -> Container:
        """A new container, not yet started, that stays until it is removed."""
        created = await self._channels.request("create", {"container": _creation(image, command, options)})
        return Container(self._channels, **created)

    async def get(self, name: str) -> Container:
        """The container of this name, ID, or beginning of an ID. Raises `NotFound`."""
        return Container(self._channels, **await self._channels.request("find", {"container": name}))

    async def containers(self, *, all: bool = False) -> list[Container]:
        """Those that run, or all, the newest first."""
        found = await self._channels.request("containers", {"all": all})
        return [Container(self._channels, **each) for each in found]


class Container:
    """One container, by its ID; `name` is the one it had when it was looked up."""

    def __init__(self, channels: Channels, id: str, name: str) -> None:
        self._channels, self.id, self.name = channels, id, name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.id[:12]}>"

    async def start(self) -> None:
        """Returns once its program runs. Raises `NotStarted`."""
        await self._request("start")

    async def wait(self, timeout: float | None = None) -> Outcome:
        """Waits until it does not run. Raises `TimedOut` after `timeout` seconds; it runs on."""
        return Outcome(**await self._request("wait", timeout=timeout))

    async def stop(self, timeout: int | None = None, signal: str = "") -> None:
        """Sends its stop signal, or `signal`, and kills it after `timeout` seconds, or its own time (default 10)."""
        await self._request("stop", timeout=timeout, signal=signal)

    async def restart(self, timeout: int | None = None) -> None:
        await self._request("restart", timeout=timeout)

    async def kill(self, signal: str = "KILL") -> None:
        """Sends a signal, by name or number. Raises `Conflict` where it does not run."""
        await self._request("kill", signal=signal)

    async def pause(self) -> None:
        """Freezes all its processes."""
        await self._request("pause")

    async def unpause(self) -> None:
        await self._request("unpause")

    async def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """Returns when nothing of it is left. `force`: kills it first; `volumes`: its anonymous volumes too."""
        await self._request("remove", force=force, volumes=volumes)

    async def inspect(self) -> dict[str, Any]:
        """All there is to know of it, as `cutaway inspect` prints it."""
        found: dict[str, Any] = await self._request("inspect")
        return found

    def logs(
        self,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: float = 0,
        until: float = 0,
        tail: int | None = None,
        follow: bool = False,
    ) -> Stream:
        """The lines of its log; `since` and `until` in seconds since 1970, `tail`: how many from the end."""
        wanted = {"stdout": stdout, "stderr": stderr, "since": since, "until": until, "tail": tail, "follow": follow}
        return Stream(Exchange(self._channels, "logs", {"container": self.id, **wanted}))

    async def exec(
        self,
        command: Sequence[str],
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        max_output: int | None = None,
        **options: Unpack[ExecOptions],
    ) -> Result:
        """Runs another command in it, as `run` does. At the end of `timeout` the command is killed, with its process
        group; the container runs on."""
        parameters = self._execution(command, timeout, options)
        return await _captured(self._channels, "exec", parameters, input, max_output)

    def stream(
        self,
        command: Sequence[str],
        *,
        input: bytes | str | None = None,
        timeout: float | None = None,
        **options: Unpack[ExecOptions],
    ) -> Stream:
        """As `exec`, with its output line by line while it runs. The command ends with the block, if not before."""
        parameters = self._execution(command, timeout, options)
        return Stream(Exchange(self._channels, "exec", parameters, pipes=_BOTH, input=_bytes(input)))

    async def put(self, path: str, source: bytes | str | os.PathLike[str], *, mode: int = 0o644) -> None:
        """Makes the file `path` in the container of bytes or text; or copies a file or directory, given as a `Path`.

        The directory it is in must be there; it may be on a root file system that is read-only to the container. All
        belongs to the container's root. `mode` is for bytes and text.
        """
        from cutaway.client import archive

        with archive.packed(os.path.basename(path), source, mode) as file:
            await self._request("put", [file.fileno()], directory=os.path.dirname(path) or "/")

    async def get(self, path: str, *, max_size: int = LARGEST_FILE) -> bytes:
        """What the file `path` in the container holds. Raises `NotFound`, and `TooLarge` for more than `max_size`
        bytes."""
        from cutaway.client import archive

        parameters = {"container": self.id, "path": path}
        capture = Capture(archive.size_with(max_size))
        async with Exchange(self._channels, "get", parameters, pipes=("stdout",)) as exchange:
            while chunks := await exchange.output():
                capture.add(chunks)
                if capture.truncated:
                    raise errors.TooLarge(f"{path} holds more than {max_size} bytes")
        return archive.only_file(path, capture.of("stdout"))

    async def _request(self, method: str, descriptors: Sequence[int] = (), **parameters: Any) -> Any:
        return await self._channels.request(method, {"container": self.id, **parameters}, descriptors)

    def _execution(self, command: Sequence[str], timeout: float | None, options: ExecOptions) -> dict[str, Any]:
        return {
            "container": self.id,
            "command": _words(command),
            "options": options,
            "surroundings": _surroundings(options),
            "timeout": timeout,
        }


class Sandbox:
    """A container that lives as long as the block. One connection is its owner: when that ends, so does the
    container."""

    def __init__(self, ready: Ready, creation: dict[str, Any]) -> None:
        self._channels, self._creation = Channels(ready, keep=True), creation

    async def __aenter__(self) -> Container:
        self._owner = await self._channels.take()
        try:
            await self._owner.ask("open", {"container": self._creation})
            self._container = Container(self._channels, **await self._owner.answer())
        except BaseException:
            await self._owner.hang_up()
            raise
        return self._container

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._container.remove(force=True, volumes=True)
        except (errors.NotFound, errors.EngineLost):  # removed in the block; or the next engine is going to
            pass
        finally:
            self._owner.close()
            self._channels.close()


class Stream:
    """Output line by line, while it is being written: `for stream, line in …`.

    A command that is not to outlive a block is made to end with it: `with box.stream(…) as lines`.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._lines = exchange, Lines()
        self._ready: deque[Line] = deque()
        self._is_open = self._is_over = False

    @property
    def outcome(self) -> Outcome:
        """How the command has ended, once all lines have been read. Of a log there is none."""
        if not self._exchange.answer:
            raise ValueError("there is no outcome before the end of the output")
        return Outcome(**self._exchange.answer)

    async def __aenter__(self) -> Self:
        if not self._is_open:
            await self._exchange.__aenter__()
            self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        await self._exchange.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Line:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            await self._advance()
        return self._ready.popleft()

    async def _advance(self) -> None:
        await self.__aenter__()
        try:
            chunks = await self._exchange.output()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        self._ready += self._lines.add(chunks) if chunks else self._lines.rest()
        if not chunks:
            await self.__aexit__(None, None, None)

    def __del__(self) -> None:
        self._exchange.abandon()


async def _captured(
    channels: Channels, method: str, parameters: dict[str, Any], input: bytes | str | None, max_output: int | None
) -> Result:
    capture = Capture(max_output)
    async with Exchange(channels, method, parameters, pipes=_BOTH, input=_bytes(input)) as exchange:
        while chunks := await exchange.output():
            capture.add(chunks)
    return capture.result(Outcome(**exchange.answer))


def _creation(image: str | None, command: Sequence[str], options: RunOptions | CreateOptions) -> dict[str, Any]:
    surroundings = _surroundings(options)
    return {"image": image or "", "command": _words(command), "options": options, "surroundings": surroundings}


def _words(command: Sequence[str]) -> list[str]:
    if isinstance(command, str):
        raise TypeError('a command is a list of words: ["sh", "-c", "…"] has a shell take one apart')
    return list(command)


def _surroundings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Where options that name files and variables take them from."""
    surroundings: dict[str, Any] = {"cwd": _working_directory()}
    if "env" in options or "env_file" in options:
        variables = os.environ.items()
        surroundings["environment"] = {name: value for name, value in variables if _is_text(name + value)}
    return surroundings


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed; absolute paths still work
        return "/"


def _is_text(word: str) -> bool:
    try:
        return bool(word.encode())
    except UnicodeEncodeError:  # JSON has no place for bytes that are not UTF-8
        return False


def _bytes(content: bytes | str | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content
