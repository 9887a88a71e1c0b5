"""The host that the tests run on: this machine's kernel, in mount and network namespaces of the session's own.

So what a test leaves behind can be told from what else happens on the machine, and neither a Docker running there nor
its firewall is touched. The host has an uplink to a neighbour: a second network namespace, `outside`, that stands for
the rest of the world.

    host (192.0.2.1, default route) ── uplink ──── eth0 ── outside (192.0.2.2, no route back into containers)
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cutaway.kernel.syscalls import call

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

ADDRESS = "192.0.2.1"
"""The host's own address, of the range for documentation (RFC 5737)."""
OUTSIDE_ADDRESS = "192.0.2.2"
OUTSIDE = ("ip", "netns", "exec", "outside")
"""What a command line starts with to run in the neighbour's network namespace."""


HOST: pytest.StashKey[Host] = pytest.StashKey()
"""Where a session keeps its host."""


class Host:
    """`real_network`: what a command line starts with to run in the machine's real network, where the Internet is."""

    def __init__(self) -> None:
        self._network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.real_network = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{self._network}", "--")

    def enter(self) -> None:
        """Moves this process, which must have no threads yet, into the host of its own."""
        call("unshare", CLONE_NEWNS | CLONE_NEWNET)
        _run("mount", "--make-rprivate", "/")
        _run("mount", "--make-rshared", "/")  # as systemd has it: what a container's namespace forgets to cut, shows
        for mount_point in _mount_points("overlay", "nsfs"):  # others' containers, which could not go while we see them
            subprocess.run(["umount", "--lazy", mount_point], stderr=subprocess.DEVNULL)
        os.makedirs("/run/netns", exist_ok=True)
        _run("mount", "-t", "tmpfs", "netns", "/run/netns")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "netns", "add", "outside")
        _run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", "outside")
        _run("ip", "address", "add", f"{ADDRESS}/24", "dev", "uplink")
        _run("ip", "link", "set", "uplink", "up")
        _run("ip", "route", "add", "default", "via", OUTSIDE_ADDRESS)
        _run("ip", "-n", "outside", "address", "add", f"{OUTSIDE_ADDRESS}/24", "dev", "eth0")
        _run("ip", "-n", "outside", "link", "set", "eth0", "up")
        _run("ip", "-n", "outside", "link", "set", "lo", "up")


def _mount_points(*kinds: str) -> list[str]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [mount_point for _, mount_point, kind, *_ in mounts if kind in kinds and mount_point != "/"]


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
