"""Operations on namespaces: making new ones, joining those of others. `namespaces(7)`"""

from __future__ import annotations

import os

from cutaway.kernel.namespaces import FLAGS, setns, unshare
from cutaway.plan.operation import Context, Operation

_OPTIONS = {"mnt": "--mount", "uts": "--uts", "ipc": "--ipc", "pid": "--pid --fork", "net": "--net",
            "cgroup": "--cgroup", "user": "--user", "time": "--time"}  # fmt: skip


class NewNamespaces(Operation):
    """New namespaces of the given kinds (keys of `kernel.namespaces.FLAGS`). The first one of an inside phase is made
    while the process is cloned; later ones by unsharing."""

    kinds_made: list[str]
    manual = "namespaces(7)"

    @property
    def flags(self) -> int:
        """The kinds as CLONE_NEW* bits."""
        return sum(FLAGS[kind] for kind in self.kinds_made)

    def apply(self, context: Context) -> None:  # noqa: ARG002
        unshare(self.flags)

    def shell(self) -> str:
        return "unshare " + " ".join(_OPTIONS[kind] for kind in self.kinds_made)

    def why(self) -> str:
        return f"The process sees its own {', '.join(self.kinds_made)} instead of the host's."


class JoinNamespace(Operation):
    """Joins an existing namespace: of `path` (`/proc/PID/ns/net`), or the one that the engine holds as `descriptor`."""

    kind: str
    path: str = ""
    descriptor: str = ""
    manual = "setns(2)"

    @property
    def held_as(self) -> str:
        """The name of the namespace's descriptor in the context."""
        return self.descriptor or f"namespace:{self.kind}"

    def prepare(self, context: Context) -> None:
        if self.path:
            context.descriptors[self.held_as] = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def apply(self, context: Context) -> None:
        setns(context.descriptors[self.held_as], FLAGS[self.kind])

    def shell(self) -> str:
        return f"nsenter {_OPTIONS[self.kind].split()[0]}={self.path or '$' + self.held_as.upper()}"

    def why(self) -> str:
        return f"The process shares the {self.kind} namespace of {self.path or 'the network made for it'}."


class JoinProcess(Operation):
    """Joins namespaces of a running process, held as a pidfd: entering a container."""

    descriptor: str
    kinds_joined: list[str]
    manual = "nsenter(1)"

    def apply(self, context: Context) -> None:
        setns(context.descriptors[self.descriptor], sum(FLAGS[kind] for kind in self.kinds_joined))

    def shell(self) -> str:
        return "nsenter --target $PID " + " ".join(_OPTIONS[kind].split()[0] for kind in self.kinds_joined)

    def why(self) -> str:
        return "The process enters the running container: its namespaces are all that makes it inside."
