"""The options of `run` and `create`: each has an effect inside, or is refused with nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.containers import inspected, names, running
from tests.engines import COMMAND, Engine

pytestmark = pytest.mark.usefixtures("busybox")


INSIDE = [
    ("--hostname box.example", "hostname; cat /etc/hostname", "box.example\nbox.example\n"),
    ("--domainname example.org", "dnsdomainname || cat /proc/sys/kernel/domainname", "example.org\n"),
    ("-e A=1 -e PATH=/bin -e A=2", "echo $A $PATH", "2 /bin\n"),
    ("-w /tmp", "pwd", "/tmp\n"),
    ("-w /not/there/yet", "pwd", "/not/there/yet\n"),
    ("-u 1000", "id -u; id -g; echo $HOME", "1000\n1000\n/home\n"),
    ("-u user", "id -u; id -g", "1000\n1000\n"),
    ("-u 7:50", "id -u; id -G", "7\n50\n"),
    ("-u nobody --group-add 55 --group-add staff", "id -G", "65534 50 55\n"),
    ("--read-only", "touch /a /etc/hosts 2>/dev/null || touch /dev/shm/a && echo shm", "shm\n"),
    ("--read-only -w /not/there/yet", "pwd", "/not/there/yet\n"),
    ("--read-only --tmpfs /tmp", "touch /tmp/a && echo tmp", "tmp\n"),
    ("--tmpfs /t:size=1m,mode=700,exec", "stat -c %a /t; df -k /t | awk 'NR>1 {print $2}'", "700\n1024\n"),
    ("--shm-size 2m", "df -k /dev/shm | awk 'NR>1 {print $1, $2}'", "shm 2048\n"),
    ("--ulimit nofile=10:20 --ulimit core=0", "ulimit -Sn; ulimit -Hn; ulimit -c", "10\n20\n0\n"),
    ("--sysctl kernel.msgmax=1000", "cat /proc/sys/kernel/msgmax", "1000\n"),
    ("--sysctl net/ipv4/ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward", "1\n"),
    ("-u user", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0\n"),
    ("-e A=1", "grep SigIgn /proc/self/status; true", "SigIgn:\t0000000000000000\n"),
    ("--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500\n"),
    ("--init", "cat /proc/1/comm; echo $(($$ > 1))", "init\n1\n"),
    ("--ipc none", "ls -d /dev/shm 2>/dev/null || echo none", "none\n"),
    ("--cap-drop all", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
    ("--cap-drop all --cap-add net_admin", "grep CapBnd /proc/self/status", "CapBnd:\t0000000000001000\n"),
    ("-u 1000 --cap-add net_admin", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000\n"),
    ("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
    ("--security-opt seccomp=unconfined", "grep -w Seccomp /proc/self/status", "Seccomp:\t0\n"),
    ("--security-opt systempaths=unconfined", "grep ' /proc/' /proc/mounts || echo none", "none\n"),
    ("--add-host one:192.0.2.7 --add-host two:::1", "grep -E 'one|two' /etc/hosts", "192.0.2.7\tone\n::1\ttwo\n"),
    ("--dns 192.0.2.53", "grep -c 'nameserver 192.0.2.53' /etc/resolv.conf", "1\n"),
    ("--dns-search example.org", "grep search /etc/resolv.conf", "search example.org\n"),
    ("--dns-option ndots:3", "grep options /etc/resolv.conf", "options ndots:3\n"),
    ("--device /dev/kmsg:/dev/k:w", "(: < /dev/k) 2>/dev/null || (: > /dev/k) && echo w", "w\n"),
    ("--device /dev/kmsg", "stat -c %t:%T /dev/kmsg", "1:b\n"),
    ("--privileged", "grep -c Seccomp:.0 /proc/self/status; ls /dev/kmsg", "1\n/dev/kmsg\n"),
    ("--privileged", "touch /sys/fs/cgroup/*/cgroup.procs && echo writable", "writable\n"),
]
"""Options, what to run with them, and what that prints."""

REFUSED = [
    ("-w relative", "the working directory 'relative' is invalid, it needs to be an absolute path"),
    ("-u nosuch", "unable to find user nosuch: no matching entries in passwd file"),
    ("-u 0:nosuch", "unable to find group nosuch: no matching entries in group file"),
    ("--group-add nosuch", "unable to find group nosuch: no matching entries in group file"),
    ("--name a", "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ("-e =1", "invalid environment variable: =1"),
    ("--env-file /nosuch", "open /nosuch: no such file or directory"),
    ("--cidfile /nosuch/id", "failed to create the container ID file: /nosuch/id: No such file or directory"),
    ("--memory 1m", "Minimum memory limit allowed is 6MB"),
    ("--memory 10m --memory-swap 5m", "Minimum memoryswap limit should be larger than memory limit, see usage"),
    ("--memory lots", "invalid size: 'lots'"),
    ("--memory-swappiness 101", "invalid value: 101. Valid memory swappiness range is 0-100"),
    ("--cpus 10000", "Range of CPUs is from 0.01 to"),
    ("--cpus 0.5 --cpu-quota 50000", "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    ("--cpuset-cpus 4096", "Requested CPUs are not available - requested 4096, available: "),
    ("--cpuset-mems 64", "Requested memory nodes are not available - requested 64, available: "),
    ("--blkio-weight 5", "Range of blkio weight is from 10 to 1000"),
    ("--restart always", "conflicting options: cannot specify both --restart and --rm"),
    ("--restart sometimes", "invalid restart policy 'sometimes'"),
    ("--stop-signal NOSUCH", "Invalid signal: NOSUCH"),
    ("--cap-add nosuch", 'unknown capability: "CAP_NOSUCH"'),
    ("--security-opt nosuch=1", 'Invalid --security-opt: "nosuch=1"'),
    ("--security-opt seccomp=/nosuch", "open /nosuch: no such file or directory"),
    ("--ulimit nosuch=1", "invalid ulimit type: nosuch"),
    ("--ulimit nofile=2:1", "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
    ("--sysctl kernel.panic=1", "sysctl 'kernel.panic=1' is not allowed"),
    ("--sysctl net/../kernel/panic=1", "sysctl 'net/../kernel/panic=1' is not allowed"),
    ("--sysctl net.nosuch=1", "/proc/sys/net/nosuch, 1): ENOENT: No such file or directory"),
    ("--sysctl net/ipv4/ip_forward=0 --network host", "'net/ipv4/ip_forward=0' is not allowed: the network is the"),
    ("--sysctl kernel.msgmax=1 --ipc host", "'kernel.msgmax=1' is not allowed: the IPC namespace is the host's"),
    ("--device /dev/nosuch", 'device "/dev/nosuch" is not there, or not a device'),
    ("--device /dev/null:relative", "relative is not an absolute path"),
    ("--tmpfs relative", "mount path must be absolute"),
    ("--tmpfs /t:nosuch", "invalid tmpfs option"),
    ("-v /tmp:/a --tmpfs /a", "Duplicate mount point: /a"),
    ("--shm-size some", "invalid size: 'some'"),
    ("--oom-score-adj 2000", "Invalid value 2000, range for oom score adj is [-1000, 1000]"),
    ("--add-host nowhere", 'bad format for add-host: "nowhere"'),
    ("--dns nowhere", "IP address is not correctly formatted: nowhere"),
    ("--hostname a --network container:b", "conflicting options: hostname and the network mode"),
    ("--pid nosuch", "--pid: invalid PID mode: nosuch"),
    ("--ipc container:nosuch", "No such container: nosuch"),
    ("--network nosuch", "network nosuch not found"),
    ("--ip 172.17.0.9", "user specified IP address is supported on user defined networks only"),
    ("--log-driver nosuch", "logging driver 'nosuch' is unknown"),
    ("--log-opt nosuch=1", "unknown log opt 'nosuch' for local log driver"),
    ("--log-opt max-file=0", "log opt max-file=0: at least 1"),
    ("--annotation nosuch", "'nosuch' is not of the form key=value"),
    ("--detach-keys ctrl-", "unknown key 'ctrl-'"),
    ("--attach stdout --detach", "conflicting options: cannot specify both --attach and --detach"),
    ("--nosuch", "unknown flag: --nosuch"),
    ("--memroy 10m", "unknown flag: --memroy; did you mean --memory?"),
]
"""Options, and what is said of them."""


def run(cutaway: Engine, *words: str) -> str:
    return cutaway("run", "--rm", "--network", "none", *words).stdout


@pytest.mark.parametrize(("options", "script", "printed"), INSIDE, ids=[case[0] for case in INSIDE])
def test_takes_effect_inside(cutaway: Engine, options: str, script: str, printed: str) -> None:
    assert run(cutaway, *options.split(), "busybox", "sh", "-c", script) == printed


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ("--entrypoint echo busybox a b", "a b\n"),
        ("--entrypoint /bin/echo busybox", "\n"),
        ("--entrypoint= busybox echo a", "a\n"),
        ("-- busybox echo a", "a\n"),
        ("--init=false -w=/ busybox cat /proc/1/comm", "cat\n"),
    ],
)
def test_words_become_the_command(cutaway: Engine, words: str, printed: str) -> None:
    assert run(cutaway, *words.split()) == printed


@pytest.mark.parametrize(("options", "complaint"), REFUSED, ids=[case[0] for case in REFUSED])
def test_refuses(cutaway: Engine, options: str, complaint: str) -> None:
    done = cutaway("run", "--rm", *options.split(), "busybox", "true", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert complaint in done.stderr
    assert names(cutaway) == []


def test_environment_from_files_and_the_caller(cutaway: Engine, tmp_path: Path) -> None:
    (tmp_path / "variables").write_text("# a comment\n\nA=1\nB=2 and more\n  C=\nNOT_SET\nHERE\n")
    script = 'echo "$A,$B,${C-unset},${NOT_SET-unset},$HERE"'
    words = ("--env-file", "variables", "-e", "A=3", "-e", "NOT_SET", "busybox", "sh", "-c", script)
    command, variables = [str(COMMAND), "run", "--rm", *words], cutaway.environment | {"HERE": "now"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "3,2 and more,,unset,now\n"


def test_labels_and_annotations(cutaway: Engine, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("a=1\nb=2\n")
    options = ("--label-file", str(tmp_path / "labels"), "-l", "b=3", "--label", "c", "--annotation", "d=4")
    with running(cutaway, *options) as box:
        assert inspected(cutaway, box, "{{json .Config.Labels}}") == '{"a":"1","b":"3","c":""}'
        assert inspected(cutaway, box, "{{json .HostConfig.Annotations}}") == '{"d":"4"}'


def test_cidfile_gets_the_id_and_is_never_overwritten(cutaway: Engine, tmp_path: Path) -> None:
    file = tmp_path / "id"
    with running(cutaway, "--cidfile", str(file)) as box:
        assert file.read_text() == box
        done = cutaway("run", "--rm", "--cidfile", file, "busybox", "true", check=False)
        assert (done.returncode, file.read_text()) == (125, box)
        assert len(names(cutaway)) == 1


@pytest.mark.parametrize(("kind", "file"), [("pid", "pid"), ("ipc", "ipc"), ("uts", "uts"), ("network", "net")])
def test_namespaces_of_the_host(cutaway: Engine, kind: str, file: str) -> None:
    path = f"/proc/self/ns/{file}"
    assert cutaway("run", "--rm", f"--{kind}", "host", "busybox", "readlink", path).stdout == f"{os.readlink(path)}\n"


@pytest.fixture
def donor(cutaway: Engine, busybox: str) -> Iterator[str]:
    """A container that others may join, by its name."""
    options = ("--name", "donor", "--hostname", "donor.example", "--ipc", "shareable")
    cutaway("run", "-d", *options, busybox, "sh", "-c", "echo of the donor >/dev/shm/note; exec sleep 1000")
    yield "donor"
    cutaway("rm", "-f", "donor")


class TestNamespacesOfAnotherContainer:
    def joined(self, cutaway: Engine, kind: str, donor: str, script: str) -> str:
        return cutaway("run", "--rm", f"--{kind}", f"container:{donor}", "busybox", "sh", "-c", script).stdout

    def test_pid(self, cutaway: Engine, donor: str) -> None:
        assert self.joined(cutaway, "pid", donor, "tr '\\0' ' ' </proc/1/cmdline") == "sleep 1000 "

    def test_ipc_with_its_memory(self, cutaway: Engine, donor: str) -> None:
        assert self.joined(cutaway, "ipc", donor, "cat /dev/shm/note") == "of the donor\n"

    def test_network_with_its_names(self, cutaway: Engine, donor: str) -> None:
        address = inspected(cutaway, donor, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
        seen = self.joined(cutaway, "network", donor, "ip -4 addr show eth0; hostname; cat /etc/hosts")
        assert f"inet {address}/" in seen
        assert "\ndonor.example\n" in seen
        assert f"{address}\tdonor.example" in seen

    def test_one_that_is_private(self, cutaway: Engine) -> None:
        with running(cutaway, "--name", "hermit"):
            done = cutaway("run", "--rm", "--ipc", "container:hermit", "busybox", "true", check=False)
        assert done.returncode == 125
        assert "cannot join IPC of container hermit: non-shareable IPC" in done.stderr

    @pytest.mark.parametrize(("kind", "name"), [("network", "net.ipv4.ip_forward"), ("ipc", "kernel.msgmax")])
    def test_of_one_that_has_the_hosts_no_parameter_is_set(self, cutaway: Engine, kind: str, name: str) -> None:
        before = Path("/proc/sys", name.replace(".", "/")).read_text()
        cutaway("run", "-d", "--name", "open", f"--{kind}", "host", "busybox", "sleep", "1000")
        options = (f"--{kind}", "container:open", "--sysctl", f"{name}={int(before) + 1}")
        done = cutaway("run", "--rm", *options, "busybox", "true", check=False)
        cutaway("rm", "-f", "open")
        assert done.returncode == 125
        assert f"is not allowed: the {kind} namespace that is shared is the host's" in done.stderr
        assert Path("/proc/sys", name.replace(".", "/")).read_text() == before

    def test_one_that_does_not_run(self, cutaway: Engine) -> None:
        cutaway("create", "--name", "asleep", "busybox", "true")
        done = cutaway("run", "--rm", "--pid", "container:asleep", "busybox", "true", check=False)
        cutaway("rm", "asleep")
        assert (done.returncode, "asleep" in done.stderr) == (125, True)


def test_seccomp_profile_of_ones_own(cutaway: Engine, tmp_path: Path) -> None:
    profile = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}'
    (tmp_path / "profile.json").write_text(profile)
    options = ("--security-opt", f"seccomp={tmp_path}/profile.json")
    done = cutaway("run", "--rm", *options, "busybox", "mkdir", "/made", check=False)
    assert (done.returncode, done.stderr) == (1, "mkdir: can't create directory '/made': Operation not permitted\n")


class TestRootfs:
    @pytest.fixture
    def rootfs(self, tmp_path: Path, busybox_tar: Path) -> Path:
        with tarfile.open(busybox_tar) as tar:
            tar.extractall(tmp_path / "rootfs")
        return tmp_path / "rootfs"

    def test_is_the_root_itself(self, cutaway: Engine, rootfs: Path) -> None:
        words = ("--rootfs", "rootfs", "sh", "-c", "echo made inside >/file")
        cutaway("run", "--rm", *words, cwd=rootfs.parent)
        assert (rootfs / "file").read_text() == "made inside\n"

    def test_that_is_read_only(self, cutaway: Engine, rootfs: Path) -> None:
        done = cutaway("run", "--rm", "--read-only", "--rootfs", rootfs, "touch", "/file", check=False)
        assert (done.returncode, (rootfs / "file").exists()) == (1, False)

    def test_that_is_not_there(self, cutaway: Engine, tmp_path: Path) -> None:
        done = cutaway("run", "--rootfs", tmp_path / "nosuch", "true", check=False)
        assert done.returncode == 125
        assert done.stderr == f"cutaway: --rootfs {tmp_path}/nosuch: no such directory\n"
        assert names(cutaway) == []


def test_a_parent_for_its_cgroup(cutaway: Engine) -> None:
    parents = [Path(entry) / "above" for entry in _hierarchies()]
    for parent in parents:
        parent.mkdir()
    try:
        with running(cutaway, "--cgroup-parent", "/above") as box:
            pid = inspected(cutaway, box, "{{.State.Pid}}")
            assert re.search(rf":/above/{box}$", Path(f"/proc/{pid}/cgroup").read_text(), re.MULTILINE)
    finally:
        for parent in parents:
            parent.rmdir()


def _hierarchies() -> list[str]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def test_command_lines_that_end_early(cutaway: Engine) -> None:
    for words, code in (("run", 1), ("run --name", 125), ("create", 1), ("run busybox --nosuch", 127)):
        done = cutaway(*shlex.split(words), check=False)
        assert (words, done.returncode) == (words, code)
    assert names(cutaway) == []
