"""The engines that are measured, each a command line in Docker's words and the processes it keeps running."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from bench import clock, memory
from bench.traces import Traces

IMAGE = "busybox"
MARK = "cutaway-bench"
START = ("run", "-d", "--label", MARK, IMAGE, "sleep", "100000")
"""A container that does nothing for ever, and that bears our mark: peers may have others."""


class Engine:
    """`name`, and `command`, what a command line of it starts with; `removal`: how running containers are removed."""

    removal: ClassVar[tuple[str, ...]] = ("rm", "-f")
    insecure: ClassVar[tuple[str, ...]] = ()
    """Options of `pull` for a registry on this machine without TLS."""

    def __init__(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        self.name, self.command = name, command
        self.environment = dict(os.environ) | (environment or {})

    def time(self, *arguments: str) -> float:
        """Seconds that the command with these arguments takes."""
        return clock.alone((*self.command, *arguments), self.environment)

    def time_together(self, *arguments: str, times: int) -> float:
        """Seconds until the same command, given so many times at once, has ended each time."""
        return clock.together([(*self.command, *arguments)] * times, self.environment)

    def time_output(self, *arguments: str, size: int) -> float:
        """Seconds until `size` bytes have come out of the command."""
        return clock.drained((*self.command, *arguments), self.environment, size)

    def say(self, *arguments: str) -> str:
        """What the command prints. Raises `subprocess.CalledProcessError`."""
        done = subprocess.run(
            (*self.command, *arguments), env=self.environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout.strip()

    def remove_started(self) -> float:
        """Removes the containers of `START` with one command; seconds."""
        containers = self.say("ps", "-aq", "--filter", f"label={MARK}").split()
        return self.time(*self.removal, *containers) if containers else 0.0

    @property
    def version(self) -> str:
        return self.say("version", "--format", "{{.Client.Version}}")

    def renew(self) -> None:
        """Starts the engine anew where that is a command's work, so that nothing of before is measured."""

    def processes(self) -> list[int]:
        """What the engine itself runs, containers' processes left out."""
        raise NotImplementedError

    def traces(self) -> Traces:
        """Where its containers can be seen on the host."""
        raise NotImplementedError


class Cutaway(Engine):
    """An engine of this checkout with a state root and a runtime directory of its own."""

    def __init__(self, directory: Path) -> None:
        places = {"CUTAWAY_ROOT": f"{directory}/root", "CUTAWAY_RUNTIME_DIR": f"{directory}/run"}
        super().__init__("cutaway", str(Path(sys.executable).with_name("cutaway")), environment=places)
        self._directory = directory
        os.environ.update(places)  # for `import cutaway`

    def renew(self) -> None:
        self.time("engine", "stop")
        self.time("run", "--rm", IMAGE, "true")  # so that nothing is measured that the first container brings

    def processes(self) -> list[int]:
        status = json.loads(self.say("engine", "status", "-o", "json"))
        return memory.family([status["engine_pid"], status["spawner_pid"]])

    def traces(self) -> Traces:
        name = "cutaway-" + hashlib.sha256(f"{self._directory}/run".encode()).hexdigest()[:6]
        return Traces(str(self._directory), bridge=name, cgroup=name)


class Docker(Engine):
    def __init__(self, peers: Path) -> None:
        super().__init__("docker", "docker", "--host", f"unix://{peers}/docker.sock")
        self._path = f"{peers}/docker"

    @property
    def version(self) -> str:
        return self.say("version", "--format", "{{.Server.Version}} (client {{.Client.Version}})")

    def processes(self) -> list[int]:
        """dockerd, containerd, a shim per container, a proxy per published port."""
        return memory.naming(self._path)

    def traces(self) -> Traces:
        return Traces(f"{self._path}/overlay2", bridge="docker0", cgroup="docker")


class Podman(Engine):
    insecure = ("--tls-verify=false",)
    removal = ("rm", "-f", "-t", "0")  # it would stop them first, and wait for ten seconds

    def __init__(self, peers: Path) -> None:
        super().__init__("podman", f"{peers}/podman")
        self._path = f"{peers}/podman"

    def processes(self) -> list[int]:
        """A conmon per container."""
        return memory.naming(self._path)

    def traces(self) -> Traces:
        return Traces(f"{self._path}-data", bridge="podman0", cgroup="libpod_parent")
