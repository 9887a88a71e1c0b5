"""Watching containers and holding them: top, stats, pause, update."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from tests.children import wait_until
from tests.engines import Engine

DETACHED = ("run", "-d", "--network", "none")
MiB = 1 << 20


@pytest.fixture
def container(engine: Engine, busybox: str) -> Iterator[str]:
    """The name of a container that runs."""
    engine(*DETACHED, "--name", "busy", "-m", "64m", "--cpus", "0.5", busybox, "sleep", "1000")
    yield "busy"
    engine("rm", "-f", "busy")


def inspected(engine: Engine, container: str, field: str) -> str:
    return engine("inspect", "-f", f"{{{{{field}}}}}", container).stdout.strip()


def cgroup(engine: Engine, container: str) -> Cgroup:
    """The container's cgroup, found from the outside: where its first process is."""
    pid = inspected(engine, container, ".State.Pid")
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return Cgroup(next(path for _, name, path in (line.split(":", 2) for line in lines) if name in ("pids", "")))


def refused(engine: Engine, *arguments: str) -> str:
    done = engine(*arguments, check=False)
    assert done.returncode == 1
    return done.stderr.strip()


class TestTop:
    def test_shows_the_processes_as_the_host_numbers_them(self, cutaway: Engine, container: str) -> None:
        cutaway("exec", "-d", container, "sleep", "2000")
        header, *rows = [line.split() for line in cutaway("top", container, "-o", "pid,args").stdout.splitlines()]
        shown = {int(pid): words for pid, *words in rows}
        assert header == ["PID", "COMMAND"]
        assert sorted(shown.values()) == [["sleep", "1000"], ["sleep", "2000"]]
        for pid, words in shown.items():
            assert Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] == words

    def test_needs_a_container_that_runs(self, cutaway: Engine, container: str) -> None:
        identifier = inspected(cutaway, container, ".Id")
        cutaway("stop", "-t", "0", container)
        assert refused(cutaway, "top", container).endswith(f"Container {identifier} is not running")


class TestStats:
    def test_memory_is_what_the_processes_hold(self, cutaway: Engine, busybox: str) -> None:
        script = "dd if=/dev/zero of=/memory/file bs=1M count=20; touch /memory/done; sleep 1000"
        options = ("--name", "holder", "-m", "64m", "--tmpfs", "/memory")
        cutaway(*DETACHED, *options, busybox, "sh", "-c", script)
        wait_until(lambda: cutaway("exec", "holder", "ls", "/memory/done", check=False).returncode == 0)
        used, limit = _stats(cutaway, "holder", "MemUsage").split(" / ")
        cutaway("rm", "-f", "holder")
        assert 20 <= float(used.removesuffix("MiB")) < 30
        assert limit == "64MiB"

    def test_files_that_were_read_do_not_count(self, cutaway: Engine, busybox: str) -> None:
        script = "dd if=/dev/zero of=/file bs=1M count=30; sync; touch /done; sleep 1000"
        cutaway(*DETACHED, "--name", "reader", "-m", "64m", busybox, "sh", "-c", script)
        wait_until(lambda: cutaway("exec", "reader", "ls", "/done", check=False).returncode == 0)
        assert cgroup(cutaway, "reader").memory().usage > 30 * MiB
        used, _ = _stats(cutaway, "reader", "MemUsage").split(" / ")
        cutaway("rm", "-f", "reader")
        assert float(used.removesuffix("MiB")) < 20

    def test_without_a_limit_it_is_the_hosts_memory(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*DETACHED, "--name", "free", busybox, "sleep", "1000")
        _, limit = _stats(cutaway, "free", "MemUsage").split(" / ")
        cutaway("rm", "-f", "free")
        total = int(Path("/proc/meminfo").read_text().split()[1]) / 1024**2
        assert abs(float(limit.removesuffix("GiB")) - total) < 0.1

    def test_processes_are_counted(self, cutaway: Engine, container: str) -> None:
        cutaway("exec", "-d", container, "sleep", "2000")
        assert _stats(cutaway, container, "PIDs") == "2"

    def test_network_traffic_is_that_of_its_own_links(self, cutaway: Engine, busybox: str) -> None:
        cutaway("run", "-d", "--name", "talker", busybox, "sleep", "1000")
        gateway = inspected(cutaway, "talker", ".NetworkSettings.Gateway")
        cutaway("exec", "talker", "ping", "-c", "3", "-i", "0.1", "-s", "1400", gateway)
        received, sent = _stats(cutaway, "talker", "NetIO").split(" / ")
        cutaway("rm", "-f", "talker")
        assert received.endswith("kB") and 4 <= float(received.removesuffix("kB")) < 10
        assert sent.endswith("kB") and 4 <= float(sent.removesuffix("kB")) < 10


