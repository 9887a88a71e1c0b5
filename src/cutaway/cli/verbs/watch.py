"""Looking at running containers: `top`, `stats`, `port`, `diff`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli import table
from cutaway.cli.listing import Column, Listing
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.common import FORMAT, NO_TRUNC
from cutaway.cli.verbs.ps import SHORT_ID
from cutaway.engine import summary, units
from cutaway.engine.errors import EngineError, InvalidArgument
from cutaway.engine.options.option import BOOL, Option
from cutaway.kernel import ps as processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.interface import Usage
    from cutaway.engine.model import Container

LEAST_TOP_COLUMN = 20
INTERVAL = 1.0
"""Seconds between two looks of `stats`."""
CLEAR = "\x1b[H\x1b[J"
"""Cursor home, and everything below it cleared (`console_codes(4)`)."""


@verb(
    "top",
    "container top",
    usage="CONTAINER [ps OPTIONS]",
    summary="List the processes of a container, with the PIDs they have on the host",
    arguments=(1, UNLIMITED),
    completes="running",
    interspersed=False,
)
async def top(session: Session, parsed: Parsed) -> None:
    name, *ps_options = parsed.arguments
    try:
        rows = processes.table(await session.engine.pids(name), ps_options)
    except processes.UnknownOption as error:
        raise InvalidArgument(str(error)) from None
    await session.print(table.render(rows, least=LEAST_TOP_COLUMN))


class Sample(NamedTuple):
    """A container, and its usage at two moments; None where it could not be had."""

    container: Container
    before: Usage | None
    after: Usage | None
    cut: bool


def cpu(sample: Sample) -> str:
    """Of one CPU: two busy ones are 200%."""
    before, after = sample.before, sample.after
    if not before or not after or after.time <= before.time:
        return "--" if not after else "0.00%"
    return f"{100 * (after.cpu - before.cpu) / (after.time - before.time):.2f}%"


def memory_share(sample: Sample) -> str:
    if not sample.after:
        return "--"
    return f"{100 * sample.after.memory / sample.after.memory_limit if sample.after.memory_limit else 0:.2f}%"


def _pair(first: str, second: str) -> str:
    return f"{first} / {second}"


def memory(sample: Sample) -> str:
    usage = sample.after
    return _pair(units.binary_size(usage.memory), units.binary_size(usage.memory_limit)) if usage else "-- / --"


def network(sample: Sample) -> str:
    usage = sample.after
    return _pair(units.size(usage.received), units.size(usage.sent)) if usage else "--"


def block(sample: Sample) -> str:
    usage = sample.after
    return _pair(units.size(usage.read), units.size(usage.written)) if usage else "--"


STATS: Listing[Sample] = Listing(
    "stats",
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    {
        "Container": Column("CONTAINER", lambda sample: sample.container.Name.removeprefix("/")),
        "ID": Column("CONTAINER ID", lambda sample: sample.container.Id[: SHORT_ID if sample.cut else None]),
        "Name": Column("NAME", lambda sample: sample.container.Name.removeprefix("/")),
        "CPUPerc": Column("CPU %", cpu),
        "MemUsage": Column("MEM USAGE / LIMIT", memory),
        "MemPerc": Column("MEM %", memory_share),
        "NetIO": Column("NET I/O", network),
        "BlockIO": Column("BLOCK I/O", block),
        "PIDs": Column("PIDS", lambda sample: str(sample.after.pids) if sample.after else "--"),
    },
)


@verb(
    "stats",
    "container stats",
    usage="[OPTIONS] [CONTAINER...]",
    summary="Show what containers use, again and again",
    options=[
        Option("all", BOOL, "Those that do not run too", short="a"),
        FORMAT,
        Option("no-stream", BOOL, "Show it once"),
        NO_TRUNC,
    ],
    completes="running",
)
async def stats(session: Session, parsed: Parsed) -> None:
    await session.while_here(_stats(session, parsed))


async def _stats(session: Session, parsed: Parsed) -> None:
    options, cut = parsed.options, not parsed.options.get("no-trunc", False)
    containers = await _watched(session, parsed)
    before = await _usages(session, containers)
    start = CLEAR if session.is_terminal(1) and not options.get("format") and not options.get("no-stream") else ""
    while True:
        await asyncio.sleep(INTERVAL)
        after = await _usages(session, containers)
        samples = [
            Sample(container, before.get(container.Id), after.get(container.Id), cut) for container in containers
        ]
        await session.out(start + STATS.render(samples, options.get("format", "")))
        if options.get("no-stream"):
            return
        before, containers = after, await _watched(session, parsed)


async def _watched(session: Session, parsed: Parsed) -> list[Container]:
    if parsed.arguments:
        return [await session.engine.inspect(name) for name in parsed.arguments]
    everything = await session.engine.containers()
    return [container for container in everything if container.State.Running or parsed.options.get("all")]


async def _usages(session: Session, containers: Sequence[Container]) -> dict[str, Usage]:
    found = {}
    for container in containers:
        if container.State.Running:
            try:
                found[container.Id] = await session.engine.usage(container.Id)
            except EngineError:  # it has just ended
                pass
    return found


@verb(
    "port",
    "container port",
    usage="CONTAINER [PRIVATE_PORT[/PROTO]]",
    summary="List the published ports of a container, or where one of them is published",
    arguments=(1, 2),
    completes="running",
)
async def port(session: Session, parsed: Parsed) -> None:
    name, *wanted = parsed.arguments
    container = await session.engine.inspect(name)
    published = [port for port in summary.ports(container) if port.PublicPort]
    if not wanted:
        lines = [
            f"{port.PrivatePort}/{port.Type} -> {summary.host_port(port.IP, port.PublicPort)}" for port in published
        ]
    else:
        number, _, protocol = wanted[0].partition("/")
        matching = [each for each in published if (str(each.PrivatePort), each.Type) == (number, protocol or "tcp")]
        lines = [summary.host_port(each.IP, each.PublicPort) for each in matching]
        if not lines:
            raise InvalidArgument(f"No public port '{wanted[0]}' published for {name}")
    await session.out("".join(f"{line}\n" for line in lines))


@verb(
    "diff",
    "container diff",
    usage="CONTAINER",
    summary="List what a container has changed (C), added (A) and deleted (D)",
    arguments=(1, 1),
    completes="container",
)
async def diff(session: Session, parsed: Parsed) -> None:
    changes = await session.engine.diff(parsed.arguments[0])
    await session.out("".join(f"{'CAD'[change.Kind]} {change.Path}\n" for change in changes))
