"""config-linux.md of the OCI runtime specification: each "must", seen in a container that `cutaway-oci` makes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from cutaway.kernel.cgroups import Cgroup, host_layout
from cutaway.kernel.namespaces import FLAGS
from tests.conformance.bundles import NOBODY, RUNTIME, Bundle, python_of_everybody, with_subordinate_users
from tests.conformance.test_config import Mounted, in_terminal

pytestmark = pytest.mark.document("config-linux.md")

KERNEL_NAMES = {"network": "net", "mount": "mnt"}
KINDS = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
MAPPINGS = {"uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
            "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 1000}]}  # fmt: skip


def must(section: str) -> pytest.MarkDecorator:
    return pytest.mark.must(section)


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{KERNEL_NAMES.get(kind, kind)}")


def inside(bundle: Bundle, kind: str) -> str:
    return bundle.says("readlink", f"/proc/self/ns/{KERNEL_NAMES.get(kind, kind)}")


def with_users(bundle: Bundle) -> None:
    """The container gets a user namespace, whose root may go where the test's files are."""
    bundle.with_namespace("user")
    bundle.linux |= MAPPINGS
    for directory, _, _ in os.walk(bundle.rootfs):
        os.chown(directory, 100000, 200000)
    bundle.spec["mounts"][2]["options"] = ["newinstance", "ptmxmode=0666", "mode=620"]


# Namespaces


@must("Namespaces")
@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_without_a_path_is_a_new_one(bundle: Bundle, kind: str) -> None:
    with_users(bundle) if kind == "user" else bundle.with_namespace(kind)
    assert inside(bundle, kind) != own(kind)


@must("Namespaces")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mount"])
def test_a_namespace_that_is_not_named_is_the_runtimes(bundle: Bundle, kind: str) -> None:
    bundle.without_namespace(kind)
    if kind == "network":
        bundle.spec["mounts"].pop()  # a sysfs can only be mounted for a network namespace of one's own
    assert inside(bundle, kind) == own(kind)


@must("Namespaces")
def test_a_mount_namespace_that_is_not_named_is_the_runtimes_too(bundle: Bundle) -> None:
    bundle.without_namespace("mount")
    bundle.spec["mounts"] = []
    (bundle.rootfs / "dev").mkdir(exist_ok=True)
    (bundle.rootfs / "only-here").touch()
    assert "only-here" in bundle.says("ls", "/")


@pytest.fixture
def donor(bundles: Callable[[], Bundle]) -> Callable[..., int]:
    """A container that runs, of which another can join namespaces; returns its first process."""

    def make(*kinds: str) -> int:
        bundle = bundles()
        for kind in kinds:
            with_users(bundle) if kind == "user" else bundle.with_namespace(kind)
        bundle.create("sleep", "60")
        return int(bundle.state()["pid"])

    return make


@must("Namespaces")
@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_with_a_path_is_joined(bundle: Bundle, donor: Callable[..., int], kind: str) -> None:
    pid = donor(kind)
    path = f"/proc/{pid}/ns/{KERNEL_NAMES.get(kind, kind)}"
    bundle.with_namespace(kind, path=path)
    if kind == "user":
        with_users(bundle)
        bundle.with_namespace(kind, path=path)
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    assert inside(bundle, kind) == os.readlink(path)


@must("Namespaces")
def test_several_namespaces_of_another_container_are_joined_at_once(bundle: Bundle, donor: Callable[..., int]) -> None:
    pid = donor("user")
    with_users(bundle)
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    joined = ("user", "pid", "network", "ipc", "uts")
    for kind in joined:
        bundle.with_namespace(kind, path=f"/proc/{pid}/ns/{KERNEL_NAMES.get(kind, kind)}")
    names = [KERNEL_NAMES.get(kind, kind) for kind in joined]
    shown = bundle.shell(f"for kind in {' '.join(names)}; do readlink /proc/self/ns/$kind; done")
    assert shown.split() == [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]


@must("Namespaces")
def test_a_path_that_is_not_absolute_is_an_error(bundle: Bundle) -> None:
    bundle.with_namespace("uts", path="proc/self/ns/uts")
    assert "linux.namespaces[5].path" in bundle.refusal()


@must("Namespaces")
def test_a_path_of_a_namespace_of_another_type_is_an_error(bundle: Bundle) -> None:
    for path in ("/proc/self/ns/net", "/etc/passwd", "/absent"):
        bundle.with_namespace("uts", path=path)
        assert "linux.namespaces[5].path" in bundle.refusal()


@must("Namespaces")
def test_a_type_of_namespace_that_is_there_twice_is_an_error(bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "ipc"})
    assert "linux.namespaces[6].type: ipc is there twice" in bundle.refusal()


# User namespace mappings


@must("User namespace mappings")
def test_users_and_groups_are_mapped_as_asked_for(bundle: Bundle) -> None:
    with_users(bundle)
    shown = bundle.shell("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /made")
    assert shown.split() == ["0", "100000", "1000", "0", "200000", "1000", "0"]
    made = os.stat(bundle.rootfs / "made")
    assert (made.st_uid, made.st_gid) == (100000, 200000)


@must("User namespace mappings")
def test_a_container_with_users_of_its_own_has_all_that_others_have(bundle: Bundle) -> None:
    with_users(bundle)
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]
    bundle.process["oomScoreAdj"] = 77
    bundle.spec["hostname"] = "mapped"
    bundle.linux |= {"maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"]}
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    shown = bundle.shell(
        "hostname; ulimit -n; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward; echo x > /dev/null;"
        "head -c 1 /dev/zero | wc -c; stat -c %t /proc/keys; ip link show lo | grep -c UP"
    )
    assert shown.split() == ["mapped", "50", "77", "1", "1", "1", "1"]


