"""config.md of the OCI runtime specification: each "must", seen in a container that `cutaway-oci` makes.

The name of a test is the sentence that it shows; `must` says in which section it is. docs/oci-conformance.md is made of
them (tests/conformance/table.py).
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel.capabilities import NAMES, capget, names
from tests.conformance.bundles import DEFAULT_CAPABILITIES, PATH, Bundle

pytestmark = pytest.mark.document("config.md")


def must(section: str) -> pytest.MarkDecorator:
    return pytest.mark.must(section)


# Specification version


@must("Specification version")
@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.x", "one"])
def test_a_version_that_is_not_semantic_is_refused(bundle: Bundle, version: str) -> None:
    bundle.spec["ociVersion"] = version
    assert "ociVersion" in bundle.refusal()


@must("Specification version")
def test_another_major_version_is_refused(bundle: Bundle) -> None:
    bundle.spec["ociVersion"] = "2.0.0"
    assert "ociVersion" in bundle.refusal()


@must("Specification version")
@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.1", "1.3.0", "1.9.0+build"])
def test_every_version_of_the_major_version_is_run(bundle: Bundle, version: str) -> None:
    bundle.spec["ociVersion"] = version
    assert bundle.says("echo", "done") == "done"


# Root


@must("Root")
def test_a_missing_root_is_refused(bundle: Bundle) -> None:
    del bundle.spec["root"]
    assert "root: is required" in bundle.refusal()


@must("Root")
def test_a_root_that_is_no_directory_is_refused(bundle: Bundle) -> None:
    for path in ("absent", "config.json"):
        bundle.spec["root"]["path"] = path
        assert "root.path" in bundle.refusal()


@must("Root")
def test_a_relative_root_is_relative_to_the_bundle_and_an_absolute_one_is_taken_as_it_is(bundle: Bundle) -> None:
    (bundle.rootfs / "here").touch()
    assert "here" in bundle.says("ls", "/")
    bundle.spec["root"]["path"] = str(bundle.rootfs)
    assert "here" in bundle.says("ls", "/")


@must("Root")
def test_a_read_only_root_is_read_only_inside(bundle: Bundle) -> None:
    bundle.spec["root"]["readonly"] = True
    assert "Read-only file system" in bundle.runs("touch", "/x").stderr
    assert not (bundle.rootfs / "x").exists()


@must("Root")
def test_a_working_directory_is_made_in_a_read_only_root_too(bundle: Bundle) -> None:
    bundle.spec["root"]["readonly"] = True
    bundle.process["cwd"] = "/not/there"
    assert bundle.says("pwd") == "/not/there"


# Mounts


@must("Mounts")
def test_a_file_is_not_mounted_on_a_directory(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    bundle.bind(tmp_path / "file", "/etc")
    assert "mount(/etc): ENOTDIR: not a directory: a directory is mounted on a directory" in bundle.refusal()


@must("Mounts")
def test_a_slash_at_the_end_of_a_destination_says_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mounted")
    bundle.bind(tmp_path / "file", "/mnt/there/")
    assert bundle.says("cat", "/mnt/there") == "mounted"


@must("Mounts")
@pytest.mark.parametrize("destination", ["/", "//", "/."])
def test_nothing_is_mounted_on_the_root(bundle: Bundle, destination: str) -> None:
    bundle.mount(destination)
    assert ".destination" in bundle.refusal()


@must("Mounts")
def test_what_cannot_be_mounted_is_named_whole(bundle: Bundle, tmp_path: Path) -> None:
    bundle.bind(tmp_path, "/proc/not/there")
    assert "mount(/proc/not/there)" in bundle.refusal()


@must("Mounts")
def test_an_empty_option_is_none(bundle: Bundle) -> None:
    bundle.mount("/there", "tmpfs", "tmpfs", "", "size=64k")
    assert "size=64k" in bundle.says("grep", " /there ", "/proc/mounts")


@must("Mounts")
def test_owners_are_not_mapped_by_a_user_namespace_of_which_nothing_is_known(bundle: Bundle, tmp_path: Path) -> None:
    bundle.with_namespace("user", path="/proc/self/ns/user")
    bundle.bind(tmp_path, "/there", "bind", "idmap")
    assert "idmap has no mappings to take" in bundle.refusal()


@must("Mounts")
def test_mounts_are_made_in_the_listed_order(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").touch()
    bundle.mount("/outer")
    bundle.bind(tmp_path / "inner", "/outer/inner")
    assert bundle.says("ls", "/outer", "/outer/inner").split() == ["/outer:", "inner", "/outer/inner:", "file"]
    bundle.spec["mounts"][-2:] = reversed(bundle.spec["mounts"][-2:])
    assert bundle.says("ls", "/outer") == ""


@must("Mounts")
def test_what_is_mounted_last_covers_what_was_there(bundle: Bundle, tmp_path: Path) -> None:
    for name in ("below", "above"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        bundle.bind(tmp_path / name, "/place")
    bundle.bind(tmp_path / "above", "/place")
    assert bundle.says("sh", "-c", "ls /place; grep -c ' /place ' /proc/mounts").split() == ["above", "3"]


@must("Mounts")
def test_a_relative_destination_is_relative_to_the_root(bundle: Bundle) -> None:
    bundle.mount("some/where")
    assert "tmpfs /some/where tmpfs" in bundle.says("cat", "/proc/mounts")


@must("Mounts")
def test_a_bind_source_is_absolute_or_relative_to_the_bundle(bundle: Bundle) -> None:
    (bundle.directory / "data").mkdir()
    (bundle.directory / "data/file").write_text("content")
    bundle.bind("data", "/relative")
    bundle.bind(bundle.directory / "data", "/absolute")
    assert bundle.says("cat", "/relative/file", "/absolute/file") == "contentcontent"


@must("Mounts")
@pytest.mark.parametrize("kind", ["none", "ext4", "bind"])
def test_bind_and_rbind_make_a_bind_mount_whatever_the_type(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("content")
    bundle.mount("/bound", kind, str(tmp_path / "file"), "rbind")
    assert bundle.says("cat", "/bound") == "content"


ATTRIBUTES = {
    "ro": "ro", "nosuid": "nosuid", "nodev": "nodev", "noexec": "noexec", "noatime": "noatime",
    "nodiratime": "nodiratime", "relatime": "relatime", "nosymfollow": "nosymfollow",
}  # fmt: skip
NEGATIVES = {
    "rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime", "diratime": "nodiratime",
    "symfollow": "nosymfollow", "strictatime": "relatime", "norelatime": "relatime", "nostrictatime": "noatime",
}  # fmt: skip

WITHOUT_EFFECT = ("defaults", "async", "nolazytime", "nomand", "silent", "loud", "acl", "noacl", "iversion",
                  "noiversion")  # fmt: skip


class Mounted:
    """What a container's mountinfo says of the mount at `path`: its options, and those of its file system; its
    propagation."""

    def __init__(self, mountinfo: str, path: str) -> None:
        (line,) = [line for line in mountinfo.splitlines() if line.split()[4] == path]
        before, _, after = line.partition(" - ")
        fields = before.split()
        self.options = [*fields[5].split(","), *after.split()[2].split(",")]
        self.propagation = " ".join(fields[6:])


def mounted(bundle: Bundle, *paths: str) -> list[Mounted]:
    mountinfo = bundle.says("cat", "/proc/self/mountinfo")
    return [Mounted(mountinfo, path) for path in paths]


@must("Mounts")
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_every_option_of_mount_2_has_its_effect(bundle: Bundle, tmp_path: Path, kind: str) -> None:
    for option in ATTRIBUTES:
        bundle.mount(f"/{option}", kind, str(tmp_path) if kind == "bind" else "tmpfs", option)
    for (option, shown), there in zip(
        ATTRIBUTES.items(), mounted(bundle, *(f"/{option}" for option in ATTRIBUTES)), strict=True
    ):
        assert shown in there.options, option


@must("Mounts")
def test_every_negative_option_takes_the_effect_back(bundle: Bundle) -> None:
    for option, taken_back in NEGATIVES.items():
        bundle.mount(f"/on/{option}", "tmpfs", "tmpfs", taken_back, option)
    for (option, taken_back), there in zip(
        NEGATIVES.items(), mounted(bundle, *(f"/on/{option}" for option in NEGATIVES)), strict=True
    ):
        assert taken_back not in there.options, option


@must("Mounts")
def test_the_options_of_a_file_system_reach_it(bundle: Bundle) -> None:
    bundle.mount("/there", "tmpfs", "tmpfs", "sync", "dirsync", "lazytime", "size=64k", "nr_inodes=50")
    (there,) = mounted(bundle, "/there")
    assert {"sync", "dirsync", "lazytime", "size=64k", "nr_inodes=50"} <= {*there.options}


@must("Mounts")
def test_options_that_say_what_is_so_anyway_are_taken(bundle: Bundle) -> None:
    for option in WITHOUT_EFFECT:
        bundle.mount(f"/on/{option}", "tmpfs", "tmpfs", option)
    assert bundle.says("echo", "done") == "done"


@must("Mounts")
@pytest.mark.parametrize("option", ["nonsense", "size=much"])
def test_an_option_that_the_file_system_does_not_know_is_an_error(bundle: Bundle, option: str) -> None:
    bundle.mount("/there", "tmpfs", "tmpfs", option)
    assert option.partition("=")[0] in bundle.refusal()


@must("Mounts")
def test_an_option_that_a_bind_mount_cannot_have_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    bundle.bind(tmp_path, "/there", "bind", "size=5m")
    assert "size=5m" in bundle.refusal()


@must("Mounts")
def test_a_file_system_that_the_kernel_does_not_have_is_an_error(bundle: Bundle) -> None:
    bundle.mount("/there", "nonsensefs", "x")
    assert "nonsensefs" in bundle.refusal()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory with a tmpfs mounted below it."""
    from cutaway.kernel import mounts

    outer, inner = tmp_path / "outer", tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    for target in (outer, inner):
        mounts.mount("tmpfs", str(target), "tmpfs")
        (target / "inner").mkdir(exist_ok=True)
    yield outer
    for target in (inner, outer):
        mounts.unmount(str(target), mounts.MNT_DETACH)


