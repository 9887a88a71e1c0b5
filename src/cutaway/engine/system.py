"""The engine and the host it runs on, as `version` and `info` tell of them."""

from __future__ import annotations

import os
import platform
import socket
import uuid
from typing import TYPE_CHECKING

import cutaway
from cutaway.engine.logs import DEFAULTS as LOG_DRIVERS
from cutaway.engine.model import Component, SystemInfo, Version
from cutaway.engine.mountpoints import mount_of
from cutaway.image.config import ARCHITECTURE
from cutaway.kernel import procfs

if TYPE_CHECKING:
    from cutaway.engine.containers import Containers
    from cutaway.engine.places import Places
    from cutaway.kernel.cgroups import Layout

API_VERSION, MINIMUM_API_VERSION = "1.45", "1.24"
"""Of the Docker Engine API: the one whose objects `model` has, and the oldest that reads them."""

_CONTROLLERS = {
    ("memory",): "No memory limit support",
    ("cpu",): "No cpu shares and cpu quota support",
    ("cpuset",): "No cpuset support",
    ("pids",): "No pids limit support",
    ("blkio", "io"): "No block device limit support",
}
"""What the host's cgroups may lack, and what is not to be had then."""


def version() -> Version:
    """What the engine is made of."""
    return Version(
        Version=cutaway.__version__,
        ApiVersion=API_VERSION,
        MinAPIVersion=MINIMUM_API_VERSION,
        PythonVersion=platform.python_version(),
        Os="linux",
        Arch=ARCHITECTURE,
        KernelVersion=os.uname().release,
        Components=[
            Component(
                Name="Engine",
                Version=cutaway.__version__,
                Details={
                    "ApiVersion": API_VERSION,
                    "MinAPIVersion": MINIMUM_API_VERSION,
                    "Os": "linux",
                    "Arch": ARCHITECTURE,
                    "KernelVersion": os.uname().release,
                },
            ),
            Component(Name="Python", Version=platform.python_version()),
        ],
    )


def info(places: Places, containers: Containers, images: int, layout: Layout, *, swap: bool) -> SystemInfo:
    """The host, and how much there is on it. `swap`: whether it can be limited."""
    states = [container.state.Status for container in containers]
    running, paused = states.count("running"), states.count("paused")
    return SystemInfo(
        ID=_identity(places),
        Containers=len(states),
        ContainersRunning=running,
        ContainersPaused=paused,
        ContainersStopped=len(states) - running - paused,
        Images=images,
        Driver="overlay2",
        DriverStatus=[("Backing Filesystem", mount_of(os.path.realpath(places.root)).filesystem)],
        LoggingDriver="local",
        CgroupDriver="cgroupfs",
        CgroupVersion="2" if all(each.version == 2 for each in layout.hierarchies) else "1",
        KernelVersion=os.uname().release,
        OperatingSystem=_operating_system(),
        OSType="linux",
        Architecture=os.uname().machine,
        NCPU=os.sysconf("SC_NPROCESSORS_ONLN"),
        MemTotal=procfs.memory()["MemTotal"],
        DockerRootDir=places.root,
        Name=socket.gethostname(),
        ServerVersion=cutaway.__version__,
        SecurityOptions=["name=seccomp,profile=builtin", "name=cgroupns"],
        Plugins={"Volume": ["local"], "Network": ["bridge", "host", "null"], "Log": sorted([*LOG_DRIVERS, "none"])},
        Warnings=_warnings(layout, swap=swap),
    )


def _identity(places: Places) -> str:
    """The same for as long as the machine and the state root are."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            machine = file.read().strip()
    except FileNotFoundError:
        machine = socket.gethostname()
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{machine}{places.root}"))


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "Linux"


def _warnings(layout: Layout, *, swap: bool) -> list[str]:
    lacking = [sentence for controllers, sentence in _CONTROLLERS.items() if not any(map(layout.find, controllers))]
    if not swap:
        lacking.append("No swap limit support")
    return [f"WARNING: {sentence}" for sentence in lacking]
