"""A container's cgroup as a unit of systemd: `linux.cgroupsPath` is `slice:prefix:name` then, limits are properties.

What systemd has no property for is written to the cgroup's files afterwards, as elsewhere, and the hierarchies of
version 1 that systemd leaves alone are joined by hand. `systemd.slice(5)`, `systemd.resource-control(5)`
"""

from __future__ import annotations

from cutaway.kernel.cgroups import Cgroup
from cutaway.kernel.cgroups.devices import DeviceRule, effective
from cutaway.kernel.procfs import is_host_root
from cutaway.plan.cgroups import JoinCgroup, LimitDevices, WriteCgroup, create_operations
from cutaway.plan.systemd import SOCKET, StartUnit, Systemd, user_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from cutaway.kernel.cgroups import Layout
    from cutaway.plan.operation import Operation

    Property = list[Any]
    """Its name, its D-Bus signature and its value."""

_DEFAULT_PREFIX = "cutaway"
_INFINITY = (1 << 64) - 1
_UNLIMITED = ("max", "-1")
_MOST_CPUS = 8192
"""For which a kernel can be built."""
_PERIOD = "100000"
"""Microseconds: the kernel's own period of a CPU quota."""
_STEP = 10_000
"""Microseconds a second in whose multiples systemd takes a CPU quota."""


class InvalidUnit(ValueError):
    """A `linux.cgroupsPath` that names no unit."""


class Manager:
    """A systemd: the `socket` at which it listens, the path of the `cgroup` below which its units are, and the `slice`
    for those that ask for none."""

    __slots__ = ("cgroup", "slice", "socket")

    def __init__(self, socket: str, cgroup: str, slice: str) -> None:
        self.socket, self.cgroup, self.slice = socket, cgroup, slice

    def path(self, below: str) -> str:
        """The path of a cgroup of its units."""
        return f"{self.cgroup}/{below}".strip("/")


SYSTEM = Manager(SOCKET, "", "system.slice")


def own_manager(layout: Layout) -> Manager:
    """The systemd of the user who runs this: the host's root has the system's. Raises `InvalidUnit`, `OSError`."""
    if is_host_root():
        return SYSTEM
    if any(each.version == 1 for each in layout.hierarchies):
        raise InvalidUnit(
            "a user's systemd makes cgroups of version 2 only: set the engine's cgroup driver to cgroupfs"
        )
    socket = user_socket()
    with Systemd(socket) as systemd:
        return Manager(socket, systemd.cgroup().strip("/"), "user.slice")


class Unit:
    """`name`: `runc-box.scope`; `slice`: the slice it is in; `manager`: of whose units it is one."""

    __slots__ = ("manager", "name", "slice")

    def __init__(self, name: str, slice: str, manager: Manager) -> None:
        self.name, self.slice, self.manager = name, slice, manager

    @classmethod
    def of(cls, asked: str, identifier: str, manager: Manager = SYSTEM) -> Unit:
        """The unit that a `linux.cgroupsPath` asks for; an empty one, for the default. Raises `InvalidUnit`."""
        parts = asked.split(":") if asked else [manager.slice, _DEFAULT_PREFIX, identifier]
        if len(parts) != 3 or "/" in asked or not parts[2]:
            raise InvalidUnit(
                f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{asked}" instead'
            )
        place, prefix, name = parts
        place = place or manager.slice
        unit = cls(name if name.endswith(".slice") else f"{prefix}-{name}.scope", place, manager)
        if unit.path == manager.path(slice_path(unit.slice)):
            raise InvalidUnit(f'cgroupsPath "{asked}": the slice itself is not a container\'s')
        return unit

    @property
    def path(self) -> str:
        """The path of its cgroup."""
        above = slice_path(self.slice)
        path = slice_path(self.name) if self.name.endswith(".slice") else f"{above}/{self.name}".strip("/")
        if path.rpartition("/")[0] != above:
            raise InvalidUnit(f"{self.name} is not in {self.slice}: a slice's name says in which one it is")
        return self.manager.path(path)

    def operations(
        self,
        identifier: str,
        resources: Mapping[str, Any],
        layout: Layout,
        annotations: Mapping[str, str],
        above: Iterable[Operation] = (),
    ) -> list[Operation]:
        """What makes it for a container's first process, once that is born, and limits it; `above`: what is to be done
        when its cgroup is there. Raises `InvalidUnit` where processes are in it already, `UnsupportedResource`."""
        if present := Cgroup(self.path, layout).processes():
            raise InvalidUnit(f"container's cgroup is not empty: {len(present)} process(es) found in {self.name}")
        limits = create_operations(self.path, resources, layout)
        join = JoinCgroup([each.join_file(self.path) for each in layout.hierarchies])
        described: list[Property] = [
            ["Description", "s", f"cutaway container {identifier}"],
            ["DefaultDependencies", "b", False],
        ]
        told = [*described, *self._place(), *_COUNTED, *properties(limits, layout, {}), *annotated(annotations)]
        start = StartUnit(self.name, told, self.manager.socket)
        return [start, *limits, *above, join]

    def _place(self) -> list[Property]:
        if self.name.endswith(".slice"):
            return [["Wants", "as", [self.slice]]]
        return [["Slice", "s", self.slice], ["Delegate", "b", True]]


