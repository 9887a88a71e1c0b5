"""What a running container uses at this moment: its cgroup counts it, and its network interfaces do."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cutaway.engine.errors import Conflict
from cutaway.engine.interface import Usage
from cutaway.kernel import procfs

if TYPE_CHECKING:
    from cutaway.engine.containers import Container
    from cutaway.kernel.cgroups import Cgroup


def pids(container: Container, cgroup: Cgroup) -> list[int]:
    """Its processes, as the host numbers them. Raises `Conflict` where it does not run."""
    if not container.state.Running:
        raise Conflict(f"Container {container.id} is not running")
    return cgroup.processes()


def usage(container: Container, cgroup: Cgroup) -> Usage:
    """All zero where it does not run."""
    counted, cpus = time.monotonic_ns(), os.sysconf("SC_NPROCESSORS_ONLN")
    if not container.state.Running:
        return Usage(counted, 0, cpus, 0, 0, 0, 0, 0, 0, 0)
    try:
        found = cgroup.usage()
        received, sent = _traffic(container)
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return Usage(counted, 0, cpus, 0, 0, 0, 0, 0, 0, 0)
    memory, total = found.memory, procfs.memory()["MemTotal"]
    return Usage(
        time=counted,
        cpu=found.cpu.total,
        cpus=cpus,
        memory=max(memory.usage - memory.inactive_file, 0),
        memory_limit=min(memory.limit or total, total),
        received=received,
        sent=sent,
        read=sum(device.read_bytes for device in found.block),
        written=sum(device.write_bytes for device in found.block),
        pids=found.pids.current,
    )


def _traffic(container: Container) -> tuple[int, int]:
    """Bytes received and sent; none of its own where the network is the host's or another container's."""
    mode = container.seen.HostConfig.NetworkMode
    if mode == "host" or mode.startswith("container:"):
        return 0, 0
    links = [link for name, link in procfs.link_traffic(container.state.Pid).items() if name != "lo"]
    return sum(link.received_bytes for link in links), sum(link.sent_bytes for link in links)
