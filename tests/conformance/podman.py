"""podman with `cutaway-oci`, root's and an ordinary user's, each with storage of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cutaway.kernel import procfs
from tests.conformance.bundles import NOBODY, RUNTIME, python_of_everybody, with_subordinate_users

CONFIGURATION = f"""
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]  # its own are more than a test machine may have to give
[engine]
runtime_supports_json = ["{Path(RUNTIME).name}"]
"""


class Podman:
    """`directory`: where all is that it keeps; `cgroups`: who makes its cgroups."""

    def __init__(self, directory: Path, cgroups: str = "cgroupfs") -> None:
        self.directory = directory
        self.runtime = RUNTIME
        (directory / "containers.conf").write_text(CONFIGURATION)
        self._options = ["--cgroup-manager", cgroups, "--events-backend", "file"]

    def prefix(self) -> list[str]:
        """What a command line begins with."""
        return ["env", f"CONTAINERS_CONF={self.directory}/containers.conf"]

    def ended(self, *words: str) -> subprocess.CompletedProcess[str]:
        place = self.directory
        kept = ["--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp"]
        command = [*self.prefix(), "podman", *kept, *self._options, "--runtime", self.runtime, *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def is_done(self) -> bool:
        """Whether none of its processes is there: it cleans up after a container in the background."""
        return not any(str(self.directory) in " ".join(_command_line(pid)) for pid in procfs.pids())

    def __call__(self, *words: str) -> str:
        done = self.ended(*words)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()


def _command_line(pid: int) -> list[str]:
    try:
        return procfs.command_line(pid)
    except ProcessLookupError:
        return []


class RootlessPodman(Podman):
    """That of NOBODY, with 65536 subordinate users, which only its own mount namespaces know of.

    `within`: what to run it in; `session`: what is to be `XDG_RUNTIME_DIR`.
    """

    def __init__(
        self, directory: Path, within: tuple[str, ...] = (), session: Path | None = None, cgroups: str = "cgroupfs"
    ) -> None:
        super().__init__(directory, cgroups)
        self._within, self._session = within, session or directory / "session"
        launcher = directory / Path(RUNTIME).name
        launcher.write_text(f'#!/bin/sh\nexec {python_of_everybody()} -IS {RUNTIME} "$@"\n')
        launcher.chmod(0o755)
        self.runtime = str(launcher)
        self._session.mkdir(exist_ok=True)
        for each in (directory, self._session):
            os.chown(each, NOBODY, NOBODY)

    def prefix(self) -> list[str]:
        known = with_subordinate_users(self.directory)
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-C", "/", "USER=nobody"]
        user += [f"HOME={self.directory}", f"XDG_RUNTIME_DIR={self._session}"]
        user += [f"DBUS_SESSION_BUS_ADDRESS=unix:path={self._session}/bus"]
        return [*self._within, *known, *user, *super().prefix()]
