"""Limits of containers: in the host's cgroup tree, and what happens to who reaches them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from tests.children import wait_until
from tests.engine.containers import inspected, running
from tests.engines import Engine

pytestmark = pytest.mark.usefixtures("busybox")

SPIN = ("sh", "-c", "while :; do :; done")
MiB = 1 << 20


def cgroup(cutaway: Engine, box: str) -> Cgroup:
    """Found from outside: where the container's first process is."""
    text = Path(f"/proc/{inspected(cutaway, box, '{{.State.Pid}}')}/cgroup").read_text()
    found = re.search(r"^\d+:(?:[\w,]*\bpids\b[\w,]*)?:(.+)$", text, re.MULTILINE)
    assert found
    return Cgroup(found[1])


def control_file(cutaway: Engine, box: str, controller: str, file: str) -> str:
    hierarchy = host_layout().find(controller)
    assert hierarchy
    return Path(hierarchy.directory(cgroup(cutaway, box).path), file).read_text().strip()


def version(controller: str) -> int:
    hierarchy = host_layout().find(controller)
    if hierarchy is None:
        pytest.skip(f"this host has no controller {controller}")
    return hierarchy.version


@pytest.mark.parametrize(
    ("options", "controller", "v1", "v2"),
    [
        ("--memory 64m", "memory", "memory.limit_in_bytes: 67108864", "memory.max: 67108864"),
        ("--memory-reservation 32m", "memory", "memory.soft_limit_in_bytes: 33554432", "memory.low: 33554432"),
        ("--memory 64m --memory-swap 96m", "memory", "memory.memsw.limit_in_bytes: 100663296", ""),
        ("--memory-swappiness 7", "memory", "memory.swappiness: 7", ""),
        ("--oom-kill-disable --memory 64m", "memory", "memory.oom_control: oom_kill_disable 1", ""),
        ("--cpus 1.5", "cpu", "cpu.cfs_quota_us: 150000", "cpu.max: 150000 100000"),
        ("--cpu-period 50000 --cpu-quota 20000", "cpu", "cpu.cfs_period_us: 50000", "cpu.max: 20000 50000"),
        ("--cpu-shares 512", "cpu", "cpu.shares: 512", "cpu.weight: 20"),
        ("--cpuset-cpus 0", "cpuset", "cpuset.cpus: 0", "cpuset.cpus: 0"),
        ("--cpuset-mems 0", "cpuset", "cpuset.mems: 0", "cpuset.mems: 0"),
        ("--pids-limit 32", "pids", "pids.max: 32", "pids.max: 32"),
        ("--pids-limit -1", "pids", "pids.max: max", "pids.max: max"),
    ],
)
def test_can_be_read_on_the_host(cutaway: Engine, options: str, controller: str, v1: str, v2: str) -> None:
    file, _, content = (v1 if version(controller) == 1 else v2).partition(": ")
    if not file:
        pytest.skip("cgroup version 2 has no such limit")
    with running(cutaway, *options.split()) as box:
        assert control_file(cutaway, box, controller, file).startswith(content)


def test_block_io_weight(cutaway: Engine) -> None:
    names = ["blkio.weight", "blkio.bfq.weight"] if version("blkio" if _has("blkio") else "io") == 1 else ["io.weight"]
    with running(cutaway, "--blkio-weight", "200") as box:
        assert any(_reads(cutaway, box, name) for name in names)


def test_what_it_writes_to_a_disk_is_counted(cutaway: Engine) -> None:
    if os.major(os.stat(cutaway.root).st_dev) == 0:
        pytest.skip("the engine's state is on no disk here")
    with running(cutaway) as box:
        cutaway("exec", box, "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=8", "conv=fsync")
        counted = cutaway("stats", "--no-stream", "--format", "{{.BlockIO}}", box).stdout
    assert re.search(r" / (8|9)\.?\d*MB$", counted.strip())


def _has(controller: str) -> bool:
    return host_layout().find(controller) is not None


def _reads(cutaway: Engine, box: str, name: str) -> bool:
    try:
        return "200" in control_file(cutaway, box, name.partition(".")[0], name)
    except FileNotFoundError:
        return False


def test_what_exceeds_its_memory_is_killed(cutaway: Engine) -> None:
    grow = "x=0123456789; while :; do x=$x$x; done"
    done = cutaway("run", "--name", "greedy", "--memory", "10m", "busybox", "sh", "-c", grow, check=False)
    assert done.returncode == 137
    assert inspected(cutaway, "greedy", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"
    cutaway("rm", "greedy")


def test_a_child_that_exceeds_it_does_not_end_the_container(cutaway: Engine) -> None:
    grow = "sh -c 'x=0123456789; while :; do x=$x$x; done'; echo survived $?"
    done = cutaway("run", "--name", "greedy", "--memory", "10m", "busybox", "sh", "-c", grow)
    assert done.stdout == "survived 137\n"
    assert inspected(cutaway, "greedy", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 0"
    cutaway("rm", "greedy")


def test_a_share_of_a_cpu_is_not_exceeded(cutaway: Engine) -> None:
    with running(cutaway, "--cpus", "0.1", command=SPIN) as box:
        used, quota = _over_periods(cutaway, box, 20)
    assert quota * 0.2 < used <= quota * 1.1


def _over_periods(cutaway: Engine, box: str, periods: int) -> tuple[int, int]:
    """Nanoseconds of CPU time used, and those that a tenth of a CPU has, in at least so many periods of 100 ms."""
    group = cgroup(cutaway, box)

    def elapsed() -> int:
        return int(dict(line.split() for line in stat().splitlines())["nr_periods"])

    def stat() -> str:
        return control_file(cutaway, box, "cpu", "cpu.stat")

    first, used = elapsed(), group.usage().cpu.total
    wait_until(lambda: elapsed() >= first + periods)
    return group.usage().cpu.total - used, (elapsed() - first + 1) * 10_000_000


def test_a_fork_bomb_meets_its_limit(cutaway: Engine) -> None:
    bomb = "i=0; while [ $i -lt 100 ]; do sleep 100 & i=$((i+1)); done"
    done = cutaway("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", bomb, check=False)
    assert (done.returncode, done.stderr) == (2, "sh: can't fork: Resource temporarily unavailable\n")


def test_limits_of_a_running_container_change(cutaway: Engine) -> None:
    with running(cutaway, "--memory", "64m") as box:
        options = ("--memory", "96m", "--memory-swap", "128m", "--pids-limit", "9", "--cpuset-cpus", "0")
        cutaway("update", *options, box)
        group = cgroup(cutaway, box)
        assert (group.memory().limit, group.usage().pids.limit) == (96 * MiB, 9)
        assert control_file(cutaway, box, "cpuset", "cpuset.cpus") == "0"
        assert inspected(cutaway, box, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}") == f"{96 * MiB} 9"