@must("User namespace mappings")
def test_an_ordinary_user_has_a_container_with_one_user(bundle: Bundle) -> None:
    del bundle.linux["cgroupsPath"]
    bundle.spec["hostname"] = "rootless"
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    bundle.process["args"] = ["sh", "-ec", "id -u; hostname; touch /made; echo x > /dev/null; ls -d /sys/fs/cgroup"]
    bundle.give_to_nobody()
    done = subprocess.run(
        [python_of_everybody(), "-IS", RUNTIME, "run", "--bundle", str(bundle.directory), bundle.id],
        user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True, timeout=30, check=False,
        stdin=subprocess.DEVNULL, cwd="/", env={"XDG_RUNTIME_DIR": str(bundle.directory)},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "rootless", "/sys/fs/cgroup"], done.stderr
    assert os.stat(bundle.rootfs / "made").st_uid == NOBODY
    assert (bundle.directory / "cutaway-oci").stat().st_mode & 0o7777 == 0o1700


@must("User namespace mappings")
def test_an_ordinary_user_executes_in_a_container(bundle: Bundle) -> None:
    del bundle.linux["cgroupsPath"]
    bundle.process["args"] = ["sleep", "1000"]
    bundle.give_to_nobody()
    try:
        assert bundle.as_nobody("run", "--detach", "--bundle", str(bundle.directory), bundle.id).said == ""
        assert bundle.as_nobody("exec", bundle.id, "sh", "-c", "id -u; cat /proc/1/comm").said.split() == ["0", "sleep"]
        assert bundle.as_nobody("exec", bundle.id, "sh", "-c", "exit 7").returncode == 7
    finally:
        assert bundle.as_nobody("delete", "--force", bundle.id).returncode == 0


@must("Namespaces")
def test_an_ordinary_user_joins_namespaces_of_another_container(bundle: Bundle, bundles: Callable[[], Bundle]) -> None:
    donor = bundles()
    for each in (bundle, donor):
        del each.linux["cgroupsPath"]
        each.process["args"] = ["sleep", "60"]
        each.give_to_nobody()
    assert donor.as_nobody("run", "--detach", "--bundle", str(donor.directory), donor.id).said == ""
    pid = json.loads(donor.as_nobody("state", donor.id).said)["pid"]
    joined = ("user", "pid", "network", "ipc", "uts")
    names = [KERNEL_NAMES.get(kind, kind) for kind in joined]
    for kind, name in zip(joined, names, strict=True):
        bundle.with_namespace(kind, path=f"/proc/{pid}/ns/{name}")
    bundle.with_namespace("time")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    bundle.process["args"] = ["sh", "-ec", f"for kind in {' '.join(names)}; do readlink /proc/self/ns/$kind; done"]
    bundle.write()
    try:
        shown = bundle.as_nobody("run", "--bundle", str(bundle.directory), bundle.id).said
        assert shown.split() == [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]
    finally:
        assert donor.as_nobody("delete", "--force", donor.id).returncode == 0


@pytest.fixture
def mapped(bundle: Bundle) -> Bundle:
    """An ordinary user's, with users of which it takes another program to map them."""
    if not shutil.which("newuidmap"):
        pytest.skip("newuidmap is not installed")
    del bundle.linux["cgroupsPath"]
    bundle.process["args"] = ["sh", "-ec", "touch /made; chown 7:9 /made; cat /proc/self/uid_map /proc/self/gid_map"]
    bundle.give_to_nobody(subordinate=True)
    return bundle


@must("User namespace mappings")
def test_an_ordinary_user_has_a_container_with_subordinate_users(mapped: Bundle) -> None:
    within = with_subordinate_users(mapped.directory)
    done = mapped.as_nobody("run", "--bundle", str(mapped.directory), mapped.id, within=within)
    assert done.said.split() == ["0", str(NOBODY), "1", "1", "500000", "60000"] * 2
    made = os.stat(mapped.rootfs / "made")
    assert (made.st_uid, made.st_gid) == (500006, 500008)


@must("User namespace mappings")
def test_subordinate_users_that_a_user_cannot_have_are_an_error(mapped: Bundle) -> None:
    words, within = (
        ("run", "--bundle", str(mapped.directory), mapped.id),
        with_subordinate_users(mapped.directory, 900000),
    )
    done = mapped.as_nobody(*words, within=within)
    assert done.returncode == 1 and "[500000-560000) not allowed" in done.said and "/etc/subgid" in done.said
    done = mapped.as_nobody(*words, PATH="/nowhere")
    assert done.returncode == 1 and "newgidmap" in done.said and "package uidmap" in done.said


@must("User namespace mappings")
def test_who_owns_the_root_file_system_is_not_changed(bundle: Bundle) -> None:
    before = os.stat(bundle.rootfs / "bin/busybox").st_uid
    with_users(bundle)
    bundle.says("true")
    assert os.stat(bundle.rootfs / "bin/busybox").st_uid == before


@must("User namespace mappings")
def test_mappings_without_a_user_namespace_and_one_without_mappings_are_errors(bundle: Bundle) -> None:
    bundle.linux |= MAPPINGS
    assert "linux.uidMappings: needs a user namespace" in bundle.refusal()
    bundle.with_namespace("user")
    del bundle.linux["gidMappings"]
    assert "linux.gidMappings: is required" in bundle.refusal()


@must("User namespace mappings")
def test_an_idmapped_mount_takes_the_containers_mappings(bundle: Bundle, tmp_path: Path) -> None:
    with_users(bundle)
    tree = tmp_path / "data"
    tree.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree], check=True)
    try:
        (tree / "file").touch()
        bundle.bind(tree, "/data", "bind", "idmap")
        assert bundle.shell("stat -c '%u %g' /data/file; touch /data/made").split() == ["0", "0"]
        assert os.stat(tree / "made").st_uid == 0
    finally:
        subprocess.run(["umount", tree], check=True)


@must("User namespace mappings")
def test_an_idmapped_mount_without_mappings_to_take_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    bundle.bind(tmp_path, "/data", "bind", "idmap")
    assert "mounts[4].options" in bundle.refusal()


