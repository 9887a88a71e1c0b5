"""What is seen of containers that nobody's engine has made: unshared, nested, hostile, ending, without processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pexpect
import pytest

from cutaway.xray import Measure, NotFound, View
from cutaway.xray.harmless import text as storable
from cutaway.xray.model import Container
from cutaway.xray.text import Text
from tests.children import in_child, wait_until
from tests.engines import Engine

ALONE = ("--pid", "--fork", "--mount-proc", "--net", "--uts", "--ipc", "--kill-child")
HOSTILE = b"\x1b]0;owned\x07\x1b[2J\xff\n\r\xe2\x80\xae"
"""Writes a terminal's title, clears it, is no text, turns writing around."""


@contextmanager
def unshared(*options: str, script: str = "sleep 1000", waits: bool = True) -> Iterator[Container]:
    """What `unshare` makes that runs a script, which ends with a program that sleeps."""
    quiet = subprocess.DEVNULL
    command = ["unshare", *options, "sh", "-c", f"{script}; :" if waits else script]
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _sleeps(child.pid))
        yield next(each for each in View().host.containers if each.pid in _family(child.pid))
    finally:
        _end(child)
        assert child.stderr
        child.stderr.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kills a process and those below it, and waits until none of them is left."""
    family = _family(child.pid)
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    child.wait(timeout=10)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def _family(pid: int) -> set[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return {pid}
    return {pid}.union(*(_family(int(child)) for child in children))


def _sleeps(pid: int) -> bool:
    """Whether what is made has come to its last program."""
    processes = (process for container in _seen(pid) for process in container.processes)
    return any(process.command.startswith("sleep") for process in processes)


def _seen(pid: int) -> Iterator[Container]:
    view, family = View(), _family(pid)
    for container in view.host.containers:
        if container.pid in family:
            view.open(container, Measure())
            container.command = " ".join(process.command for process in container.processes)
            yield container


def opened(wanted: object) -> Container:
    view = View()
    container = view.find(str(wanted))
    view.open(container, Measure())
    return container


@pytest.mark.vm
def test_an_unshared_process_is_a_container() -> None:
    with unshared(*ALONE, script="hostname alone; sleep 1000") as found:
        assert (found.name, found.engine) == ("alone", "unshare")
        container = opened("alone")
        own = {each.kind for each in container.namespaces if each.own}
        assert own == {"pid", "net", "uts", "ipc", "mnt"}
        assert [(each.inner_pid == 1, each.depth) for each in container.processes] == [(True, 0), (False, 1)]
        assert container.root and container.root.kind == "host"
        assert container.network and container.network.own and container.network.interfaces == []
        assert any("no cgroup of its own" in risk for risk in container.security.risks) if container.security else False


def test_a_mount_namespace_alone_is_no_container() -> None:
    child = subprocess.Popen(["unshare", "--mount", "sleep", "1000"])
    try:
        wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
        assert child.pid not in [each.pid for each in View().host.containers]
    finally:
        child.kill()
        child.wait()


def test_one_network_namespace_is_enough() -> None:
    with unshared("--net", script="exec sleep 1000", waits=False) as found:
        assert [each.kind for each in opened(found.pid).namespaces if each.own] == ["net"]


def test_users_are_told_inside_and_outside() -> None:
    quiet = subprocess.DEVNULL
    options = ("--user", "--map-root-user", *ALONE)
    command = ["setpriv", "--reuid=100000", "--regid=100000", "--clear-groups", "unshare", *options, "sleep", "1000"]
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: _sleeps(child.pid))
        container = opened(max(_family(child.pid)))
    finally:
        _end(child)
    assert {(each.user, each.inner_user) for each in container.processes} == {("100000", "root")}
    assert container.security and container.security.user_mapping == ["0 inside is 100000 outside"]
    assert not any("capabilities" in risk for risk in container.security.risks)


def test_a_container_in_a_container_knows_where_it_is() -> None:
    inner = "unshare --pid --fork --mount-proc --uts sh -c 'hostname inner; sleep 1000; :'"
    with unshared(*ALONE, script=f"hostname outer; {inner} & sleep 1000; wait"):
        wait_until(lambda: any(each.name == "inner" for each in View().host.containers))
        assert {each.name: each.within for each in View().host.containers if each.name in ("inner", "outer")} == {
            "inner": "outer",
            "outer": "",
        }
        (first, *_) = opened("inner").processes
        assert first.inner_pid == 1 and first.pid != 1


def test_who_shares_a_namespace_is_told_with_whom() -> None:
    with unshared(*ALONE, script="hostname lender; sleep 1000") as lender:
        join = (
            f"nsenter --net=/proc/{lender.pid}/ns/net unshare --pid --fork --uts sh -c 'hostname guest; sleep 1000; :'"
        )
        child = subprocess.Popen(["sh", "-c", f"exec {join}"])
        try:
            wait_until(lambda: any(each.name == "guest" for each in View().host.containers))
            shared = {each.kind: each.shared_with for each in opened("guest").namespaces}
            assert shared["net"] == ["lender"] and shared["uts"] == [] and shared["user"] == ["the host"]
        finally:
            _end(child)


def test_nothing_that_a_container_calls_itself_reaches_the_terminal() -> None:
    script = 'exec -a "$0" sleep 1000'
    quiet = subprocess.DEVNULL
    command = ["unshare", *ALONE, "bash", "-c", script, os.fsdecode(HOSTILE)]
    child = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        wait_until(lambda: any(HOSTILE.decode(errors="surrogateescape") in each.command for each in _seen(child.pid)))
        view = View()
        (container,) = [each for each in view.host.containers if each.pid in _family(child.pid)]
        view.open(container, Measure())
        text = Text(width=80, colour=False)
        for shown in (text.listed(view.host), text.opened(view.host, container)):
            shown.encode()
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
        assert "\\x1b]0;owned\\x07" in text.opened(view.host, container)
        json.loads(msgspec.json.encode(storable(container)))
    finally:
        _end(child)


def test_what_ends_while_it_is_looked_at_is_no_error() -> None:
    view = None
    with unshared(*ALONE) as found:
        view, pid = View(), found.pid
    view.open(view.find(str(pid)), Measure())
    container = view.find(str(pid))
    assert container.security is None and container.unseen
    Text(width=80, colour=True).opened(view.host, container)


def test_a_host_where_processes_come_and_go_all_the_time(tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    busy.touch()
    loop = f"while [ -e {busy} ]; do unshare --pid --fork --net --uts true; done"
    loops = [subprocess.Popen(["sh", "-c", loop]) for _ in range(2)]
    measure = Measure()
    for _ in range(15):
        view = View()
        view.open_all(measure)
        Text(width=80, colour=False).listed(view.host)
    busy.unlink()
    assert [each.wait(timeout=10) for each in loops] == [0, 0]


def test_a_namespace_without_a_process_is_listed() -> None:
    subprocess.run(["ip", "netns", "add", "kept"], check=True)
    try:
        inode = os.stat("/run/netns/kept").st_ino
        kept = View().host.kept_namespaces
        assert [(each.kind, each.path) for each in kept if each.inode == inode] == [("net", "/run/netns/kept")]
    finally:
        subprocess.run(["ip", "netns", "delete", "kept"], check=True)


def test_without_root_rights_the_rest_is_said() -> None:
    def look() -> tuple[str, str]:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        view = View()
        container = view.find(str(found.pid))
        view.open(container, Measure())
        text = Text(width=None, colour=False)
        return text.listed(view.host), text.opened(view.host, container)

    with unshared(*ALONE) as found:
        listed, shown = in_child(look)
    assert str(found.pid) in listed and "needs root rights" in listed
    assert "1" in shown and "not to be seen without root rights" in shown


def test_layers_that_are_named_relatively_are_found(tmp_path: Path) -> None:
    """As Docker and containerd mount many: from a directory of theirs, so that the list is short."""
    for number in range(40):
        (tmp_path / f"layers/{number}").mkdir(parents=True)
        (tmp_path / f"layers/{number}/file-{number}").write_text("x" * number)
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "layers/0/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "layers/0/busybox").chmod(0o755)
    lowers = ":".join(f"layers/{number}" for number in range(40))
    options = f"lowerdir={lowers},upperdir=upper,workdir=work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", "merged"], cwd=tmp_path, check=True)
    try:
        (tmp_path / "merged/new").write_text("abc")
        (tmp_path / "merged/file-39").unlink()
        with rooted(tmp_path / "merged") as pid:
            root = opened(pid).root
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "merged")], check=True)
    assert root and root.kind == "overlay" and root.upper == f"{tmp_path}/upper"
    assert [layer.path for layer in root.layers] == [f"{tmp_path}/layers/{number}" for number in range(40)]
    assert [(layer.size, layer.files) for layer in root.layers[1:4]] == [(1, 1), (2, 1), (3, 1)]
    assert [(each.kind, each.path, each.size) for each in root.changes] == [
        ("deleted", "/file-39", 0),
        ("added", "/new", 3),
    ]


def test_layers_of_fuse_overlayfs_are_those_of_its_command_line(tmp_path: Path) -> None:
    if not shutil.which("fuse-overlayfs") or not Path("/dev/fuse").exists():
        pytest.skip("fuse-overlayfs is not installed, or there is no /dev/fuse")
    for name in ("lower-1", "lower-2", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    shutil.copy("/bin/busybox", tmp_path / "lower-2/busybox")
    (tmp_path / "lower-1/old").write_text("old")
    options = f"lowerdir={tmp_path}/lower-1:{tmp_path}/lower-2,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["fuse-overlayfs", "-o", options, "merged"], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    try:
        (tmp_path / "merged/old").unlink()
        with rooted(tmp_path / "merged") as pid:
            root = opened(pid).root
    finally:
        subprocess.run(["umount", str(tmp_path / "merged")], check=True)
        wait_until(lambda: "fuse-overlayfs" not in _commands())
    assert root and root.kind == "fuse-overlayfs" and root.upper == f"{tmp_path}/upper"
    assert [layer.path for layer in root.layers] == [f"{tmp_path}/lower-{number}" for number in (1, 2)]
    assert [(each.kind, each.path) for each in root.changes] == [("deleted", "/old")]


def _commands() -> set[str]:
    """The names of the processes in this network namespace."""
    here, found = os.readlink("/proc/self/ns/net"), set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/net") == here:
                found.add((process / "comm").read_text().strip())
        except OSError:  # it has ended
            continue
    return found


@contextmanager
def rooted(root: Path) -> Iterator[int]:
    """A container whose root directory is this one, in which there is a `/busybox`; its PID."""
    command = ["unshare", "--pid", "--fork", "--uts", "--kill-child", f"--root={root}", "/busybox", "sleep", "1000"]
    child = subprocess.Popen(command)
    try:
        wait_until(lambda: any("busybox" in each.command for each in _seen(child.pid)))
        yield next(iter(_family(child.pid) - {child.pid}))
    finally:
        _end(child)


def test_ports_that_plain_rules_publish_are_found() -> None:
    rules = """
        table ip xrayed {
            chain before { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 198.51.100.2:80; }
            chain after { type nat hook postrouting priority srcnat; ip saddr 198.51.100.0/24 masquerade; }
        }"""
    with unshared(*ALONE) as found:
        nsenter = ("nsenter", "--target", str(found.pid), "--net", "--")
        subprocess.run(
            ["ip", "link", "add", "xrayed", "type", "veth", "peer", "name", "eth0", "netns", str(found.pid)], check=True
        )
        subprocess.run([*nsenter, "ip", "address", "add", "198.51.100.2/24", "dev", "eth0"], check=True)
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            network = opened(found.pid).network
        finally:
            subprocess.run(["nft", "delete", "table", "ip", "xrayed"], check=True)
            subprocess.run(["ip", "link", "delete", "xrayed"], check=True)
    assert network and network.interfaces[0].peer and network.interfaces[0].peer.name == "xrayed"
    (port,) = network.ports
    assert (port.protocol, port.host_port, port.address, port.port) == ("tcp", 8080, "198.51.100.2", 80)
    assert port.by == ["nftables ip xrayed before"] and network.translation == "nftables ip xrayed after"


def test_a_name_that_is_nobodys() -> None:
    with pytest.raises(NotFound, match="no container has the name"):
        View().find("nobody")


def test_a_name_that_several_have() -> None:
    script = "hostname twin; sleep 1000"
    with unshared(*ALONE, script=script), unshared(*ALONE, script=script):  # noqa: SIM117
        with pytest.raises(NotFound, match="name one by its PID"):
            View().find("twin")


@pytest.mark.usefixtures("busybox")
def test_risks_are_said_in_words(cutaway: Engine) -> None:
    options = ("--privileged", "--pid", "host", "-v", "/:/host", "--name", "risky")
    cutaway("run", "-d", "--network", "none", *options, "busybox", "sleep", "1000")
    try:
        security = opened("risky").security
        careful = json.loads(cutaway("xray", "risky", "-o", "json").stdout)["security"]["risks"]
    finally:
        cutaway("rm", "-f", "risky")
    assert security
    said = "\n".join(security.risks)
    for risk in (
        "capabilities",
        "/host: the host's root",
        "pid namespace",
        "seccomp",
        "every device",
        "nothing is masked",
    ):
        assert risk in said
    assert careful == security.risks


@pytest.mark.vm
@pytest.mark.usefixtures("busybox")
def test_a_container_as_docker_makes_it_is_no_risk(cutaway: Engine) -> None:
    cutaway("run", "-d", "--name", "plain", "--memory", "32m", "busybox", "sleep", "1000")
    try:
        container = opened("plain")
    finally:
        cutaway("rm", "-f", "plain")
    assert container.security and container.security.risks == []
    assert container.cgroup and container.cgroup.memory.limit == 32 << 20
    assert container.name == "plain" and container.engine == "cutaway"


@pytest.mark.vm
@pytest.mark.usefixtures("busybox")
def test_a_new_name_is_seen_at_once(cutaway: Engine) -> None:
    cutaway("run", "-d", "--name", "before", "--network", "none", "busybox", "sleep", "1000")
    try:
        cutaway("rename", "before", "after")
        assert opened("after").engine == "cutaway"
    finally:
        cutaway("rm", "-f", "after")


def test_colours_are_for_terminals(new_command: Callable[..., str]) -> None:
    with unshared(*ALONE, script="hostname painted; sleep 1000"):
        assert "\x1b[" not in new_command("xray", "painted")


@pytest.fixture
def new_command(tmp_path: Path) -> Callable[..., str]:
    """The command, with an engine that does not run."""
    return lambda *words: Engine(tmp_path)(*words).stdout


def test_watching_goes_on_until_it_is_stopped(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    with unshared(*ALONE, script="hostname watched; sleep 1000"):
        terminal = pexpect.spawn(
            str(engine.command),
            ["xray", "watched", "--watch"],
            env=engine.environment,
            encoding="utf-8",
            dimensions=(24, 80),
        )
        for _ in range(2):
            terminal.expect("watched", timeout=20)
        terminal.sendintr()
        terminal.expect(pexpect.EOF, timeout=20)
        terminal.close()
    assert terminal.exitstatus == 130
    assert not engine.runtime_dir.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("xray", "-o", "yaml"), "text, json, svg or html"),
        (("xray", "--watch", "-o", "svg"), "--watch shows text"),
        (("xray", "nobody"), "no container has the name, ID or PID nobody"),
        (("enter", "nobody", "--", "true"), "no container has the name, ID or PID nobody"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = Engine(tmp_path)(*words, check=False)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
