"""Containers from Python on asyncio: the same words, at once, cancelled at any moment, without threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator
from textwrap import dedent
from typing import Any

import pytest

import cutaway
from cutaway import aio
from cutaway.client import blocking, sandbox
from tests.client.programs import kill, program, said, until_gone
from tests.engines import Engine


@pytest.fixture(autouse=True)
def nothing_stays(client: str, engine: Engine) -> Iterator[None]:  # noqa: ARG001
    """No container is left by a call or a block, and no thread is ever made."""
    threads = threading.enumerate()
    yield
    assert threading.enumerate() == threads
    assert engine("ps", "-aq").stdout == ""


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 40))


def test_runs(client: str) -> None:
    async def main() -> None:
        done = await aio.run(client, ["sh", "-c", "cat; echo err >&2; exit 3"], network="none", input="in")
        assert (done.stdout, done.stderr, done.exit_code) == (b"in", b"err\n", 3)

    finish(main())


def test_runs_many_at_once_while_the_loop_goes_on(client: str) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        async with aio.connect() as engine:
            runs = [engine.run(client, ["sh", "-c", f"sleep 0.3; echo {n}"], network="none") for n in range(8)]
            results = await asyncio.gather(*runs)
        ticking.cancel()
        assert [done.stdout for done in results] == [b"%d\n" % n for n in range(8)]
        assert ticks > 5

    finish(main())


def test_a_cancelled_run_leaves_nothing(client: str) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await aio.run(client, ["sleep", "1000"], network="none")
        async with aio.connect() as engine:
            assert await engine.containers(all=True) == []

    finish(main())


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05])
def test_a_run_may_be_cancelled_at_any_moment(client: str, delay: float) -> None:
    async def main() -> None:
        task = asyncio.create_task(aio.run(client, ["sleep", "1000"], network="none"))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    finish(main())


def test_a_container_lives_as_long_as_its_block(client: str) -> None:
    async def main() -> None:
        async with aio.container(client, network="none", read_only=True) as box:
            await box.put("/file", b"content")
            assert await box.get("/file") == b"content"
            results = await asyncio.gather(*(box.exec(["echo", str(n)]) for n in range(3)))
            assert [done.stdout for done in results] == [b"0\n", b"1\n", b"2\n"]
        with pytest.raises(cutaway.NotFound):
            await box.exec(["true"])

    finish(main())


def test_a_cancelled_block_leaves_nothing(client: str) -> None:
    async def main() -> None:
        entered = asyncio.Event()

        async def use() -> None:
            async with aio.container(client, network="none") as box:
                entered.set()
                await box.exec(["sleep", "1000"])

        task = asyncio.create_task(use())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    finish(main())


def test_a_cancelled_exec_is_killed(client: str) -> None:
    async def main() -> None:
        async with aio.container(client, network="none") as box:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await box.exec(["sh", "-c", "sleep 1000; true"])
            assert b"sleep" not in (await box.exec(["ps"])).stdout

    finish(main())


def test_streams_lines_as_they_come(client: str) -> None:
    async def main() -> None:
        async with aio.container(client, network="none") as box:
            await box.exec(["mkfifo", "/answer"])
            lines = box.stream(["sh", "-c", "echo question; cat /answer; echo last >&2"])
            assert await anext(lines) == ("stdout", b"question\n")
            await box.exec(["sh", "-c", "echo answer > /answer"])
            assert sorted([line async for line in lines]) == [("stderr", b"last\n"), ("stdout", b"answer\n")]
            assert lines.outcome.exit_code == 0

    finish(main())


def test_follows_a_log(client: str) -> None:
    async def main() -> None:
        async with aio.container(client, ["sh", "-c", "echo one; cat; exec sleep 1000"], network="none") as box:
            async with box.logs(follow=True) as lines:
                assert await anext(lines) == ("stdout", b"one\n")
            async with box.logs(tail=1) as lines:
                assert [line async for line in lines] == [("stdout", b"one\n")]

    finish(main())


def test_a_killed_program_leaves_nothing(engine: Engine) -> None:
    source = """
        import asyncio
        from cutaway import aio
        async def main():
            async with aio.container("busybox", network="none") as box:
                print(box.id, flush=True)
                await box.exec(["sleep", "1000"])
        asyncio.run(main())
        """
    with program(engine, dedent(source)) as process:
        container = said(process)
        kill(process)
        until_gone(engine, container)


def test_needs_no_thread_and_keeps_no_descriptor(client: str) -> None:
    async def main() -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await aio.run(client, ["true"], network="none")
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == 1 or threading.current_thread() is threading.main_thread()

    finish(main())


@pytest.mark.parametrize("name", ["Engine", "Container", "Stream", "Sandbox"])
def test_both_flavours_have_the_same_words(name: str) -> None:
    def words(kind: type) -> set[str]:
        return {word.replace("__a", "__") for word in vars(kind) if not word.startswith("_") or word.startswith("__a")}

    def plain(kind: type) -> set[str]:
        own = {"__enter__", "__exit__", "__iter__", "__next__"}
        return {word for word in vars(kind) if not word.startswith("_") or word in own}

    assert words(getattr(sandbox, name)) == plain(getattr(blocking, name))
