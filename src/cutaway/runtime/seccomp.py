"""Which system calls a container may make: from a profile, that says under which conditions, to what these conditions
come to here (the OCI runtime-spec's `linux.seccomp`, which `kernel.seccomp` compiles).

Profiles are in Docker's format: the OCI one, whose rules may depend on capabilities, the architecture and the kernel
(`includes`, `excludes`). The default one allows what Docker's does; `seccomp_default.json` has it, with reasons.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from typing import Any

_MACHINES = {  # uname -m: the name in `includes` and `excludes`, the name in `archMap`
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "loongarch64": ("loong64", "SCMP_ARCH_LOONGARCH64"),
}
_LONGEST_PROFILE = 1 << 20


class ProfileError(ValueError):
    """A seccomp profile that cannot be read, or that makes no sense; its text says where."""


def for_option(option: str, capabilities: Collection[str]) -> dict[str, Any] | None:
    """The OCI `linux.seccomp` that `--security-opt seccomp=OPTION` asks for; None if it is to have none.

    `option`: `unconfined`, `builtin` (the default profile), an absolute path, or a profile itself as JSON, as the
    Docker API has it. `capabilities`: the container's bounding set, by name. Raises `ProfileError`.
    """
    if option == "unconfined":
        return None
    if option == "builtin":
        return resolve(default_profile(), capabilities)
    text, name = (option, "given") if option.lstrip().startswith("{") else (_read(option), option)
    try:
        return resolve(_parsed(text), capabilities)
    except ProfileError as error:
        raise ProfileError(f"seccomp profile {name}: {error}") from None


def default_profile() -> dict[str, Any]:
    """Docker's default profile: an allow-list; what it does not name fails with EPERM."""
    from json import load

    with open(os.path.join(os.path.dirname(__file__), "seccomp_default.json"), "rb") as file:
        said = load(file)
    always = {"calls": [names for subject in said["always"].values() for names in subject]}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": said["errno"],
        "archMap": [{"architecture": name, "subArchitectures": subs} for name, subs in said["architectures"].items()],
        "syscalls": [entry for rule in [always, *said["rules"]] for entry in _entries(rule)],
    }


