"""From OCI's `linux.resources` to cgroups that hold: on paper for every layout, for real on the host at hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel.cgroups import Cgroup, Layout, UnsupportedResource, host_layout
from cutaway.kernel.namespaces import clone
from cutaway.plan.cgroups import (
    CreateCgroup,
    FreezeCgroup,
    LimitDevices,
    WriteCgroup,
    create_operations,
    join_operation,
    update_operations,
)
from cutaway.plan.operation import Context, Operation, dump, load
from cutaway.plan.plan import apply, undo
from tests.kernel.members import Counter, eventually, member, new_cgroup

V1 = Layout.of(
    [1, f"/cg/{names}", names.split(",")]
    for names in ("cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls",
                  "net_prio", "rdma", "name=systemd")
)  # fmt: skip
V2 = Layout.of([[2, "/cg", ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"]]])
HYBRID = Layout.of([[1, "/cg/memory", ["memory"]], [1, "/cg/cpu", ["cpu"]], [2, "/cg/unified", ["pids", "io"]]])

Resources = dict[str, Any]


def written(resources: Resources, layout: Layout) -> list[str]:
    """The writes, as `memory.max=1`, without what makes the cgroup."""
    operations = create_operations("box", resources, layout)
    return [f"{each.file}={each.value}" for each in operations if isinstance(each, WriteCgroup)]


class TestTranslation:
    """What is asked for, and the files that say so in v1 and in v2; None where that version cannot."""

    CASES: list[tuple[Resources, list[str] | None, list[str] | None]] = [
        ({"memory": {"limit": 1000}}, ["memory.limit_in_bytes=1000"], ["memory.max=1000"]),
        (
            {"memory": {"limit": 1000, "swap": 3000}},
            ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=3000"],
            ["memory.swap.max=2000", "memory.max=1000"],
        ),
        (
            {"memory": {"limit": 1000, "swap": 1000}},
            ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=1000"],
            ["memory.swap.max=0", "memory.max=1000"],
        ),
        (
            {"memory": {"limit": 1000, "swap": -1}},
            ["memory.memsw.limit_in_bytes=-1", "memory.limit_in_bytes=1000"],
            ["memory.swap.max=max", "memory.max=1000"],
        ),
        ({"memory": {"limit": -1}}, ["memory.limit_in_bytes=-1"], ["memory.swap.max=max", "memory.max=max"]),
        ({"memory": {"reservation": 10}}, ["memory.soft_limit_in_bytes=10"], ["memory.low=10"]),
        ({"memory": {"swap": 3000}}, ["memory.memsw.limit_in_bytes=3000"], None),
        (
            {"memory": {"limit": 2000, "swap": 1000}},
            ["memory.limit_in_bytes=2000", "memory.memsw.limit_in_bytes=1000"],
            None,
        ),
        ({"memory": {"swappiness": 0}}, ["memory.swappiness=0"], None),
        ({"memory": {"disableOOMKiller": True}}, ["memory.oom_control=1"], None),
        ({"memory": {"disableOOMKiller": False, "limit": 0}}, [], []),
        ({"memory": {"kernel": 5}}, ["memory.kmem.limit_in_bytes=5"], None),
        ({"cpu": {"shares": 1024}}, ["cpu.shares=1024"], ["cpu.weight=100"]),
        ({"cpu": {"shares": 2}}, ["cpu.shares=2"], ["cpu.weight=1"]),
        ({"cpu": {"shares": 262144}}, ["cpu.shares=262144"], ["cpu.weight=10000"]),
        ({"cpu": {"shares": 0}}, [], []),
        (
            {"cpu": {"quota": 50000, "period": 200000}},
            ["cpu.cfs_period_us=200000", "cpu.cfs_quota_us=50000"],
            ["cpu.max=50000 200000"],
        ),
        ({"cpu": {"quota": 50000}}, ["cpu.cfs_quota_us=50000"], ["cpu.max=50000"]),
        ({"cpu": {"quota": -1}}, ["cpu.cfs_quota_us=-1"], ["cpu.max=max"]),
        ({"cpu": {"period": 50000}}, ["cpu.cfs_period_us=50000"], ["cpu.max=max 50000"]),
        (
            {"cpu": {"quota": 50000, "burst": 20000}},
            ["cpu.cfs_burst_us=20000", "cpu.cfs_quota_us=50000"],
            ["cpu.max.burst=20000", "cpu.max=50000"],
        ),
        ({"cpu": {"idle": 1, "shares": 1024}}, ["cpu.shares=1024", "cpu.idle=1"], ["cpu.weight=100", "cpu.idle=1"]),
        ({"cpu": {"idle": 0, "shares": 1024}}, ["cpu.idle=0", "cpu.shares=1024"], ["cpu.idle=0", "cpu.weight=100"]),
        ({"cpu": {"realtimeRuntime": 5}}, ["cpu.rt_runtime_us=5"], None),
        (
            {"cpu": {"cpus": "0-1", "mems": "0"}},
            ["cpuset.cpus=0-1", "cpuset.mems=0"],
            ["cpuset.cpus=0-1", "cpuset.mems=0"],
        ),
        ({"pids": {"limit": 7}}, ["pids.max=7"], ["pids.max=7"]),
        ({"pids": {"limit": -1}}, ["pids.max=max"], ["pids.max=max"]),
        ({"pids": {"limit": -1}}, ["pids.max=max"], ["pids.max=max"]),
        ({"pids": {"limit": 0}}, ["pids.max=0"], ["pids.max=0"]),
        ({"blockIO": {"weight": 1000}}, ["blkio.bfq.weight=1000"], ["io.bfq.weight=1000"]),
        ({"blockIO": {"leafWeight": 10}}, ["blkio.leaf_weight=10"], None),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}},
            ["blkio.bfq.weight_device=8:0 10"],
            ["io.bfq.weight=8:0 10"],
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}},
            ["blkio.throttle.read_bps_device=8:0 5"],
            ["io.max=8:0 rbps=5"],
        ),
        (
            {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}},
            ["blkio.throttle.write_iops_device=8:16 0"],
            ["io.max=8:16 wiops=max"],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
            ["hugetlb.2MB.limit_in_bytes=4", "hugetlb.2MB.rsvd.limit_in_bytes=4"],
            ["hugetlb.2MB.max=4", "hugetlb.2MB.rsvd.max=4"],
        ),
        ({"network": {"classID": 5}}, ["net_cls.classid=5"], None),
        ({"network": {"priorities": [{"name": "eth0", "priority": 2}]}}, ["net_prio.ifpriomap=eth0 2"], None),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}}},
            ["rdma.max=mlx5_1 hca_handle=3 hca_object=4"],
            ["rdma.max=mlx5_1 hca_handle=3 hca_object=4"],
        ),
        ({"unified": {"memory.high": "5", "cgroup.type": "threaded"}}, None, ["memory.high=5", "cgroup.type=threaded"]),
        ({"unified": {"io.max": "7:0 riops=3\n7:1 riops=5\n"}}, None, ["io.max=7:0 riops=3", "io.max=7:1 riops=5"]),
        ({"unified": {"colour.max": "5"}}, None, None),
        ({"unified": {"memory/../../x": "5"}}, None, None),
        ({"hugepageLimits": [{"pageSize": "../x", "limit": 4}]}, None, None),
    ]  # fmt: skip

    @pytest.mark.parametrize(("resources", "on_v1", "on_v2"), CASES, ids=[json.dumps(case[0]) for case in CASES])
    def test_says_the_same_in_either_version(
        self, resources: Resources, on_v1: list[str] | None, on_v2: list[str] | None
    ) -> None:
        for layout, expected in (V1, on_v1), (V2, on_v2):
            if expected is None:
                with pytest.raises(UnsupportedResource):
                    create_operations("box", resources, layout)
            else:
                assert written(resources, layout) == expected

    def test_hybrid_takes_each_controller_from_its_side(self) -> None:
        resources = {"memory": {"limit": 5}, "pids": {"limit": 6}, "blockIO": {"weight": 505}}
        operations = create_operations("a/box", resources, HYBRID)
        assert [each.shell() for each in operations[1:]] == [
            "echo 5 > /cg/memory/a/box/memory.limit_in_bytes",
            "echo 6 > /cg/unified/a/box/pids.max",
            "if [ -e /cg/unified/a/box/io.bfq.weight ]; then echo 505 > /cg/unified/a/box/io.bfq.weight; "
            "else echo 5000 > /cg/unified/a/box/io.weight; fi",
        ]

    @pytest.mark.parametrize(
        "resources",
        [{"cpu": {"cpus": "0"}}, {"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, {"network": {"classID": 1}}],
        ids=str,
    )
    def test_a_limit_without_its_controller_is_refused_by_name(self, resources: Resources) -> None:
        with pytest.raises(
            UnsupportedResource, match=r"the host's cgroups .* have no (cpuset|hugetlb|net_cls) controller"
        ):
            create_operations("box", resources, HYBRID)

    def test_an_empty_section_needs_no_controller(self) -> None:
        assert len(create_operations("box", {"network": {}, "hugepageLimits": [], "cpu": {"shares": 2}}, HYBRID)) == 2


class TestDeviceRules:
    NOTHING = {"allow": False, "access": "rwm"}

    def test_are_said_in_order(self) -> None:
        devices = [self.NOTHING, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
                   {"allow": True, "type": "b", "major": -1, "access": "m"}]  # fmt: skip
        (limit,) = create_operations("box", {"devices": devices}, V2)[1:]
        assert limit == LimitDevices("/cg/box", 2, ["deny a *:* rwm", "allow c 1:3 rw", "allow b *:* m"])

    @pytest.mark.parametrize(
        ("rules", "lines"),
        [
            ([], ["echo a > /cg/devices/box/devices.deny"]),
            (["allow a *:* rwm"], ["echo a > /cg/devices/box/devices.allow"]),
            (["allow c 1:3 r", "allow c 1:3 w", "deny c 1:3 r"],
             ["echo a > /cg/devices/box/devices.deny", "echo 'c 1:3 w' > /cg/devices/box/devices.allow"]),
            (["allow c 1:3 r", "deny a *:* rwm"], ["echo a > /cg/devices/box/devices.deny"]),
            (["allow a *:* rwm", "deny b *:* rwm"],
             ["echo a > /cg/devices/box/devices.allow", "echo 'b *:* rwm' > /cg/devices/box/devices.deny"]),
        ],
        ids=str,
    )  # fmt: skip
    def test_become_one_verdict_and_exceptions_on_v1(self, rules: list[str], lines: list[str]) -> None:
        assert LimitDevices("/cg/devices/box", 1, rules).shell().splitlines() == lines

    def test_that_v1_cannot_hold_are_refused(self) -> None:
        some = {"allow": True, "type": "c", "access": "rwm"}
        not_one = {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
        with pytest.raises(UnsupportedResource, match=r"deny c 1:3 rwm: it takes back a part"):
            create_operations("box", {"devices": [self.NOTHING, some, not_one]}, V1)
        create_operations("box", {"devices": [self.NOTHING, some, not_one]}, V2)

    @pytest.mark.parametrize(
        "rule", [{"allow": True, "type": "x"}, {"allow": True, "type": "c", "access": "rx"}], ids=str
    )
    def test_that_make_no_sense_are_refused(self, rule: Resources) -> None:
        with pytest.raises(UnsupportedResource, match="a device rule"):
            create_operations("box", {"devices": [rule]}, V2)


class TestFaces:
    def test_every_operation_survives_being_written_down(self) -> None:
        operations: list[Operation] = [
            *create_operations("a/box", {"memory": {"limit": 5}, "devices": []}, V1),
            join_operation("a/box", HYBRID),
            FreezeCgroup("a/box", HYBRID.plain()),
        ]
        assert load(json.loads(json.dumps(dump(operations)))) == operations

    def test_every_operation_says_why_in_one_sentence(self) -> None:
        resources = {"memory": {"limit": 5}, "devices": [], "pids": {"limit": 3}, "unified": {"io.latency": "5"}}
        for operation in [*create_operations("a/box", resources, V2), join_operation("a/box", V2)]:
            assert operation.why().endswith(".") and operation.manual

    def test_paths_are_quoted(self) -> None:
        assert "mkdir -p '/cg/a box'" in CreateCgroup("a box", V2.plain()).shell()

    def test_what_no_tool_can_do_is_said(self) -> None:
        assert all(line.startswith("#") for line in LimitDevices("/cg/box", 2, ["allow c 1:3 rw"]).shell().splitlines())


@pytest.fixture
def path() -> Any:
    """Of a cgroup that is not there yet, in a parent of the test's own."""
    with new_cgroup() as cgroup:
        cgroup.remove()
        yield cgroup.path


