"""How much memory an engine's processes take: the proportional set size of `proc_pid_smaps_rollup(5)`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """`started` in clock ticks since the machine did."""

    pid: int
    parent: int
    started: int
    command: str


def pss(pids: Iterable[int]) -> float:
    """Megabytes (10⁶ bytes) of all these processes, what they share with others in parts."""
    return sum(map(_pss, pids)) * 1024 / 1e6


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def naming(path: str) -> list[int]:
    """The processes outside containers in whose command line `path` occurs."""
    return [process.pid for process in _outside_containers() if path in process.command]


def family(pids: Iterable[int]) -> list[int]:
    """These processes and their descendants outside containers."""
    members = set(pids)
    for process in sorted(_outside_containers(), key=lambda process: process.started):  # parents come first
        if process.parent in members:
            members.add(process.pid)
    return sorted(members)


def _outside_containers() -> Iterator[Process]:
    own_namespace = os.readlink("/proc/self/ns/pid")
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(directory / "ns/pid") == own_namespace:
                stat = (directory / "stat").read_text().rpartition(")")[2].split()
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield Process(int(directory.name), int(stat[1]), int(stat[19]), command)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
