"""How a process gets at processors, disks and memory: its scheduling policy, I/O priority, NUMA policy; and what kind
of machine it believes to run on. `sched(7)`, `ioprio_set(2)`, `set_mempolicy(2)`, `personality(2)`
"""

from __future__ import annotations

import struct

from cutaway.kernel.native import c_uint64
from cutaway.kernel.syscalls import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
_MOST = 1 << 16
"""More than the kernel can have of CPUs, or of memory nodes."""
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
MEMORY_POLICIES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # struct sched_attr, first version


def set_policy(
    policy: int, flags: int = 0, nice: int = 0, priority: int = 0, runtime: int = 0, deadline: int = 0,
    period: int = 0, pid: int = 0,
) -> None:  # fmt: skip
    """The scheduling of a process, 0 for the calling one. Times in nanoseconds. `sched_setattr(2)`"""
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, runtime, deadline, period)
    call("sched_setattr", pid, attributes, 0, subject=f"policy {policy}, nice {nice}, priority {priority}")


def set_io_priority(io_class: int, priority: int, pid: int = 0) -> None:
    """Which of several processes that wait for a disk gets it: `priority` from 0, the first, to 7."""
    value = io_class << _IOPRIO_CLASS_SHIFT | priority
    call("ioprio_set", _IOPRIO_WHO_PROCESS, pid, value, subject=f"class {io_class}, priority {priority}")


def set_memory_policy(mode: int, nodes: Iterable[int]) -> None:
    """On which NUMA nodes the memory of the calling thread, and of what it executes, is to be."""
    bits = sum(1 << node for node in set(nodes))
    words = (bits.bit_length() + 63) // 64
    mask = (c_uint64 * words)(*(bits >> 64 * word & (1 << 64) - 1 for word in range(words))) if bits else None
    most = 64 * words + 1 if bits else 0  # one more than the kernel then looks at
    call("set_mempolicy", mode, mask, most, subject=f"mode {mode}, nodes {sorted(nodes)}")


def set_personality(persona: int) -> None:
    """The execution domain of the calling process, and switches of how it is laid out in memory."""
    call("personality", persona, subject=f"{persona:#x}")


def numbers_in(text: str) -> list[int]:
    """The numbers in a list as `0-3,7`; raises `ValueError`, also for one that is beyond any CPU or memory node. "List
    format" in `cpuset(7)`"""
    numbers: list[int] = []
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if part and int(last if dash else first) > _MOST:
            raise ValueError(f"{part}: there are no more than {_MOST}")
        numbers += range(int(first), int(last if dash else first) + 1) if part else []
    return numbers