@must("Mounts")
def test_recursive_options_reach_the_mounts_below_and_the_others_do_not(bundle: Bundle, tree: Path) -> None:
    for option in ATTRIBUTES:
        bundle.bind(tree, f"/all/{option}", "rbind", f"r{option}")
        bundle.bind(tree, f"/one/{option}", "rbind", option)
    mountinfo = bundle.says("cat", "/proc/self/mountinfo")
    for option, shown in ATTRIBUTES.items():
        for path in (f"/all/{option}", f"/all/{option}/inner", f"/one/{option}"):
            assert shown in Mounted(mountinfo, path).options, path
        assert shown not in Mounted(mountinfo, f"/one/{option}/inner").options or shown == "relatime"


@must("Mounts")
def test_recursive_negative_options_take_it_back(bundle: Bundle, tree: Path) -> None:
    for option, taken_back in NEGATIVES.items():
        bundle.bind(tree, f"/on/{option}", "rbind", f"r{taken_back}", f"r{option}")
    for (option, taken_back), there in zip(
        NEGATIVES.items(), mounted(bundle, *(f"/on/{option}/inner" for option in NEGATIVES)), strict=True
    ):
        assert taken_back not in there.options, option


PROPAGATION = {"private": "", "shared": "shared:", "slave": "master:", "unbindable": "unbindable"}


