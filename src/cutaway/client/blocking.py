"""The blocking flavour: the classes of `sandbox` without `await`.

Here `ready` waits in `poll(2)`, so the coroutines of `sandbox` run from beginning to end without ever suspending. Each
method below is one of those, with its parameters, types and documentation, and no word of it is said again.
"""

from __future__ import annotations

import select

from cutaway.client import sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from typing import Any, Concatenate, ParamSpec, Self, TypeVar

    from cutaway.client.results import Line, Outcome

    Parameters = ParamSpec("Parameters")
    Returned = TypeVar("Returned")
    Core = TypeVar("Core")
    Method = Callable[Concatenate[Any, Parameters], Returned]


async def ready(readable: Collection[int], writable: Collection[int]) -> Collection[int]:
    """Blocks until one of the first can be read, or one of the second written; returns those that can."""
    waiting = select.poll()
    for descriptor in readable:
        waiting.register(descriptor, select.POLLIN)
    for descriptor in writable:
        waiting.register(descriptor, select.POLLOUT)
    return [descriptor for descriptor, _ in waiting.poll()]


def finished(coroutine: Coroutine[Any, Any, Returned]) -> Returned:
    """The result of a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Returned = end.value
        return result
    raise AssertionError("a coroutine of the blocking client has suspended")


def blocking(method: Method[Parameters, Coroutine[Any, Any, Returned]]) -> Method[Parameters, Returned]:
    """The same method of the object that is `core` here, run to its end."""
    return returning(finished, method)


def returning(kind: Callable[[Core], Returned], method: Method[Parameters, Core]) -> Method[Parameters, Returned]:
    """The same method of the object that is `core` here; what it returns is made a `kind`."""

    def call(self: Any, /, *arguments: Parameters.args, **named: Parameters.kwargs) -> Returned:
        return kind(method(self.core, *arguments, **named))

    call.__name__, call.__qualname__, call.__doc__ = method.__name__, method.__qualname__, method.__doc__
    call.__wrapped__ = method  # type: ignore[attr-defined]  # where `inspect.signature` finds the parameters
    return call


class Stream:
    __doc__ = sandbox.Stream.__doc__

    def __init__(self, core: sandbox.Stream) -> None:
        self.core = core

    @property
    def outcome(self) -> Outcome:
        """How the command has ended, once all lines have been read. Of a log there is none."""
        return self.core.outcome

    def __enter__(self) -> Self:
        finished(self.core.__aenter__())
        return self

    __exit__ = blocking(sandbox.Stream.__aexit__)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Line:
        try:
            return finished(self.core.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None


class Container:
    __doc__ = sandbox.Container.__doc__

    def __init__(self, core: sandbox.Container) -> None:
        self.core, self.id, self.name = core, core.id, core.name

    __repr__ = sandbox.Container.__repr__
    start = blocking(sandbox.Container.start)
    wait = blocking(sandbox.Container.wait)
    stop = blocking(sandbox.Container.stop)
    restart = blocking(sandbox.Container.restart)
    kill = blocking(sandbox.Container.kill)
    pause = blocking(sandbox.Container.pause)
    unpause = blocking(sandbox.Container.unpause)
    remove = blocking(sandbox.Container.remove)
    inspect = blocking(sandbox.Container.inspect)
    logs = returning(Stream, sandbox.Container.logs)
    exec = blocking(sandbox.Container.exec)
    stream = returning(Stream, sandbox.Container.stream)
    put = blocking(sandbox.Container.put)
    get = blocking(sandbox.Container.get)


class Sandbox:
    __doc__ = sandbox.Sandbox.__doc__

    def __init__(self, core: sandbox.Sandbox) -> None:
        self.core = core

    def __enter__(self) -> Container:
        return Container(finished(self.core.__aenter__()))

    __exit__ = blocking(sandbox.Sandbox.__aexit__)


def _container(coroutine: Coroutine[Any, Any, sandbox.Container]) -> Container:
    return Container(finished(coroutine))


def _containers(coroutine: Coroutine[Any, Any, list[sandbox.Container]]) -> list[Container]:
    return [Container(each) for each in finished(coroutine)]


class Engine:
    __doc__ = sandbox.Engine.__doc__

    def __init__(self, core: sandbox.Engine) -> None:
        self.core = core

    def __enter__(self) -> Self:
        finished(self.core.__aenter__())
        return self

    __exit__ = blocking(sandbox.Engine.__aexit__)
    close = returning(lambda none: none, sandbox.Engine.close)
    run = blocking(sandbox.Engine.run)
    stream = returning(Stream, sandbox.Engine.stream)
    container = returning(Sandbox, sandbox.Engine.container)
    create = returning(_container, sandbox.Engine.create)
    get = returning(_container, sandbox.Engine.get)
    containers = returning(_containers, sandbox.Engine.containers)


def connect() -> Engine:
    """The engine, for several calls over the same connections: `with cutaway.connect() as engine`."""
    return Engine(sandbox.Engine(ready))


_keeping_nothing = Engine(sandbox.Engine(ready, keep=False))
run, stream, container = _keeping_nothing.run, _keeping_nothing.stream, _keeping_nothing.container
