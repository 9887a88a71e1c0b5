"""Where an engine keeps what, and what it calls its things on the host: DESIGN's names, in one place.

Two engines with different directories live side by side: all but the default one put a suffix to the names that the
whole host shares.
"""

from __future__ import annotations

import hashlib
import os

DEFAULT_ROOT = "/var/lib/cutaway"
DEFAULT_RUNTIME_DIR = "/run/cutaway"


class Places:
    """Directories and names of the engine with this state root and runtime directory."""

    def __init__(self, root: str, runtime_dir: str) -> None:
        self.root, self.runtime_dir = os.path.abspath(root), os.path.abspath(runtime_dir)
        default = self.runtime_dir == DEFAULT_RUNTIME_DIR
        self.suffix = "" if default else hashlib.sha256(self.runtime_dir.encode()).hexdigest()[:6]

    @classmethod
    def of_environment(cls) -> Places:
        """As `CUTAWAY_ROOT` and `CUTAWAY_RUNTIME_DIR` say."""
        root = os.environ.get("CUTAWAY_ROOT") or DEFAULT_ROOT
        return cls(root, os.environ.get("CUTAWAY_RUNTIME_DIR") or DEFAULT_RUNTIME_DIR)

    @property
    def bridge(self) -> str:
        """The default network's bridge; at most 15 characters (IFNAMSIZ)."""
        return f"cutaway-{self.suffix}" if self.suffix else "cutaway0"

    @property
    def table(self) -> str:
        """The nftables table, and the cgroup that is the parent of all of ours."""
        return f"cutaway-{self.suffix}" if self.suffix else "cutaway"

    @property
    def cgroup_parent(self) -> str:
        return self.table

    @property
    def engine_socket(self) -> str:
        return f"{self.runtime_dir}/engine.sock"

    @property
    def spawner_socket(self) -> str:
        return f"{self.runtime_dir}/spawner.sock"

    @property
    def docker_socket(self) -> str:
        return f"{self.runtime_dir}/docker.sock"

    @property
    def database(self) -> str:
        return f"{self.root}/engine.db"

    @property
    def images(self) -> str:
        return f"{self.root}/images"

    @property
    def volumes(self) -> str:
        return f"{self.root}/volumes"

    @property
    def seccomp_cache(self) -> str:
        return f"{self.root}/seccomp"

    def container(self, container_id: str) -> str:
        """What lasts of a container: its layer, its log, the files bound into it."""
        return f"{self.root}/containers/{container_id}"

    def runtime(self, container_id: str) -> str:
        """What lasts as long as a container's processes: its pipes and its exit code."""
        return f"{self.runtime_dir}/containers/{container_id}"
