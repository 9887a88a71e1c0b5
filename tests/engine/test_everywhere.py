"""What a container is, end to end, on whichever cgroups and kernel there are: these run in the virtual machine too."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.killing import kill_part
from tests.engines import Engine

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("busybox"), pytest.mark.timeout(300)]

GREEDY = ["sh", "-c", "head -c 50m /dev/zero | tail"]
PATIENCE = 60.0


def field(cutaway: Engine, container: str, template: str) -> str:
    return cutaway("inspect", "-f", template, container).stdout.strip()


def test_a_process_that_exceeds_its_memory_is_killed(cutaway: Engine) -> None:
    ended = cutaway("run", "--name", "greedy", "--network", "none", "--memory", "10m", "busybox", *GREEDY, check=False)
    try:
        assert field(cutaway, "greedy", "{{.State.OOMKilled}}") == "true"
        assert ended.returncode == 137 or field(cutaway, "greedy", "{{.State.ExitCode}}") != "0"
    finally:
        cutaway("rm", "-f", "greedy")


def test_a_container_can_be_looked_into_from_outside(cutaway: Engine) -> None:
    server = "echo hello > /index.html; exec httpd -f -p 80 -h /"
    options = ["-d", "--memory", "64m", "--pids-limit", "32", "-p", "127.0.0.1::80"]
    container = cutaway("run", *options, "busybox", "sh", "-c", server).stdout.strip()
    try:
        pid = field(cutaway, container, "{{.State.Pid}}")
        _is_isolated(pid)
        _is_limited(pid, {"memory": str(64 << 20), "pids": "32"})
        _has_layers(cutaway, container)
        _is_entered(pid, container)
        assert _fetched(cutaway("port", container, "80").stdout.strip()) == "hello"
        assert cutaway("exec", container, "sh", "-c", "echo $$").stdout.strip() != pid
        cutaway("pause", container)
        assert field(cutaway, container, "{{.State.Status}}") == "paused"
        cutaway("unpause", container)
        cutaway("update", "--memory", "32m", "--memory-swap", "64m", container)
        _is_limited(pid, {"memory": str(32 << 20)})
        cutaway("stop", "-t", "0", container)
        assert field(cutaway, container, "{{.State.ExitCode}}") == "137"
    finally:
        cutaway("rm", "-f", container)


def _is_isolated(pid: str) -> None:
    *_, inside = _status(pid, "NSpid")
    assert inside == "1"
    for kind in ("mnt", "uts", "ipc", "pid", "net", "cgroup"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def _status(pid: str, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split()[1:]


def _is_limited(pid: str, limits: dict[str, str]) -> None:
    files = {"memory": ("memory.limit_in_bytes", "memory.max"), "pids": ("pids.max", "pids.max")}
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    for controller, limit in limits.items():
        v1, v2 = files[controller]
        if controller in groups:
            path = Path("/sys/fs/cgroup", controller, groups[controller].lstrip("/"), v1)
        else:
            path = Path("/sys/fs/cgroup", groups[""].lstrip("/"), v2)
        assert path.read_text().strip() == limit


def _has_layers(cutaway: Engine, container: str) -> None:
    for kind in ("UpperDir", "MergedDir"):
        directory = Path(field(cutaway, container, f"{{{{.GraphDriver.Data.{kind}}}}}"))
        deadline = time.monotonic() + PATIENCE
        while not (directory / "index.html").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (directory / "index.html").read_text() == "hello\n"


def _is_entered(pid: str, container: str) -> None:
    entered = ["nsenter", "--target", pid, "--all", "hostname"]
    assert subprocess.run(entered, capture_output=True, text=True, check=True).stdout.strip() == container[:12]
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert f"cutaway-{container[:12]}" in names


def _fetched(address: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
                return str(answer.read().decode().strip())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_containers_outlive_engine_and_spawner(new_engine: Callable[[], Engine], busybox_tar: Path) -> None:
    """On kernels before 6.15 the exit code of an orphan comes by the process connector."""
    cutaway = new_engine()
    cutaway("import", busybox_tar, "busybox")
    patient = "trap 'exit 5' TERM; while :; do sleep 1; done"
    container = cutaway("run", "-d", "busybox", "sh", "-c", patient).stdout.strip()
    for part in ("engine", "spawner"):
        kill_part(cutaway, part)
        assert container[:12] in cutaway("ps").stdout
        assert cutaway("exec", container, "echo", "here").stdout == "here\n"
    cutaway("stop", "-t", "60", container)
    assert field(cutaway, container, "{{.State.ExitCode}}") == "5"
