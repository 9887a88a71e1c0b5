"""`--dry-run=sh`: the script makes the container that `run` makes, item by item, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.children import wait_until
from tests.engine.killing import pid_of
from tests.engines import Engine
from tests.leaks import cgroup_hierarchies

PROGRAM = ("sh", "-c", "sleep 1001 & echo up; exec sleep 1000")
SETTINGS = re.compile(
    r"(memory\.(memsw\.)?(limit|soft_limit)_in_bytes|memory\.(swappiness|oom_control|max|low|high|swap\.max)"
    r"|cpu\.(shares|cfs_quota_us|cfs_period_us|max|weight)|cpuset\.(cpus|mems)|pids\.max|devices\.list|cgroup\.type"
    r"|blkio\.(weight|throttle\.read_bps_device)|io\.(weight|max))"
)
LIMITED = ("--memory", "64m", "--memory-reservation", "32m", "--cpus", ".5", "--cpuset-cpus", "0", "--pids-limit", "40",
           "--cpu-shares", "512")  # fmt: skip
CASES = {
    "none": ("--network", "none", *LIMITED, "--read-only", "--tmpfs", "/scratch:size=1m", "--user", "1000:1000",
             "--group-add", "20", "-e", "ODD=it's \"$HOME\" `x`\nnext line", "--workdir", "/scratch/for it",
             "--ulimit", "nofile=100:200", "--oom-score-adj", "500", "--security-opt", "no-new-privileges"),
    "bridge": ("-p", "127.0.0.1:0:80", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", "--cap-drop", "SYS_CHROOT",
               "--sysctl", "net.core.somaxconn=99", "--shm-size", "1m", "--add-host", "there:192.0.2.9"),
    "host": ("--network", "host", "--cap-drop", "ALL", "--ipc", "host", "--uts", "host"),
    "privileged": ("--network", "none", "--privileged"),
    "pid": ("--network", "none", "--pid", "host", "--device", "/dev/kmsg:/dev/x:r"),
}  # fmt: skip

OF_THE_C_LIBRARY = 0b11 << 31
"""The two signals that it keeps for itself, which whoever started the tests may have left ignored, for a script to
inherit."""


class Seen:
    """A container as the host sees it; `hide`: words that differ from one to the next, and what is shown instead."""

    def __init__(self, pid: int, hide: dict[str, str]) -> None:
        self.pid, self._hide = pid, hide
        self._proc = Path(f"/proc/{pid}")

    def items(self) -> dict[str, Any]:
        looks: list[Callable[[], Any]] = [
            self.namespaces, self.mounts, self.files, self.cgroups, self.addresses, self.routes, self.rules,
            self.identity, self.environment, self.limits, self.processes,
        ]  # fmt: skip
        return {look.__name__: self._hidden(look()) for look in looks}

    def _hidden(self, value: Any) -> Any:
        text = json.dumps(value, sort_keys=True)
        for word, shown in self._hide.items():
            text = text.replace(word, shown)
        return json.loads(text)

    def namespaces(self) -> dict[str, bool]:
        kinds = ("mnt", "uts", "ipc", "pid", "net", "cgroup", "user", "time")
        return {kind: os.readlink(self._proc / "ns" / kind) == os.readlink(f"/proc/self/ns/{kind}") for kind in kinds}

    def mounts(self) -> list[list[Any]]:
        """Where, which part of what, how, and how its changes are passed on; the file systems' own numbers differ."""
        found = []
        for line in (self._proc / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            _, _, _, root, target, options, *propagation = before.split()
            found.append([target, root, *after.split()[:2], *map(_sorted, (options, after.split()[2])), *propagation])
        return sorted(found)

    def files(self) -> list[list[Any]]:
        """Everything in its tree but what the kernel makes up."""
        top, found = self._proc / "root", []
        for directory, children, names in os.walk(top):
            for name in [*children, *names]:
                path = Path(directory) / name
                inside = "/" + str(path.relative_to(top))
                if not inside.startswith(("/proc/", "/sys/")):
                    found.append([inside, *_described(path)])
            if directory == str(top):
                children[:] = [name for name in children if name not in ("proc", "sys")]
        return sorted(found)

    def cgroups(self) -> dict[str, str]:
        """Its settings in each hierarchy, and where it is there."""
        found = {}
        for line in (self._proc / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            hierarchy = _hierarchy(controllers)
            found[f"{controllers} is in"] = path
            for file in sorted((hierarchy / path.lstrip("/")).iterdir()):
                if SETTINGS.fullmatch(file.name):
                    found[f"{controllers}/{file.name}"] = file.read_text()
        return found

    def addresses(self) -> list[dict[str, Any]]:
        links = json.loads(self._in_network("ip", "-j", "-d", "address"))
        kept = ("ifname", "flags", "mtu", "operstate", "address", "addr_info", "link_type", "inet6_addr_gen_mode")
        return [{name: link.get(name) for name in kept} for link in links if link["ifname"] in ("lo", "eth0")]

    def routes(self) -> str:
        return self._in_network("ip", "route").replace(" linkdown", "")  # of bridges without a container

    def rules(self) -> str:
        return self._in_network("nft", "-s", "list", "ruleset")

    def _in_network(self, *command: str) -> str:
        enter = ("nsenter", f"--net=/proc/{self.pid}/ns/net", *command)
        said = subprocess.run(enter, check=True, capture_output=True, text=True).stdout
        return re.sub(r"counter packets \d+ bytes \d+|\d+: |valid_lft \d+", "", said)

    def identity(self) -> dict[str, str]:
        """Users, groups, capabilities, signals; without the filter, which is said to be left out."""
        wanted = ("Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
                  "SigBlk", "SigIgn", "SigCgt")  # fmt: skip
        lines = (line.split(":", 1) for line in (self._proc / "status").read_text().splitlines())
        found = {name: value.strip() for name, value in lines if name in wanted}
        found["SigIgn"] = hex(int(found["SigIgn"], 16) & ~OF_THE_C_LIBRARY)
        return found | {"oom_score_adj": (self._proc / "oom_score_adj").read_text()}

    def environment(self) -> list[str]:
        return sorted((self._proc / "environ").read_bytes().decode().split("\0"))

    def limits(self) -> str:
        return (self._proc / "limits").read_text()

    def processes(self) -> list[list[Any]]:
        """Of its cgroup: the PIDs inside, what they are, where they are, and what they have open."""
        _, controllers, path = (self._proc / "cgroup").read_text().splitlines()[0].split(":", 2)
        hierarchy = _hierarchy(controllers)
        pids = (hierarchy / path.lstrip("/") / "cgroup.procs").read_text().split()
        return sorted(self._process(int(pid)) for pid in pids)

    def _process(self, pid: int) -> list[Any]:
        proc = Path(f"/proc/{pid}")
        inside = re.findall(r"^NS(?:pid|pgid|sid):.*", (proc / "status").read_text(), re.M)
        numbers = [line.split()[1:][1:] for line in inside]  # after the first, which is the host's
        words = (proc / "cmdline").read_bytes().decode().split("\0")
        return [words, numbers, *(os.readlink(proc / name) for name in ("cwd", "root", "exe")), os.listdir(proc / "fd")]


def _hierarchy(controllers: str) -> Path:
    """Where the hierarchy is mounted that a line of /proc/PID/cgroup is about; version 2 names no controllers."""
    names = {*controllers.replace("name=", "").split(",")} if controllers else {"unified", "cgroup"}
    names |= {controllers}
    return next(each for each in cgroup_hierarchies() if each.name in names)


def _sorted(options: str) -> list[str]:
    """Lower directories look different where they were passed one by one, which mount(8) cannot; and an overlay whose
    upper directory was mounted before, to fill a volume, has no UUID of its own."""
    return sorted(options.replace("lowerdir+=", "lowerdir=").replace(",uuid=on", "").split(","))


def _described(path: Path) -> list[Any]:
    found = path.lstat()
    content: Any = found.st_rdev
    if path.is_symlink():
        content = os.readlink(path)
    elif path.is_file():
        content = path.read_text() if "/etc/" in str(path) else hashlib.sha256(path.read_bytes()).hexdigest()
    return [oct(found.st_mode), found.st_uid, found.st_gid, content]


@pytest.fixture
def script_of(cutaway: Engine, tmp_path: Path) -> Callable[..., Path]:
    """Writes the script that a command line of `run` would be."""

    def write(*arguments: str) -> Path:
        path = tmp_path / "script"
        path.write_text(cutaway("run", "--dry-run=sh", *arguments).stdout)
        return path

    return write


@contextmanager
def running(script: Path, directory: Path) -> Iterator[int]:
    """The PID of the container's first process while the script runs; its program has said that it is up."""
    (directory / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(directory / "tmp")}
    with subprocess.Popen(["sh", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shell:
        assert shell.stdout and shell.stderr
        try:
            assert shell.stdout.readline() == b"up\n", shell.stderr.read()
            pid = int(next((directory / "tmp").glob("*/pid")).read_text())
            wait_until(lambda: _sleeps(pid))
            yield pid
        finally:
            shell.send_signal(signal.SIGTERM)
            said = shell.stderr.read().decode()
    assert shell.returncode == 143, said
    assert not list((directory / "tmp").iterdir())


def _sleeps(pid: int) -> bool:
    """Whether its program has come to its last command."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    try:
        names = {each: Path(f"/proc/{each}/comm").read_text().strip() for each in [str(pid), *children]}
    except (FileNotFoundError, ProcessLookupError):
        return False  # a command ended meanwhile: not the last one yet
    return "sleep" in names.values() and all(names[each] in ("sleep", "httpd") for each in children)


def of_run(engine: Engine, name: str) -> Seen:
    container = json.loads(engine("inspect", name).stdout)[0]
    settings: dict[str, str] = next(iter(container["NetworkSettings"]["Networks"].values()), {})
    return Seen(pid_of(engine, name), _to_hide(container["Id"], settings.get("IPAddress"), settings.get("MacAddress")))


def of_script(script: Path, pid: int) -> Seen:
    text = script.read_text()
    container_id = re.search(r"containers/([0-9a-f]{64})", text)
    address = re.search(r"address add ([\d.]+)/\d+ broadcast \+ dev eth0", text)
    mac = re.search(r"peer name eth0 address (\S+)", text)
    assert container_id
    return Seen(pid, _to_hide(container_id[1], address and address[1], mac and mac[1]))


def _to_hide(container_id: str, address: str | None, mac: str | None) -> dict[str, str]:
    hide = {container_id: "ID", container_id[:12]: "SHORT-ID", container_id[:10]: "LINK"}
    return hide | ({address: "ADDRESS", str(mac): "MAC"} if address else {})


ON_V2_TOO = ("none", "bridge")


@pytest.mark.parametrize(
    "options", [pytest.param(CASES[case], id=case, marks=[pytest.mark.vm] * (case in ON_V2_TOO)) for case in CASES]
)
def test_the_container_of_the_script_equals_that_of_run(
    cutaway: Engine, busybox: str, script_of: Callable[..., Path], tmp_path: Path, options: tuple[str, ...]
) -> None:
    original = looked_at(cutaway, *options, busybox, *PROGRAM)
    script = script_of(*options, busybox, *PROGRAM)
    with running(script, tmp_path) as pid:
        replayed = of_script(script, pid).items()
    for item in original:
        assert replayed[item] == original[item], item


def looked_at(engine: Engine, *arguments: str) -> dict[str, Any]:
    """What a container looks like that `run` makes."""
    name = "original"
    engine("run", "-d", "--name", name, *arguments)
    try:
        wait_until(lambda: engine("logs", name).stdout)
        wait_until(lambda: _sleeps(pid_of(engine, name)))
        return of_run(engine, name).items()
    finally:
        engine("rm", "-f", "-v", name)


@pytest.fixture
def network(cutaway: Engine) -> Iterator[str]:
    cutaway("network", "create", "replayed")
    yield "replayed"
    cutaway("network", "rm", "replayed")


def test_names_may_hold_whatever_they_like(
    cutaway: Engine, busybox: str, network: str, script_of: Callable[..., Path], tmp_path: Path
) -> None:
    """Volumes, too: one that is new is filled with what the image has, and goes with the script."""
    source = tmp_path / "a 'b' $c\n#d"
    source.mkdir()
    (source / "file").write_text("held")
    program = ("sh", "-c", 'echo up; sleep 1000; : "$@"', "it's", "$x `y`\nEND\n", "")
    given = ("--network", network, "--hostname", "box", "-e", "A=\nEND\n# no comment\n", "-v", "filled:/etc",
             "-v", f"{source}:/x y'z:ro")  # fmt: skip
    original = looked_at(cutaway, *given, busybox, *program)
    cutaway("volume", "rm", "filled")
    script = script_of(*given, busybox, *program)
    with running(script, tmp_path) as pid:
        replayed = of_script(script, pid).items()
        assert Path(f"/proc/{pid}/root/etc/group").read_text().startswith("root:")
    for item in original:
        assert replayed[item] == original[item], item
    assert (source / "file").read_text() == "held"
    assert "filled" not in cutaway("volume", "ls", "-q").stdout
    assert not (cutaway.root / "volumes/filled").exists()


def test_a_published_port_leads_to_the_container(busybox: str, script_of: Callable[..., Path], tmp_path: Path) -> None:
    serve = "echo hello > /tmp/index.html; httpd -p 80 -h /tmp; echo up; exec sleep 1000"
    script = script_of("-p", "127.0.0.1:18080:80", busybox, "sh", "-c", serve)
    with running(script, tmp_path), urllib.request.urlopen("http://127.0.0.1:18080/", timeout=10) as answer:
        assert answer.read() == b"hello\n"


@pytest.mark.usefixtures("busybox")
def test_links_of_the_image_do_not_lead_out_of_the_container(
    cutaway: Engine, busybox_tar: Path, script_of: Callable[..., Path], tmp_path: Path
) -> None:
    archive = tmp_path / "linked.tar"
    archive.write_bytes(busybox_tar.read_bytes())
    with tarfile.open(archive, "a") as tar:
        for name, target in (("var/run", "/run"), ("out", "/../../etc")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    cutaway("import", archive, "linked")
    volume = tmp_path / "volume"
    volume.mkdir()
    try:
        given = ("--network", "none", "--tmpfs", "/var/run/x", "-v", f"{volume}:/out/y", "-w", "/var/run/z", "linked")
        original = looked_at(cutaway, *given, *PROGRAM)
        script = script_of(*given, *PROGRAM)
        with running(script, tmp_path) as pid:
            replayed = of_script(script, pid).items()
            assert not any(map(os.path.lexists, ("/run/x", "/run/z", "/etc/y")))
        for item in ("mounts", "processes"):
            assert replayed[item] == original[item], item
    finally:
        cutaway("rmi", "linked")


def test_a_dry_run_changes_nothing(cutaway: Engine, busybox: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    given = ("--name", "dry", "-v", "dry:/data", "-v", "/anonymous", "-v", f"{source}:/x", "-p", "80", "--network")
    before = sorted(path for path in cutaway.root.rglob("*") if not path.name.startswith("engine.db"))
    for verb in ("run", "create"):
        done = cutaway(verb, "--dry-run=sh", *given, "bridge", busybox, "true")
        assert done.stdout.startswith("#!/bin/sh\n# cutaway " + verb)
        assert "left out: the seccomp filter" in done.stderr and "left out: the seccomp filter" in done.stdout
    assert sorted(path for path in cutaway.root.rglob("*") if not path.name.startswith("engine.db")) == before
    assert not source.exists()
    assert "dry" not in cutaway("ps", "-a").stdout + cutaway("volume", "ls").stdout


def test_the_script_ends_as_its_program_does(busybox: str, script_of: Callable[..., Path]) -> None:
    def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        script = script_of("--network", "none", *arguments)
        return subprocess.run(["sh", script], capture_output=True, text=True, timeout=50, **more)

    done = run(busybox, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (7, "out\n", "err")
    assert run(busybox, "nosuch").returncode == 127
    assert run("-i", busybox, "cat", input="given").stdout == "given"
    assert run(busybox, "cat", input="given").stdout == ""


def test_what_cannot_be_said_as_a_script_is_refused(cutaway: Engine, busybox: str) -> None:
    done = cutaway("run", "--dry-run=fish", busybox, "true", check=False)
    assert done.returncode == 125 and "the script is for sh" in done.stderr
