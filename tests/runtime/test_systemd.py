"""Which unit a `linux.cgroupsPath` asks for, and limits in systemd's words."""

from __future__ import annotations

from typing import Any

import pytest

from cutaway.kernel.cgroups import Layout
from cutaway.plan.cgroups import create_operations
from cutaway.runtime.systemd import InvalidUnit, Unit, annotated, properties, slice_path

V1 = Layout.of([[1, f"/c/{name}", [name]] for name in ("memory", "cpu", "cpuset", "pids", "devices")])
V2 = Layout.of([[2, "/c", ["memory", "cpu", "cpuset", "pids", "io"]]])


def told(resources: dict[str, Any], layout: Layout) -> list[Any]:
    return properties(create_operations("box", resources, layout), layout, {})


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("", "system.slice/cutaway-box.scope"),
        ("system.slice:runc:a", "system.slice/runc-a.scope"),
        (":runc:a", "system.slice/runc-a.scope"),
        ("-.slice:runc:a", "runc-a.scope"),
        ("a-b-c.slice:x:y", "a.slice/a-b.slice/a-b-c.slice/x-y.scope"),
        ("a.slice:x:a-b.slice", "a.slice/a-b.slice"),
    ],
)
def test_a_path_is_a_unit(asked: str, path: str) -> None:
    assert Unit.of(asked, "box").path == path


@pytest.mark.parametrize(
    "asked",
    ["/a", "a/b", "a:b", "a.slice:b", "a:b:c", "a.slice:b:", "a.slice:b:c:d", "a.slice:b:../c", "-a.slice:b:c",
     "a--b.slice:b:c", ".slice:b:c", "a.slice:x:b-c.slice", "a.slice:x:-.slice"],
)  # fmt: skip
def test_what_is_no_unit_is_refused(asked: str) -> None:
    with pytest.raises(InvalidUnit):
        Unit.of(asked, "box")


def test_the_root_slice_is_the_root() -> None:
    assert slice_path("-.slice") == ""


def test_limits_of_version_1() -> None:
    limits = {
        "memory": {"limit": 4096, "swap": 8192},
        "cpu": {"shares": 512, "quota": 20001, "period": 50000, "cpus": "0"},
        "pids": {"limit": -1},
    }
    assert sorted(told(limits, V1)) == [
        ["CPUQuotaPerSecUSec", "t", 410_000],  # systemd's steps are of ten milliseconds
        ["CPUQuotaPeriodUSec", "t", 50000],
        ["CPUShares", "t", 512],
        ["MemoryLimit", "t", 4096],
        ["TasksMax", "t", (1 << 64) - 1],
    ]


def test_limits_of_version_2() -> None:
    limits = {
        "memory": {"limit": 4096, "swap": 8192, "reservation": 1024},
        "cpu": {"shares": 1024, "quota": -1, "period": 50000, "cpus": "0-2,8", "mems": "0"},
        "unified": {"memory.high": "1G", "memory.min": "512"},
    }
    assert sorted(told(limits, V2)) == [
        ["AllowedCPUs", "ay", [0b111, 0b1]],
        ["AllowedMemoryNodes", "ay", [1]],
        ["CPUQuotaPerSecUSec", "t", (1 << 64) - 1],
        ["CPUQuotaPeriodUSec", "t", 50000],
        ["CPUWeight", "t", 100],
        ["MemoryLow", "t", 1024],
        ["MemoryMax", "t", 4096],
        ["MemoryMin", "t", 512],
        ["MemorySwapMax", "t", 4096],
    ]


def test_a_quota_alone_leaves_the_period() -> None:
    for layout, held in ((V1, {"cpu.cfs_period_us": "50000"}), (V2, {"cpu.max": "20000 50000"})):
        limits = create_operations("box", {"cpu": {"quota": 10000}}, layout)
        assert properties(limits, layout, held)[-1] == ["CPUQuotaPerSecUSec", "t", 200_000]


def test_device_rules_that_allow_are_told() -> None:
    rules = [
        {"allow": False},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        {"allow": True, "type": "c", "major": 136, "access": "rwm"},
    ]
    assert told({"devices": rules}, V1) == [
        ["DevicePolicy", "s", "strict"],
        ["DeviceAllow", "a(ss)", []],
        ["DeviceAllow", "a(ss)", [["char-*", "m"], ["/dev/char/1:3", "rw"], ["char-pts", "rwm"]]],
    ]


def test_device_rules_that_systemd_has_no_words_for_are_left_to_the_kernel() -> None:
    assert told({"devices": [{"allow": True}, {"allow": False, "type": "b", "access": "w"}]}, V2) == [
        ["DevicePolicy", "s", "auto"],
        ["DeviceAllow", "a(ss)", []],
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("KillSignal", "37", ["KillSignal", "i", 37]),
        ("TimeoutStopUSec", "uint64 10000000", ["TimeoutStopUSec", "t", 10_000_000]),
        ("TimeoutStopSec", "uint64 10", ["TimeoutStopUSec", "t", 10_000_000]),
        ("CollectMode", "'inactive-or-failed'", ["CollectMode", "s", "inactive-or-failed"]),
        ("SendSIGHUP", "true", ["SendSIGHUP", "b", True]),
        ("After", "['a.service', \"b.service\"]", ["After", "as", ["a.service", "b.service"]]),
        ("Before", "@as []", ["Before", "as", []]),
    ],
)
def test_annotations_are_properties(name: str, text: str, told: list[Any]) -> None:
    assert list(annotated({"other": "x", f"org.systemd.property.{name}": text})) == [told]


@pytest.mark.parametrize(
    "text", ["", "x", "'x", "byte 256", "uint64 -1", "[]", "[1, 'a']", "(1, 2)", "boolean 1", "'a\\\\'"]
)
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(InvalidUnit, match="is not a value"):
        list(annotated({"org.systemd.property.X": text}))


def test_what_is_no_property_is_refused() -> None:
    with pytest.raises(InvalidUnit, match="X-Y cannot be a property"):
        list(annotated({"org.systemd.property.X-Y": "1"}))
