"""How long a command takes as its caller sees it, from `posix_spawn(3)` to `wait4(2)`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from time import perf_counter

Command = Sequence[str]


def spawn(command: Command, environment: Mapping[str, str], output: int | None = None) -> int:
    """Starts a command whose output goes to the descriptor `output`, or nowhere; returns its PID."""
    null = os.open("/dev/null", os.O_RDWR)
    try:
        to = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null if output is None else output, 1)]
        return os.posix_spawnp(command[0], list(command), environment, file_actions=to)
    finally:
        os.close(null)


def wait(pid: int, command: Command) -> None:
    """Raises `RuntimeError` where the command fails; what it said is on standard error."""
    _, status, _ = os.wait4(pid, 0)
    if (code := os.waitstatus_to_exitcode(status)) != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {code}")


def together(commands: Sequence[Command], environment: Mapping[str, str]) -> float:
    """Seconds until all of the commands, started at once, have ended."""
    begin = perf_counter()
    started = [spawn(command, environment) for command in commands]
    for pid, command in zip(started, commands, strict=True):
        wait(pid, command)
    return perf_counter() - begin


def alone(command: Command, environment: Mapping[str, str]) -> float:
    """Seconds that one command takes."""
    return together([command], environment)


def drained(command: Command, environment: Mapping[str, str], size: int) -> float:
    """Seconds until `size` bytes have come out of a command's standard output and it has ended."""
    reader, writer = os.pipe()
    begin = perf_counter()
    pid = spawn(command, environment, writer)
    os.close(writer)
    while chunk := os.read(reader, 1 << 20):
        size -= len(chunk)
    wait(pid, command)
    taken = perf_counter() - begin
    os.close(reader)
    if size:
        raise RuntimeError(f"{' '.join(command)}: {size} bytes are missing")
    return taken