@must("Offset for time namespace")
def test_clocks_have_the_offsets_asked_for(bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}, "monotonic": {"secs": 5, "nanosecs": 7}}
    shown = bundle.shell("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime")
    *offsets, uptime = shown.split()
    assert offsets == ["monotonic", "5", "7", "boottime", "1000000", "0"]
    assert int(uptime) > 1000000


@must("Offset for time namespace")
def test_who_is_executed_later_sees_the_same_clocks(bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000}}
    bundle.create("sleep", "60")
    bundle.start()
    done = bundle.runtime("exec", bundle.id, "cut", "-d.", "-f1", "/proc/uptime")
    assert int(done.stdout) > 1000000, done.said


@must("Offset for time namespace")
def test_offsets_without_a_new_time_namespace_are_an_error(bundle: Bundle) -> None:
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 10}}
    assert "linux.timeOffsets: needs a new time namespace" in bundle.refusal()


@must("Offset for time namespace")
def test_offsets_that_the_kernel_refuses_are_an_error(bundle: Bundle) -> None:
    bundle.with_namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": -(1 << 40)}}
    assert "timens_offsets" in bundle.refusal()
    bundle.linux["timeOffsets"] = {"boottime": {"nanosecs": 1000000000}}
    assert "timens_offsets" in bundle.refusal()


# Network devices


@pytest.fixture
def device() -> Iterator[str]:
    name = f"test{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    subprocess.run(["ip", "link", "set", f"{name}p", "up"], check=True)
    subprocess.run(["ip", "link", "set", name, "mtu", "1400", "address", "02:00:00:00:00:07"], check=True)
    subprocess.run(["ip", "address", "add", "198.51.100.7/24", "dev", name], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", f"{name}p"], check=False, stderr=subprocess.DEVNULL)


@must("Network devices")
@pytest.mark.parametrize("joined", [False, True])
def test_a_network_device_is_moved_in_with_its_addresses(
    bundle: Bundle, donor: Callable[..., int], device: str, joined: bool
) -> None:
    bundle.linux["netDevices"] = {device: {"name": "eth7"}}
    if joined:
        bundle.with_namespace("network", path=f"/proc/{donor()}/ns/net")
    shown = bundle.says("ip", "address", "show", "eth7")
    assert "198.51.100.7/24" in shown and "mtu 1400" in shown and "02:00:00:00:00:07" in shown and "UP" in shown
    assert device not in [name for _, name in socket.if_nameindex()]


@must("Network devices")
def test_a_network_device_keeps_all_that_its_addresses_had(bundle: Bundle, device: str) -> None:
    for address in (
        "10.1.2.3/24 brd 10.1.2.254",
        "10.1.3.3/24",
        "10.1.4.3 peer 10.9.9.9/32",
        "10.1.5.3/24 noprefixroute",
        "10.1.6.3/24 metric 77",
        "fd00::7/64",
        "fd00:1::7 peer fd00:2::9/128",
    ):
        subprocess.run(["ip", "address", "add", *address.split(), "dev", device], check=True)
    bundle.linux["netDevices"] = {device: {"name": "eth7"}}
    shown = bundle.shell("ip address show eth7; ip route")
    for line in (
        "inet 198.51.100.7/24 scope global eth7",
        "inet 10.1.2.3/24 brd 10.1.2.254 scope global eth7",
        "inet 10.1.3.3/24 scope global eth7",
        "inet 10.1.4.3 peer 10.9.9.9/32 scope global eth7",
        "inet 10.1.5.3/24 scope global",
        "inet6 fd00::7/64 scope global",
        "inet6 fd00:1::7 peer fd00:2::9/128 scope global",
    ):
        assert line in shown
    metrics = [line.split("metric")[1].strip() for line in shown.splitlines() if line.startswith("10.1.6.0/24")]
    assert metrics == ["77"] and "10.1.5.0/24" not in shown


@must("Network devices")
def test_a_network_device_keeps_its_name_where_none_is_given(bundle: Bundle, device: str) -> None:
    bundle.linux["netDevices"] = {device: {}}
    assert "198.51.100.7/24" in bundle.says("ip", "address", "show", device)


@must("Network devices")
def test_a_network_device_that_cannot_be_moved_is_an_error(bundle: Bundle, device: str) -> None:
    bundle.linux["netDevices"] = {"absent0": {}}
    assert "linux.netDevices.absent0" in bundle.refusal()
    bundle.linux["netDevices"] = {device: {"name": "lo"}}
    assert "EEXIST" in bundle.refusal()
    bundle.linux["netDevices"] = {device: {"name": "a/b"}}
    assert f"linux.netDevices.{device}" in bundle.refusal()
    bundle.without_namespace("network")
    bundle.linux["netDevices"] = {device: {}}
    assert "linux.netDevices: needs a network namespace" in bundle.refusal()
    assert socket.if_nametoindex(device)


# Devices


@must("Devices")
def test_devices_are_there_as_asked_for(bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/own", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 12, "gid": 34},
        {"path": "/dev/block", "type": "b", "major": 8, "minor": 0},
        {"path": "/else/where/pipe", "type": "p", "fileMode": 0o600},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 3},
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o600, "uid": 5, "gid": 6},
    ]
    shown = bundle.says("stat", "-c", "%F %t,%T %a %u %g", *(device["path"] for device in bundle.linux["devices"]))
    assert shown.splitlines() == [
        "character special file a,e5 640 12 34",
        "block special file 8,0 666 0 0",
        "fifo 0,0 600 0 0",
        "character special file 1,3 666 0 0",
        "character special file 1,7 600 5 6",
    ]


@must("Devices")
def test_a_file_in_the_place_of_a_device_that_is_another_is_an_error(bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 3}]
    assert "/etc/passwd" in bundle.refusal()
    bundle.linux["devices"] = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 3}]
    assert "/dev/zero" in bundle.refusal()
    bundle.linux["devices"] = [{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}]
    assert bundle.says("echo", "done") == "done"


