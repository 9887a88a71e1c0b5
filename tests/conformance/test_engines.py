"""Engines that people already run, with `cutaway-oci` in the place of runc: what works there with runc works here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.children import wait_until
from tests.conformance import containerd
from tests.conformance.bundles import NOBODY, RUNTIME
from tests.conformance.containerd import CGROUP, IMAGE, Containerd, Cri
from tests.conformance.podman import Podman, RootlessPodman
from tests.dockerd import Docker
from tests.leaks import cgroup_hierarchies

pytestmark = pytest.mark.slow
SILENT: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """A short path, as engines make sockets in it."""
    with tempfile.TemporaryDirectory(prefix="cutaway-engines-") as name:
        yield Path(name)


# Docker


@pytest.fixture(scope="module")
def docker(directory: Path, busybox_tar: Path) -> Iterator[Docker]:
    if not shutil.which("dockerd") or not shutil.which("docker"):
        pytest.skip("Docker is not installed")
    place = directory / "docker"
    place.mkdir()
    options = ("--add-runtime", f"cutaway={RUNTIME}", "--default-runtime", "cutaway")
    with Docker(place, *options) as docker:
        docker("import", str(busybox_tar), "busybox")
        yield docker


@pytest.fixture
def served(docker: Docker) -> Iterator[str]:
    """A container that serves a page on port 80."""
    script = "mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www; sleep 1000"
    yield docker("run", "--detach", "--publish", "127.0.0.1::80", "--memory", "64m", "busybox", "sh", "-c", script)
    docker("rm", "--force", docker("ps", "--latest", "--quiet"))


def test_docker_runs_and_tells_how_it_ended(docker: Docker) -> None:
    assert docker("info", "--format", "{{.DefaultRuntime}}") == "cutaway"
    assert docker("run", "--rm", "busybox", "echo", "hello") == "hello"
    assert _code(docker, "run", "--rm", "busybox", "sh", "-c", "exit 3") == 3
    assert _code(docker, "run", "--rm", "busybox", "nosuch") == 127
    assert _code(docker, "run", "--rm", "busybox", "/etc") == 126


def _code(docker: Docker, *words: str) -> int:
    return docker.ended(*words).returncode


def test_docker_in_a_terminal(docker: Docker) -> None:
    command = docker.command("run", "--rm", "--interactive", "--tty", "busybox", "sh")
    terminal = pexpect.spawn(command[0], command[1:], timeout=30, encoding="utf-8")
    terminal.expect("# ")
    terminal.sendline("tty; exit 6")
    terminal.expect("/dev/pts/0")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 6


def test_docker_publishes_ports(docker: Docker, served: str) -> None:
    address = docker("port", served, "80")
    wait_until(lambda: _page(f"http://{address}") == "page\n")


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_docker_executes_in_a_container(docker: Docker, served: str) -> None:
    words = ("exec", "--user", "1000:1000", "--workdir", "/www", "--env", "A=b", served, "sh", "-c")
    assert docker(*words, "id -u; pwd; echo $A").split() == ["1000", "/www", "b"]
    assert _code(docker, *words, "exit 5") == 5
    assert "executable file not found" in docker.ended("exec", served, "nosuch").stdout
    command = docker.command("exec", "--interactive", "--tty", served, "tty")
    assert "/dev/pts/0" in str(pexpect.run(" ".join(command), timeout=30))


def test_docker_shows_what_it_uses(docker: Docker, served: str) -> None:
    assert docker("stats", "--no-stream", "--format", "{{.MemUsage}}", served).endswith("64MiB")
    assert "sleep 1000" in docker("top", served)


def test_docker_pauses_and_updates(docker: Docker, served: str) -> None:
    docker("pause", served)
    assert "(Paused)" in docker("ps", "--format", "{{.Status}}")
    docker("unpause", served)
    docker("update", "--memory", "128m", "--memory-swap", "256m", served)
    assert docker("stats", "--no-stream", "--format", "{{.MemUsage}}", served).endswith("128MiB")
    docker("restart", "--time", "0", served)
    assert docker("exec", served, "hostname") == served[:12]


def test_docker_hears_that_memory_ran_out(docker: Docker) -> None:
    limits = ("--memory", "16m", "--memory-swap", "16m")
    assert _code(docker, "run", "--name", "oom", *limits, "busybox", "tail", "-c", "100000000", "/dev/zero") == 137
    assert docker("inspect", "--format", "{{.State.OOMKilled}}", "oom") == "true"
    docker("rm", "oom")


def test_docker_can_delete_at_once_what_could_not_be_started(docker: Docker, tmp_path: Path) -> None:
    """Only executing it shows that it is no program. What is not stopped by then, Docker forgets with all it has."""
    (tmp_path / "junk").write_bytes(b"\0junk")
    (tmp_path / "junk").chmod(0o755)
    before, run = _of_docker(), ("run", "--network", "none", "--volume", f"{tmp_path}/junk:/junk", "busybox", "/junk")
    for _ in range(4):
        started = [subprocess.Popen(docker.command(*run), **SILENT) for _ in range(4)]
        assert 0 not in [each.wait(30) for each in started]
    docker("rm", *docker("ps", "--all", "--quiet", "--filter", "ancestor=busybox").split())
    assert _of_docker() == before


def _of_docker() -> list[Path]:
    """The cgroups of Docker's containers."""
    return [cgroup for hierarchy in cgroup_hierarchies() for cgroup in hierarchy.glob(f"docker-*/{'?' * 64}")]


