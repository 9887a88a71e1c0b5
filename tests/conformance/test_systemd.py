"""`--systemd-cgroup` where systemd runs: units that systemd itself shows, and nothing left of them afterwards."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from tests.conformance.bundles import RUNTIME, Bundle, python_of_everybody
from tests.conformance.podman import RootlessPodman
from tests.conformance.systemd import Systemd, UserSystemd, booted, session
from tests.dockerd import DockerWithSystemd

MEBI = 1 << 20


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with booted() as systemd:
        yield systemd


class Contained:
    """A bundle's container whose cgroup is `unit`."""

    def __init__(self, systemd: Systemd | UserSystemd, bundle: Bundle) -> None:
        self.systemd, self.bundle = systemd, bundle
        self.unit = f"cutaway-{bundle.id}.scope"
        bundle.linux["cgroupsPath"] = f"system.slice:cutaway:{bundle.id}"

    def __call__(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, verb, *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def create(self, *args: str) -> str:
        """What is said where it cannot be created. A container holds on to its output: that goes to a file."""
        self.bundle.process["args"] = list(args)
        self.bundle.write()
        with open(self.bundle.directory / "said", "w+", encoding="utf-8") as said:
            words = ("create", "--bundle", str(self.bundle.directory), self.bundle.id)
            null = subprocess.DEVNULL
            subprocess.run([*self._command, *words], stdin=null, stdout=said, stderr=said, timeout=60, check=False)
            said.seek(0)
            return said.read()

    def run(self, *args: str) -> str:
        """What a program says whose container is created, started and waited for."""
        self.bundle.process["args"] = list(args)
        self.bundle.write()
        done = self("run", "--bundle", str(self.bundle.directory), self.bundle.id)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def _command(self) -> list[str]:
        return [*self.systemd.within, RUNTIME, "--root", str(self.bundle.runtime.root), "--systemd-cgroup"]

    def shows(self, name: str) -> str:
        return self.systemd.property(self.unit, name)

    def holds(self, controller: str, file: str) -> str:
        """What a file of its cgroup holds, as seen where systemd is."""
        path = self.shows("ControlGroup").strip("/")
        return self.systemd("cat", f"{Cgroup(path, host_layout()).directory(controller)}/{file}")


@pytest.fixture
def contained(systemd: Systemd, bundle: Bundle) -> Iterator[Contained]:
    contained = Contained(systemd, bundle)
    yield contained
    contained("delete", "--force", bundle.id)


def _limit(bundle: Bundle) -> None:
    bundle.linux["resources"] = {
        "memory": {"limit": 64 * MEBI},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000},
        "pids": {"limit": 32},
        "devices": [{"allow": False}, {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"}],
    }


def _is_v2() -> bool:
    return host_layout().find("memory", version=2) is not None


@pytest.mark.vm
def test_a_container_is_a_scope_with_its_limits(contained: Contained) -> None:
    _limit(contained.bundle)
    contained.bundle.spec["annotations"] = {"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}
    assert contained.create("sleep", "1000") == ""
    assert contained.shows("ActiveState") == "active"
    assert contained.shows("TimeoutStopUSec") == "7s"
    assert contained.shows("ControlGroup") == f"/system.slice/{contained.unit}"
    assert contained.shows("Delegate") == "yes"
    assert contained.shows("TasksMax") == "32"
    assert contained.shows("MemoryMax" if _is_v2() else "MemoryLimit") == str(64 * MEBI)
    assert contained.shows("CPUQuotaPerSecUSec") == "400ms"
    assert "/dev/char/10:200 rw" in contained.shows("DeviceAllow")
    assert contained.holds("pids", "pids.max") == "32"
    if _is_v2():
        assert contained.holds("cpu", "cpu.max") == "20000 50000"
    else:
        assert contained.holds("cpu", "cpu.cfs_quota_us") == "20000"
        assert "c 10:200 rw" in contained.holds("devices", "devices.list")


def test_its_process_is_in_every_hierarchy(contained: Contained) -> None:
    contained.bundle.without_namespace("cgroup")
    shown = contained.run("cat", "/proc/self/cgroup").split()
    assert {line.rpartition(":")[2] for line in shown} == {f"/system.slice/{contained.unit}"}


def test_no_further_process_is_a_limit_that_systemd_takes_too(contained: Contained) -> None:
    contained.bundle.linux["resources"] = {"pids": {"limit": 0}}
    assert contained.create("sleep", "1000") == ""
    assert contained.shows("TasksMax") == "1"
    assert contained.holds("pids", "pids.max") == "0"


@pytest.mark.vm
def test_limits_survive_a_reload_of_systemd(contained: Contained) -> None:
    _limit(contained.bundle)
    assert contained.create("sleep", "1000") == ""
    updated = contained("update", "--pids-limit", "16", "--cpu-quota", "10000", contained.bundle.id)
    assert updated.returncode == 0, updated.stderr
    assert contained.shows("TasksMax") == "16"
    assert contained.shows("CPUQuotaPerSecUSec") == "200ms"
    contained.systemd("systemctl", "daemon-reload")
    assert contained.holds("pids", "pids.max") == "16"
    if not _is_v2():
        assert contained.holds("devices", "devices.list").splitlines() != ["a *:* rwm"]


def test_an_update_that_fails_changes_nothing(contained: Contained) -> None:
    _limit(contained.bundle)
    assert contained.create("sleep", "1000") == ""
    assert contained("update", "--pids-limit", "16", "--cpuset-cpus", "4000", contained.bundle.id).returncode == 1
    assert contained.shows("TasksMax") == "32"
    assert contained.holds("pids", "pids.max") == "32"


@pytest.mark.vm
def test_nothing_is_left_of_it(contained: Contained) -> None:
    assert contained.create("sleep", "1000") == ""
    deleted = contained("delete", "--force", contained.bundle.id)
    assert deleted.returncode == 0, deleted.stderr
    assert contained.unit not in contained.systemd("systemctl", "list-units", "--all", "--plain")
    assert contained.unit not in contained.systemd("find", "/sys/fs/cgroup", "-name", contained.unit)


def test_further_processes_join_it(contained: Contained) -> None:
    assert contained.create("sleep", "1000") == ""
    assert contained("start", contained.bundle.id).returncode == 0
    done = contained("exec", contained.bundle.id, "sh", "-c", "grep -c :/$ /proc/self/cgroup")
    assert done.stdout.strip() == str(len(host_layout().hierarchies))  # each at the root of its cgroup namespace


def test_a_user_namespace_gets_a_scope_too(contained: Contained) -> None:
    contained.bundle.with_namespace("user")
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    contained.bundle.linux |= {"uidMappings": mappings, "gidMappings": mappings}
    assert contained.create("sleep", "1000") == ""
    assert contained.shows("ControlGroup") == f"/system.slice/{contained.unit}"


def test_slices_nest_by_their_names(contained: Contained) -> None:
    contained.bundle.linux["cgroupsPath"] = f"one-two.slice:cutaway:{contained.bundle.id}"
    assert contained.create("sleep", "1000") == ""
    assert contained.shows("ControlGroup") == f"/one.slice/one-two.slice/{contained.unit}"


def test_a_name_that_ends_in_slice_is_one(contained: Contained) -> None:
    contained.unit = "three-four.slice"
    contained.bundle.linux["cgroupsPath"] = "three.slice:cutaway:three-four.slice"
    assert contained.create("sleep", "1000") == ""
    assert contained.shows("ControlGroup") == "/three.slice/three-four.slice"
    assert contained("delete", "--force", contained.bundle.id).returncode == 0
    assert contained.shows("ActiveState") == "inactive"


@pytest.mark.parametrize("path", ["/cutaway", "system.slice:x", "a--b.slice:x:y", "a:x:y", "system.slice:x:../y"])
def test_a_path_that_names_no_unit_is_refused(contained: Contained, path: str) -> None:
    contained.bundle.linux["cgroupsPath"] = path
    assert "slice" in contained.create("true")
    assert contained("state", contained.bundle.id).returncode == 1


def test_what_systemd_refuses_is_told_in_its_words(contained: Contained) -> None:
    contained.bundle.linux["cgroupsPath"] = "system.slice:cutaway:not a name"
    assert "systemd does not start cutaway-not a name.scope: " in contained.create("true")
    assert contained("state", contained.bundle.id).returncode == 1


def test_a_scope_of_somebody_else_is_left_alone(contained: Contained, bundles: Callable[[], Bundle]) -> None:
    assert contained.create("sleep", "1000") == ""
    other = Contained(contained.systemd, bundles())
    other.bundle.linux["cgroupsPath"] = contained.bundle.linux["cgroupsPath"]
    assert "not empty" in other.create("true")
    assert json.loads(contained("state", contained.bundle.id).stdout)["status"] == "created"


class ContainedOfUser(Contained):
    """The same for an ordinary user and the systemd of that user."""

    def __init__(self, systemd: UserSystemd, bundle: Bundle) -> None:
        super().__init__(systemd, bundle)
        self.path = f"{systemd.path}/user.slice/{self.unit}"
        bundle.linux["cgroupsPath"] = f"user.slice:cutaway:{bundle.id}"

    def create(self, *args: str) -> str:
        self.bundle.process["args"] = list(args)
        (self.bundle.directory / "said").touch()
        self.bundle.give_to_nobody()
        return super().create(*args)

    @property
    def _command(self) -> list[str]:
        state = str(self.bundle.directory / "state")
        return [*self.systemd.within, python_of_everybody(), "-IS", RUNTIME, "--root", state, "--systemd-cgroup"]


@pytest.fixture
def of_user(bundle: Bundle) -> Iterator[ContainedOfUser]:
    with session() as systemd:
        contained = ContainedOfUser(systemd, bundle)
        yield contained
        contained("delete", "--force", bundle.id)


@pytest.mark.vm
def test_a_users_container_is_a_scope_of_the_users_systemd(of_user: ContainedOfUser) -> None:
    identifier = of_user.bundle.id
    _limit(of_user.bundle)
    assert of_user.create("sleep", "1000") == ""
    assert of_user.shows("ControlGroup") == f"/{of_user.path}"
    assert (of_user.shows("MemoryMax"), of_user.shows("TasksMax")) == (str(64 * MEBI), "32")
    assert of_user.holds("memory", "memory.max") == str(64 * MEBI)
    assert of_user("start", identifier).returncode == 0
    executed = of_user("exec", identifier, "cat", "/proc/self/cgroup")
    assert executed.stdout == "0::/\n", executed.stderr
    assert of_user("update", "--pids-limit", "16", identifier).returncode == 0
    assert (of_user.shows("TasksMax"), of_user.holds("pids", "pids.max")) == ("16", "16")
    assert of_user("pause", identifier).returncode == of_user("resume", identifier).returncode == 0
    deleted = of_user("delete", "--force", identifier)
    assert deleted.returncode == 0, deleted.stderr
    assert of_user.shows("ActiveState") == "inactive"
    assert not Path(Cgroup(of_user.path, host_layout()).directory("memory")).exists()


@pytest.mark.vm
@pytest.mark.slow
def test_podman_of_a_user_has_systemd_make_the_cgroups(busybox_tar: Path) -> None:
    if missing := [each for each in ("podman", "newuidmap", "dbus-daemon") if not shutil.which(each)]:
        pytest.skip(f"{', '.join(missing)} not installed")
    with session() as systemd, tempfile.TemporaryDirectory() as name:
        place = Path(name)
        podman = RootlessPodman(place, systemd.place, systemd.runtime, "systemd")
        podman("import", str(shutil.copy(busybox_tar, place)), "busybox")
        limited = ("--network", "none", "--memory", "64m", "busybox")
        assert podman("run", "--rm", *limited, "cat", "/sys/fs/cgroup/memory.max") == str(64 * MEBI)
        container = podman("run", "--detach", *limited, "sleep", "1000")
        assert systemd.property(f"libpod-{container}.scope", "MemoryMax") == str(64 * MEBI)
        assert podman("exec", container, "id", "-u") == "0"
        podman("pause", container)
        podman("unpause", container)
        podman("rm", "--force", "--time", "0", container)
        assert systemd.property(f"libpod-{container}.scope", "ActiveState") == "inactive"
        podman("system", "migrate")


@pytest.mark.docker
def test_docker_has_systemd_make_the_cgroups(systemd: Systemd, busybox_tar: Path) -> None:
    if not shutil.which("dockerd") or not shutil.which("docker"):
        pytest.skip("Docker is not installed")
    runtime = ("--add-runtime", f"cutaway={RUNTIME}", "--default-runtime", "cutaway")
    with tempfile.TemporaryDirectory() as place, DockerWithSystemd(Path(place), systemd.within, *runtime) as docker:
        docker("import", str(busybox_tar), "busybox")
        container = docker(
            "run", "--detach", "--memory", "64m", "--cpus", "0.5", "--network", "none", "busybox", "sleep", "1000"
        )
        unit = f"docker-{container}.scope"
        assert systemd.property(unit, "ActiveState") == "active"
        assert int(docker("inspect", "--format", "{{.State.Pid}}", container)) in _processes(systemd, unit)
        assert docker("exec", container, "id", "-u") == "0"
        docker("update", "--memory", "96m", "--memory-swap", "96m", container)
        assert systemd.property(unit, "MemoryMax" if _is_v2() else "MemoryLimit") == str(96 * MEBI)
        docker("pause", container)
        docker("unpause", container)
        docker("rm", "--force", container)
        assert systemd.property(unit, "ActiveState") == "inactive"


def _processes(systemd: Systemd, unit: str) -> list[int]:
    directory = Cgroup(systemd.property(unit, "ControlGroup").strip("/"), host_layout()).directory("memory")
    return [int(pid) for pid in systemd("cat", f"{directory}/cgroup.procs").split()]
