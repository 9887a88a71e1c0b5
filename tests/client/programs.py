"""Programs that use `import cutaway`, each in a process of its own, so that it can be ended in any way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.engines import Engine

PATIENCE = 20.0
"""Seconds to wait for what is going to happen."""


@contextmanager
def program(engine: Engine, source: str) -> Iterator[subprocess.Popen[str]]:
    """A program that runs, and is killed at the end of the block if it still does."""
    with subprocess.Popen(
        [sys.executable, "-c", source],
        env=engine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout
    line = process.stdout.readline().strip()
    assert line, process.stderr and process.stderr.read()
    return line


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)


def kill_engine(engine: Engine) -> None:
    """Kills the engine's process, and waits until it is dead."""
    pidfd = os.pidfd_open(engine.status()["engine_pid"])
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], PATIENCE)[0]
    finally:
        os.close(pidfd)


def until_gone(engine: Engine, container: str) -> None:
    """Waits until the engine knows the container no more. Raises `AssertionError` where it stays."""
    deadline = time.monotonic() + PATIENCE
    while container in engine("ps", "-aq", "--no-trunc").stdout:
        assert time.monotonic() < deadline, f"{container} is still there"
        time.sleep(0.02)
