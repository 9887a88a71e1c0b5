"""Twenty sandboxes at once on asyncio, without a thread: the words of `sandbox.py` with `await`. Run it as root."""

import asyncio
from time import perf_counter

from cutaway import aio


async def main() -> None:
    async with aio.connect() as engine:
        begin = perf_counter()
        commands = [["sh", "-c", f"echo {number} squared is $(({number} * {number}))"] for number in range(20)]
        results = await asyncio.gather(*(engine.run("host", command, network="none") for command in commands))
        print(*(done.stdout.decode().strip() for done in results), sep="\n")
        print(f"{len(results)} sandboxes in {1000 * (perf_counter() - begin):.0f} ms")

    async with aio.container("host", network="none") as box:
        async with box.stream(["sh", "-c", "while :; do date +%T.%N; sleep 0.1; done"]) as clock:
            async for _, line in clock:  # leaving the block ends the command
                print("the clock says", line.decode().strip())
                break
        try:
            async with asyncio.timeout(0.5):
                await box.exec(["sleep", "1000"])
        except TimeoutError:
            print("cancelled, and so is the command:", (await box.exec(["ps", "-e", "-o", "comm="])).stdout.split())


asyncio.run(main())
