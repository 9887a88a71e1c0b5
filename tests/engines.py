"""An engine for the tests: its own state root and runtime directory, spoken to by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("cutaway")
"""The command as it is installed beside the Python that runs the tests."""


class Engine:
    """Called with a command's arguments it runs the command; the first one starts the engine, as for any user."""

    def __init__(self, directory: Path) -> None:
        self.root, self.runtime_dir, self.command = directory / "root", directory / "run", COMMAND
        self.environment = os.environ | {"CUTAWAY_ROOT": str(self.root), "CUTAWAY_RUNTIME_DIR": str(self.runtime_dir)}

    def __call__(
        self, *arguments: str | Path, input: str | None = None, check: bool = True, timeout: float = 90, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Runs `cutaway ARGUMENTS` and captures its output, in which bytes that are not UTF-8 are surrogates.

        `more` goes to `subprocess.run` (`stdin`, `cwd`). Raises `AssertionError` where the command fails, unless
        `check` is false, and `subprocess.TimeoutExpired` after `timeout` seconds.
        """
        if input is None:
            more.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run(
            [self.command, *arguments],
            input=input, capture_output=True, encoding="utf-8", errors="surrogateescape", timeout=timeout,
            env=self.environment, **more,
        )  # fmt: skip
        if check and done.returncode != 0:
            words = " ".join(map(str, arguments))
            raise AssertionError(f"cutaway {words}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def status(self) -> dict[str, Any]:
        """What `cutaway engine status -o json` says."""
        status: dict[str, Any] = json.loads(self("engine", "status", "-o", "json").stdout)
        return status

    def stop(self) -> None:
        """Removes all containers, then ends the engine and its spawner."""
        if containers := self("ps", "-aq").stdout.split():
            self("rm", "-f", "-v", *containers)
        self("engine", "stop")
