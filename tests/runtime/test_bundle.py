"""A bundle compiled whole: who does what, and when. Needs no root; what it does is seen in tests/conformance."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel.cgroups import Layout
from cutaway.kernel.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER
from cutaway.plan.cgroups import CreateCgroup, JoinCgroup
from cutaway.plan.hooks import RunHook
from cutaway.plan.mounts import AttachRoot, BindMount, ChangeRoot, MakeDevice, Mount, OpenRoot, PivotRoot, Remount
from cutaway.plan.namespaces import BecomeRoot, JoinNamespace, MapIds, NewNamespaces, NewTimeNamespace
from cutaway.plan.operation import Operation
from cutaway.plan.process import CloseDescriptors, DropCapabilities, Exec, SetOomScore, SetRlimits
from cutaway.runtime.bundle import Parts, cgroup_path, compile_bundle, with_default_devices
from tests.runtime.documents import EVERYTHING

HYBRID = Layout.of([[1, "/cg/pids", ["pids"]], [2, "/cg/unified", []]])
PURE = Layout.of([[2, "/cg", ["pids", "memory", "cpu", "io"]]])
MAPPINGS = [{"containerID": 0, "hostID": 1000, "size": 10}]
LEAST: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "network", "cgroup")]},
}


def compiled(layout: Layout = HYBRID, **changes: Any) -> Parts:
    spec = copy.deepcopy(LEAST)
    spec["linux"] |= changes.pop("linux", {})
    return compile_bundle(spec | changes, "/bundle", "box", layout)


def kinds(operations: list[Operation]) -> list[type[Operation]]:
    return [type(each) for each in operations]


def test_relative_paths_are_the_bundles() -> None:
    parts = compiled(mounts=[{"destination": "data", "source": "data", "options": ["bind"]}])
    assert AttachRoot("/bundle/rootfs", "/") in parts.setup
    assert BindMount("/bundle/data", "/data", ["bind"]) in parts.setup


def test_what_is_made_on_the_host_is_made_before_there_is_a_process() -> None:
    assert kinds(compiled().before) == [CreateCgroup]
    assert compiled().flags == CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET


def test_the_cgroup_namespace_is_made_once_the_cgroup_is_joined() -> None:
    setup = compiled().setup
    assert kinds(setup).index(JoinCgroup) < setup.index(NewNamespaces(["cgroup"]))


def test_namespaces_of_others_are_joined_by_the_process_itself_unless_users_or_pids_are_among_them() -> None:
    net = {"type": "network", "path": "/netns"}
    plain = compiled(linux={"namespaces": [{"type": "mount"}, net]})
    assert plain.joins == [] and JoinNamespace("net", "/netns") in plain.setup
    for more in ({"type": "pid", "path": "/pidns"}, {"type": "user", "path": "/userns"}):
        assert JoinNamespace("net", "/netns") in compiled(linux={"namespaces": [{"type": "mount"}, net, more]}).joins


@pytest.mark.parametrize(("user", "place"), [(0, -1), (1000, 0)])
def test_the_user_namespace_is_joined_last_by_root_and_first_by_others(
    user: int, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    namespaces = [{"type": kind, "path": "/ns"} for kind in ("user", "network", "pid", "time")]
    joined = compiled(linux={"namespaces": [*namespaces, {"type": "mount"}]}).joins
    assert joined[place] == JoinNamespace("user", "/ns")


def test_in_a_user_namespace_the_host_does_what_takes_its_powers() -> None:
    process = LEAST["process"] | {"oomScoreAdj": 5, "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]}
    linux: dict[str, Any] = {"uidMappings": MAPPINGS, "gidMappings": MAPPINGS}
    linux["namespaces"] = [{"type": "mount"}, {"type": "user"}]
    parts = compiled(process=process, linux=linux)
    assert parts.flags & CLONE_NEWUSER
    assert {*kinds(parts.born)} == {JoinCgroup, MapIds}
    assert {*kinds(parts.ready)} == {SetOomScore, SetRlimits}
    assert BecomeRoot in kinds(parts.setup)
    assert BindMount("/dev/null", "/dev/null", ["bind"]) in parts.setup
    assert MakeDevice not in kinds(parts.setup)


def test_the_clocks_are_set_before_the_process_is_born() -> None:
    parts = compiled(linux={"namespaces": [{"type": "mount"}, {"type": "time"}],
                            "timeOffsets": {"boottime": {"secs": 7}}})  # fmt: skip
    assert parts.joins == [NewTimeNamespace({"boottime": [7, 0]})]


def test_hooks_are_where_their_moments_are() -> None:
    hooks = {moment: [{"path": f"/{moment}"}] for moment in EVERYTHING["hooks"]}
    parts = compiled(hooks=hooks)
    assert [each.moment for each in parts.ready if isinstance(each, RunHook)] == ["prestart", "createRuntime"]
    assert kinds(parts.enter)[0] == RunHook and PivotRoot in kinds(parts.enter)
    assert kinds(parts.program) == [RunHook, Exec]


def test_the_root_is_entered_by_other_means_where_it_must_be() -> None:
    spec = copy.deepcopy(LEAST)
    assert ChangeRoot in kinds(compile_bundle(spec, "/bundle", "box", HYBRID, pivot=False).enter)
    parts = compiled(mounts=[], linux={"namespaces": [{"type": "pid"}]})
    assert OpenRoot("/bundle/rootfs") in parts.setup and ChangeRoot in kinds(parts.enter)


def test_a_read_only_dev_becomes_so_once_the_devices_are_in_it() -> None:
    dev = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosuid"]}
    setup = compiled(mounts=[dev]).setup
    assert Mount("tmpfs", "/dev", "tmpfs", ["nosuid"]) in setup
    assert kinds(setup).index(Remount) > max(n for n, each in enumerate(setup) if isinstance(each, MakeDevice))


def test_a_dev_of_the_hosts_gets_no_devices() -> None:
    dev = {"destination": "/dev", "source": "/dev", "options": ["rbind"]}
    assert MakeDevice not in kinds(compiled(mounts=[dev]).setup)


@pytest.mark.parametrize("layout", [HYBRID, PURE])
def test_without_a_cgroup_namespace_the_containers_own_directories_are_bound(layout: Layout) -> None:
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    parts = compiled(layout, mounts=[mount], linux={"namespaces": [{"type": "mount"}], "cgroupsPath": "/a/b"})
    bound = [each for each in parts.setup if isinstance(each, BindMount)]
    shown = [each for each in layout.hierarchies if each.version == 1] or layout.hierarchies
    assert {each.source for each in bound} == {f"{each.mount_point}/a/b" for each in shown}
    assert all(each.options == ["bind", "ro"] for each in bound)


def test_cgroups_by_path() -> None:
    assert cgroup_path("/a/b", "box") == "/a/b"
    assert cgroup_path("a/b", "box") == "/cutaway/a/b"
    assert cgroup_path("", "box") == "/cutaway/box"


def test_default_devices_can_be_used_where_devices_are_limited_at_all() -> None:
    assert with_default_devices({}) == {}
    *_, last = with_default_devices({"devices": [{"allow": False}]})["devices"]
    assert last == {"allow": True, "type": "c", "major": 136, "minor": -1, "access": "rwm"}


def test_capabilities_that_nobody_can_give_are_told_and_left_out() -> None:
    process = LEAST["process"] | {"capabilities": {"bounding": ["CAP_NONSENSE"], "ambient": ["CAP_CHOWN"]}}
    parts = compiled(process=process)
    assert parts.warnings == [
        "process.capabilities.bounding: CAP_NONSENSE cannot be granted",
        "process.capabilities.ambient: CAP_CHOWN cannot be granted",
    ]
    assert DropCapabilities(bounding=[], effective=[], permitted=[], inheritable=[], ambient=[]) in parts.enter


def test_descriptors_to_be_kept_are_kept() -> None:
    parts = compile_bundle(copy.deepcopy(LEAST), "/bundle", "box", HYBRID, preserved=2)
    assert CloseDescriptors(5) in [*parts.enter, *parts.program]


def test_every_step_of_everything_says_itself_and_why(tmp_path: Path) -> None:
    spec = copy.deepcopy(EVERYTHING)
    del spec["vm"], spec["process"]["selinuxLabel"]
    spec["process"]["apparmorProfile"] = "box"
    spec["linux"] |= {"resources": {"pids": {"limit": 5}}, "namespaces": [{"type": kind} for kind in
                      ("mount", "user", "time", "network", "cgroup", "pid", "uts", "ipc")]}  # fmt: skip
    del spec["linux"]["seccomp"]["defaultErrnoRet"]
    parts = compile_bundle(spec, str(tmp_path), "box", HYBRID)
    for operation in [
        *parts.before,
        *parts.joins,
        *parts.born,
        *parts.setup,
        *parts.ready,
        *parts.enter,
        *parts.program,
    ]:
        assert isinstance(operation.shell(), str)
        assert operation.why().endswith((".", "out.")), operation
