"""Operations by which a process gets at processors, disks and memory before or after others. `sched(7)`

Each is about the container's first process: itself inside, `context.pid` where it is done from the host, because a
process in a user namespace may not do it to itself.
"""

from __future__ import annotations

import os

from cutaway.kernel import scheduling
from cutaway.kernel.errors import KernelError
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class SetScheduler(Operation):
    """The scheduling policy, `SCHED_…`, and what belongs to it; times in nanoseconds, for SCHED_DEADLINE."""

    policy: str
    flags: list[str] = []
    nice: int = 0
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0
    manual = "sched_setattr(2)"

    def apply(self, context: Context) -> None:
        flags = sum(scheduling.FLAGS[flag] for flag in set(self.flags))
        policy, times = scheduling.POLICIES[self.policy], (self.runtime, self.deadline, self.period)
        scheduling.set_policy(policy, flags, self.nice, self.priority, *times, pid=context.pid)

    def shell(self) -> str:
        policy = self.policy.removeprefix("SCHED_").lower()
        times = f" -T {self.runtime} -D {self.deadline} -P {self.period}" if self.runtime else ""
        nice = f"renice -n {self.nice} -p $$; " if self.nice else ""
        return f"{nice}chrt --{policy}{times} -p {self.priority} $$"

    def why(self) -> str:
        return f"The kernel gives the program time on a processor by the rules of {self.policy}."


class SetIoPriority(Operation):
    """`io_class`: `IOPRIO_CLASS_…`; `priority`: 0 (first) to 7."""

    io_class: str
    priority: int = 0
    manual = "ioprio_set(2)"

    def apply(self, context: Context) -> None:
        scheduling.set_io_priority(scheduling.IO_CLASSES[self.io_class], self.priority, context.pid)

    def shell(self) -> str:
        return f"ionice -c {scheduling.IO_CLASSES[self.io_class]} -n {self.priority} -p $$"

    def why(self) -> str:
        return f"Of processes that wait for a disk, the program comes in {self.io_class}, at {self.priority} of 0 to 7."


class SetCpuAffinity(Operation):
    """The processors to run on, as a list: `0-3,7`."""

    cpus: str
    manual = "sched_setaffinity(2)"

    def apply(self, context: Context) -> None:
        try:
            os.sched_setaffinity(context.pid, scheduling.numbers_in(self.cpus))
        except OSError as error:
            raise KernelError(error.errno or 0, "sched_setaffinity", f"CPUs {self.cpus}") from None

    def shell(self) -> str:
        return f"taskset -cp {self.cpus.replace(' ', '')} $$"

    def why(self) -> str:
        return f"The process runs on the processors {self.cpus} alone."


class SetMemoryPolicy(Operation):
    """From which NUMA nodes (`0-3,7`) memory is taken: `mode` is `MPOL_…`, `flags` are `MPOL_F_…`."""

    mode: str
    nodes: str = ""
    flags: list[str] = []
    manual = "set_mempolicy(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        flags = sum(scheduling.MEMORY_FLAGS[flag] for flag in set(self.flags))
        scheduling.set_memory_policy(scheduling.MEMORY_POLICIES[self.mode] | flags, scheduling.numbers_in(self.nodes))

    def shell(self) -> str:
        return f"# the memory policy {self.mode} {self.nodes}: start this script with numactl(8)"

    def why(self) -> str:
        return f"The memory of the program comes from the machine's nodes by the rule {self.mode}."


class SetPersonality(Operation):
    """What machine the program finds: `domain` is LINUX or LINUX32."""

    domain: str
    manual = "personality(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        scheduling.set_personality(scheduling.DOMAINS[self.domain])

    def shell(self) -> str:
        return "# the personality of a shell cannot be changed: start this script with setarch(8)"

    def why(self) -> str:
        return f"`uname -m` and the like tell the program that it runs on {self.domain}."


def scheduling_operations(process: dict[str, Any]) -> list[Operation]:
    """What `process` of an OCI runtime-spec asks of processors and disks; can be done from inside and from the host."""
    operations: list[Operation] = []
    if "scheduler" in process:
        wanted = process["scheduler"]
        operations.append(SetScheduler(**{field: wanted[field] for field in SetScheduler.fields if field in wanted}))
    if "ioPriority" in process:
        wanted = process["ioPriority"]
        operations.append(SetIoPriority(wanted["class"], wanted.get("priority", 0)))
    return operations
