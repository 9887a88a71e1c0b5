"""Ending an engine's processes from outside, and seeing what has become of containers."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

from tests.children import wait_until
from tests.engines import Engine

PATIENCE = 20.0
"""Seconds after which what is waited for is taken not to come."""


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Sends a signal that ends a process, and returns when it has ended, or where it has by itself."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)
        assert select.select([pidfd], [], [], PATIENCE)[0], f"process {pid} has not ended"
    finally:
        os.close(pidfd)


def kill_part(engine: Engine, part: str) -> None:
    """Kills `"engine"`, `"spawner"`, or `"both"` at once; where they have been killed before, the next ones."""
    engine("version")
    wait_until(lambda: engine.status()["spawner_pid"])
    status = engine.status()
    for each in ("engine", "spawner") if part == "both" else (part,):
        kill(status[f"{each}_pid"])


def inspected(engine: Engine, container: str, template: str) -> str:
    """What `inspect -f` prints."""
    return engine("inspect", "-f", template, container).stdout.strip()


def state(engine: Engine, container: str) -> str:
    """`running`, or `exited` and the exit code."""
    return inspected(engine, container, "{{.State.Status}}{{if eq .State.Status `exited`}} {{.State.ExitCode}}{{end}}")


def pid_of(engine: Engine, container: str) -> int:
    """The PID of a container's first process on the host."""
    return int(inspected(engine, container, "{{.State.Pid}}"))


def runs(pid: int) -> bool:
    """Whether there is a process of this PID that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers(engine_pid: int) -> list[int]:
    """The processes that work on images for an engine."""
    children = Path(f"/proc/{engine_pid}/task/{engine_pid}/children").read_text().split()
    return [int(pid) for pid in children if b"image.worker" in _command_line(pid)]


def _command_line(pid: str) -> bytes:
    """The words of a process, each with a 0 after it; none of one that has ended since."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def open_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