HOST = host_layout()
LIMITS = {"memory": {"limit": 32 << 20}, "pids": {"limit": 5}, "cpu": {"quota": 20000, "period": 100000, "shares": 512}}


@pytest.mark.vm
class TestOnThisHost:
    def test_limits_hold_and_go_with_the_cgroup(self, path: str) -> None:
        operations = create_operations(path, LIMITS, HOST)
        apply(operations, Context())
        cgroup = Cgroup(path)
        assert cgroup.memory().limit == 32 << 20
        assert cgroup.pids().limit == 5
        crashed = load(json.loads(json.dumps(dump(operations))))
        assert undo(crashed, Context()) == undo(crashed, Context()) == []
        assert not cgroup.exists()

    def test_undo_ends_who_is_left_inside(self, path: str) -> None:
        operations = create_operations(path, {}, HOST)
        apply(operations, Context())
        with member(Cgroup(path)) as process:
            assert undo(operations, Context()) == []
            assert process.wait() == -signal.SIGKILL

    def test_undo_of_what_was_never_done_does_nothing(self, path: str) -> None:
        assert undo(create_operations(path, LIMITS, HOST), Context()) == []

    def test_undo_of_what_was_half_done_leaves_nothing(self, path: str) -> None:
        operations = create_operations(path, {"cpu": {"cpus": "4000"}}, HOST)
        with pytest.raises(OSError, match=r"cpuset\.cpus, '4000'"):
            apply(operations, Context())
        assert undo(operations, Context()) == []
        assert not Cgroup(path).exists()

    def test_the_script_does_the_same(self, path: str) -> None:
        operations = create_operations(path, LIMITS, HOST)
        subprocess.run(["sh", "-euc", "\n".join(each.shell() for each in operations)], check=True)
        cgroup = Cgroup(path)
        assert (cgroup.memory().limit, cgroup.pids().limit) == (32 << 20, 5)
        joining = f"{join_operation(path, HOST).shell()}; cat /proc/self/cgroup"
        listed = subprocess.run(["sh", "-euc", joining], check=True, capture_output=True, text=True).stdout
        for line in listed.splitlines():
            if Layout.of(HOST.plain()).find(line.split(":")[1] or "cgroup"):
                assert line.endswith(path)
        subprocess.run(["sh", "-euc", operations[0].shell_undo()], check=True)
        assert not cgroup.exists()

    def test_a_process_that_joins_reaches_the_host_by_descriptor_only(self, path: str) -> None:
        apply(create_operations(path, {}, HOST), Context())
        context = Context(host=os.open("/", os.O_RDONLY | os.O_DIRECTORY))
        joining = join_operation(path, HOST)
        joining.prepare(context)
        assert ("cgroup" in context.descriptors) == bool(HOST.unified)
        pid = os.fork()
        if pid == 0:
            os.chroot("/proc/self/fdinfo")
            joining.apply(context)
            signal.pause()
        try:
            mine = [each for each in HOST.hierarchies if each.version == 1]
            assert eventually(lambda: all(pid in each.processes(path) for each in mine))
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(context.host)
            for descriptor in context.descriptors.values():
                os.close(descriptor)

    def test_later_processes_go_where_the_first_has_gone(self, path: str) -> None:
        if HOST.unified is None:
            pytest.skip("this host has no cgroup v2 hierarchy")
        services = Cgroup(f"{path}/services", Layout([HOST.unified]))
        services.create()
        with member(services) as init:
            if HOST.unified.controllers:
                assert "pids" in Cgroup(path, Layout([HOST.unified])).read("cgroup", "cgroup.subtree_control")
            joining = join_operation(path, HOST, init.pid)
            assert joining.directory == services.directories[0]
            context = Context()
            joining.prepare(context)
            pid, pidfd = clone(0, context.descriptors["cgroup"])
            if pid == 0:
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            os.close(pidfd)
            os.close(context.descriptors["cgroup"])

    def test_freezing_is_undone_by_running_on(self, path: str) -> None:
        counter = Counter()
        apply(create_operations(path, {}, HOST), Context())
        freezing = FreezeCgroup(path, HOST.plain())
        with member(Cgroup(path), counter.count_for_ever):
            freezing.apply(Context())
            assert Cgroup(path).is_frozen
            subprocess.run(["sh", "-euc", f"{freezing.shell_undo()}\n{freezing.shell()}"], check=True)
            freezing.undo(Context())
            still = counter.value
            assert eventually(lambda: counter.value > still)
        undo(create_operations(path, {}, HOST), Context())
        freezing.undo(Context())

    def test_a_weight_is_given_to_whichever_scheduler_there_is(self, path: str) -> None:
        operations = create_operations(path, {"blockIO": {"weight": 300}}, HOST)
        apply(operations, Context())
        files = [file for directory in Cgroup(path).directories for file in Path(directory).glob("*io*weight")]
        assert any(file.read_text().split()[-1] in ("300", "2930") for file in files)


