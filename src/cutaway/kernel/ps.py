"""Processes as `ps(1)` prints them, by its usual options, read from `/proc` and not from ps."""

from __future__ import annotations

import contextlib
import grp
import pwd
import time
from typing import TYPE_CHECKING, NamedTuple

from cutaway.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DAY = 86400


class UnknownOption(ValueError):
    """An option of ps(1), or a column, that there is not here."""


_ALWAYS = frozenset("eAaxdgr")
"""Letters that choose processes: here it is always those of the container."""


class Process(NamedTuple):
    """One process, and the moment it was looked at (seconds since 1970)."""

    seen: procfs.PsEntry
    stat: procfs.Stat
    status: procfs.Status
    now: float


class Column(NamedTuple):
    header: str
    text: Callable[[Process], object]


def _user(process: Process) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(process.seen.uid).pw_name
    return str(process.seen.uid)


def _group(process: Process) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(process.status.gids[1]).gr_name
    return str(process.status.gids[1])


def _start(process: Process) -> str:
    """The time of a process that was started today, else the day, else the year."""
    started = time.localtime(process.seen.started)
    if process.now - process.seen.started < _DAY:
        return time.strftime("%H:%M", started)
    same_year = started.tm_year == time.localtime(process.now).tm_year
    return time.strftime("%b%d" if same_year else "%Y", started)


def _clock(seconds: float) -> str:
    """`[DD-]HH:MM:SS`."""
    days, rest = divmod(int(seconds), _DAY)
    return (f"{days:02}-" if days else "") + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


COLUMNS = {
    "pid": Column("PID", lambda process: process.seen.pid),
    "ppid": Column("PPID", lambda process: process.seen.parent),
    "pgid": Column("PGID", lambda process: process.stat.group),
    "sid": Column("SID", lambda process: process.stat.session),
    "user": Column("USER", _user),
    "uid": Column("UID", lambda process: process.seen.uid),
    "group": Column("GROUP", _group),
    "gid": Column("GID", lambda process: process.status.gids[1]),
    "comm": Column("COMMAND", lambda process: process.seen.name),
    "args": Column("COMMAND", lambda process: process.seen.command),
    "cmd": Column("CMD", lambda process: process.seen.command),
    "stat": Column("STAT", lambda process: process.seen.state),
    "s": Column("S", lambda process: process.stat.state),
    "tty": Column("TT", lambda process: process.seen.terminal),
    "time": Column("TIME", lambda process: _clock(process.seen.cpu_time)),
    "bsdtime": Column("TIME", lambda process: _minutes(process.seen.cpu_time)),
    "etime": Column("ELAPSED", lambda process: _clock(process.now - process.seen.started).removeprefix("00:")),
    "etimes": Column("ELAPSED", lambda process: int(process.now - process.seen.started)),
    "stime": Column("STIME", _start),
    "start": Column("STARTED", lambda process: time.strftime("%H:%M:%S", time.localtime(process.seen.started))),
    "lstart": Column("STARTED", lambda process: time.ctime(process.seen.started)),
    "c": Column("C", lambda process: min(int(process.seen.cpu), 99)),
    "pcpu": Column("%CPU", lambda process: f"{process.seen.cpu:.1f}"),
    "pmem": Column("%MEM", lambda process: f"{process.seen.memory:.1f}"),
    "vsz": Column("VSZ", lambda process: process.seen.virtual_size // 1024),
    "rss": Column("RSS", lambda process: process.seen.rss // 1024),
    "ni": Column("NI", lambda process: process.stat.nice),
    "nlwp": Column("NLWP", lambda process: process.stat.threads),
}
_ALIASES = {
    "pgrp": "pgid", "sess": "sid", "session": "sid", "uname": "user", "euser": "user", "euid": "uid", "egid": "gid",
    "egroup": "group", "ucmd": "comm", "ucomm": "comm", "command": "args", "state": "s", "tname": "tty", "tt": "tty",
    "cputime": "time", "start_time": "stime", "%cpu": "pcpu", "%mem": "pmem", "vsize": "vsz", "rssize": "rss",
    "rsz": "rss", "nice": "ni", "thcount": "nlwp",
}  # fmt: skip

Chosen = list[tuple[str, Column]]
"""What to show: headers and columns."""
_BRIEF: Chosen = [
    ("PID", COLUMNS["pid"]), ("TTY", COLUMNS["tty"]), ("TIME", COLUMNS["time"]), ("CMD", COLUMNS["comm"]),
]  # fmt: skip
_FULL: Chosen = [
    ("UID", COLUMNS["user"]), ("PID", COLUMNS["pid"]), ("PPID", COLUMNS["ppid"]), ("C", COLUMNS["c"]),
    ("STIME", COLUMNS["stime"]), ("TTY", COLUMNS["tty"]), ("TIME", COLUMNS["time"]), ("CMD", COLUMNS["cmd"]),
]  # fmt: skip
_BY_USER: Chosen = [
    ("USER", COLUMNS["user"]), ("PID", COLUMNS["pid"]), ("%CPU", COLUMNS["pcpu"]), ("%MEM", COLUMNS["pmem"]),
    ("VSZ", COLUMNS["vsz"]), ("RSS", COLUMNS["rss"]), ("TTY", COLUMNS["tty"]), ("STAT", COLUMNS["stat"]),
    ("START", COLUMNS["stime"]), ("TIME", COLUMNS["bsdtime"]), ("COMMAND", COLUMNS["args"]),
]  # fmt: skip


def table(pids: Iterable[int], ps_options: Sequence[str]) -> list[list[str]]:
    """A header and a row per process. Without options as for `-ef`. Raises `UnknownOption` for what it cannot do."""
    chosen = _chosen(ps_options or ["-ef"])
    rows = [[header for header, _ in chosen]]
    for seen in procfs.ps(sorted(pids)):
        process = Process(seen, seen.stat, seen.status, time.time())
        rows.append([str(column.text(process)) for _, column in chosen])
    return rows


def _chosen(options: Sequence[str]) -> Chosen:
    """What the options of ps ask for."""
    columns: Chosen = []
    style = _BRIEF
    waiting = list(options)
    while waiting:
        word = waiting.pop(0)
        letters, listed, names = word.removeprefix("-").partition("o")
        for letter in letters:
            if letter == "f" and word.startswith("-"):
                style = _FULL
            elif letter == "u" and not word.startswith("-"):
                style = _BY_USER
            elif letter not in _ALWAYS:
                raise UnknownOption(f"ps option {word} is not supported; supported are -ef, aux and -o COLUMN,…")
        if listed:
            columns += _listed(names or (waiting.pop(0) if waiting else ""))
    return columns or style


def _listed(text: str) -> Chosen:
    """`pid,user=WHO,comm`."""
    found = []
    for part in text.split(","):
        name, _, header = part.partition("=")
        column = COLUMNS.get(_ALIASES.get(name, name))
        if column is None:
            raise UnknownOption(f'ps option -o: unknown column "{name}"; known are {", ".join(sorted(COLUMNS))}')
        found.append((header or column.header, column))
    return found
