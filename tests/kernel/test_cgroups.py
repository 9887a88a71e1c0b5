"""Cgroups on the host at hand, of whichever version: created, joined, limited, frozen, killed, counted, removed."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cutaway.kernel import procfs
from cutaway.kernel.cgroups import Cgroup, Layout, RefusedWrite, UnsupportedResource, host_layout, normal, read_layout
from cutaway.kernel.errors import KernelError
from cutaway.kernel.procfs import MountPoint
from cutaway.plan.cgroups import count_block_operations
from cutaway.plan.operation import Context
from cutaway.plan.plan import apply
from tests.kernel.members import Counter, burn, eventually, member, new_cgroup

pytestmark = pytest.mark.vm

MEGABYTE = 1 << 20
LAYOUT = host_layout()
MEMORY_LIMIT = "memory.limit_in_bytes" if LAYOUT.find("memory", version=1) else "memory.max"
SWAP_LIMIT = "memory.memsw.limit_in_bytes" if LAYOUT.find("memory", version=1) else "memory.swap.max"


MAKE_AND_REMOVE = """
import sys
from cutaway.kernel.cgroups import Cgroup
parent, name = sys.argv[1:]
for _ in range(100):
    child = Cgroup(f"{parent}/{name}")
    child.create()
    child.remove()
    Cgroup(parent).remove_unused()
"""


def without_unified() -> Layout:
    """This host's hierarchies of version 1 only, as hosts before systemd 226 have them."""
    return Layout(each for each in LAYOUT.hierarchies if each.version == 1)


def limit_memory(cgroup: Cgroup, limit: int) -> None:
    """To `limit` bytes, and no swap."""
    cgroup.write("memory", MEMORY_LIMIT, str(limit))
    if Path(cgroup.directory("memory"), SWAP_LIMIT).exists():
        cgroup.write("memory", SWAP_LIMIT, str(limit) if LAYOUT.find("memory", version=1) else "0")


def touch(size: int) -> None:
    memory = mmap.mmap(-1, size)
    for page in range(0, size, mmap.PAGESIZE):
        memory[page] = 1


class TestMembership:
    def test_a_process_that_joins_is_in_every_hierarchy(self) -> None:
        with new_cgroup() as cgroup, member(cgroup) as process:
            assert cgroup.processes() == [process.pid]
            for name, path in procfs.cgroups(process.pid).items():
                if name in [each.name for each in LAYOUT.hierarchies]:
                    assert path.endswith("/" + cgroup.path), name

    def test_children_of_members_are_members(self) -> None:
        def fork() -> None:
            if os.fork() == 0:
                signal.pause()
            os.wait()

        with new_cgroup() as cgroup, member(cgroup, fork):
            assert eventually(lambda: len(cgroup.processes()) == 2)

    def test_joining_through_a_descriptor_of_the_root_needs_no_file_system(self) -> None:
        root = os.open("/", os.O_PATH)

        def join_from_elsewhere() -> None:
            os.chroot("/var/empty" if os.path.isdir("/var/empty") else "/proc/self/fdinfo")
            other.join(root)
            signal.pause()

        with new_cgroup() as cgroup:
            other = Cgroup(f"{cgroup.path}/other")
            other.create()
            if LAYOUT.find("cpu", version=2):
                cgroup = Cgroup(f"{cgroup.path}/leaf")  # beside it: on v2 processes live in leaves only
                cgroup.create()
            with member(cgroup, join_from_elsewhere) as process:
                assert eventually(lambda: other.processes() == [process.pid])
        os.close(root)

    def test_a_deep_new_parent_takes_processes_and_limits(self) -> None:
        with new_cgroup("a/b/c") as cgroup, member(cgroup) as process:
            limit_memory(cgroup, 32 * MEGABYTE)
            assert cgroup.processes() == [process.pid]
            assert cgroup.memory().limit == 32 * MEGABYTE

    @pytest.mark.parametrize("path", ["/a/b/", "a//b", "../../a/b", "x/../a/b"])
    def test_a_path_stays_below_the_mount_point(self, path: str) -> None:
        assert normal(path) == "a/b"

    @pytest.mark.parametrize("path", ["", "/", "..", "a/.."])
    def test_the_root_is_not_ours(self, path: str) -> None:
        with pytest.raises(ValueError, match="root cgroup"):
            Cgroup(path)


