"""A real Docker daemon, all of whose state is its own, on the host of the tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


class Docker:
    """A context manager, as long as which the daemon lives; called with arguments, it runs `docker` against it.

    `directory` keeps its socket, log and state; `options` are the daemon's. `socket`: its address, as `DOCKER_HOST` has
    it.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory, self._options = directory, options
        self.socket = f"unix://{directory}/docker.sock"
        self._cgroup = f"docker-{os.getpid()}"

    @property
    def directory(self) -> Path:
        """Where it keeps its socket, log and state; containerd's are under `exec/containerd`."""
        return self._directory

    def __call__(self, *arguments: str, timeout: float = 60) -> str:
        """Standard output, stripped. Raises `AssertionError` with standard error where the command fails."""
        done = self.ended(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()

    def ended(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """How the command ended, and what it said."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout)

    def command(self, *arguments: str) -> list[str]:
        """The command line."""
        return ["docker", "--host", self.socket, *arguments]

    def __enter__(self) -> Docker:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # dockerd sets the policy DROP where it enables this
        with open(self._log, "wb") as log:
            self._daemon = subprocess.Popen(self._daemons, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if containers := self("ps", "-aq").split():
            self("rm", "-f", "-v", *containers)
        self._end()

    @property
    def _daemons(self) -> list[str]:
        """The daemon's command line."""
        return [
            "dockerd", "--host", self.socket, "--data-root", f"{self._directory}/data",
            "--exec-root", f"{self._directory}/exec", "--pidfile", f"{self._directory}/pid",
            *self._cgroups, *self._options,
        ]  # fmt: skip

    @property
    def _cgroups(self) -> tuple[str, ...]:
        return "--cgroup-parent", f"/{self._cgroup}"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.ended("version").returncode != 0:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd does not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def _end(self) -> None:
        """Ends the daemon, and takes away what it leaves on a host."""
        self._daemon.terminate()
        self._daemon.wait(timeout=30)
        subprocess.run(["ip", "link", "delete", "docker0"], check=True)
        for table in ("nat", "filter"):
            subprocess.run(["nft", "delete", "table", "ip", table], check=True)
        for cgroup in Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}"):
            cgroup.rmdir()


class DockerWithSystemd(Docker):
    """A daemon whose cgroups systemd makes, without networks. `within`: what a command line starts with to be there."""

    def __init__(self, directory: Path, within: Sequence[str], *options: str) -> None:
        super().__init__(directory, "--bridge=none", "--iptables=false", "--ip-forward=false", *options)
        self._within = within

    @property
    def _daemons(self) -> list[str]:
        return [*self._within, *super()._daemons]

    @property
    def _cgroups(self) -> tuple[str, ...]:
        return "--exec-opt", "native.cgroupdriver=systemd"

    def _end(self) -> None:
        """Of the daemon; what was started is who has entered there, and waits for it."""
        if (file := self._directory / "pid").exists():
            subprocess.run([*self._within, "kill", file.read_text()], check=True)
        self._daemon.wait(timeout=30)
