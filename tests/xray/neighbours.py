"""Containers of other engines, started by the engines themselves, and what those say of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.children import wait_until
from tests.dockerd import Docker
from tests.engines import Engine
from tests.leaks import cgroup_hierarchies

MEMORY = 48 << 20
SLEEP = ("/bin/sleep", "1000")
_UNITS = {"B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "KB": 1000, "MB": 1000**2, "GB": 1000**3}


class Unavailable(Exception):
    """An engine that does not run here, and why."""


@dataclass
class Neighbour:
    """What its own engine says: `name`, which is also what one asks for it by, PIDs on the host, address, published
    port, limit and use of memory. What it does not say is None."""

    engine: str
    name: str
    pid: int
    pids: list[int]
    address: str | None = None
    port: int | None = None
    memory_limit: int | None = None
    memory_used: Callable[[], int] | None = field(default=None, repr=False)


def size(text: str) -> int:
    """Bytes of `"1.5MiB"` or `"1.5 MB"`."""
    text = text.strip().upper()
    number = text.rstrip("BKMGI ")
    return round(float(number) * _UNITS[text[len(number) :].strip()])


@contextmanager
def of_docker(docker: Docker) -> Iterator[Neighbour]:
    options = ("--memory", str(MEMORY), "--cpus", "0.5", "-p", "18080:80")
    identity = docker("run", "-d", *options, "busybox", *SLEEP)
    said = docker(
        "inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.IPAddress}} {{.HostConfig.Memory}}", identity
    ).split()
    pids = [int(line.split()[1]) for line in docker("top", identity).splitlines()[1:]]

    def used() -> int:
        return size(docker("stats", "--no-stream", "--format", "{{.MemUsage}}", identity).split("/")[0])

    try:
        yield Neighbour("Docker", identity[:12], int(said[0]), pids, said[1], 18080, int(said[2]), used)
    finally:
        docker("rm", "-f", identity)


@contextmanager
def of_cutaway(engine: Engine, image: str) -> Iterator[Neighbour]:
    """Its engine is stopped while it is looked at."""
    options = ("--name", "by-cutaway", "--memory", str(MEMORY), "-p", "18082:80")
    engine("run", "-d", *options, image, *SLEEP)
    template = "{{.State.Pid}} {{.NetworkSettings.IPAddress}} {{.HostConfig.Memory}}"
    said = engine("inspect", "-f", template, "by-cutaway").stdout.split()
    engine("engine", "stop")
    try:
        yield Neighbour("cutaway", "by-cutaway", int(said[0]), [int(said[0])], said[1], 18082, int(said[2]))
    finally:
        engine("rm", "-f", "by-cutaway")


@contextmanager
def of_containerd(docker: Docker, rootfs: Path) -> Iterator[Neighbour]:
    """Through `ctr`, at the containerd that Docker has started."""
    _needs("ctr")
    client = ("ctr", "--address", f"{docker.directory}/exec/containerd/containerd.sock", "--namespace", "xrayed")
    _run(*client, "run", "-d", "--rootfs", "--memory-limit", str(MEMORY), str(rootfs), "by-ctr", *SLEEP)
    (pid,) = [int(line.split()[1]) for line in _run(*client, "task", "ls").splitlines()[1:]]

    def used() -> int:
        metrics = dict(
            line.split(maxsplit=1) for line in _run(*client, "task", "metrics", "by-ctr").splitlines() if line
        )
        return int(metrics["memory.usage_in_bytes"])

    try:
        yield Neighbour("containerd", "by-ctr", pid, [pid], memory_limit=MEMORY, memory_used=used)
    finally:
        _run(*client, "task", "rm", "--force", "by-ctr")
        _run(*client, "container", "rm", "by-ctr")
        _remove_cgroups("xrayed")


@contextmanager
def of_podman(archive: Path) -> Iterator[Neighbour]:
    _needs("podman", "crun")
    with tempfile.TemporaryDirectory(prefix="cutaway-") as short:  # it takes no long paths
        yield from _podman(Path(short), archive)


def _podman(directory: Path, archive: Path) -> Iterator[Neighbour]:
    places = [f"--{name}={directory / name}" for name in ("root", "runroot", "tmpdir", "network-config-dir")]
    podman = ("podman", *places, "--runtime", "crun", "--cgroup-manager", "cgroupfs")
    limits = ("--ulimit", "nofile=100:100", "--ulimit", "nproc=100:100")  # to raise them is not granted everywhere
    _run(*podman, "import", str(archive), "busybox")
    started = (
        "run",
        "-d",
        "--name",
        "by-podman",
        *limits,
        "--memory",
        str(MEMORY),
        "-p",
        "18081:80",
        "busybox",
        *SLEEP,
    )
    _run(*podman, *started)
    template = "{{.State.Pid}} {{.NetworkSettings.IPAddress}} {{.HostConfig.Memory}}"
    said = _run(*podman, "inspect", "-f", template, "by-podman").split()
    pids = [int(line) for line in _run(*podman, "top", "by-podman", "hpid").splitlines()[1:]]

    def used() -> int:
        (stats,) = json.loads(_run(*podman, "stats", "--no-stream", "--format", "json", "by-podman"))
        return size(stats["mem_usage"].split("/")[0])

    try:
        yield Neighbour("podman", "by-podman", int(said[0]), pids, said[1], 18081, int(said[2]), used)
    finally:
        _run(*podman, "rm", "-f", "-t", "0", "by-podman")
        for mount in [
            line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line
        ]:
            subprocess.run(["umount", "--lazy", mount], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "delete", "podman0"], stderr=subprocess.DEVNULL)


@contextmanager
def of_lxc(directory: Path, rootfs: Path) -> Iterator[Neighbour]:
    _needs("lxc-start", "lxc-info", "lxc-stop")
    home = directory / "by-lxc"
    home.mkdir()
    settings = {
        "lxc.uts.name": "by-lxc", "lxc.rootfs.path": f"dir:{rootfs}", "lxc.net.0.type": "empty",
        "lxc.mount.auto": "proc:mixed sys:mixed", "lxc.init.cmd": " ".join(SLEEP), "lxc.apparmor.profile": "unconfined",
    }  # fmt: skip
    (home / "config").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    place = ("-P", str(directory), "-n", "by-lxc")
    _run("lxc-start", *place, "-d")
    said = dict(line.split(":", 1) for line in _run("lxc-info", *place, "-H").splitlines())
    pid = int(said["PID"])

    def used() -> int:
        said = dict(line.split(":", 1) for line in _run("lxc-info", *place, "-H").splitlines())
        return int(said["Memory use"])

    try:
        yield Neighbour("LXC", "by-lxc", pid, [pid], memory_used=used)
    finally:
        _run("lxc-stop", *place, "-k")
        _remove_cgroups("lxc.pivot")


@contextmanager
def of_nspawn(rootfs: Path) -> Iterator[Neighbour]:
    _needs("systemd-nspawn")
    (rootfs / "etc").mkdir(exist_ok=True)
    (rootfs / "etc/os-release").touch()
    options = ("--quiet", "--register=no", "--keep-unit", "--machine=by-nspawn", "--as-pid2", f"--directory={rootfs}")
    with _child("systemd-nspawn", *options, *SLEEP) as pid:
        inside = _descendants(pid, 2)
        yield Neighbour("systemd-nspawn", "by-nspawn", inside[0], inside)


@contextmanager
def of_bubblewrap(rootfs: Path) -> Iterator[Neighbour]:
    _needs("bwrap")
    reader, writer = os.pipe()
    options = (
        "--unshare-all",
        "--ro-bind",
        str(rootfs),
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--info-fd",
        str(writer),
    )
    with _child("bwrap", *options, *SLEEP, keep=writer):
        os.close(writer)
        with open(reader) as said:
            init = int(json.load(said)["child-pid"])
        yield Neighbour("bubblewrap", str(init), init, [init, *_descendants(init, 1)])


@contextmanager
def of_unshare() -> Iterator[Neighbour]:
    _needs("unshare")
    options = ("--pid", "--fork", "--mount-proc", "--uts", "--ipc", "--net", "--kill-child")
    with _child("unshare", *options, "sh", "-c", "hostname by-unshare; sleep 1000; :") as pid:
        inside = _descendants(pid, 2)
        yield Neighbour("unshare", "by-unshare", inside[0], inside)


@contextmanager
def _child(*command: str, keep: int = -1) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, pass_fds=[keep] if keep >= 0 else [])
    try:
        yield child.pid
    finally:
        for pid in [*_below(child.pid)[::-1], child.pid]:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        child.wait(timeout=10)


def _below(pid: int) -> list[int]:
    try:
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in children for each in (child, *_below(child))]


def _descendants(pid: int, number: int) -> list[int]:
    """Those of a process, once there are so many and the last of them sleeps."""
    wait_until(lambda: len(found := _below(pid)) >= number and Path(f"/proc/{found[-1]}/comm").read_text() == "sleep\n")
    return _below(pid)


def _remove_cgroups(name: str) -> None:
    """Those that an engine leaves, empty, in every hierarchy."""
    for hierarchy in cgroup_hierarchies():
        if (hierarchy / name).is_dir():
            (hierarchy / name).rmdir()


def _needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:1])} does not run here: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