_COUNTED = [[f"{name}Accounting", "b", True] for name in ("Memory", "CPU", "IO", "Tasks")]


def annotated(annotations: Mapping[str, str]) -> Iterator[Property]:
    """The properties that `annotations` ask for: `org.systemd.property.NAME`, with a value in GVariant's text format.

    What it does not read (tuples, dictionaries, escapes) raises `InvalidUnit`.
    <https://docs.gtk.org/glib/gvariant-text-format.html>
    """
    for key, text in annotations.items():
        name = key.removeprefix(_ANNOTATION)
        if name == key:
            continue
        if not (name.isalpha() and name.isascii()):
            raise InvalidUnit(f"annotation {key}: {name} cannot be a property of a unit")
        try:
            signature, value = _variant(text.strip())
            if name.endswith("Sec") and not name.endswith("USec"):  # systemd itself knows microseconds only
                name, signature, value = f"{name[:-3]}USec", "t", int(value) * 1_000_000
        except (ValueError, TypeError):
            raise InvalidUnit(f"annotation {key}: {text} is not a value in GVariant's text format") from None
        yield [name, signature, value]


_ANNOTATION = "org.systemd.property."
_KEYWORDS = {"boolean": "b", "byte": "y", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t", "string": "s",
             "objectpath": "o"}  # fmt: skip
_RANGES = {"y": (0, 1 << 8), "i": (-1 << 31, 1 << 31), "u": (0, 1 << 32), "x": (-1 << 63, 1 << 63), "t": (0, 1 << 64)}


def _variant(text: str) -> tuple[str, Any]:
    word, _, literal = text.partition(" ")
    asked = word[1:] if word.startswith("@") else _KEYWORDS.get(word, "")
    found, value = _literal(literal.strip() if asked else text)
    if not _fits(value, asked or found):
        raise ValueError
    return asked or found, value


def _fits(value: Any, signature: str) -> bool:
    if signature.startswith("a"):
        return isinstance(value, list) and len(signature) > 1 and all(_fits(each, signature[1:]) for each in value)
    if signature in _RANGES:
        first, end = _RANGES[signature]
        return type(value) is int and first <= value < end
    return type(value) is {"b": bool, "s": str, "o": str}.get(signature)


def _literal(text: str) -> tuple[str, Any]:
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] == "[" and text[-1:] == "]":
        items = [_literal(item.strip()) for item in text[1:-1].split(",") if item.strip()]
        (kind,) = {kind for kind, _ in items} or {""}
        return f"a{kind}", [value for _, value in items]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        if {"\\", text[0], ","} & set(text[1:-1]):
            raise ValueError
        return "s", text[1:-1]
    return "i", int(text)


def slice_path(name: str) -> str:
    """The path of a slice's cgroup: `a-b.slice` is in `a.slice`, and `-.slice` is the root. Raises `InvalidUnit`."""
    if name == "-.slice":
        return ""
    words = name.removesuffix(".slice").split("-")
    if not name.endswith(".slice") or not all(words) or "/" in name:
        raise InvalidUnit(f"invalid slice name: {name}")
    return "/".join("-".join(words[:count]) + ".slice" for count in range(1, len(words) + 1))


def properties(operations: Iterable[Operation], layout: Layout, current: Mapping[str, str]) -> list[Property]:
    """What of these limits systemd knows, on a host of `layout`; of a value it would not take, the kernel is judge.
    `current`: what the files that bound CPU time hold now, by name."""
    found: list[Property] = []
    written = dict(current)
    for each in operations:
        if isinstance(each, LimitDevices):
            found += _devices(map(DeviceRule.parse, each.rules))
        elif isinstance(each, WriteCgroup):
            written[each.file] = each.value
            found += _property(each, layout)
    if any(isinstance(each, WriteCgroup) and each.file in _BANDWIDTH for each in operations):
        found += _bandwidth(written, current)
    return found