def _stats(engine: Engine, container: str, field: str) -> str:
    return engine("stats", "--no-stream", "--format", f"{{{{.{field}}}}}", container).stdout.strip()


class TestPause:
    @pytest.mark.vm
    def test_everything_stops_and_goes_on(self, cutaway: Engine, busybox: str) -> None:
        script = "while true; do echo again; sleep 0.01; done"
        cutaway(*DETACHED, "--name", "ticking", busybox, "sh", "-c", script)
        cutaway("pause", "ticking")
        assert cgroup(cutaway, "ticking").is_frozen
        assert inspected(cutaway, "ticking", ".State.Status") == "paused"
        assert inspected(cutaway, "ticking", ".State.Paused") == "true"
        said = cutaway("logs", "ticking").stdout
        cutaway("unpause", "ticking")
        assert not cgroup(cutaway, "ticking").is_frozen
        assert inspected(cutaway, "ticking", ".State.Status") == "running"
        wait_until(lambda: len(cutaway("logs", "ticking").stdout) > len(said))
        cutaway("rm", "-f", "ticking")

    def test_a_paused_container_can_be_stopped_and_removed(self, cutaway: Engine, container: str) -> None:
        cutaway("pause", container)
        cutaway("stop", "-t", "0", container)
        assert inspected(cutaway, container, ".State.Status") == "exited"
        cutaway("start", container)
        cutaway("pause", container)
        cutaway("rm", "-f", container)

    def test_files_can_be_copied_while_it_is_paused(self, cutaway: Engine, container: str, tmp_path: Path) -> None:
        cutaway("pause", container)
        cutaway("cp", f"{container}:/etc/passwd", tmp_path / "passwd")
        assert (tmp_path / "passwd").exists()

    def test_what_makes_no_sense_is_said(self, cutaway: Engine, container: str) -> None:
        identifier = inspected(cutaway, container, ".Id")
        assert refused(cutaway, "unpause", container).endswith(f"Container {identifier} is not paused")
        cutaway("pause", container)
        assert refused(cutaway, "pause", container).endswith(f"Container {identifier} is already paused")
        cutaway("stop", "-t", "0", container)
        assert refused(cutaway, "pause", container).endswith(f"Container {identifier} is not running")