@must("Mounts")
def test_propagation_is_as_asked_for(bundle: Bundle, tree: Path) -> None:
    for option in PROPAGATION:
        bundle.bind(tree, f"/one/{option}", "rbind", option)
        bundle.bind(tree, f"/all/{option}", "rbind", f"r{option}")
    mountinfo = bundle.says("cat", "/proc/self/mountinfo")
    for option, shown in PROPAGATION.items():
        for path in (f"/one/{option}", f"/all/{option}", f"/all/{option}/inner"):
            propagation = Mounted(mountinfo, path).propagation
            assert propagation.startswith(shown) if shown else propagation == "", path


@must("Mounts")
def test_remount_changes_what_is_mounted_already(bundle: Bundle) -> None:
    bundle.mount("/there", "tmpfs", "tmpfs", "noexec")
    bundle.mount("/there", "none", "", "remount", "ro", "exec")
    mountinfo = bundle.says("cat", "/proc/self/mountinfo")
    there = Mounted(mountinfo, "/there")
    assert "ro" in there.options and "noexec" not in there.options


@must("Mounts")
def test_tmpcopyup_begins_with_what_is_covered(bundle: Bundle) -> None:
    (bundle.rootfs / "full/inner").mkdir(parents=True)
    (bundle.rootfs / "full/file").write_text("content")
    os.chmod(bundle.rootfs / "full/file", 0o4711)
    os.chown(bundle.rootfs / "full/inner", 5, 6)
    (bundle.rootfs / "full/inner/link").symlink_to("/etc/passwd")
    os.mkfifo(bundle.rootfs / "full/pipe")
    bundle.mount("/full", "tmpfs", "tmpfs", "tmpcopyup")
    shown = bundle.shell("cd /full; cat file; echo; stat -c '%a %u' file inner pipe; readlink inner/link; rm file; ls")
    assert shown.split() == ["content", "4711", "0", "755", "5", "644", "0", "/etc/passwd", "inner", "pipe"]
    assert (bundle.rootfs / "full/file").exists()