def bandwidth(cgroup: Cgroup) -> dict[str, str]:
    """What the files of a cgroup that bound CPU time hold."""
    version_1 = cgroup.layout.find("cpu", version=1)
    return {file: cgroup.read("cpu", file) for file in (_BANDWIDTH[:2] if version_1 else _BANDWIDTH[2:])}


def _property(limit: WriteCgroup, layout: Layout) -> Iterator[Property]:
    value = limit.value
    if limit.file == "pids.max" and value == "0":  # which systemd does not take; of a process that is there, the same
        value = "1"
    if limit.file in _NAMES and _is_amount(value):
        yield [_NAMES[limit.file], "t", _amount(value)]
    elif limit.file in _SETS and layout.find("cpuset", version=2) and _is_list(value):
        yield [_SETS[limit.file], "ay", _mask(value)]


_NAMES = {
    "memory.limit_in_bytes": "MemoryLimit",
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "cpu.shares": "CPUShares",
    "cpu.weight": "CPUWeight",
    "pids.max": "TasksMax",
    "blkio.bfq.weight": "BlockIOWeight",
}
_SETS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_BANDWIDTH = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max")


def _is_amount(value: str) -> bool:
    return value in _UNLIMITED or value.isdecimal()


def _amount(value: str) -> int:
    return _INFINITY if value in _UNLIMITED else int(value)


def _is_list(numbers: str) -> bool:
    return all(word.isdecimal() and int(word) < _MOST_CPUS for word in numbers.replace("-", ",").split(","))


def _mask(numbers: str) -> list[int]:
    """`0-2,8` as the bytes in which systemd takes it, the lowest first."""
    mask = 0
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            mask |= 1 << number
    return list(mask.to_bytes((mask.bit_length() + 7) // 8, "little"))


def _bandwidth(written: Mapping[str, str], current: Mapping[str, str]) -> Iterator[Property]:
    """In version 2, a quota alone leaves the period as it is."""
    quota, _, period = written.get("cpu.max", "").partition(" ")
    period = period or current.get("cpu.max", "").partition(" ")[2]
    quota = quota or written.get("cpu.cfs_quota_us", "-1")
    period = period or written.get("cpu.cfs_period_us", _PERIOD)
    if not (_is_amount(quota) and period.isdecimal() and int(period)):
        return
    yield ["CPUQuotaPeriodUSec", "t", int(period)]
    if quota in _UNLIMITED:
        yield ["CPUQuotaPerSecUSec", "t", _INFINITY]
    else:
        yield ["CPUQuotaPerSecUSec", "t", _rounded_up(int(quota) * 1_000_000, int(period)) * _STEP]


def _rounded_up(quota: int, period: int) -> int:
    """How many of systemd's steps a second a quota is."""
    return -(-quota // (period * _STEP))


def _devices(rules: Iterable[DeviceRule]) -> Iterator[Property]:
    """As systemd would write them: only what is allowed, if not all is. Of rules that deny part of what is allowed, it
    knows none; then it is to leave devices alone, which are limited all the same."""
    allowed, following = effective(rules)
    expressible = not allowed and all(rule.allow for rule in following)
    yield ["DevicePolicy", "s", "strict" if expressible else "auto"]
    yield ["DeviceAllow", "a(ss)", []]  # forgets what was
    if expressible:
        yield ["DeviceAllow", "a(ss)", [[_device(rule), rule.access] for rule in following if _device(rule)]]


def _device(rule: DeviceRule) -> str:
    """In systemd's words: `/dev/char/1:3`, `char-pts` (by the driver's name in /proc/devices), `block-*`."""
    kind = {"c": "char", "b": "block"}[rule.kind]
    if rule.major is None:
        return f"{kind}-*" if rule.minor is None else ""
    if rule.minor is None:
        driver = _drivers()[kind].get(rule.major, "")
        return f"{kind}-{driver}" if driver else ""
    return f"/dev/{kind}/{rule.major}:{rule.minor}"


def _drivers() -> dict[str, dict[int, str]]:
    """The names of drivers, by kind and major number. `proc_devices(5)`"""
    found: dict[str, dict[int, str]] = {"char": {}, "block": {}}
    kind = "char"
    with open("/proc/devices", encoding="ascii") as lines:
        for line in lines:
            number, _, name = line.strip().partition(" ")
            if number.isdecimal():
                found[kind][int(number)] = name
            elif number == "Block":
                kind = "block"
    return found
