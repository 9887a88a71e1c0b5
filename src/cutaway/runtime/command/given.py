"""What the caller of a verb gives its process besides the words: descriptors to keep, a file for the PID."""

from __future__ import annotations

import os

from cutaway.kernel.descriptors import close_range
from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STANDARD = 3
_MOST_DIGITS = 8
_NOTIFY_SOCKET = "/run/notify/notify.sock"
"""Where a container has that of its runtime's caller."""


def preserve(more: int | None, listening: int = 0) -> int:
    """How many descriptors from 3 on are passed on: those of `listening` sockets, and `more` (`--preserve-fds`). All
    that the caller has open beyond them is closed: a process that waits to be started would hold it open.

    Raises `Failure` where one that is to be kept is not open.
    """
    for descriptor in range(_STANDARD + listening, _STANDARD + listening + (more or 0)):
        if not _is_open(descriptor):
            raise Failure(f"file descriptor {descriptor} is to be preserved, but is not open")
    kept = listening + (more or 0)
    for descriptor in range(_STANDARD, _STANDARD + kept):
        os.set_inheritable(descriptor, True)
    close_range(_STANDARD + kept)
    return kept


def listening() -> int:
    """How many sockets the caller says it gives; none where they are not there: the variable was for somebody else.
    `sd_listen_fds(3)`"""
    said = os.environ.get("LISTEN_FDS", "")
    count = int(said) if said.isdecimal() and len(said) < _MOST_DIGITS else 0
    return count if all(map(_is_open, range(_STANDARD, _STANDARD + count))) else 0


def add_environment(spec: dict[str, Any], *entries: str) -> None:
    """Adds them to what the program of a `config.json` has."""
    spec["process"]["env"] = [*spec["process"].get("env", ()), *entries]


def pass_on_notify_socket(spec: dict[str, Any]) -> str:
    """Binds the socket at which the caller is to say that it is ready (`NOTIFY_SOCKET`, `sd_notify(3)`), if there is
    one, into the container of a `config.json`, and tells its program, unless that has been told of one. Returns why it
    cannot be done, empty where it can."""
    socket = os.environ.get("NOTIFY_SOCKET")
    if not socket or any(entry.startswith("NOTIFY_SOCKET=") for entry in spec["process"].get("env", ())):
        return ""
    if not (socket.startswith("/") and os.path.exists(socket)):
        return f"NOTIFY_SOCKET={socket} cannot be bound into the container: it is no file"
    if not any(each["type"] == "mount" for each in spec["linux"]["namespaces"]):
        return f"NOTIFY_SOCKET={socket} cannot be bound into the container: it has no mount namespace"
    mount = {"destination": _NOTIFY_SOCKET, "type": "bind", "source": socket, "options": ["bind"]}
    spec["mounts"] = [*spec.get("mounts", ()), mount]
    add_environment(spec, f"NOTIFY_SOCKET={_NOTIFY_SOCKET}")
    return ""


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def write_pid_file(path: str, pid: int) -> None:
    """Writes it in one step, as whoever waits for the file reads it at once; nothing for an empty path."""
    if not path:
        return
    passing = f"{path}.{os.getpid()}"
    with open(passing, "x", encoding="utf-8") as file:
        file.write(str(pid))
    os.rename(passing, path)
