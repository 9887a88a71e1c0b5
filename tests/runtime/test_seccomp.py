"""The default profile allows what the reference does, and profiles of Docker's format are understood."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cutaway.kernel.seccomp import compile
from cutaway.runtime.identity import DEFAULT_CAPABILITIES
from cutaway.runtime.seccomp import ProfileError, default_profile, for_option, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "seccomp-default.json"

ADMIN = [*DEFAULT_CAPABILITIES, "CAP_SYS_ADMIN"]
EVERYTHING = [
    *ADMIN, "CAP_DAC_READ_SEARCH", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_SYS_NICE", "CAP_SYSLOG", "CAP_BPF", "CAP_PERFMON",
]  # fmt: skip


ENTRY = '{"defaultAction": "A", "syscalls": [{"names": ["a"], "action": "A", %s}]}'


def meaning(profile: dict[str, Any]) -> set[tuple[str, str]]:
    """A resolved profile as (call, what happens to it under which comparisons), however its entries are grouped."""
    return {
        (name, json.dumps([entry["action"], entry.get("errnoRet"), entry.get("args") or []], sort_keys=True))
        for entry in profile["syscalls"]
        for name in entry["names"]
    }


def allowed(profile: dict[str, Any]) -> set[str]:
    return {name for entry in profile["syscalls"] if entry["action"] == "SCMP_ACT_ALLOW" for name in entry["names"]}


@pytest.fixture
def reference() -> dict[str, Any]:
    if not REFERENCE.exists():
        pytest.skip(f"the reference profile is not at {REFERENCE}")
    found: dict[str, Any] = json.loads(REFERENCE.read_text())
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "s390x", "ppc64le", "riscv64", "loongarch64"])
@pytest.mark.parametrize("release", ["6.18.1", "4.7.0-generic"])
@pytest.mark.parametrize(
    "capabilities",
    [[], DEFAULT_CAPABILITIES, ADMIN, [*DEFAULT_CAPABILITIES, "CAP_SYS_PTRACE"], ["CAP_BPF"], EVERYTHING],
    ids=["none", "default", "admin", "ptrace", "bpf", "everything"],
)
def test_default_profile_means_what_the_reference_means(
    reference: dict[str, Any], capabilities: list[str], machine: str, release: str
) -> None:
    ours = resolve(default_profile(), capabilities, machine, release)
    theirs = resolve(reference, capabilities, machine, release)
    assert meaning(ours) == meaning(theirs)
    assert ours["architectures"] == theirs["architectures"]
    assert (ours["defaultAction"], ours["defaultErrnoRet"]) == (theirs["defaultAction"], theirs["defaultErrnoRet"])


@pytest.mark.parametrize(
    ("machine", "release", "capabilities", "compared"),
    [
        ("x86_64", "6.1", [], [0]),
        ("s390x", "6.1", [], [1]),
        ("x86_64", "6.1", ["CAP_SYS_ADMIN"], []),
        ("s390x", "6.1", ["CAP_SYS_ADMIN"], []),
    ],
)
def test_clone_is_compared_where_it_makes_namespaces(
    machine: str, release: str, capabilities: list[str], compared: list[int]
) -> None:
    resolved = resolve(default_profile(), capabilities, machine, release)
    found = [entry.get("args", []) for entry in resolved["syscalls"] if "clone" in entry["names"]]
    assert [argument["index"] for arguments in found for argument in arguments] == compared


@pytest.mark.parametrize(
    ("call", "machine", "release", "capabilities", "expected"),
    [
        ("arch_prctl", "x86_64", "6.1", [], True),
        ("arch_prctl", "aarch64", "6.1", [], False),
        ("set_tls", "aarch64", "6.1", [], True),
        ("set_tls", "x86_64", "6.1", [], False),
        ("ptrace", "x86_64", "4.8.0", [], True),
        ("ptrace", "x86_64", "4.7.9", [], False),
        ("ptrace", "x86_64", "4.7.9", ["CAP_SYS_PTRACE"], True),
        ("ptrace", "x86_64", "10.0-rc1", [], True),
        ("mount", "x86_64", "6.1", [], False),
        ("mount", "x86_64", "6.1", ["CAP_SYS_ADMIN"], True),
        ("reboot", "x86_64", "6.1", ["CAP_SYS_ADMIN"], False),
    ],
)
def test_conditions(call: str, machine: str, release: str, capabilities: list[str], expected: bool) -> None:
    assert (call in allowed(resolve(default_profile(), capabilities, machine, release))) is expected


def test_default_profile_compiles() -> None:
    for capabilities in ([], DEFAULT_CAPABILITIES, EVERYTHING):
        assert compile(resolve(default_profile(), capabilities))


def test_options(tmp_path: Path) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EROFS},
            {"name": "rmdir", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
            {"names": ["link"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}},
        ],
    }
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    kept = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EROFS}
    for option in (str(file), json.dumps(profile)):
        resolved = for_option(option, ["CAP_CHOWN"])
        assert resolved is not None
        assert resolved["syscalls"] == [kept]
        without = for_option(option, [])
        assert without is not None
        assert without["syscalls"] == [kept, {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"}]
    assert for_option("unconfined", []) is None
    assert for_option("builtin", DEFAULT_CAPABILITIES) == resolve(default_profile(), DEFAULT_CAPABILITIES)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "failed: no such file"),
        ("{", "not JSON"),
        ("{}", "no defaultAction"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}', r"syscalls\[0\] has no action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_LOG"}]}', "name or names"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{}], "architectures": ["a"]}',
            "both archMap and architectures",
        ),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7}', "syscalls is not a list"),
        (ENTRY % '"args": [{"index": 0, "value": -1, "op": "A"}]', "64 bits"),
        (ENTRY % '"args": [{"index": 6, "value": 1, "op": "A"}]', "one of the six"),
        (ENTRY % '"args": [{"index": 0, "value": null, "op": "A"}]', "without index, value or op"),
        (ENTRY % '"includes": {"minKernel": "x"}', "not a kernel's version"),
    ],
)
def test_senseless_profiles_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProfileError, match=complaint):
        for_option(text, [])


def test_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "profile.json")
    with pytest.raises(ProfileError, match="not JSON"):
        for_option(str(tmp_path / "profile.json"), [])
