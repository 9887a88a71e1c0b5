"""Device rules: which device files the processes of a cgroup may make (m), read (r) and write (w).

Of the rules that match, the last decides; what none matches is denied. Version 1 holds them in the files
`devices.allow` and `devices.deny`, version 2 asks a program (`kernel.bpf`). Kernel's
`Documentation/admin-guide/cgroup-v1/devices.rst`
"""

from __future__ import annotations

from cutaway.kernel.cgroups.writes import UnsupportedResource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class DeviceRule:
    """One rule: `kind` is "b" (block), "c" (character) or "a" (every device there is); `major` and `minor` None for
    any; `access` some of "rwm". As text: `allow c 1:3 rwm`, `deny c 10:* w`, `deny a *:* rwm`."""

    __slots__ = ("access", "allow", "kind", "major", "minor")

    def __init__(self, allow: bool, kind: str = "a", major: int | None = None, minor: int | None = None,
                 access: str = "rwm") -> None:  # fmt: skip
        if kind not in ("a", "b", "c") or not access or not set(access) <= set("rwm"):
            raise UnsupportedResource(f"a device rule for {kind} {access!r}: the kinds are a, b and c, the access rwm")
        self.allow, self.kind = allow, kind
        every = kind == "a"
        self.major, self.minor, self.access = (None, None, "rwm") if every else (major, minor, access)

    def __str__(self) -> str:
        return (
            f"{'allow' if self.allow else 'deny'} {self.kind} {_number(self.major)}:{_number(self.minor)} {self.access}"
        )

    @classmethod
    def parse(cls, text: str) -> DeviceRule:
        """The inverse of `str`."""
        verdict, kind, numbers, access = text.split()
        major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
        return cls(verdict == "allow", kind, major, minor, access)

    @classmethod
    def of(cls, rule: Mapping[str, Any]) -> DeviceRule:
        """One of OCI's `linux.resources.devices`, where "u" is "c", and -1 and nothing are any number."""
        kind = {"u": "c", "": "a"}.get(rule.get("type") or "", rule.get("type"))
        major, minor = (None if rule.get(key) in (None, -1) else int(rule[key]) for key in ("major", "minor"))
        return cls(bool(rule["allow"]), str(kind), major, minor, rule.get("access") or "rwm")

    @property
    def device(self) -> tuple[str, int | None, int | None]:
        """Which devices it is about."""
        return self.kind, self.major, self.minor

    def overlaps(self, device: tuple[str, int | None, int | None]) -> bool:
        """Whether some device is both among those of the rule and among `device`."""
        return all(None in (own, other) or own == other for own, other in zip(self.device, device, strict=True))


def effective(rules: Iterable[DeviceRule]) -> tuple[bool, list[DeviceRule]]:
    """Whether devices are allowed unless a rule says otherwise, and the rules that follow the last one about all."""
    allowed = False
    following: list[DeviceRule] = []
    for rule in rules:
        if rule.kind == "a":
            allowed, following = rule.allow, []
        else:
            following.append(rule)
    return allowed, following


def v1_lines(rules: Iterable[DeviceRule]) -> list[tuple[str, list[str]]]:
    """The rules as version 1 takes them: `[("devices.deny", ["a"]), ("devices.allow", ["c 1:3 rwm", …])]`.

    Version 1 knows one verdict for all and exceptions to it, without order. Raises `UnsupportedResource` for a rule
    that takes back a part of an exception only.
    """
    allowed, following = effective(rules)
    exceptions: dict[tuple[str, int | None, int | None], set[str]] = {}
    for rule in following:
        if rule.allow != allowed:
            exceptions.setdefault(rule.device, set()).update(rule.access)
        elif rule.device in exceptions:
            exceptions[rule.device] -= set(rule.access)
        if rule.allow == allowed and any(rule.overlaps(device) for device in exceptions if device != rule.device):
            raise UnsupportedResource(f"device rule {rule}: it takes back a part of an earlier one; cgroup v1 cannot")
    verdict, contrary = ("devices.allow", "devices.deny") if allowed else ("devices.deny", "devices.allow")
    lines = [
        f"{kind} {_number(major)}:{_number(minor)} {''.join(letter for letter in 'rwm' if letter in access)}"
        for (kind, major, minor), access in exceptions.items()
        if access
    ]
    return [(verdict, ["a"]), (contrary, lines)] if lines else [(verdict, ["a"])]


def _number(number: int | None) -> str:
    return "*" if number is None else str(number)
