"""The five sets, as the kernel itself tells them of a process."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from cutaway.kernel import capabilities, prctl
from cutaway.kernel.errors import KernelError
from tests.children import in_child, proc_status

HEADER = Path("/usr/include/linux/capability.h")
FEW = ["CAP_CHOWN", "CAP_KILL", "CAP_CHECKPOINT_RESTORE"]


def told(field: str) -> list[str]:
    return capabilities.names(int(proc_status(field), 16))


def test_names_are_the_kernel_header_s() -> None:
    if not HEADER.exists():
        pytest.skip(f"{HEADER} is not installed")
    numbers = dict(re.findall(r"^#define (CAP_\w+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))
    assert {name: int(number) for name, number in numbers.items()} == capabilities.NUMBERS


def test_last_is_the_kernel_s() -> None:
    assert capabilities.last() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def test_masks() -> None:
    assert capabilities.mask(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]) == 1 | 1 << 40
    assert capabilities.names(1 | 1 << 40 | 1 << 63) == ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]
    with pytest.raises(ValueError, match="CAP_FLY is not a capability"):
        capabilities.mask(["CAP_FLY"])


def test_reading_the_sets() -> None:
    effective, permitted, inheritable = capabilities.capget()
    assert effective == int(proc_status("CapEff"), 16)
    assert permitted == int(proc_status("CapPrm"), 16)
    assert inheritable == int(proc_status("CapInh"), 16)
    assert capabilities.bounding() == int(proc_status("CapBnd"), 16)
    assert capabilities.capget(os.getppid())


def test_giving_capabilities_up() -> None:
    def give_up() -> list[list[str]]:
        few = capabilities.mask(FEW)
        capabilities.keep_bounding(few)
        capabilities.capset(few, few, few)
        capabilities.set_ambient(capabilities.mask(["CAP_KILL"]))
        return [told(field) for field in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")]

    assert in_child(give_up) == [FEW, FEW, FEW, FEW, ["CAP_KILL"]]


def test_ambient_set_is_told() -> None:
    def ambient() -> list[str]:
        few = capabilities.mask(FEW)
        capabilities.capset(few, few, few)
        capabilities.set_ambient(few)
        capabilities.set_ambient(1)
        return capabilities.names(capabilities.ambient())

    assert in_child(ambient) == ["CAP_CHOWN"]


def test_what_is_given_up_does_not_come_back() -> None:
    def come_back() -> str:
        capabilities.capset(0, 0, 0)
        with pytest.raises(KernelError) as refused:
            capabilities.capset(1, 1, 0)
        assert refused.value.errno == errno.EPERM
        return str(refused.value)

    assert "lacking CAP_CHOWN" in in_child(come_back)


def test_nothing_to_drop_needs_no_right() -> None:
    def drop() -> None:
        bounding = capabilities.bounding()
        capabilities.capset(0, 0, 0)
        capabilities.keep_bounding(bounding)
        with pytest.raises(KernelError, match="PR_CAPBSET_DROP, CAP_CHOWN"):
            capabilities.keep_bounding(0)

    in_child(drop)


def test_keepcaps_keeps_the_permitted_set() -> None:
    def become_another() -> tuple[int, int]:
        prctl.set_keepcaps(True)
        os.setresuid(65534, 65534, 65534)
        return capabilities.capget()[:2]

    assert in_child(become_another) == (0, capabilities.capget()[1])