@must("Devices")
@pytest.mark.parametrize("joined", [False, True])
def test_devices_with_users_of_its_own_are_there_as_asked_for(
    bundle: Bundle, donor: Callable[..., int], joined: bool
) -> None:
    with_users(bundle)
    if joined:
        bundle.with_namespace("user", path=f"/proc/{donor('user')}/ns/user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    bundle.linux["devices"] = [
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o622, "uid": 0, "gid": 5},
        {"path": "/dev/sub/foo", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 12, "gid": 34},
        {"path": "/dev/block", "type": "b", "major": 254, "minor": 77},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]
    shown = bundle.shell(
        "cd /dev; stat -c '%n %F %t,%T %a %u %g' full null sub/foo block pipe; stat -c '%n %t,%T' zero random tty;"
        "head -c 3 sub/foo | od -An -tx1; echo x > null; grep -c ' /dev/sub/foo ' /proc/self/mountinfo;"
        "grep -c ' / / .*tmpfs' /proc/self/mountinfo || readlink ptmx"
    )
    assert shown.splitlines() == [
        "full character special file 1,5 666 0 0",
        "null character special file 1,3 622 0 5",
        "sub/foo character special file 1,5 640 12 34",
        "block block special file fe,4d 666 0 0",
        "pipe fifo 0,0 600 0 0",
        "zero 1,5",
        "random 1,8",
        "tty 5,0",
        " 00 00 00",
        "1",
        "0",
        "pts/ptmx",
    ]