def test_docker_confines(docker: Docker) -> None:
    look = ("sh", "-c", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status")
    options = ("--user", "nobody", "--cap-drop", "all", "--security-opt", "no-new-privileges")
    assert docker("run", "--rm", *options, "busybox", *look).split()[1::2] == ["0" * 16, "1", "2"]
    assert docker("run", "--rm", "--privileged", "busybox", *look).split()[5] == "0"
    assert "Read-only file system" in docker.ended("run", "--rm", "--read-only", "busybox", "touch", "/x").stderr
    assert docker("run", "--rm", "--init", "busybox", "cat", "/proc/1/comm") == "docker-init"


AS_WITH_RUNC = {
    "capabilities": ("--cap-add SYS_ADMIN --cap-drop CHOWN", "grep Cap /proc/self/status"),
    "cgroup": ("--cgroupns private", "cat /proc/self/cgroup"),
    "environment": ("--env A=b --env B=", "env | grep -v HOSTNAME | sort"),
    "files": ("--tmpfs /t:size=1m,mode=1777 --read-only", "touch /x; touch /t/x; ls -ld /t; df /t | tail -1"),
    "groups": ("--user 1000:1001 --group-add 5 --group-add 99", "id; grep -E 'Cap|Groups' /proc/self/status"),
    "kernel parameters": ("--sysctl kernel.shmmax=12345678", "cat /proc/sys/kernel/shmmax"),
    "limits": ("--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c"),
    "masked paths": ("", "for f in /proc/kcore /proc/keys /sys/firmware; do ls -ld $f | cut -c1-10; cat $f; done 2>&1"),
    "memory": ("--shm-size 3m --oom-score-adj 500", "df -k /dev/shm | tail -1; cat /proc/self/oom_score_adj"),
    "mounts": ("--volume /tmp:/host:ro --volume /own", "grep -oE ' /(host|own) [^ ]*' /proc/self/mountinfo | sort"),
    "names": ("--hostname me --domainname d.e", "hostname; cat /proc/sys/kernel/domainname"),
    "privileges": ("--security-opt no-new-privileges", "grep -E 'NoNew|Seccomp' /proc/self/status"),
    "working directory": ("--workdir /a/b/c", "pwd; ls -ld /a/b/c | cut -c1-10"),
}


@pytest.mark.parametrize("what", AS_WITH_RUNC)
def test_docker_sees_what_it_sees_with_runc(docker: Docker, what: str) -> None:
    if not shutil.which("runc"):
        pytest.skip("runc is not installed")
    options, script = AS_WITH_RUNC[what]
    ours, theirs = (
        docker.ended("run", "--rm", "--runtime", runtime, *options.split(), "busybox", "sh", "-c", script)
        for runtime in ("cutaway", "runc")
    )
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


# containerd


@pytest.fixture(scope="module")
def ctr(directory: Path, busybox_tar: Path) -> Iterator[Containerd]:
    if not containerd.is_installed():
        pytest.skip("containerd is not installed")
    place = directory / "containerd"
    place.mkdir()
    with Containerd(place, RUNTIME) as running:
        running.load(busybox_tar, "default")
        running.load(busybox_tar, "k8s.io")
        yield running


def test_ctr_runs(ctr: Containerd) -> None:
    words = ("run", "--rm", "--runc-binary", RUNTIME, "--cgroup", f"{CGROUP}/ctr", IMAGE, "one")
    assert ctr(*words, "echo", "hello") == "hello\n"
    assert ctr.ended(*words, "sh", "-c", "exit 3").returncode == 3
    assert "executable file not found" in ctr.ended(*words, "nosuch").stderr


def test_ctr_leads_a_tasks_life(ctr: Containerd) -> None:
    words = ("run", "--detach", "--runc-binary", RUNTIME, "--cgroup", f"{CGROUP}/ctr", IMAGE, "two", "sleep", "1000")
    ctr(*words)
    assert ctr("tasks", "exec", "--exec-id", "other", "two", "echo", "inside") == "inside\n"
    ctr("tasks", "pause", "two")
    assert "PAUSED" in ctr("tasks", "list")
    ctr("tasks", "resume", "two")
    assert len(ctr("tasks", "ps", "two").splitlines()) == 2
    assert "memory" in ctr("tasks", "metrics", "two")
    ctr("tasks", "kill", "--signal", "SIGKILL", "two")
    wait_until(lambda: "STOPPED" in ctr("tasks", "list"))
    ctr("tasks", "delete", "two")
    ctr("containers", "delete", "two")


# Kubernetes


@pytest.fixture
def cri(ctr: Containerd) -> Iterator[Cri]:
    cri = ctr.cri()
    yield cri
    cri.close()


def test_a_kubelet_makes_a_pod(cri: Cri, tmp_path: Path) -> None:
    pod = {
        1: {1: "pod", 2: "uid", 3: "default"},
        3: str(tmp_path),
        8: {1: CGROUP, 2: {1: {1: 2}}},  # in the host's network, as no network plugin is installed
    }
    sandbox = cri("RunPodSandbox", {1: pod, 2: "cutaway"})[1].decode()
    try:
        _lead_a_container(cri, pod, sandbox, tmp_path)
    finally:
        cri("StopPodSandbox", {1: sandbox})
        cri("RemovePodSandbox", {1: sandbox})


def _lead_a_container(cri: Cri, pod: dict[int, Any], sandbox: str, logs: Path) -> None:
    command = ["sh", "-c", "echo started; sleep 1000; true"]
    linux = {1: {4: 64 << 20}, 2: {3: {1: 2, 2: 1}}}  # a memory limit; the host's network, processes of its own
    config = {1: {1: "container"}, 2: {1: IMAGE}, 3: command, 11: "log", 15: linux}
    container = cri("CreateContainer", {1: sandbox, 2: config, 3: pod})[1].decode()
    cri("StartContainer", {1: container})
    wait_until(lambda: "started" in (logs / "log").read_text())
    said = cri("ExecSync", {1: container, 2: ["sh", "-c", "cat /proc/1/comm; exit 3"], 3: 20})
    assert (said[1], said[3]) == (b"sh\n", 3)
    assert cri("ContainerStats", {1: container})[1]
    cri("UpdateContainerResources", {1: container, 2: {4: 96 << 20}})
    shares_ipc = cri("ExecSync", {1: container, 2: ["readlink", "/proc/self/ns/ipc"], 3: 20})[1]
    assert shares_ipc.strip().decode() != os.readlink("/proc/self/ns/ipc")
    cri("StopContainer", {1: container, 2: 0})
    cri("RemoveContainer", {1: container})


# podman


@pytest.fixture
def podman(directory: Path, busybox_tar: Path) -> Iterator[Podman]:
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    place = directory / "podman"
    if not place.exists():
        place.mkdir()
        Podman(place)("import", str(busybox_tar), "busybox")
    podman = Podman(place)
    yield podman
    podman("rm", "--all", "--force", "--time", "0")
    wait_until(podman.is_done)
    subprocess.run(["umount", f"{place}/root/overlay"], stderr=subprocess.DEVNULL)  # which podman sometimes leaves


def test_podman_runs_and_tells_how_it_ended(podman: Podman) -> None:
    run = ("run", "--rm", "--network", "none", "busybox")
    assert podman(*run, "echo", "hello") == "hello"
    assert podman.ended(*run, "sh", "-c", "exit 3").returncode == 3
    assert podman.ended(*run, "nosuch").returncode == 127
    assert podman.ended(*run, "/etc").returncode == 126


def test_podman_leads_a_containers_life(podman: Podman) -> None:
    container = podman("run", "--detach", "--network", "none", "busybox", "sleep", "1000")
    assert podman("exec", "--user", "1000", container, "id", "-u") == "1000"
    assert podman.ended("exec", container, "sh", "-c", "exit 5").returncode == 5
    assert "sleep 1000" in podman("top", container)
    podman("pause", container)
    podman("unpause", container)
    podman("kill", container)
    assert podman("wait", container) == "137"
    podman("rm", container)


@pytest.mark.parametrize("users", [(), ("--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536")])
def test_podman_gives_devices(podman: Podman, users: tuple[str, ...]) -> None:
    run = ("run", "--rm", "--network", "none", *users, "--device", "/dev/null:/dev/nothing", "busybox")
    assert podman(*run, "sh", "-c", "echo x > /dev/nothing; stat -c %t:%T:%a /dev/nothing") == "1:3:666"


def test_podman_makes_pods(podman: Podman) -> None:
    infra = ("--infra-image", "busybox", "--infra-command", "sleep 1000")
    podman("pod", "create", "--name", "pod", "--network", "none", *infra)
    one = podman("run", "--detach", "--pod", "pod", "busybox", "sleep", "1000")
    assert len(json.loads(podman("pod", "inspect", "pod"))["Containers"]) == 2
    shared = [podman("exec", container, "readlink", "/proc/self/ns/net") for container in (one, "pod-infra")[:1]]
    assert shared == [podman("run", "--rm", "--pod", "pod", "busybox", "readlink", "/proc/self/ns/net")]
    podman("pod", "rm", "--force", "--time", "0", "pod")


@pytest.fixture
def rootless(directory: Path, busybox_tar: Path) -> Iterator[RootlessPodman]:
    if missing := [each for each in ("podman", "newuidmap") if not shutil.which(each)]:
        pytest.skip(f"{', '.join(missing)} not installed")
    directory.chmod(0o755)
    place = directory / "rootless"
    place.mkdir()
    podman = RootlessPodman(place)
    podman("import", str(shutil.copy(busybox_tar, place)), "busybox")
    yield podman
    podman("rm", "--all", "--force", "--time", "0")
    podman("system", "migrate")  # which ends the process that keeps the user namespace
    wait_until(podman.is_done)
    shutil.rmtree(place)


def test_podman_of_an_ordinary_user(rootless: RootlessPodman) -> None:
    run = ("run", "--rm", "--network", "none")
    assert rootless(*run, "busybox", "sh", "-c", "id -u; echo x > /dev/null; touch /made") == "0"
    shown = rootless(*run, "busybox", "cat", "/proc/self/uid_map").split()
    assert shown == ["0", str(NOBODY), "1", "1", "500000", "65536"]
    assert rootless(*run, "--userns", "keep-id", "busybox", "id", "-u") == str(NOBODY)
    assert rootless(*run, "--privileged", "busybox", "sh", "-c", "head -c 1 /dev/zero | wc -c") == "1"
    assert rootless(*run, "--systemd", "always", "busybox", "ls", "-d", "/sys/fs/cgroup") == "/sys/fs/cgroup"
    assert rootless.ended(*run, "busybox", "nosuch").returncode == 127
    container = rootless("run", "--detach", "--network", "none", "busybox", "sleep", "1000")
    assert rootless("exec", "--user", "1000", container, "id", "-u") == "1000"
    assert rootless.ended("exec", container, "sh", "-c", "exit 5").returncode == 5
    assert "sleep 1000" in rootless("top", container)
    rootless("kill", container)
    assert rootless("wait", container) == "137"