class TestRemoval:
    def test_absent_is_removed_already(self) -> None:
        with new_cgroup() as cgroup:
            cgroup.remove()
            assert not cgroup.exists()
            cgroup.remove()
            cgroup.kill()
            assert cgroup.processes() == []

    def test_whoever_is_inside_is_named_and_unharmed(self) -> None:
        with new_cgroup() as cgroup, member(cgroup) as process:
            with pytest.raises(KernelError, match=str(process.pid)) as refused:
                cgroup.remove(timeout=0)
            assert refused.value.errno == errno.EBUSY
            assert cgroup.processes() == [process.pid]

    def test_waits_for_the_last_process_to_end(self) -> None:
        with new_cgroup() as cgroup, member(cgroup, lambda: burn(0.05)) as process:
            cgroup.remove()
            assert not cgroup.exists()
            assert process.wait() == 0

    def test_takes_what_a_container_made_below_with_it(self) -> None:
        with new_cgroup() as cgroup:
            Cgroup(f"{cgroup.path}/system/service").create()
            Cgroup(f"{cgroup.path}/user").create()
            cgroup.remove()
            assert not any(map(os.path.exists, cgroup.directories))

    def test_only_an_unused_parent_goes_quietly(self) -> None:
        with new_cgroup() as cgroup:
            parent = Cgroup(os.path.dirname(cgroup.path))
            parent.remove_unused()
            assert cgroup.exists()
            cgroup.remove()
            parent.remove_unused()
            assert not parent.exists()

    def test_a_parent_that_another_removes_is_made_again(self) -> None:
        with new_cgroup() as cgroup:
            command = [sys.executable, "-c", MAKE_AND_REMOVE, f"{cgroup.path}/parent"]
            several = [subprocess.Popen([*command, str(number)]) for number in range(4)]
            assert [each.wait() for each in several] == [0] * 4


