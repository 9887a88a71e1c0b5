"""The asynchronous flavour: `sandbox` on the event loop of asyncio, without threads."""

from __future__ import annotations

import asyncio

from cutaway.client.sandbox import Container, Engine, Sandbox, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Container", "Engine", "Sandbox", "Stream", "connect", "container", "run", "stream"]


async def ready(readable: Collection[int], writable: Collection[int]) -> Collection[int]:
    """Suspends until one of the first can be read, or one of the second written; returns those that can."""
    loop = asyncio.get_running_loop()
    one = loop.create_future()
    found: set[int] = set()

    def note(descriptor: int) -> None:
        found.add(descriptor)
        if not one.done():
            one.set_result(None)

    try:
        for descriptor in readable:
            loop.add_reader(descriptor, note, descriptor)
        for descriptor in writable:
            loop.add_writer(descriptor, note, descriptor)
        await one
    finally:
        for descriptor in readable:
            loop.remove_reader(descriptor)
        for descriptor in writable:
            loop.remove_writer(descriptor)
    return found


def connect() -> Engine:
    """The engine, for several calls over the same connections: `async with cutaway.aio.connect() as engine`."""
    return Engine(ready)


_keeping_nothing = Engine(ready, keep=False)
run, stream, container = _keeping_nothing.run, _keeping_nothing.stream, _keeping_nothing.container