MAPPED = {"uidMappings": [{"containerID": 0, "hostID": 7000, "size": 10}],
          "gidMappings": [{"containerID": 0, "hostID": 8000, "size": 10}]}  # fmt: skip


@must("Mounts")
def test_an_idmapped_mount_shows_other_owners(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").touch()
    os.chown(tmp_path / "data/file", 1, 2)
    bundle.bind(tmp_path / "data", "/data", "bind", "idmap", **MAPPED)
    try:
        assert bundle.says("stat", "-c", "%u %g", "/data/file") == "7001 8002"
    except AssertionError as error:
        if "mount_setattr" in str(error):
            pytest.skip(f"the file system of {tmp_path} cannot be idmapped")
        raise
    assert os.stat(tmp_path / "data/file").st_uid == 1


@must("Mounts")
def test_ridmap_reaches_the_mounts_below(bundle: Bundle, tree: Path) -> None:
    (tree / "inner/file").touch()
    bundle.bind(tree, "/data", "rbind", "ridmap", **MAPPED)
    assert bundle.says("stat", "-c", "%u %g", "/data/inner/file") == "7000 8000"


@must("Mounts")
def test_mappings_of_users_without_those_of_groups_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.bind(tmp_path, "/data", "bind", uidMappings=MAPPED["uidMappings"])
    assert "gidMappings" in bundle.refusal()


# Process


@must("Process")
def test_a_process_is_required(bundle: Bundle) -> None:
    del bundle.spec["process"]
    assert "process: is required" in bundle.refusal()


@must("Process")
def test_a_terminal_is_the_standard_streams_and_dev_console(bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    shown = in_terminal(bundle, "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done; ls -l /dev/console")
    assert shown.split()[:3] == ["/dev/pts/0"] * 3
    assert "/dev/console" in shown


@must("Process")
def test_the_console_has_the_size_asked_for(bundle: Bundle) -> None:
    bundle.process |= {"terminal": True, "consoleSize": {"height": 31, "width": 97}}
    assert in_terminal(bundle, "stty size") == "31 97"


@must("Process")
def test_a_console_size_without_a_terminal_is_ignored(bundle: Bundle) -> None:
    bundle.process["consoleSize"] = {"height": 31, "width": 97}
    assert bundle.says("echo", "done") == "done"


END = b"that was all"


def in_terminal(bundle: Bundle, script: str) -> str:
    """What a shell in a terminal says; its other end comes over the console socket. The shell waits to be heard, as the
    kernel may drop what the last process of a session has said."""
    path = str(bundle.directory / "console.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    said: list[bytes] = []

    def read() -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # there will be no terminal
            return
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
        connection.close()
        if not descriptors:
            return
        (master,) = descriptors
        try:
            while END not in b"".join(said):
                said.append(os.read(master, 4096))
            os.write(master, b"\n")
        except OSError:  # nobody has its other end any more
            pass
        os.close(master)

    reader = threading.Thread(target=read)
    reader.start()
    bundle.process["args"] = ["sh", "-ec", f"{script}; echo {END.decode()}; read line"]
    done = bundle.does("run", "--detach", "--console-socket", path)
    if done.returncode != 0:
        listener.shutdown(socket.SHUT_RDWR)
    reader.join(10)
    listener.close()
    assert done.returncode == 0, done.said
    return b"".join(said).partition(END)[0].decode().strip()


@must("Process")
def test_the_working_directory_is_as_asked_for_and_absolute(bundle: Bundle) -> None:
    bundle.process["cwd"] = "/etc"
    assert bundle.says("pwd") == "/etc"
    bundle.process["cwd"] = "etc"
    assert "process.cwd" in bundle.refusal()


@must("Process")
def test_the_environment_is_what_is_given_and_nothing_else(bundle: Bundle) -> None:
    given = bundle.process["env"] = [PATH, "A=b=c", "EMPTY=", "HOME=/nowhere"]
    assert sorted(bundle.says("env").splitlines()) == sorted(given)


@must("Process")
def test_at_least_one_argument_is_required(bundle: Bundle) -> None:
    bundle.process["args"] = []
    assert "process.args" in bundle.refusal()
    del bundle.process["args"]
    assert "process.args" in bundle.refusal()


@must("Process")
def test_the_program_is_looked_for_as_execvp_does(bundle: Bundle) -> None:
    (bundle.rootfs / "own").mkdir()
    (bundle.rootfs / "own/tool").write_text("#!/bin/sh\necho found $0\n")
    os.chmod(bundle.rootfs / "own/tool", 0o755)
    bundle.process["env"] = ["PATH=/own:/bin"]
    assert bundle.says("tool") == "found /own/tool"
    assert bundle.says("/own/tool") == "found /own/tool"
    bundle.process["cwd"] = "/own"
    assert bundle.says("./tool") == "found ./tool"
    assert bundle.runs("absent").returncode != 0


@must("POSIX process")
def test_resource_limits_are_the_programs(bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    limits = bundle.says("grep", "open files", "/proc/self/limits").split()
    assert limits[3:5] == ["100", "200"]


@must("POSIX process")
def test_a_resource_limit_that_the_kernel_does_not_have_is_an_error(bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_NONSENSE", "soft": 100, "hard": 200}]
    assert "process.rlimits[0].type" in bundle.refusal()


@must("POSIX process")
def test_a_resource_limit_given_twice_is_an_error(bundle: Bundle) -> None:
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}] * 2
    assert "process.rlimits[1].type" in bundle.refusal()


# Linux process


SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


@must("Linux process")
def test_all_five_sets_of_capabilities_are_as_asked_for(bundle: Bundle) -> None:
    wanted = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_CHOWN"],
        "effective": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    bundle.process |= {"capabilities": wanted, "user": {"uid": 1000, "gid": 1000}}
    shown = bundle.says("cat", "/proc/self/status")
    found = {name: names(int(line.split()[1], 16)) for line in shown.splitlines() if (name := line[:6]) in SETS}
    # of a user who is not root, executing leaves the permitted set to what is ambient
    assert found["CapAmb"] == found["CapInh"] == found["CapEff"] == found["CapPrm"] == ["CAP_CHOWN"]
    assert found["CapBnd"] == sorted(wanted["bounding"], key=NAMES.index)


@must("Linux process")
@pytest.mark.parametrize("kind", ["bounding", "permitted", "effective", "inheritable", "ambient"])
def test_a_capability_that_cannot_be_granted_is_a_warning_and_no_error(bundle: Bundle, kind: str) -> None:
    missing = [name for name in NAMES if name not in names(capget()[1])][:1]
    bundle.process["capabilities"] = {kind: ["CAP_NONSENSE", *missing]}
    bundle.runtime.options = ("--log", str(bundle.directory / "log"))
    assert bundle.says("echo", "done") == "done"
    assert "CAP_NONSENSE" in (bundle.directory / "log").read_text()


@must("Linux process")
def test_no_capabilities_are_left_where_none_are_asked_for(bundle: Bundle) -> None:
    del bundle.process["capabilities"]
    assert "CapPrm:\t0000000000000000" in bundle.says("cat", "/proc/self/status")


@must("Linux process")
@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(bundle: Bundle, wanted: bool) -> None:
    bundle.process["noNewPrivileges"] = wanted
    assert f"NoNewPrivs:\t{wanted:d}" in bundle.says("cat", "/proc/self/status")


@must("Linux process")
def test_the_oom_score_is_set_where_asked_for_and_else_left_as_it_is(bundle: Bundle) -> None:
    assert bundle.says("cat", "/proc/self/oom_score_adj") == Path("/proc/self/oom_score_adj").read_text().strip()
    bundle.process["oomScoreAdj"] = 321
    assert bundle.says("cat", "/proc/self/oom_score_adj") == "321"


@must("Linux process")
def test_the_scheduler_is_as_asked_for(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    fields = bundle.says("cat", "/proc/1/stat").rpartition(")")[2].split()
    assert fields[16] == "7"
    assert fields[38] == "3"  # SCHED_BATCH


@must("Linux process")
def test_a_scheduler_that_the_kernel_refuses_is_an_error(bundle: Bundle) -> None:
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 1, "period": 1}
    assert "sched_setattr" in bundle.refusal()


@must("Linux process")
def test_the_io_priority_is_as_asked_for(bundle: Bundle) -> None:
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_IDLE", "priority": 3}
    assert "idle" in bundle.says("ionice", "-p", "1")


@must("Linux process")
@pytest.mark.parametrize(
    ("field", "value"), [("apparmorProfile", "acme"), ("selinuxLabel", "system_u:object_r:x_t:s0")]
)
def test_a_label_for_a_security_module_that_the_host_lacks_is_an_error(bundle: Bundle, field: str, value: str) -> None:
    if Path("/sys/kernel/security/apparmor" if field == "apparmorProfile" else "/sys/fs/selinux/enforce").exists():
        pytest.skip("the host has it")
    bundle.process[field] = value
    assert f"process.{field}" in bundle.refusal()


@must("Linux process")
def test_the_apparmor_profile_is_the_programs(bundle: Bundle) -> None:
    profiles = Path("/sys/kernel/security/apparmor/profiles")
    if not profiles.exists():
        pytest.skip("no AppArmor")
    bundle.process["apparmorProfile"] = name = profiles.read_text().split()[0]
    assert bundle.says("cat", "/proc/self/attr/current").startswith(name)


@must("Linux process")
def test_the_selinux_label_is_the_programs(bundle: Bundle) -> None:
    if not Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("no SELinux")
    bundle.process["selinuxLabel"] = label = Path("/proc/self/attr/current").read_text().rstrip("\0\n")
    assert bundle.says("cat", "/proc/self/attr/current").rstrip("\0") == label


# User


@must("User")
def test_user_group_and_additional_groups_are_as_asked_for(bundle: Bundle) -> None:
    bundle.process["user"] = {"uid": 12, "gid": 34, "additionalGids": [56, 78]}
    assert bundle.says("id") == "uid=12 gid=34 groups=56,78"


@must("User")
def test_the_umask_is_as_asked_for(bundle: Bundle) -> None:
    bundle.process["user"]["umask"] = 0o077
    assert bundle.shell("umask") == "0077"


# Hostname


@must("Hostname")
def test_the_hostname_is_the_containers_alone(bundle: Bundle) -> None:
    bundle.spec["hostname"] = "mrsdalloway"
    assert bundle.says("hostname") == "mrsdalloway"
    assert os.uname().nodename != "mrsdalloway"


@must("Domainname")
def test_the_domainname_is_the_containers_alone(bundle: Bundle) -> None:
    bundle.spec["domainname"] = "clarissa"
    assert bundle.says("cat", "/proc/sys/kernel/domainname") == "clarissa"


@must("Hostname")
@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_a_name_without_a_uts_namespace_would_change_the_host_and_is_refused(bundle: Bundle, field: str) -> None:
    bundle.spec[field] = "mrsdalloway"
    bundle.without_namespace("uts")
    assert f"{field}: needs a uts namespace" in bundle.refusal()


# Platform-specific configuration


@must("Platform-specific configuration")
@pytest.mark.parametrize("platform", ["windows", "solaris", "vm", "zos", "freebsd"])
def test_the_configuration_of_another_platform_is_refused(bundle: Bundle, platform: str) -> None:
    bundle.spec[platform] = {"kernel": {"path": "/vmlinuz"}}
    assert f"{platform}: is for another platform" in bundle.refusal()


# POSIX-platform hooks

MOMENTS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
STATUS = dict(zip(MOMENTS, ["creating", "creating", "creating", "created", "running", "stopped"], strict=True))


@pytest.fixture
def hooked(bundle: Bundle) -> Callable[..., None]:
    """Adds a hook that keeps what it was given in the directory `seen`, which is there in both worlds."""
    seen = bundle.directory / "seen"
    seen.mkdir()
    (bundle.rootfs / str(seen).lstrip("/")).mkdir(parents=True)
    bundle.bind(seen, str(seen))

    def add(moment: str, script: str, **more: Any) -> None:
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cd {seen}; {script}"], "env": [PATH], **more}
        bundle.spec.setdefault("hooks", {}).setdefault(moment, []).append(hook)

    return add


def lived(bundle: Bundle) -> Path:
    """A container's whole life; the directory that its hooks wrote into."""
    bundle.create("true")
    started = bundle.start()
    assert started.returncode == 0, started.said
    deleted = bundle.runtime("delete", "--force", bundle.id)
    assert deleted.returncode == 0, deleted.said
    return bundle.directory / "seen"


@must("POSIX-platform Hooks")
def test_hooks_run_at_their_six_moments_in_the_listed_order(bundle: Bundle, hooked: Callable[..., None]) -> None:
    for moment in MOMENTS:
        for number in (1, 2):
            hooked(moment, f"echo {moment}{number} >> order")
    order = (lived(bundle) / "order").read_text().split()
    assert order == [f"{moment}{number}" for moment in MOMENTS for number in (1, 2)]


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hook_gets_the_state_on_its_standard_input(bundle: Bundle, hooked: Callable[..., None], moment: str) -> None:
    bundle.spec["annotations"] = {"org.example.key": "value"}
    hooked(moment, "cat > state")
    state = json.loads((lived(bundle) / "state").read_text())
    assert state["id"] == bundle.id
    assert state["status"] == STATUS[moment]
    assert state["bundle"] == str(bundle.directory)
    assert state["ociVersion"]
    assert state["annotations"] == bundle.spec["annotations"]
    assert state.get("pid", 0) > 0 or moment == "poststop"


@must("POSIX-platform Hooks")
def test_a_hook_gets_its_arguments_and_its_environment_alone(bundle: Bundle, hooked: Callable[..., None]) -> None:
    hooked("createRuntime", 'echo "$0 $1" > words; env | grep -v -e PWD= -e ^SHLVL -e ^_ > env')
    bundle.spec["hooks"]["createRuntime"][0] |= {"env": ["A=b"]}
    bundle.spec["hooks"]["createRuntime"][0]["args"] += ["first", "second"]
    seen = lived(bundle)
    assert (seen / "words").read_text() == "first second\n"
    assert (seen / "env").read_text() == "A=b\n"


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hook_without_env_has_that_of_the_runtime_or_the_program(
    bundle: Bundle, hooked: Callable[..., None], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHOSE", "runtime")
    bundle.process["env"].append("WHOSE=program")
    bundle.process["user"]["uid"] = 1000
    hooked(moment, "echo $WHOSE $HOME > without")
    del bundle.spec["hooks"][moment][0]["env"]
    hooked(moment, "echo $WHOSE $HOME > empty", env=[])
    bundle.directory.joinpath("seen").chmod(0o777)
    seen = lived(bundle)
    inherited = "program /home\n" if moment == "startContainer" else f"runtime {os.environ['HOME']}\n"
    assert ((seen / "without").read_text(), (seen / "empty").read_text()) == (inherited, "\n")


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", MOMENTS)
def test_hooks_run_in_the_namespaces_of_the_runtime_or_the_container(
    bundle: Bundle, hooked: Callable[..., None], moment: str
) -> None:
    hooked(
        moment, "readlink /proc/self/ns/net > net; ls /work /bin/busybox > root 2>&1; readlink /proc/self/ns/mnt > mnt"
    )
    seen = lived(bundle)
    inside = (seen / "net").read_text().strip() != os.readlink("/proc/self/ns/net")
    assert inside == (moment in ("createContainer", "startContainer"))


@pytest.fixture(params=["plain", "user", "no-pivot", "link"])
def way(request: pytest.FixtureRequest, bundle: Bundle) -> list[str]:
    """Ways to a root; the options of `run` for it."""
    if request.param == "user":
        bundle.with_namespace("user")
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        bundle.linux |= {"uidMappings": mapping, "gidMappings": mapping}
        for above in list(bundle.directory.parents)[:3]:  # where its own hooks are to go through
            above.chmod(0o755)
    if request.param == "link":
        (bundle.directory / "link").symlink_to("rootfs")
        bundle.spec["root"]["path"] = "link"
    return ["--no-pivot"] if request.param == "no-pivot" else []


def _hook_to_mount(bundle: Bundle, moment: str, script: str) -> None:
    """A hook that finds the container's PID in `$pid`, and is in its root."""
    script = f"pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cd {bundle.rootfs}; {script}"
    bundle.spec["hooks"] = {moment: [{"path": "/bin/sh", "args": ["sh", "-ec", script], "env": [PATH]}]}


@must("POSIX-platform Hooks")
def test_a_hook_of_create_container_mounts_where_the_root_is_on_the_host(bundle: Bundle, way: list[str]) -> None:
    given = bundle.directory / "given"
    given.mkdir()
    (given / "file").write_text("of the hook\n")
    (bundle.rootfs / "mnt").mkdir(exist_ok=True)
    (bundle.rootfs / "bound").touch()
    bundle.bind(given / "file", "/bound")
    script = "cat bound; test -e proc/self; mount --bind ../given/file proc/version; mount --bind ../given mnt"
    _hook_to_mount(bundle, "createContainer", script)
    bundle.process["args"] = ["cat", "/proc/version", "/mnt/file", "/bound"]
    done = bundle.does("run", *way)
    assert (done.returncode, done.stdout) == (0, "of the hook\n" * 3), done.said


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", ["prestart", "createRuntime"])
def test_a_hook_of_the_runtime_mounts_in_the_mount_namespace_of_the_container(
    bundle: Bundle, way: list[str], moment: str
) -> None:
    given = bundle.directory / "given"
    given.mkdir()
    (given / "file").write_text("of the hook\n")
    (bundle.rootfs / "mnt").mkdir(exist_ok=True)
    _hook_to_mount(bundle, moment, f"nsenter --mount=/proc/$pid/ns/mnt mount --bind {given} {bundle.rootfs}/mnt")
    bundle.process["args"] = ["cat", "/mnt/file"]
    bundle.directory.chmod(0o700)  # whose users cannot look in here
    done = bundle.does("run", *way)
    assert (done.returncode, done.stdout) == (0, "of the hook\n"), done.said
    assert not (bundle.rootfs / "mnt/file").exists()


@must("POSIX-platform Hooks")
def test_nothing_of_the_host_is_reached_from_a_root_that_hooks_reached(bundle: Bundle, way: list[str]) -> None:
    _hook_to_mount(bundle, "createContainer", "true")
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = [*DEFAULT_CAPABILITIES, "CAP_SYS_CHROOT"]
    (bundle.rootfs / "only-inside").touch()
    for name in ("bin", "proc"):
        (bundle.rootfs / "below" / name).mkdir(parents=True)
    os.link(bundle.rootfs / "bin/busybox", bundle.rootfs / "below/bin/busybox")
    bundle.mount("/below/proc", "proc", "proc")
    escape = "exec 3</; exec chroot /below /bin/busybox ls /proc/self/fd/3/../../../../../../../.."
    bundle.process["args"] = ["sh", "-c", escape]
    done = bundle.does("run", *way)
    assert "only-inside" in done.stdout, done.said


@must("POSIX-platform Hooks")
@pytest.mark.usefixtures("hooked")
def test_the_path_of_a_hook_of_start_container_is_resolved_inside(bundle: Bundle) -> None:
    (bundle.rootfs / "only-inside").write_text('#!/bin/sh\necho inside > "$1/proof"\n')
    os.chmod(bundle.rootfs / "only-inside", 0o755)
    seen = bundle.directory / "seen"
    bundle.spec["hooks"] = {"startContainer": [{"path": "/only-inside", "args": ["hook", str(seen)], "env": [PATH]}]}
    assert (lived(bundle) / "proof").read_text() == "inside\n"


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hook_whose_path_is_not_absolute_is_an_error(bundle: Bundle, moment: str) -> None:
    bundle.spec["hooks"] = {moment: [{"path": "bin/true"}]}
    assert f"hooks.{moment}[0].path" in bundle.refusal()


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_is_not_positive_is_an_error(bundle: Bundle, timeout: int) -> None:
    bundle.spec["hooks"] = {"poststop": [{"path": "/bin/true", "timeout": timeout}]}
    assert "hooks.poststop[0].timeout" in bundle.refusal()


@must("POSIX-platform Hooks")
@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_takes_longer_than_its_timeout_is_ended_and_an_error(
    bundle: Bundle, hooked: Callable[..., None], moment: str
) -> None:
    hooked(moment, "sleep 60", timeout=1)
    assert "1 s" in bundle.refusal()


# Annotations, extensibility, valid values


@must("Annotations")
def test_annotations_may_be_absent_or_empty(bundle: Bundle) -> None:
    bundle.spec["annotations"] = {}
    assert bundle.says("echo", "done") == "done"


@must("Annotations")
def test_an_annotation_that_is_no_string_or_has_no_key_is_an_error(bundle: Bundle) -> None:
    for wrong in ({"key": 1}, {"": "value"}, ["key"]):
        bundle.spec["annotations"] = wrong
        assert "annotations" in bundle.refusal()


@must("Annotations")
def test_an_unknown_annotation_is_no_error_and_is_in_the_state(bundle: Bundle) -> None:
    bundle.spec["annotations"] = {"com.example.nobody.knows": "", "k": "v"}
    bundle.create("sleep", "60")
    assert bundle.state()["annotations"] == bundle.spec["annotations"]


@must("Extensibility")
def test_unknown_properties_are_ignored_without_a_warning(bundle: Bundle) -> None:
    bundle.spec["future"] = bundle.process["future"] = bundle.linux["future"] = {"x": 1}
    done = bundle.runs("echo", "done")
    assert (done.stdout, done.stderr) == ("done\n", "")


@must("Valid values")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("linux.namespaces", [{"type": "nonsense"}]),
        ("linux.rootfsPropagation", "nonsense"),
        ("linux.seccomp", {"defaultAction": "SCMP_ACT_NONSENSE"}),
        ("linux.resources", {"pids": {"limit": "many"}}),
        ("process.scheduler", {"policy": "SCHED_NONSENSE"}),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_NONSENSE"}),
        ("process.user", {"uid": -1, "gid": 0}),
    ],
)
def test_an_invalid_value_is_an_error_that_names_the_field(bundle: Bundle, path: str, value: Any) -> None:
    section, field = path.split(".")
    bundle.spec[section][field] = value
    assert f"config.json: {path}" in bundle.refusal()
