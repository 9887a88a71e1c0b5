"""`--proc-view`: a container's /proc tells of its own limits, whatever dies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.children import wait_until
from tests.engine.killing import kill, kill_part, runs
from tests.engines import Engine

LIMITS = ("--memory", "300m", "--cpuset-cpus", "0")
TOOLS = ("free", "nproc")
needs_lxcfs = pytest.mark.skipif(not shutil.which("lxcfs"), reason="lxcfs is not installed")


@pytest.fixture
def tools() -> list[str]:
    """The host's own free and nproc, with what they need, to be mounted into containers."""
    paths = {str(shutil.which(tool)) for tool in TOOLS}
    for tool in paths.copy():
        linked = subprocess.run(["ldd", tool], check=True, capture_output=True, text=True).stdout
        paths |= set(re.findall(r"(/\S+)", linked))
    return [f"--volume={os.path.realpath(path)}:/{'tools' if 'bin/' in path else ''}{path}:ro" for path in paths]


def lxcfs_of(engine: Engine) -> int:
    return int((engine.runtime_dir / "proc-view.pid").read_text())


def memory_of(engine: Engine, container: str) -> int:
    """In MiB, as the container's /proc/meminfo has it; 0 where it is dead."""
    done = engine("exec", container, "sh", "-c", "grep MemTotal /proc/meminfo", check=False)
    return int(done.stdout.split()[1]) >> 10 if done.stdout else 0


@pytest.fixture
def pair(new_engine: Callable[[], Engine], busybox_tar: Path) -> Iterator[Engine]:
    """An engine of its own with two containers that see their limits."""
    engine = new_engine()
    engine("import", busybox_tar, "busybox")
    for name, limit in (("big", "300m"), ("small", "100m")):
        engine(
            "run",
            "-d",
            "--network",
            "none",
            "--proc-view",
            "--memory",
            limit,
            "--name",
            name,
            "busybox",
            "sleep",
            "1000",
        )
    yield engine
    engine("rm", "-f", "big", "small")
    assert not (engine.runtime_dir / "proc-view.pid").exists()


@needs_lxcfs
def test_free_top_and_nproc_tell_of_the_container(cutaway: Engine, busybox: str, tools: list[str]) -> None:
    tell = "free -m; nproc; top -bn1; cat /proc/uptime /proc/swaps /sys/devices/system/cpu/online"
    program = "for tool in free nproc; do alias $tool=$(ls /tools/bin/$tool /tools/usr/bin/$tool); done; eval '$1'"
    given = ("--network", "none", "--proc-view", *LIMITS, *tools, busybox, "sh", "-c", program.replace("$1", tell))
    said = cutaway("run", "--rm", *given).stdout
    assert re.search(r"^Mem: +300 ", said, re.M)
    assert re.search(r"^1$", said, re.M)
    used, free = re.findall(r"Mem: (\d+)K used, (\d+)K free", said)[0]
    assert int(used) + int(free) == 300 << 10
    assert re.search(r"^\d\.\d+ \d\.\d+$", said, re.M), "it has been up for some seconds at most"
    assert said.endswith("\n0\n")
    assert not (cutaway.runtime_dir / "proc-view").exists()


@needs_lxcfs
def test_a_quota_of_cpus_shows_and_limits_may_change(cutaway: Engine, busybox: str) -> None:
    cutaway("run", "-d", "--name", "quota", "--network", "none", "--proc-view", "--cpus", "1", busybox, "sleep", "1000")
    try:
        counted = cutaway("exec", "quota", "grep", "-c", "^processor", "/proc/cpuinfo").stdout
        assert counted == "1\n"
        cutaway("update", "--memory", "50m", "--memory-swap", "-1", "quota")
        assert memory_of(cutaway, "quota") == 50
    finally:
        cutaway("rm", "-f", "quota")


@needs_lxcfs
def test_another_lxcfs_serves_when_one_dies(pair: Engine) -> None:
    first = lxcfs_of(pair)
    assert (memory_of(pair, "big"), memory_of(pair, "small")) == (300, 100)
    kill(first)
    wait_until(lambda: (memory_of(pair, "big"), memory_of(pair, "small")) == (300, 100))
    assert lxcfs_of(pair) != first
    counted = pair("exec", "big", "grep", "-c", "lxcfs", "/proc/self/mountinfo").stdout
    assert counted == "7\n", "no dead mount is left below the new ones"


@needs_lxcfs
def test_it_outlives_the_engine_and_the_next_one_takes_it_over(pair: Engine) -> None:
    first = lxcfs_of(pair)
    kill_part(pair, "engine")
    assert runs(first)
    assert (memory_of(pair, "big"), lxcfs_of(pair)) == (300, first)
    kill(first)
    wait_until(lambda: memory_of(pair, "small") == 100)
    kill_part(pair, "engine")
    kill(lxcfs_of(pair))  # while there is no engine to see it
    wait_until(lambda: memory_of(pair, "big") == 300)


@needs_lxcfs
def test_it_ends_with_the_last_container_that_needs_it(pair: Engine) -> None:
    pid = lxcfs_of(pair)
    pair("rm", "-f", "big")
    assert runs(pid) and memory_of(pair, "small") == 100
    kill_part(pair, "engine")
    pair("rm", "-f", "small")
    assert not runs(pid)
    pair("run", "-d", "--name", "small", "--network", "none", "--proc-view", "busybox", "sleep", "1000")
    last = lxcfs_of(pair)
    pair("kill", "small")
    pair("wait", "small")
    wait_until(lambda: not runs(last))
    pair("create", "--name", "big", "busybox", "true")


@pytest.fixture
def no_lxcfs() -> Iterator[None]:
    """On this test's host lxcfs is not installed."""
    if program := shutil.which("lxcfs"):
        subprocess.run(["mount", "--bind", "/dev/null", program], check=True)
    yield
    if program:
        subprocess.run(["umount", program], check=True)


@pytest.mark.usefixtures("no_lxcfs")
def test_where_it_cannot_be_it_is_refused(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--rm", "--proc-view", busybox, "true", check=False)
    assert done.returncode == 125 and "apt-get install lxcfs" in done.stderr


@needs_lxcfs
def test_with_the_hosts_processes_it_is_refused(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--rm", "--proc-view", "--pid", "host", busybox, "true", check=False)
    assert done.returncode == 125 and "--pid host" in done.stderr
