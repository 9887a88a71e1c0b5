"""Operations that have systemd make a container's cgroup, as a unit of its own: a scope, or a slice.

Where systemd runs, it takes the tree of cgroups for its own; what is to be left alone in it, it has to be asked for
(`Delegate`). <https://systemd.io/CGROUP_DELEGATION>, `org.freedesktop.systemd1(5)`
"""

from __future__ import annotations

import errno
import os

from cutaway.kernel import procfs
from cutaway.plan.dbus import Connection, DBusError, types
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

SOCKET = "/run/systemd/private"
"""The system's own, which is there without a D-Bus daemon, for root. Each user's has one, too."""
_NAME = "org.freedesktop.systemd1"
_OBJECT = "/org/freedesktop/systemd1"
_PATIENCE = 30.0
"""Seconds in which systemd is to answer, and to start or stop a unit."""
_NOT_THERE = ("org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.InvalidArgs")
"""What systemd calls it that there is no such unit, and that there never can be one of that name."""


def user_socket() -> str:
    """Where the systemd of the user who runs this listens. `user@.service(5)`"""
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/run/user/{procfs.outer_uid()}'}/systemd/private"


class Systemd:
    """A conversation with the systemd that listens at `socket`. What it refuses is raised as `DBusError`."""

    def __init__(self, socket: str = SOCKET) -> None:
        try:
            self._connection = Connection(socket, _PATIENCE)
        except OSError as error:
            raise OSError(error.errno or 0, f"systemd cannot be asked at {socket}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def manager(self, method: str, signature: str, *arguments: Any) -> list[Any]:
        """What a method of its manager returns."""
        return self._connection.call(_NAME, _OBJECT, f"{_NAME}.Manager.{method}", signature, *arguments)

    def job(self, method: str, signature: str, *arguments: Any) -> str:
        """The result, `"done"` if all is well, of the job that a method begins, once it has ended."""
        (path,) = self.manager(method, signature, *arguments)
        for signal in self._connection.signals():
            if signal.member == "JobRemoved" and signal.body[1] == path:
                return str(signal.body[3])
        raise AssertionError("signals do not end")

    def value(self, unit: str, name: str) -> Any:
        """A property of a unit, which its own kind has."""
        (path,) = self.manager("GetUnit", "s", unit)
        return self._property(path, "Slice" if unit.endswith(".slice") else "Scope", name)

    def cgroup(self) -> str:
        """The path of the cgroup below which it makes others."""
        return str(self._property(_OBJECT, "Manager", "ControlGroup"))

    def _property(self, path: str, interface: str, name: str) -> Any:
        get = "org.freedesktop.DBus.Properties.Get"
        (value,) = self._connection.call(_NAME, path, get, "ss", f"{_NAME}.{interface}", name)
        return value


class StartUnit(Operation):
    """A transient unit, which ends with the container: a scope with the container's first process in it, or a slice.
    `properties`: name, D-Bus signature and value of each; `socket`: whose systemd. Undo stops it and has systemd forget
    that it failed."""

    unit: str
    properties: list[list[Any]]
    socket: str = SOCKET
    manual = "systemd.scope(5)"
    needs_process = True

    def apply(self, context: Context) -> None:
        with Systemd(self.socket) as systemd:
            try:
                result = systemd.job("StartTransientUnit", "ssa(sv)a(sa(sv))", *self._arguments([context.pid]))
            except DBusError as error:
                raise OSError(error.errno or 0, f"systemd does not start {self.unit}: {error}") from None
        if result != "done":
            raise OSError(errno.EREMOTEIO, f"systemd does not start {self.unit}: {result} (journalctl -u {self.unit})")

    def undo(self, context: Context) -> None:  # noqa: ARG002
        if not os.path.exists(self.socket):  # its units ended with systemd
            return
        with Systemd(self.socket) as systemd:
            for method, *arguments in (("StopUnit", "ss", self.unit, "replace"), ("ResetFailedUnit", "s", self.unit)):
                try:
                    (systemd.job if method == "StopUnit" else systemd.manager)(method, *arguments)
                except DBusError as error:
                    if error.name not in _NOT_THERE:
                        raise

    def shell(self) -> str:
        words = _busctl("ssa(sv)a(sa(sv))", self._arguments([0])).replace("PIDs au 1 0", 'PIDs au 1 "$PID"')
        call = f"busctl {_whose(self.socket)}call {_NAME} {_OBJECT} {_NAME}.Manager"
        return f"{call} StartTransientUnit 'ssa(sv)a(sa(sv))' {words}"

    def shell_undo(self) -> str:
        systemctl = f"systemctl {_whose(self.socket)}".rstrip()
        return f"{systemctl} stop {self.unit}; {systemctl} reset-failed {self.unit}"

    def why(self) -> str:
        return "systemd takes the host's cgroups for its own: this one it makes itself, counts, and leaves to us."

    def _arguments(self, pids: list[int]) -> list[Any]:
        properties = [[name, [signature, value]] for name, signature, value in self.properties]
        if self.unit.endswith(".scope"):
            properties.append(["PIDs", ["au", pids]])
        return [self.unit, "replace", properties, []]


class SetUnitProperties(Operation):
    """Other limits for a unit, as systemd knows them, until it ends. `previous`: what they were, for `undo`; `socket`:
    whose systemd."""

    unit: str
    properties: list[list[Any]]
    previous: list[list[Any]] = []
    socket: str = SOCKET
    manual = "systemd.resource-control(5)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        self._set(self.properties)

    def undo(self, context: Context) -> None:  # noqa: ARG002
        self._set(self.previous)

    def shell(self) -> str:
        return self._shell(self.properties)

    def shell_undo(self) -> str:
        return self._shell(self.previous)

    def why(self) -> str:
        return "systemd writes its limits anew whenever it reloads: they are to be the same."

    def _set(self, properties: list[list[Any]]) -> None:
        with Systemd(self.socket) as systemd:
            try:
                systemd.manager("SetUnitProperties", "sba(sv)", *self._arguments(properties))
            except DBusError as error:
                raise OSError(error.errno or 0, f"systemd does not limit {self.unit}: {error}") from None

    def _shell(self, properties: list[list[Any]]) -> str:
        words = _busctl("sba(sv)", self._arguments(properties))
        call = f"busctl {_whose(self.socket)}call {_NAME} {_OBJECT} {_NAME}.Manager"
        return f"{call} SetUnitProperties 'sba(sv)' {words}"

    def _arguments(self, properties: list[list[Any]]) -> list[Any]:
        return [self.unit, True, [[name, [signature, value]] for name, signature, value in properties]]


def set_properties_operation(unit: str, properties: list[list[Any]], socket: str) -> SetUnitProperties:
    """What gives `unit` other limits, and what it takes to undo that. Raises `OSError`."""
    with Systemd(socket) as systemd:
        previous = [[name, signature, systemd.value(unit, name)] for name, signature, _ in properties]
    return SetUnitProperties(unit, properties, previous, socket)


def _whose(socket: str) -> str:
    return "" if socket == SOCKET else "--user "


def _busctl(signature: str, values: list[Any]) -> str:
    """Values in the words of `busctl(1)`."""
    return " ".join(_busctl_word(kind, value) for kind, value in zip(types(signature), values, strict=True))


def _busctl_word(kind: str, value: Any) -> str:
    from shlex import quote  # imports `re`; only a script needs it

    if kind == "v":
        return f"{quote(value[0])} {_busctl_word(*value)}"
    if kind[0] == "a":
        return " ".join([str(len(value)), *(_busctl_word(kind[1:], each) for each in value)])
    if kind[0] == "(":
        return _busctl(kind[1:-1], value)
    return str(value).lower() if kind == "b" else quote(str(value))