def _entries(rule: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One rule of `seccomp_default.json` as entries of Docker's format, one for each comparison."""
    entry: dict[str, Any] = {
        "names": " ".join(rule["calls"]).split(),
        "action": "SCMP_ACT_ERRNO" if "errno" in rule else "SCMP_ACT_ALLOW",
        "includes": _only({"arches": rule.get("on", "").split(), "caps": rule.get("with", "").split()}),
        "excludes": _only({"arches": rule.get("not_on", "").split(), "caps": rule.get("without", "").split()}),
    }
    if "errno" in rule:
        entry["errnoRet"] = rule["errno"]
    if "since" in rule:
        entry["includes"]["minKernel"] = rule["since"]
    for comparison in rule.get("is", [""]):
        operator, _, value = comparison.partition(" ")
        argument = [{"index": rule["argument"], "value": int(value), "op": "SCMP_CMP_" + operator}] if operator else []
        yield {**entry, "args": argument}


def _only(conditions: dict[str, list[str]]) -> dict[str, Any]:
    return {name: value for name, value in conditions.items() if value}


def resolve(
    profile: Mapping[str, Any], capabilities: Collection[str], machine: str = "", release: str = ""
) -> dict[str, Any]:
    """What a profile of Docker's format comes to for a container with these capabilities, on a machine (`uname -m`)
    with a kernel (`uname -r`), both by default this one. Raises `ProfileError`."""
    host = os.uname()
    native, architecture = _MACHINES.get(machine or host.machine, ("", ""))
    resolved = {
        key: profile[key] for key in ("defaultAction", "defaultErrnoRet", "flags") if profile.get(key) is not None
    }
    resolved["architectures"] = profile.get("architectures") or _mapped(profile.get("archMap") or (), architecture)
    facts = (frozenset(capabilities), native, release or host.release)
    resolved["syscalls"] = [_plain(entry) for entry in profile.get("syscalls") or () if _applies(entry, *facts)]
    return resolved


def _mapped(architectures: Collection[Mapping[str, Any]], native: str) -> list[str]:
    for entry in architectures:
        if entry["architecture"] == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return []


def _applies(entry: Mapping[str, Any], capabilities: frozenset[str], native: str, release: str) -> bool:
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    excluded = (
        native in (excludes.get("arches") or ())
        or not capabilities.isdisjoint(excludes.get("caps") or ())
        or ("minKernel" in excludes and _version(release) >= _version(excludes["minKernel"]))
    )
    included = (
        (not includes.get("arches") or native in includes["arches"])
        and capabilities.issuperset(includes.get("caps") or ())
        and ("minKernel" not in includes or _version(release) >= _version(includes["minKernel"]))
    )
    return included and not excluded


def _version(release: str) -> tuple[int, int]:
    """`6.1.0-13-amd64` → (6, 1)"""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    try:
        return int(major), int(minor or 0)
    except ValueError:
        raise ProfileError(f"{release} is not a kernel's version") from None


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry without its conditions, as the OCI runtime-spec has it."""
    plain = {"names": list(entry.get("names") or [entry["name"]]), "action": entry["action"]}
    if entry.get("errnoRet") is not None:
        plain["errnoRet"] = entry["errnoRet"]
    if entry.get("args"):
        plain["args"] = entry["args"]
    return plain


def _read(path: str) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            content = file.read(_LONGEST_PROFILE + 1)
    except OSError as error:
        raise ProfileError(f"opening seccomp profile ({path}) failed: {(error.strerror or '').lower()}") from None
    if len(content) > _LONGEST_PROFILE:
        raise ProfileError(f"seccomp profile {path} has more than {_LONGEST_PROFILE} bytes")
    return content.decode(errors="replace")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for a writer, if it is a named pipe


def _parsed(text: str) -> dict[str, Any]:
    """A profile from outside, checked to have the shape that the rest of this file and the compiler rely on."""
    from json import loads

    try:
        profile = loads(text)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"not JSON: {error}") from None
    _require(isinstance(profile, dict), "is not an object")
    _require(isinstance(profile.get("defaultAction"), str), "has no defaultAction")
    _require(_number(profile, "defaultErrnoRet", 0xFFFF), "defaultErrnoRet is not a small number")
    _require(not (profile.get("archMap") and profile.get("architectures")), "has both archMap and architectures")
    for key in ("architectures", "flags"):
        _require(_strings(profile.get(key)), f"{key} is not a list of names")
    for entry in _objects(profile, "archMap"):
        _require(isinstance(entry.get("architecture"), str), "an entry of archMap has no architecture")
        _require(_strings(entry.get("subArchitectures")), "subArchitectures is not a list of names")
    for number, entry in enumerate(_objects(profile, "syscalls")):
        _check_entry(entry, f"syscalls[{number}]")
    return dict(profile)


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    _require(bool(entry.get("name")) != bool(entry.get("names")), f"{where} needs either name or names")
    _require(
        isinstance(entry.get("name") or "", str) and _strings(entry.get("names")), f"{where} has a name that is none"
    )
    _require(isinstance(entry.get("action"), str), f"{where} has no action")
    _require(_number(entry, "errnoRet", 0xFFFF), f"{where} has an errnoRet that is not a small number")
    for comparison in _objects(entry, "args"):
        _check_comparison(comparison, where)
    for key in ("includes", "excludes"):
        conditions = entry.get(key) or {}
        _require(isinstance(conditions, dict), f"{where} has {key} that are no object")
        _require(_strings(conditions.get("arches")) and _strings(conditions.get("caps")), f"{where} has odd {key}")
        _require(isinstance(conditions.get("minKernel", ""), str), f"{where} has a minKernel that is no version")


def _check_comparison(comparison: Mapping[str, Any], where: str) -> None:
    _require(None not in map(comparison.get, ("index", "value", "op")), f"{where} compares without index, value or op")
    _require(_number(comparison, "index", 5), f"{where} compares an argument that is not one of the six")
    _require(isinstance(comparison["op"], str), f"{where} compares with an op that is no name")
    for key in ("value", "valueTwo"):
        _require(_number(comparison, key, 2**64 - 1), f"{where} compares with a {key} that is not 64 bits long")


def _require(right: bool, wrong: str) -> None:
    if not right:
        raise ProfileError(wrong)


def _objects(parent: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The list of objects at `key`, empty if absent."""
    entries = parent.get(key) or []
    _require(
        isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries),
        f"{key} is not a list of objects",
    )
    return list(entries)


def _strings(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value))


def _number(parent: Mapping[str, Any], key: str, most: int) -> bool:
    value = parent.get(key)
    return value is None or (type(value) is int and 0 <= value <= most)