class TestUpdate:
    @pytest.mark.vm
    def test_changes_limits_of_a_container_that_runs(self, cutaway: Engine, container: str) -> None:
        cutaway("update", "-m", "32m", "--cpus", "0.25", "--pids-limit", "17", "--cpu-shares", "512", container)
        found = cgroup(cutaway, container)
        assert (found.memory().limit, found.pids().limit) == (32 * MiB, 17)
        assert _cpu_quota(found) == 0.25
        assert inspected(cutaway, container, ".HostConfig.Memory") == str(32 * MiB)
        assert inspected(cutaway, container, ".HostConfig.NanoCpus") == str(250_000_000)

    def test_leaves_the_others_as_they_are(self, cutaway: Engine, container: str) -> None:
        cutaway("update", "--pids-limit", "17", container)
        found = cgroup(cutaway, container)
        assert (found.memory().limit, _cpu_quota(found)) == (64 * MiB, 0.5)

    @pytest.mark.parametrize("unlimited", ["-1", "0"])
    def test_lifts_the_limit_of_processes(self, cutaway: Engine, container: str, unlimited: str) -> None:
        cutaway("update", "--pids-limit", "17", container)
        cutaway("update", "--pids-limit", unlimited, container)
        assert cgroup(cutaway, container).pids().limit is None

    def test_of_a_stopped_container_holds_from_the_next_start(self, cutaway: Engine, container: str) -> None:
        cutaway("stop", "-t", "0", container)
        cutaway("update", "-m", "32m", container)
        cutaway("start", container)
        assert cgroup(cutaway, container).memory().limit == 32 * MiB

    def test_changes_nothing_where_the_kernel_refuses(self, cutaway: Engine, container: str) -> None:
        """More memory is in use than the new limit."""
        cutaway("exec", container, "sh", "-c", "dd if=/dev/zero of=/dev/shm/file bs=1M count=30")
        message = refused(cutaway, "update", "--cpus", "0.25", "-m", "8m", container)
        found = cgroup(cutaway, container)
        assert "Cannot update container" in message
        assert "memory" in message
        assert (found.memory().limit, _cpu_quota(found)) == (64 * MiB, 0.5)
        assert inspected(cutaway, container, ".HostConfig.Memory") == str(64 * MiB)
        assert inspected(cutaway, container, ".HostConfig.NanoCpus") == str(500_000_000)

    def test_changes_nothing_where_a_port_cannot_be_published(self, cutaway: Engine, container: str) -> None:
        message = refused(cutaway, "update", "--cpus", "0.25", "-m", "32m", "--publish-add", "80", container)
        found = cgroup(cutaway, container)
        assert "is on no network" in message
        assert (found.memory().limit, _cpu_quota(found)) == (64 * MiB, 0.5)
        assert inspected(cutaway, container, ".HostConfig.Memory") == str(64 * MiB)

    def test_restart_policy(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*DETACHED, "--name", "tried", busybox, "sh", "-c", "sleep 0.3; exit 1")
        cutaway("update", "--restart", "on-failure:1", "tried")
        state = ("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "tried")
        wait_until(lambda: cutaway(*state).stdout == "1 exited\n")
        cutaway("rm", "tried")

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
            (["--memory-swap", "32m"], "Minimum memoryswap limit should be larger than memory limit, see usage"),
            (["--memory-reservation", "128m"], "Minimum memory limit can not be less than memory reservation limit"),
            (["--cpus", "1000"], "CPUs available"),
            (["--cpu-quota", "50000"], "CPU Period or Quota cannot be updated as NanoCPUs has already been set"),
            (["--cpuset-cpus", "4000"], "Requested CPUs are not available"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, cutaway: Engine, container: str, options: list[str], sentence: str
    ) -> None:
        before = cutaway("inspect", "-f", "{{json .HostConfig}}", container).stdout
        assert sentence in refused(cutaway, "update", *options, container)
        assert cutaway("inspect", "-f", "{{json .HostConfig}}", container).stdout == before

    def test_a_container_that_removes_itself_is_not_restarted(self, cutaway: Engine, busybox: str) -> None:
        cutaway(*DETACHED, "--rm", "--name", "passing", busybox, "sleep", "1000")
        message = refused(cutaway, "update", "--restart", "always", "passing")
        assert "Restart policy cannot be updated because AutoRemove is enabled for the container" in message
        cutaway("rm", "-f", "passing")


def _cpu_quota(cgroup: Cgroup) -> float:
    """In CPUs."""
    if host_layout().find("cpu", version=1):
        quota, period = cgroup.read("cpu", "cpu.cfs_quota_us"), cgroup.read("cpu", "cpu.cfs_period_us")
    else:
        quota, period = cgroup.read("cpu", "cpu.max").split()
    return int(quota) / int(period)


class TestTheHost:
    def test_info(self, cutaway: Engine, container: str) -> None:
        cutaway("pause", container)
        found = json.loads(cutaway("info", "-f", "json").stdout)
        assert found["ContainersPaused"] == 1
        assert (
            found["Containers"] == found["ContainersRunning"] + found["ContainersPaused"] + found["ContainersStopped"]
        )
        assert found["DockerRootDir"] == str(cutaway.root)
        assert (found["NCPU"], found["KernelVersion"]) == (os.cpu_count(), os.uname().release)
        assert found["CgroupVersion"] == ("2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1")
        assert found["ID"] == json.loads(cutaway("info", "-f", "json").stdout)["ID"]

    def test_version(self, cutaway: Engine) -> None:
        found = json.loads(cutaway("version", "-f", "json").stdout)["Server"]
        assert found["Os"] == "linux"
        assert found["KernelVersion"] == os.uname().release
        assert [component["Name"] for component in found["Components"]] == ["Engine", "Python"]
