"""Operations that give a container its part of the processor's cache and memory bandwidth (Intel RDT, AMD QoS).

Kernel's `Documentation/filesystems/resctrl.rst`
"""

from __future__ import annotations

import os

from cutaway.kernel.cgroups.files import write
from cutaway.kernel.errors import KernelError
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RESCTRL = "/sys/fs/resctrl"


class CreateResctrlGroup(Operation):
    """The group `name` with the lines `schemata`; with `keep` it may be there already, and stays when undone."""

    name: str
    schemata: list[str]
    keep: bool = False
    manual = "Documentation/filesystems/resctrl.rst"

    @property
    def _directory(self) -> str:
        return f"{RESCTRL}/{self.name}"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        try:
            os.mkdir(self._directory)
        except FileExistsError:
            if not self.keep:
                raise
        except OSError as error:
            raise KernelError(error.errno or 0, "mkdir", self._directory) from None
        if self.schemata:
            write(f"{self._directory}/schemata", *(f"{line}\n" for line in self.schemata))

    def undo(self, context: Context) -> None:  # noqa: ARG002
        if self.keep:
            return
        try:
            os.rmdir(self._directory)
        except FileNotFoundError:
            pass

    def shell(self) -> str:
        lines = "".join(f"\necho '{line}' > {self._directory}/schemata" for line in self.schemata)
        return f"mkdir -p {self._directory}{lines}"

    def shell_undo(self) -> str:
        return "" if self.keep else f"rmdir {self._directory}"

    def why(self) -> str:
        return (
            f"Of the processor's cache and memory bandwidth the container gets {', '.join(self.schemata) or 'a part'}."
        )


class JoinResctrlGroup(Operation):
    """The container's first process goes into the group `name`."""

    name: str
    manual = "Documentation/filesystems/resctrl.rst"
    needs_process = True

    def apply(self, context: Context) -> None:
        write(f"{RESCTRL}/{self.name}/tasks", str(context.pid))

    def shell(self) -> str:
        return f"echo $PID > {RESCTRL}/{self.name}/tasks"

    def why(self) -> str:
        return "From here on the process and its children have that part of the cache and of the bandwidth."


def resctrl_operations(wanted: dict[str, Any], identifier: str) -> tuple[list[Operation], list[Operation]]:
    """What makes the group for OCI's `linux.intelRdt`, and what brings the process into it."""
    name = wanted.get("closID") or identifier
    own = [wanted[key] for key in ("l3CacheSchema", "memBwSchema") if wanted.get(key)]
    made: list[Operation] = [CreateResctrlGroup(name, [*wanted.get("schemata", []), *own], bool(wanted.get("closID")))]
    joined: list[Operation] = [JoinResctrlGroup(name)]
    if wanted.get("enableMonitoring"):
        monitored = f"{name}/mon_groups/{identifier}"
        made.append(CreateResctrlGroup(monitored, []))
        joined.append(JoinResctrlGroup(monitored))
    return made, joined
