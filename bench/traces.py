"""What of an engine's containers can be seen on the host."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Traces(NamedTuple):
    """Where to look: the `directory` below which it mounts, the `bridge` it connects to, the `cgroup` above its own."""

    directory: str
    bridge: str
    cgroup: str

    def total(self) -> int:
        """Mounts, ports of the bridge, and cgroups in all hierarchies."""
        mounts = Path("/proc/self/mountinfo").read_text().count(f" {self.directory}/")
        ports = len(list(Path(f"/sys/class/net/{self.bridge}/brif").glob("*")))
        parents = [*Path("/sys/fs/cgroup").glob(f"*/{self.cgroup}"), Path(f"/sys/fs/cgroup/{self.cgroup}")]
        return mounts + ports + sum(child.is_dir() for parent in parents for child in parent.glob("*"))