@pytest.mark.vm
class TestUpdate:
    def limits(self, cgroup: Cgroup, **sections: Any) -> None:
        apply(update_operations(cgroup, sections), Context())

    def test_memory_and_swap_go_up_and_down_together(self) -> None:
        with new_cgroup() as cgroup:
            for megabytes in 64, 256, 16, 128:
                limit = megabytes << 20
                self.limits(cgroup, memory={"limit": limit, "swap": 2 * limit})
                memory = cgroup.memory()
                assert (memory.limit, memory.swap_limit) == (limit, limit)
            self.limits(cgroup, memory={"limit": -1, "swap": -1})
            assert cgroup.memory().limit is None

    def test_no_limit_of_memory_lifts_that_of_swap(self) -> None:
        with new_cgroup() as cgroup:
            self.limits(cgroup, memory={"limit": 32 << 20, "swap": 64 << 20})
            self.limits(cgroup, memory={"limit": -1})
            assert (cgroup.memory().limit, cgroup.memory().swap_limit) == (None, None)

    def test_quota_period_and_burst_go_up_and_down_together(self) -> None:
        with new_cgroup() as cgroup:
            self.limits(cgroup, cpu={"quota": 50000, "period": 100000})  # what is below may never get more than half
            below = Cgroup(f"{cgroup.path}/below")
            below.create()
            for quota, period in (20000, 50000), (100000, 200000), (5000, 10000), (250000, 1000000):
                self.limits(below, cpu={"quota": quota, "period": period, "burst": quota // 2})
                assert self.bandwidth(below) == (quota, period, quota // 2)
            self.limits(below, cpu={"quota": -1})
            self.limits(below, cpu={"quota": 5000, "burst": 1000})

    @staticmethod
    def bandwidth(cgroup: Cgroup) -> tuple[int, int, int]:
        if HOST.find("cpu", version=1):
            files = "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"
            return tuple(int(cgroup.read("cpu", file)) for file in files)  # type: ignore[return-value]
        quota, period = cgroup.read("cpu", "cpu.max").split()
        return int(quota), int(period), int(cgroup.read("cpu", "cpu.max.burst"))

    def test_what_is_refused_half_way_is_taken_back(self) -> None:
        with new_cgroup() as cgroup:
            self.limits(cgroup, memory={"limit": 64 << 20, "swap": 128 << 20}, pids={"limit": 9})
            operations = update_operations(
                cgroup,
                {"memory": {"limit": 96 << 20, "swap": 256 << 20}, "pids": {"limit": 10}, "cpu": {"cpus": "4000"}},
            )
            with pytest.raises(OSError, match="4000"):
                apply(operations, Context())
            assert undo(operations, Context()) == []
            memory = cgroup.memory()
            assert (memory.limit, memory.swap_limit, cgroup.pids().limit) == (64 << 20, 64 << 20, 9)

    def test_a_limit_below_what_is_used_can_be_refused_beforehand(self) -> None:
        def hold() -> None:
            held = bytearray(b"x" * (20 << 20))
            counter.count()
            signal.pause()
            del held

        counter = Counter()
        with new_cgroup() as cgroup, member(cgroup, hold):
            assert eventually(lambda: counter.value > 0)
            with pytest.raises(UnsupportedResource, match="are in use"):
                update_operations(cgroup, {"memory": {"limit": 5 << 20, "checkBeforeUpdate": True}})
            assert cgroup.memory().limit is None