@must("Devices")
def test_a_device_of_a_group_that_is_not_mapped_is_nobodys(bundle: Bundle) -> None:
    with_users(bundle)
    bundle.linux["devices"] = [{"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "uid": 0, "gid": 1000}]
    assert bundle.says("stat", "-c", "%u %g", "/dev/own") == "0 65534"


@must("Devices")
def test_an_ordinary_user_gets_the_hosts_devices(bundle: Bundle) -> None:
    del bundle.linux["cgroupsPath"]
    bundle.linux["devices"] = [
        {"path": "/dev/full", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/foo", "type": "c", "major": 1, "minor": 7},
    ]
    bundle.process["args"] = ["stat", "-c", "%t,%T", "/dev/full", "/dev/foo", "/dev/zero"]
    bundle.give_to_nobody()
    run = ("run", "--bundle", str(bundle.directory), bundle.id)
    assert bundle.as_nobody(*run).said.split() == ["1,5", "1,7", "1,5"]
    bundle.linux["devices"] = [{"path": "/dev/foo", "type": "c", "major": 1, "minor": 99}]
    bundle.write()
    assert "/dev/foo: this host has no device c 1:99 to lend" in bundle.as_nobody(*run).said


@must("Devices")
def test_a_device_without_numbers_or_a_whole_path_is_an_error(bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/own", "type": "c", "major": 1}]
    assert "linux.devices[0].minor" in bundle.refusal()
    bundle.linux["devices"] = [{"path": "dev/own", "type": "p"}]
    assert "linux.devices[0].path" in bundle.refusal()


@must("Default devices")
def test_the_default_devices_are_there(bundle: Bundle) -> None:
    shown = bundle.shell(
        "cd /dev; stat -c '%n %t,%T' null zero full random urandom tty; readlink ptmx; test -c pts/ptmx"
    )
    assert shown.splitlines() == [
        "null 1,3", "zero 1,5", "full 1,7", "random 1,8", "urandom 1,9", "tty 5,0", "pts/ptmx"
    ]  # fmt: skip


@must("Default devices")
def test_the_multiplexer_is_that_of_its_own_terminals_whatever_is_asked_for(bundle: Bundle) -> None:
    bundle.linux["devices"] = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]
    assert bundle.says("readlink", "/dev/ptmx") == "pts/ptmx"


@must("Default devices")
def test_the_console_is_there_with_a_terminal_alone(bundle: Bundle) -> None:
    assert "console" not in bundle.says("ls", "/dev")
    bundle.process["terminal"] = True
    assert in_terminal(bundle, "test -c /dev/console && grep -c ' /dev/console ' /proc/mounts") == "1"


@must("Default filesystems")
def test_proc_sys_pts_and_shm_can_be_had(bundle: Bundle) -> None:
    bundle.mount("/dev/shm", "tmpfs", "shm", "mode=1777")
    mountinfo = bundle.says("cat", "/proc/self/mountinfo")
    for path in ("/proc", "/sys", "/dev/pts", "/dev/shm"):
        assert Mounted(mountinfo, path)


# Control groups


def cgroup_files(bundle: Bundle, controller: str) -> Path:
    hierarchy = host_layout().find(controller)
    if hierarchy is None:
        pytest.skip(f"this host has no {controller} controller")
    return Path(hierarchy.directory(bundle.linux["cgroupsPath"].strip("/")))


def limited(bundle: Bundle, **resources: Any) -> None:
    bundle.linux["resources"] = resources
    bundle.create("sleep", "60")


def either(directory: Path, v1: str, v2: str) -> str:
    return (directory / (v1 if (directory / v1).exists() else v2)).read_text().strip()


@must("Cgroups path")
def test_an_absolute_path_is_taken_from_the_mount_point(bundle: Bundle) -> None:
    bundle.create("sleep", "60")
    assert str(bundle.state()["pid"]) in (cgroup_files(bundle, "pids") / "cgroup.procs").read_text().split()


@must("Cgroups path")
def test_a_path_that_is_the_hosts_own_cgroup_is_an_error(bundle: Bundle) -> None:
    for path in ("/", "//", "/a/.."):
        bundle.linux["cgroupsPath"] = path
        assert "linux.cgroupsPath" in bundle.refusal()


@must("Cgroups path")
def test_a_path_of_somebody_elses_processes_is_an_error(bundle: Bundle) -> None:
    cgroup = Cgroup(f"{bundle.id}-others")
    with subprocess.Popen(["sleep", "1000"]) as other:
        cgroup.create()
        try:
            for directory in map(Path, cgroup.directories):
                (directory / "cgroup.procs").write_text(str(other.pid))
            bundle.linux["cgroupsPath"] = f"/{cgroup.path}"
            assert "1 process(es) found" in bundle.refusal()
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
            cgroup.remove()


@must("Cgroups path")
def test_a_path_that_is_frozen_is_an_error(bundle: Bundle) -> None:
    cgroup = Cgroup(bundle.linux["cgroupsPath"])
    cgroup.create()
    try:
        cgroup.freeze()
        assert "is frozen" in bundle.refusal()
    finally:
        cgroup.remove()


@must("Cgroups path")
def test_a_relative_path_leads_to_the_same_place_each_time(bundle: Bundle) -> None:
    name = bundle.linux["cgroupsPath"].strip("/")
    bundle.linux["cgroupsPath"] = f"some/{name}"
    bundle.without_namespace("cgroup")
    first, second = (bundle.says("cat", "/proc/self/cgroup") for _ in range(2))
    assert first == second
    assert f"/some/{name}" in first
    assert not Cgroup("cutaway/some").exists(), "what nobody asked for by its whole name goes with the last one in it"


@must("Cgroups path")
@pytest.mark.vm
@pytest.mark.parametrize("own", [True, False])
def test_mounted_cgroups_show_the_containers_own_alone(bundle: Bundle, own: bool) -> None:
    if not own:
        bundle.without_namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    hierarchy = host_layout().find("pids")
    assert hierarchy
    place = (
        "" if all(each.version == 2 for each in host_layout().hierarchies) else os.path.basename(hierarchy.mount_point)
    )
    bundle.linux["resources"] = {"pids": {"limit": 23}}
    assert bundle.shell(f"cat /sys/fs/cgroup/{place}/pids.max; wc -l < /sys/fs/cgroup/{place}/cgroup.procs")[:2] == "23"
    assert "Read-only" in bundle.runs("mkdir", f"/sys/fs/cgroup/{place}/x").stderr


@must("Cgroups path")
def test_who_may_make_no_cgroup_stays_in_the_callers(bundle: Bundle) -> None:
    del bundle.linux["cgroupsPath"]
    bundle.without_namespace("cgroup")
    bundle.runtime.options = ("--rootless", "true")
    bundle.create("sleep", "1000")
    assert bundle.start().returncode == 0
    assert Path(f"/proc/{bundle.state()['pid']}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
    assert bundle.runtime("exec", bundle.id, "cat", "/proc/self/cgroup").stdout == Path("/proc/self/cgroup").read_text()
    assert "has no cgroup of its own" in bundle.runtime("update", "--pids-limit", "10", bundle.id).said
    bundle.runtime.options = ("--rootless", "perhaps")
    assert "expected true or false" in bundle.runtime("state", bundle.id).said
    bundle.runtime.options = ()


@must("Cgroup ownership")
@pytest.mark.vm
@pytest.mark.parametrize("option", ["rw", "ro"])
def test_the_root_of_a_user_namespace_owns_its_cgroup_if_it_can_write_there(bundle: Bundle, option: str) -> None:
    if any(each.version == 1 for each in host_layout().hierarchies):
        pytest.skip("this host has cgroups of version 1, which are not for others to own")
    with_users(bundle)
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", option)
    done = bundle.runs("mkdir", "/sys/fs/cgroup/below")
    assert (done.returncode == 0) == (option == "rw"), done.said


@must("Cgroups path")
def test_the_cgroups_are_made_and_taken_away_again(bundle: Bundle) -> None:
    bundle.create("sleep", "60")
    directory = cgroup_files(bundle, "pids")
    assert directory.is_dir()
    bundle.runtime("delete", "--force", bundle.id)
    assert not directory.exists()


@must("Allowed Device list")
@pytest.mark.vm
def test_rules_for_devices_are_applied_in_the_listed_order(bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": f"/dev/{name}", "type": "c", "major": 10, "minor": minor} for name, minor in (("a", 200), ("b", 237))
    ]
    bundle.linux["resources"] = {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rw"},
        ]
    }
    bundle.process["capabilities"]["bounding"] = bundle.process["capabilities"]["effective"] = [
        "CAP_MKNOD", "CAP_DAC_OVERRIDE"
    ]  # fmt: skip
    script = "for each in null a b; do (: < /dev/$each) 2>&1 | grep -o 'Operation not permitted' || echo open; done"
    assert bundle.says("sh", "-c", script).splitlines() == ["open", "open", "Operation not permitted"]


@must("Allowed Device list")
@pytest.mark.vm
def test_all_devices_but_one_can_be_allowed(bundle: Bundle) -> None:
    rules = [{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "w"}]
    bundle.linux["resources"] = {"devices": rules}
    script = "echo >/dev/null; (: </dev/zero) && (echo >/dev/zero) 2>&1 | grep -o 'Operation not permitted'"
    assert bundle.shell(script) == "Operation not permitted"


@must("Default devices")
def test_a_tunnel_can_be_made_by_who_has_the_right_to(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = ["CAP_MKNOD", "CAP_NET_ADMIN"]
    assert bundle.shell("mknod /dev/tun c 10 200; (: </dev/tun) && echo opened") == "opened"


@must("Memory")
@pytest.mark.vm
def test_memory_limits(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "memory")
    limited(bundle, memory={"limit": 64 << 20, "reservation": 32 << 20})
    assert either(directory, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert either(directory, "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)


@must("Memory")
def test_disabling_the_oom_killer_and_swappiness(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "memory")
    if not (directory.parent / "memory.swappiness").exists():
        pytest.skip("version 2 has neither")
    limited(bundle, memory={"limit": 64 << 20, "disableOOMKiller": True, "swappiness": 20})
    assert "oom_kill_disable 1" in (directory / "memory.oom_control").read_text()
    assert (directory / "memory.swappiness").read_text() == "20\n"


@must("CPU")
@pytest.mark.vm
def test_cpu_limits(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "cpu")
    limited(bundle, cpu={"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"})
    if (directory / "cpu.max").exists():
        assert (directory / "cpu.max").read_text() == "50000 100000\n"
    else:
        assert (directory / "cpu.cfs_quota_us").read_text() == "50000\n"
        assert (directory / "cpu.shares").read_text() == "512\n"
    assert (cgroup_files(bundle, "cpuset") / "cpuset.cpus").read_text() == "0\n"


@must("PIDs")
@pytest.mark.vm
def test_a_limit_of_processes(bundle: Bundle) -> None:
    limited(bundle, pids={"limit": 17})
    assert (cgroup_files(bundle, "pids") / "pids.max").read_text() == "17\n"


@must("PIDs")
@pytest.mark.parametrize(
    ("version", "limit", "shown"), [("1.3.0", -1, "max\n"), ("1.3.0", 0, "0\n"), ("1.0.2", 0, "max\n")]
)
def test_minus_one_is_no_limit_and_0_is_none_before_version_1_3(
    bundle: Bundle, version: str, limit: int, shown: str
) -> None:
    bundle.spec["ociVersion"] = version
    limited(bundle, pids={"limit": limit})
    assert (cgroup_files(bundle, "pids") / "pids.max").read_text() == shown


@must("Block IO")
def test_limits_of_block_devices(bundle: Bundle) -> None:
    disk = next(iter(sorted(Path("/sys/block").glob("[svx]d*/dev"))), None)
    if disk is None:
        pytest.skip("this host has no disk")
    major, minor = map(int, disk.read_text().split(":"))
    directory = cgroup_files(bundle, "blkio" if host_layout().find("blkio") else "io")
    limited(bundle, blockIO={"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}]})
    shown = either(directory, "blkio.throttle.read_bps_device", "io.max")
    assert f"{major}:{minor}" in shown and str(1 << 20) in shown


@must("Block IO")
def test_a_weight_of_a_device_that_says_none_is_an_error(bundle: Bundle) -> None:
    bundle.linux["resources"] = {"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}
    assert "linux.resources.blockIO.weightDevice[0]" in bundle.refusal()


@must("Huge page limits")
def test_limits_of_huge_pages(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "hugetlb")
    limited(bundle, hugepageLimits=[{"pageSize": "2MB", "limit": 4 << 20}])
    assert either(directory, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max") == str(4 << 20)


@must("Network")
@must("RDMA")
@pytest.mark.parametrize(
    ("section", "value", "controller"),
    [
        ("network", {"classID": 1048577}, "net_cls"),
        ("network", {"priorities": [{"name": "lo", "priority": 5}]}, "net_prio"),
        ("rdma", {"mlx5_1": {"hcaHandles": 3}}, "rdma"),
    ],
)
def test_a_limit_for_which_the_host_has_no_controller_is_an_error(
    bundle: Bundle, section: str, value: Any, controller: str
) -> None:
    if host_layout().find(controller):
        pytest.skip(f"this host has the {controller} controller")
    bundle.linux["resources"] = {section: value}
    assert controller in bundle.refusal()


@must("Unified")
@pytest.mark.vm
def test_unified_files_are_written_and_an_unknown_one_is_an_error(bundle: Bundle) -> None:
    layout = host_layout()
    if layout.find("pids", version=2):
        limited(bundle, unified={"pids.max": "19"})
        assert (cgroup_files(bundle, "pids") / "pids.max").read_text() == "19\n"
        bundle.runtime("delete", "--force", bundle.id)
    elif layout.unified:
        limited(bundle, unified={"cgroup.max.depth": "3"})
        directory = Path(layout.unified.directory(bundle.linux["cgroupsPath"].strip("/")))
        assert (directory / "cgroup.max.depth").read_text() == "3\n"
        bundle.runtime("delete", "--force", bundle.id)
    bundle.linux["resources"] = {"unified": {"nonsense.max": "1"}}
    assert "nonsense" in bundle.refusal()


@must("IntelRdt")
def test_a_class_of_service_on_a_host_that_has_none_is_an_error(bundle: Bundle) -> None:
    if Path("/sys/fs/resctrl/schemata").exists():
        pytest.skip("the host has them")
    bundle.linux["intelRdt"] = {"closID": "guaranteed", "l3CacheSchema": "L3:0=f"}
    assert "linux.intelRdt" in bundle.refusal()


@must("IntelRdt")
def test_a_class_of_service_is_made_joined_and_taken_away(bundle: Bundle) -> None:
    groups = Path("/sys/fs/resctrl")
    if not (groups / "schemata").exists():
        pytest.skip("no resctrl")
    bundle.linux["intelRdt"] = {}
    bundle.create("sleep", "60")
    assert str(bundle.state()["pid"]) in (groups / bundle.id / "tasks").read_text().split()
    bundle.runtime("delete", "--force", bundle.id)
    assert not (groups / bundle.id).exists()


@must("Network")
def test_the_class_and_the_priorities_of_packets(bundle: Bundle) -> None:
    classes, priorities = cgroup_files(bundle, "net_cls"), cgroup_files(bundle, "net_prio")
    limited(bundle, network={"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]})
    assert (classes / "net_cls.classid").read_text() == "1048577\n"
    assert "lo 5" in (priorities / "net_prio.ifpriomap").read_text()


@must("RDMA")
def test_limits_of_rdma_devices(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "rdma")
    devices = sorted(path.name for path in Path("/sys/class/infiniband").glob("*"))
    if not devices:
        pytest.skip("no RDMA device")
    limited(bundle, rdma={devices[0]: {"hcaHandles": 3}})
    assert f"{devices[0]} hca_handle=3" in (directory / "rdma.max").read_text()


@must("CPU")
def test_realtime_limits(bundle: Bundle) -> None:
    directory = cgroup_files(bundle, "cpu")
    if not (directory.parent / "cpu.rt_runtime_us").exists():
        pytest.skip("no scheduling of realtime processes by cgroup (CONFIG_RT_GROUP_SCHED)")
    limited(bundle, cpu={"realtimePeriod": 1000000, "realtimeRuntime": 1000})
    assert (directory / "cpu.rt_runtime_us").read_text() == "1000\n"


@must("IntelRdt")
def test_a_class_of_service_that_leads_elsewhere_is_an_error(bundle: Bundle) -> None:
    bundle.linux["intelRdt"] = {"closID": "../../kernel"}
    assert "linux.intelRdt" in bundle.refusal()


# Sysctl


@must("Sysctl")
def test_kernel_parameters_are_the_containers(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000", "kernel/shm_rmid_forced": "1"}
    shown = bundle.says(
        "cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/shm_rmid_forced"
    )
    assert shown.split() == ["1", "9000", "1"]


@must("Sysctl")
def test_kernel_parameters_of_the_host_are_an_error(bundle: Bundle) -> None:
    for key in ("kernel.core_pattern", "vm.swappiness", "kernel/../vm/swappiness"):
        bundle.linux["sysctl"] = {key: "1"}
        assert "linux.sysctl" in bundle.refusal()
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    bundle.without_namespace("network")
    assert "network namespace" in bundle.refusal()


# Seccomp


def filtered(bundle: Bundle, *calls: dict[str, Any], **more: Any) -> None:
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(calls), **more}


@must("Seccomp")
@pytest.mark.parametrize("privileges", [True, False])
def test_a_call_fails_with_the_error_asked_for(bundle: Bundle, privileges: bool) -> None:
    filtered(bundle, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28})
    bundle.process["noNewPrivileges"] = not privileges
    assert "No space left on device" in bundle.runs("mkdir", "/x").stderr
    assert "Seccomp:\t2" in bundle.says("cat", "/proc/self/status")


@must("Seccomp")
@pytest.mark.parametrize("privileges", [True, False])
def test_a_hook_of_start_container_runs_under_the_filter(bundle: Bundle, privileges: bool) -> None:
    filtered(bundle, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28})
    bundle.process["noNewPrivileges"] = not privileges
    script = "grep Seccomp: /proc/self/status; mkdir /x"
    bundle.spec["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 9}]}
    said = bundle.runs("true").said
    assert "No space left on device" in said and "Seccomp:\t2" in said.replace("\\t", "\t")


@must("Seccomp")
def test_the_default_error_is_as_asked_for_and_else_eperm(bundle: Bundle) -> None:
    filtered(bundle, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})
    assert "Operation not permitted" in bundle.runs("mkdir", "/x").stderr


@must("Seccomp")
def test_arguments_are_compared(bundle: Bundle) -> None:
    argument = {"index": 1, "value": 0o100, "valueTwo": 0o100, "op": "SCMP_CMP_MASKED_EQ"}  # chmod u+x
    filtered(
        bundle,
        {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [argument]},
        {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [argument | {"index": 2}]},
    )
    (bundle.rootfs / "file").touch()
    assert bundle.runs("chmod", "600", "/file").returncode == 0
    assert "Operation not permitted" in bundle.runs("chmod", "700", "/file").stderr


@must("Seccomp")
def test_a_call_can_end_the_process(bundle: Bundle) -> None:
    filtered(bundle, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"})
    assert bundle.runs("mkdir", "/x").returncode == 128 + 31  # SIGSYS


@must("Seccomp")
def test_several_architectures_and_all_flags(bundle: Bundle) -> None:
    filtered(
        bundle,
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
        architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
        flags=["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
    )
    assert "Operation not permitted" in bundle.runs("mkdir", "/x").stderr


@must("Seccomp")
@pytest.mark.parametrize(
    "wrong",
    [
        {"defaultAction": "SCMP_ACT_NONSENSE"},
        {"architectures": ["SCMP_ARCH_NONSENSE"]},
        {"flags": ["SECCOMP_FILTER_FLAG_NONSENSE"]},
        {"syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]},
        {"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "x"}]}]},
        {"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]},
        {"listenerMetadata": "alone"},
    ],
)
def test_a_filter_that_means_nothing_is_an_error(bundle: Bundle, wrong: dict[str, Any]) -> None:
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", **wrong}
    assert "seccomp" in bundle.refusal()


@must("Seccomp")
@must("The container process state")
def test_the_notify_descriptor_goes_to_the_listener_with_the_state(bundle: Bundle) -> None:
    bundle.spec["annotations"] = {"a": "b"}
    with Agent(bundle) as agent:
        said = bundle.runs("mkdir", "/x").stderr
    assert "No space left on device" in said
    (state,) = agent.states
    assert state["metadata"] == "for the agent" and state["pid"] > 0 and state["ociVersion"]
    assert state["state"]["id"] == bundle.id and state["state"]["status"] == "creating"
    assert state["state"]["pid"] == state["pid"] and state["state"]["bundle"] == str(bundle.directory)
    assert state["state"]["annotations"] == {"a": "b"}


@must("The container process state")
def test_who_is_executed_later_is_announced_too(bundle: Bundle) -> None:
    with Agent(bundle) as agent:
        bundle.create("sleep", "60")
        bundle.start()
        said = bundle.runtime("exec", bundle.id, "mkdir", "/x").stderr
        assert bundle.runtime("delete", "--force", bundle.id).returncode == 0
    assert "No space left on device" in said
    first, second = agent.states
    assert second["pid"] not in (0, first["pid"])
    assert second["state"] == first["state"] | {"status": "running"}


class Agent:
    """Listens for a bundle's filter, and has the first `mkdir` that each process of it is asked about fail with ENOSPC.

    `states`: what was said of each process.
    """

    def __init__(self, bundle: Bundle) -> None:
        path = str(bundle.directory / "agent.sock")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self.states: list[Any] = []
        self._threads = [threading.Thread(target=self._listen)]
        filtered(bundle, {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=path,
                 listenerMetadata="for the agent")  # fmt: skip

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # as it is shut down
            while True:
                connection, _ = self._socket.accept()
                message, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                connection.close()
                self.states.append(json.loads(message))
                assert len(descriptors) == 1 and self.states[-1]["fds"] == ["seccompFd"]
                self._threads.append(threading.Thread(target=refuse_one, args=descriptors))
                self._threads[-1].start()


def refuse_one(listener: int) -> None:
    """Has the one call that is held up fail with ENOSPC, if there is one. `seccomp_unotify(2)`"""
    asked = select.poll()
    asked.register(listener, select.POLLIN)
    if asked.poll()[0][1] & select.POLLIN:
        notification = bytearray(80)  # struct seccomp_notif
        fcntl.ioctl(listener, 0xC0502100, notification)
        (identifier,) = struct.unpack_from("Q", notification)
        fcntl.ioctl(listener, 0xC0182101, struct.pack("QqiI", identifier, 0, -28, 0))
    os.close(listener)


# Rootfs mount propagation


@must("Rootfs mount propagation")
@pytest.mark.parametrize(
    ("asked", "shown"),
    [("private", ""), ("shared", "shared:"), ("slave", "master:"), ("unbindable", "unbindable"), ("rslave", "master:")],
)
def test_the_root_has_the_propagation_asked_for(bundle: Bundle, asked: str, shown: str) -> None:
    subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
    subprocess.run(["mount", "--make-shared", bundle.rootfs], check=True)
    try:
        bundle.linux["rootfsPropagation"] = asked
        found = Mounted(bundle.says("cat", "/proc/self/mountinfo"), "/").propagation
        assert found.startswith(shown) if shown else found == ""
    finally:
        subprocess.run(["umount", bundle.rootfs], check=True)


# Masked and read-only paths


@must("Masked paths")
def test_masked_paths_cannot_be_read(bundle: Bundle) -> None:
    (bundle.rootfs / "secret").write_text("secret")
    (bundle.rootfs / "secrets").mkdir()
    (bundle.rootfs / "secrets/one").touch()
    bundle.linux["maskedPaths"] = ["/proc/keys", "/secret", "/secrets", "/absent"]
    shown = bundle.shell("cat /secret /proc/keys; ls /secrets; touch /secrets/x 2>&1 || true")
    assert shown.startswith("touch: /secrets/x: Read-only file system")


@must("Read-only paths")
def test_read_only_paths_cannot_be_written(bundle: Bundle) -> None:
    (bundle.rootfs / "kept").mkdir()
    (bundle.rootfs / "kept/file").write_text("kept")
    bundle.linux["readonlyPaths"] = ["/proc/sys", "/kept", "/absent"]
    shown = bundle.shell("cat /kept/file; echo; touch /kept/x 2>&1 || (echo 1 > /proc/sys/kernel/msgmax) 2>&1 || true")
    assert shown.startswith("kept\n") and shown.count("Read-only file system") == 2


@must("Masked paths")
@must("Read-only paths")
@pytest.mark.parametrize("field", ["maskedPaths", "readonlyPaths"])
def test_paths_that_are_not_absolute_are_an_error(bundle: Bundle, field: str) -> None:
    bundle.linux[field] = ["proc/kcore"]
    assert f"linux.{field}[0]" in bundle.refusal()


@must("Mount label")
def test_a_mount_label_on_a_host_without_selinux_is_an_error(bundle: Bundle) -> None:
    if Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("the host has SELinux")
    bundle.linux["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
    assert "linux.mountLabel" in bundle.refusal()


@must("Mount label")
def test_file_systems_get_the_mount_label(bundle: Bundle) -> None:
    if not Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("no SELinux")
    bundle.linux["mountLabel"] = label = "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811"
    assert label in bundle.says("cat", "/proc/mounts")


@must("Personality")
def test_the_personality_is_as_asked_for(bundle: Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX32"}
    assert bundle.says("uname", "-m") in ("i686", "armv8l")
    bundle.create("sleep", "60")
    bundle.start()
    assert bundle.runtime("exec", bundle.id, "uname", "-m").stdout.strip() in ("i686", "armv8l")
    bundle.runtime("delete", "--force", bundle.id)
    bundle.linux["personality"] = {"domain": "LINUX"}
    assert bundle.says("uname", "-m") == os.uname().machine


@must("Personality")
def test_a_personality_with_flags_or_without_a_domain_is_an_error(bundle: Bundle) -> None:
    bundle.linux["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}
    assert "linux.personality.flags" in bundle.refusal()
    bundle.linux["personality"] = {}
    bundle.linux["personality"]["flags"] = []
    assert "linux.personality.domain" in bundle.refusal()


@must("Memory policy")
def test_the_memory_policy_is_as_asked_for(bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    done = bundle.runs("cat", "/proc/self/numa_maps")
    if "ENOSYS" in done.said or not Path("/proc/self/numa_maps").exists():
        pytest.skip("this kernel has no NUMA")
    assert "bind=static:0" in done.stdout


@must("Memory policy")
def test_a_memory_policy_that_means_nothing_is_an_error(bundle: Bundle) -> None:
    bundle.linux["memoryPolicy"] = {"nodes": "0"}
    assert "linux.memoryPolicy.mode" in bundle.refusal()
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "one"}
    assert "linux.memoryPolicy.nodes" in bundle.refusal()


def test_every_kind_of_namespace_is_tested() -> None:
    assert {KERNEL_NAMES.get(kind, kind) for kind in KINDS} == set(FLAGS)
