"""Device programs, on a cgroup v2 directory: a pure host's, or the `unified` one of a hybrid host."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutaway.kernel import bpf
from cutaway.kernel.cgroups import Cgroup, Layout, host_layout
from cutaway.kernel.cgroups.devices import DeviceRule
from cutaway.kernel.errors import KernelError
from tests.kernel.members import member, new_cgroup

pytestmark = pytest.mark.vm

NULL, ZERO, FULL = "/dev/null", "/dev/zero", "/dev/full"  # c 1:3, c 1:5, c 1:7
ALL_NODES = ["allow c *:* m", "allow b *:* m"]


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    unified = host_layout().unified
    if unified is None:
        pytest.skip("this host has no cgroup v2 hierarchy")
    with new_cgroup() as made:
        yield Cgroup(made.path, Layout([unified]))


def limit(cgroup: Cgroup, *rules: str) -> None:
    bpf.limit_devices(cgroup.directories[0], map(DeviceRule.parse, rules))


def may(cgroup: Cgroup, access: Callable[[], object]) -> bool:
    """Whether a process in the cgroup gets the access, or EPERM."""

    def attempt() -> int:
        try:
            access()
        except OSError as error:
            assert error.errno == errno.EPERM
            return 1
        return 0

    with member(cgroup, attempt) as process:
        return {0: True, 1: False}[process.wait()]


def may_open(cgroup: Cgroup, path: str, flags: int = os.O_RDWR) -> bool:
    return may(cgroup, lambda: os.open(path, flags))


def test_what_no_rule_allows_is_denied(cgroup: Cgroup) -> None:
    limit(cgroup)
    assert not may_open(cgroup, NULL)


def test_only_the_device_that_is_allowed_opens(cgroup: Cgroup) -> None:
    limit(cgroup, "deny a *:* rwm", "allow c 1:3 rwm")
    assert may_open(cgroup, NULL)
    assert not may_open(cgroup, ZERO)


@pytest.mark.parametrize("rule", ["allow b 1:3 rwm", "allow c 2:3 rwm", "allow c 1:4 rwm"])
def test_kind_and_both_numbers_count(cgroup: Cgroup, rule: str) -> None:
    limit(cgroup, rule)
    assert not may_open(cgroup, NULL)


def test_any_number_is_any_number(cgroup: Cgroup) -> None:
    limit(cgroup, "allow c 1:* rwm", "deny c *:5 rwm")
    assert may_open(cgroup, NULL)
    assert not may_open(cgroup, ZERO)


@pytest.mark.parametrize(
    ("rules", "reading", "writing", "both"),
    [
        (["allow c 1:3 r"], True, False, False),
        (["allow c 1:3 w"], False, True, False),
        (["allow c 1:3 r", "allow c 1:* w"], True, True, True),
        (["allow c 1:3 rw", "deny c 1:3 w"], True, False, False),
        (["deny c 1:3 w", "allow c 1:3 rw"], True, True, True),
        (["allow a *:* rwm", "deny c 1:3 r"], False, True, False),
        (["allow a *:* rwm", "deny c 1:* rwm", "allow c *:3 r"], True, False, False),
    ],
    ids=str,
)
def test_the_last_rule_about_each_kind_of_access_decides(
    cgroup: Cgroup, rules: list[str], reading: bool, writing: bool, both: bool
) -> None:
    limit(cgroup, *rules)
    assert may_open(cgroup, NULL, os.O_RDONLY) == reading
    assert may_open(cgroup, NULL, os.O_WRONLY) == writing
    assert may_open(cgroup, NULL, os.O_RDWR) == both


def test_making_a_device_file_is_not_opening_it(cgroup: Cgroup, tmp_path: Path) -> None:
    node = tmp_path / "disk"
    limit(cgroup, *ALL_NODES)
    assert may(cgroup, lambda: os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(7, 250)))
    assert not may_open(cgroup, str(node), os.O_RDONLY)
    limit(cgroup, "allow c *:* m")
    assert not may(cgroup, lambda: os.mknod(tmp_path / "other", stat.S_IFBLK | 0o600, os.makedev(7, 250)))


def test_new_rules_take_the_place_of_the_old(cgroup: Cgroup) -> None:
    limit(cgroup, "allow c 1:3 rwm")
    limit(cgroup, "allow c 1:5 rwm")
    assert not may_open(cgroup, NULL)
    assert may_open(cgroup, ZERO)
    assert len(attached(cgroup)) == 1


def test_many_rules_are_as_good_as_few(cgroup: Cgroup) -> None:
    limit(cgroup, *(f"allow c {major}:{minor} r" for major in range(200, 210) for minor in range(30)), "allow c 1:7 rw")
    assert may_open(cgroup, FULL)
    assert not may_open(cgroup, NULL)


def test_a_program_taken_off_limits_nothing(cgroup: Cgroup) -> None:
    limit(cgroup)
    directory, program = os.open(cgroup.directories[0], os.O_RDONLY), bpf.open_program(attached(cgroup)[0])
    try:
        bpf.detach(directory, program)
    finally:
        os.close(directory)
        os.close(program)
    assert attached(cgroup) == []
    assert may_open(cgroup, NULL)


def test_below_nothing_more_is_allowed(cgroup: Cgroup) -> None:
    limit(cgroup, "allow c 1:3 rwm")
    below = Cgroup(f"{cgroup.path}/below", cgroup.layout)
    below.create()
    limit(below, "allow a *:* rwm")
    assert may_open(below, NULL)
    assert not may_open(below, ZERO)


def test_elsewhere_everything_is_as_before(cgroup: Cgroup) -> None:
    limit(cgroup)
    os.close(os.open(NULL, os.O_RDWR))


def test_a_broken_program_is_refused_by_the_kernel() -> None:
    with pytest.raises(KernelError, match=r"bpf\(a device program\)"):
        bpf.load_device_program(bpf.move(bpf.RESULT, 1))  # it never ends


def attached(cgroup: Cgroup) -> list[int]:
    directory = os.open(cgroup.directories[0], os.O_RDONLY)
    try:
        return bpf.attached(directory)
    finally:
        os.close(directory)