@pytest.mark.parametrize("layout", [LAYOUT, without_unified()], ids=["of the host", "without unified"])
class TestKill:
    def test_reaches_everyone_inside_and_nobody_else(self, layout: Layout) -> None:
        if not layout.hierarchies:
            pytest.skip("this host has cgroup v2 only")
        with new_cgroup() as cgroup, new_cgroup() as other, member(other) as bystander:
            below = Cgroup(f"{cgroup.path}/below")
            if not LAYOUT.find("cpu", version=2):
                below.create()
                with member(below) as nested, member(cgroup) as process:
                    Cgroup(cgroup.path, layout).kill()
                    assert (nested.wait(), process.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
            else:
                with member(cgroup) as process:
                    Cgroup(cgroup.path, layout).kill()
                    assert process.wait() == -signal.SIGKILL
            assert other.processes() == [bystander.pid]

    def test_outruns_a_fork_bomb(self, layout: Layout) -> None:
        if not layout.hierarchies:
            pytest.skip("this host has cgroup v2 only")
        forks = Counter()

        def bomb() -> None:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            while True:
                try:
                    if os.fork() == 0:
                        forks.count()
                        if forks.value % 3:
                            os._exit(0)
                except OSError:
                    pass

        with new_cgroup() as cgroup:
            cgroup.write("pids", "pids.max", "20")
            with member(cgroup, bomb):
                assert eventually(lambda: forks.value > 30)
                Cgroup(cgroup.path, layout).kill()
                cgroup.remove()
                assert not cgroup.exists()


class TestFreezer:
    def test_a_frozen_process_stands_still_and_goes_on(self) -> None:
        counter = Counter()
        with new_cgroup() as cgroup, member(cgroup, counter.count_for_ever):
            assert eventually(lambda: counter.value > 0)
            cgroup.freeze()
            assert cgroup.is_frozen
            still = counter.value
            burn(0.05)
            assert counter.value == still
            cgroup.thaw()
            assert not cgroup.is_frozen
            assert eventually(lambda: counter.value > still)

    def test_a_frozen_process_can_be_killed(self) -> None:
        with new_cgroup() as cgroup, member(cgroup) as process:
            cgroup.freeze()
            cgroup.kill()
            assert process.wait() == -signal.SIGKILL

    def test_where_some_do_not_stop_in_time_all_run_on(self) -> None:
        counters = [Counter() for _ in range(8)]  # more than can reach their stop between two looks

        def gives_up() -> bool:
            try:
                cgroup.freeze(timeout=-1)
            except TimeoutError as error:
                return "does not stop" in str(error)
            cgroup.thaw()
            return False

        with new_cgroup() as cgroup, ExitStack() as members:
            for counter in counters:
                members.enter_context(member(cgroup, counter.count_for_ever))
            assert eventually(gives_up)
            assert not cgroup.is_frozen
            still = [counter.value for counter in counters]
            assert eventually(
                lambda: all(counter.value > before for counter, before in zip(counters, still, strict=True))
            )


class TestLimitsAndUsage:
    def test_memory_beyond_the_limit_kills_and_is_counted(self) -> None:
        with new_cgroup() as cgroup:
            limit_memory(cgroup, 16 * MEGABYTE)
            with member(cgroup, lambda: touch(64 * MEGABYTE)) as process:
                assert process.wait() == -signal.SIGKILL
            memory = cgroup.memory()
            assert (memory.limit, memory.oom_kills, cgroup.oom_kills()) == (16 * MEGABYTE, 1, 1)
            assert memory.max_usage >= 15 * MEGABYTE or memory.max_usage == 0  # which v2 counts since Linux 5.19

    def test_memory_in_use_is_counted(self) -> None:
        ready, done = os.pipe()

        def hold() -> None:
            memory = mmap.mmap(-1, 20 * MEGABYTE)
            memory[:] = b"x" * len(memory)
            os.write(done, b".")
            signal.pause()

        with new_cgroup() as cgroup, member(cgroup, hold):
            os.read(ready, 1)
            memory = cgroup.memory()
            assert 20 * MEGABYTE <= memory.usage < 80 * MEGABYTE
            assert memory.limit is None and memory.oom_kills == 0
            assert 0 <= memory.inactive_file < memory.usage
            assert memory.stat
        os.close(ready)
        os.close(done)

    def test_cpu_time_is_counted(self) -> None:
        with new_cgroup() as cgroup, member(cgroup, lambda: burn(0.1)) as process:
            process.wait()
            cpu = cgroup.cpu()
            assert 0.1e9 <= cpu.total < 2e9
            assert cpu.user + cpu.system == pytest.approx(cpu.total, rel=0.2, abs=20e6)
            assert not cpu.per_cpu or sum(cpu.per_cpu) == cpu.total

    def test_a_cpu_quota_throttles(self) -> None:
        with new_cgroup() as cgroup:
            if LAYOUT.find("cpu", version=1):
                cgroup.write("cpu", "cpu.cfs_quota_us", "5000")
            else:
                cgroup.write("cpu", "cpu.max", "5000 100000")
            with member(cgroup, lambda: burn(0.02)) as process:
                process.wait()
            throttling = cgroup.throttling()
            assert throttling.periods >= throttling.throttled_periods > 0
            assert throttling.time > 0

    def test_a_limit_of_processes_holds(self) -> None:
        def fork_twice() -> int:
            if os.fork() == 0:
                signal.pause()
            try:
                os.fork()
            except BlockingIOError:
                return 7
            return 0

        with new_cgroup() as cgroup:
            assert cgroup.pids().limit is None
            cgroup.write("pids", "pids.max", "2")
            with member(cgroup, fork_twice) as process:
                assert process.wait() == 7
                assert (cgroup.pids().current, cgroup.pids().limit) == (1, 2)

    def test_what_goes_to_a_disk_is_counted(self, tmp_path: Path) -> None:
        device = os.stat(tmp_path).st_dev
        if not Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists():
            pytest.skip("the temporary directory is on no disk")

        def write_directly() -> None:
            file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
            os.write(file, mmap.mmap(-1, MEGABYTE))

        with new_cgroup() as cgroup:
            apply(count_block_operations(cgroup.path, LAYOUT), Context())
            with member(cgroup, write_directly) as process:
                assert process.wait() == 0
            usages = {(usage.major, usage.minor): usage for usage in cgroup.block()}
            usage = usages.get((os.major(device), os.minor(device))) or max(
                usages.values(), key=lambda u: u.write_bytes
            )
            assert usage.write_bytes >= MEGABYTE
            assert usage.write_operations > 0

    def test_all_at_once(self) -> None:
        with new_cgroup() as cgroup, member(cgroup):
            usage = cgroup.usage()
            assert usage.pids.current == 1
            assert usage.memory.usage >= 0 and usage.cpu.total >= 0 and usage.throttling.periods >= 0

    def test_a_refused_value_is_explained(self) -> None:
        with new_cgroup() as cgroup:
            with pytest.raises(RefusedWrite, match=r"pids\.max, 'many'\): EINVAL.*out of range"):
                cgroup.write("pids", "pids.max", "many")
            with pytest.raises(FileNotFoundError, match="lacks the limit"):
                cgroup.write("pids", "pids.colour", "blue")
            assert cgroup.read("pids", "pids.max") == "max"


class TestLayout:
    HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/bin/x,name=systemd
34 31 0:30 / /mnt/again rw,relatime - cgroup cgroup rw,xattr,name=systemd"""

    def test_is_read_from_the_mounts(self) -> None:
        layout = read_layout(map(MountPoint, self.HYBRID.splitlines()))
        assert layout.plain() == [
            [1, "/sys/fs/cgroup/cpu,cpuacct", ["cpu", "cpuacct"]],
            [1, "/sys/fs/cgroup/systemd", ["name=systemd"]],
        ]

    def test_survives_being_written_down(self) -> None:
        assert Layout.of(LAYOUT.plain()).plain() == LAYOUT.plain()

    def test_of_this_host_is_what_its_kernel_says(self) -> None:
        mine = {name for name in procfs.cgroups() if name} | ({""} if LAYOUT.unified else set())
        assert mine >= {each.name for each in LAYOUT.hierarchies}

    def test_a_missing_controller_is_named(self) -> None:
        with pytest.raises(UnsupportedResource, match="have no colour controller"):
            Cgroup("x", LAYOUT).directory("colour")

    def test_none_mounted_is_said(self) -> None:
        with pytest.raises(FileNotFoundError, match="mount -t cgroup2"):
            read_layout([])
