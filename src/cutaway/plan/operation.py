"""One operation: one change to the kernel's state, as data, with four faces.

An operation is immutable and made of plain values (strings, numbers, lists, mappings), so that it can be printed,
compared, kept in a database and sent to another process. Subclasses declare their fields as annotations:

    class SetHostname(Operation):
        name: str

        def apply(self, context: Context) -> None: ...
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, ClassVar, Self, dataclass_transform
else:  # the standard dataclass costs half a millisecond of import time per class, this base class nothing

    def dataclass_transform(**_):
        return lambda cls: cls


class Context:
    """What operations need and leave behind while a plan is applied; none of it is written down.

    `descriptors`: open file descriptors by name (`"netns"`, `"mount:3"`, …), owned by whoever applies the plan.
    `pid`: the container's first process as this PID namespace sees it, once there is one; 0 in that process itself.
    `host`: a descriptor of the host's root directory; operations inside a container reach host paths through it.
    `root`: a descriptor of the container's root directory, once it is attached.
    `own_pid`: the process's number on the host, where that was asked for as long as it could be; else 0.
    `environment`: of hooks that have none of their own (`["A=b", …]`); None: that of this process.
    `state`: what the OCI runtime-spec calls the container's state, for hooks: `{"id": …, "bundle": …}`.
    """

    def __init__(self, descriptors: dict[str, int] | None = None, pid: int = 0, host: int = -1) -> None:
        self.descriptors: dict[str, int] = descriptors or {}
        self.pid, self.host, self.root = pid, host, -1
        self.own_pid = 0
        self.environment: list[str] | None = None
        self.state: dict[str, Any] = {}


def import_no_more() -> None:
    """Has every further import of this process fail, before it enters a tree that others have written: a module of
    theirs would be found there, and run with the process's powers."""
    sys.meta_path.clear()


@dataclass_transform(frozen_default=True)
class Operation:
    """Base of all operations. Fields are the class's annotations, in order, with their defaults."""

    fields: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[dict[str, type[Operation]]] = {}
    manual: ClassVar[str] = ""
    """The manual page that says more: `"mount(2)"`."""
    needs_process: ClassVar[bool] = False
    """Of the after phase: it can only be applied once `context.pid` is known."""
    slow_to_undo: ClassVar[bool] = False
    """The kernel takes tens of milliseconds to take it back (network devices): nobody should have to wait for it."""

    def __init_subclass__(cls) -> None:
        own = cls.__dict__.get("__annotations__", {})  # noqa: RUF063, `inspect` is slow to import
        cls.fields += tuple(n for n, kind in own.items() if "ClassVar" not in str(kind) and n not in cls.fields)
        if (other := Operation.kinds.setdefault(cls.__name__, cls)) is not cls:
            raise TypeError(f"there is an operation {cls.__name__} already, in {other.__module__}")

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.fields, values, strict=False)) | named
        if len(values) > len(self.fields) or not given.keys() <= set(self.fields):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.fields)}")
        for field in self.fields:
            if field not in given and not hasattr(type(self), field):
                raise TypeError(f"{type(self).__name__} needs {field}")
        self.__dict__.update(given)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash((type(self).__name__, repr(self.values())))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({shown})"

    def values(self) -> dict[str, Any]:
        """The fields and their values, defaults included."""
        return {name: getattr(self, name) for name in self.fields}

    def prepare(self, context: Context) -> None:
        """On the host, before an operation of the inside phase is sent in: opens into `context.descriptors` what can
        only be opened there."""

    def apply(self, context: Context) -> None:
        """Does it; raises `OSError` (mostly `KernelError`) where the kernel refuses."""
        raise NotImplementedError

    def undo(self, context: Context) -> None:
        """Takes it back. Safe to call twice and where `apply` failed half-way. Nothing to do by default: what is
        done inside a container's namespaces ends with them."""

    @classmethod
    def undo_all(cls, operations: list[Self], context: Context) -> list[OSError]:
        """Undoes several of one kind; returns what the kernel refused. Kinds that can do it at once override this."""
        refused = []
        for operation in operations:
            try:
                operation.undo(context)
            except OSError as error:
                refused.append(error)
        return refused

    def subject(self) -> str:
        """What it is done to or with, in a few words; unless a class says otherwise that is its first field."""
        value = getattr(self, self.fields[0]) if self.fields else ""
        return " ".join(map(str, value)) if isinstance(value, (list, dict)) else str(value)

    def shell(self) -> str:
        """The same as a command line of stock tools; `$ROOT` is the container's root directory, `$PID` its process.
        Empty where a script has nothing to do; a comment (`# …`) says what stock tools cannot do."""
        raise NotImplementedError

    def shell_undo(self) -> str:
        """The command line that takes it back; empty where nothing is to be done."""
        return ""

    def why(self) -> str:
        """One sentence for a person: what this is for."""
        raise NotImplementedError


def dump(operations: Iterable[Operation]) -> list[list[Any]]:
    """Operations as JSON values: `[["Mount", {"target": "/proc", …}], …]`."""
    return [[type(operation).__name__, operation.__dict__] for operation in operations]


def load(values: Iterable[tuple[str, Mapping[str, Any]] | list[Any]]) -> list[Operation]:
    """The inverse of `dump`; raises `KeyError` for a kind that is not known (its module must be imported)."""
    return [_restored(Operation.kinds[kind], fields) for kind, fields in values]


def _restored(kind: type[Operation], fields: Mapping[str, Any]) -> Operation:
    operation = kind.__new__(kind)
    operation.__dict__.update(fields)
    return operation
