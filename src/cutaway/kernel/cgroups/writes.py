"""Limits as data: which control file is to hold which value, in an order that the kernel accepts.

The words are those of `linux.resources` in the OCI runtime-spec (config-linux.md, "Control groups"), as mappings.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    Translation = Callable[[Any, Mapping[str, str]], list["Write"]]
    """A section of `linux.resources` and what the files hold now, by name, to the writes that are to be made."""


class UnsupportedResource(ValueError):
    """A limit was asked for that this host's cgroups do not have."""


class Write:
    """A control file to be written: `value` to `file` in the directory of `controller`.

    `otherwise` is the file and the value to take where the kernel has no `file`.
    """

    __slots__ = ("controller", "file", "otherwise", "value")

    def __init__(self, controller: str, file: str, value: object, otherwise: tuple[str, str] | None = None) -> None:
        self.controller, self.file, self.value, self.otherwise = controller, file, str(value), otherwise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"Write({self.controller!r}, {self.file!r}, {self.value!r}, {self.otherwise!r})"


def limit(controller: str, file: str, value: int | None) -> Write | None:
    """The write of a limit of which 0 means, as in runc, that it is not asked for."""
    return Write(controller, file, value) if value else None


def setting(controller: str, file: str, value: object) -> Write | None:
    """The write of a value of which 0 is one."""
    return Write(controller, file, value) if value is not None else None


def given(*writes: Write | None) -> list[Write]:
    """The writes that are asked for."""
    return [write for write in writes if write]


def grows(bound: Write | None, current: Mapping[str, str], default: str = "max") -> bool:
    """Whether a limit is raised that bounds another: it is then written before the other, and otherwise after, so that
    the two never contradict each other on the way."""
    return bound is not None and _number(bound.value) >= _number(current.get(bound.file, default))


def pids(wanted: Mapping[str, Any], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    """The same in both versions; below 0 there is no limit."""
    most = wanted.get("limit")
    return given(setting("pids", "pids.max", "max" if most is not None and most < 0 else most))


def rdma(wanted: Mapping[str, Mapping[str, Any]], current: Mapping[str, str]) -> list[Write]:  # noqa: ARG001
    """The same in both versions."""
    return [Write("rdma", "rdma.max", f"{device} {_handles(limits)}") for device, limits in wanted.items()]


def _handles(limits: Mapping[str, Any]) -> str:
    names = {"hcaHandles": "hca_handle", "hcaObjects": "hca_object"}
    return " ".join(f"{names[key]}={value}" for key, value in limits.items())


def device_values(devices: list[Mapping[str, Any]] | None, key: str) -> Iterator[tuple[str, int]]:
    """`("8:0", value)` for each block device for which `key` is given."""
    for device in devices or []:
        if device.get(key) is not None:
            yield f"{device['major']}:{device['minor']}", device[key]


def _number(value: str) -> float:
    first = value.split()[0]
    return float("inf") if first in ("max", "-1") else float(first)
