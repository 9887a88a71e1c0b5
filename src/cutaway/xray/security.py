"""What a container may do, against what Docker would let it do, and in words what is riskier than that.

`capabilities(7)`, `seccomp(2)`, `user_namespaces(7)`, `pid_namespaces(7)`
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cutaway.kernel import capabilities, procfs
from cutaway.kernel.cgroups import host_layout
from cutaway.kernel.cgroups.files import read
from cutaway.xray.model import Security
from cutaway.xray.processes import user_mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cutaway.kernel.procfs import MountPoint
    from cutaway.xray.finding import Group
    from cutaway.xray.model import Cgroup, Namespace

DEFAULT = frozenset(
    {
        "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
        "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
        "CAP_AUDIT_WRITE",
    }
)  # fmt: skip
"""Docker's, as `docker run` gives them without `--cap-add` and `--cap-drop`."""
_IDENTITY = 0, 0, (1 << 32) - 1
_SECCOMP = {0: "off", 1: "strict", 2: "filter"}
_DEFAULT_DEVICES = frozenset({(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)})
"""null, zero, full, random, urandom, tty, console, ptmx."""
_PSEUDO_TERMINALS = range(136, 144)
_HOLES = {
    "CAP_SYS_ADMIN": "mounts file systems, enters namespaces and much more: nearly root on the host",
    "CAP_SYS_MODULE": "loads code into the host's kernel",
    "CAP_SYS_PTRACE": "reads and changes the memory of any process it sees",
    "CAP_SYS_RAWIO": "reaches the machine's memory and ports",
    "CAP_DAC_READ_SEARCH": "opens any file of the host by its handle",
    "CAP_SYS_BOOT": "can start the machine anew",
    "CAP_SYS_TIME": "sets the machine's clock",
    "CAP_NET_ADMIN": "configures the network it is in",
    "CAP_BPF": "loads programs into the kernel",
    "CAP_PERFMON": "watches everything that runs on the machine",
    "CAP_SYSLOG": "reads the kernel's log and addresses",
}
"""What some capabilities come down to; worst first."""
_SHARED = {
    "pid": "sees and signals the host's processes",
    "net": "shares the host's network: its interfaces, its ports, what listens on loopback",
    "ipc": "shares the host's IPC objects and shared memory",
    "uts": "can change the host's name, where it may",
    "mnt": "shares the host's mounts: every file of the host is there",
}
_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock", "engine.sock")


def of_group(
    group: Group, mounts: list[MountPoint], namespaces: list[Namespace], cgroup: Cgroup, unseen: list[str]
) -> Security:
    """What the first process of a container may do. Raises `ProcessLookupError` where it has ended."""
    pid = group.init.pid
    status = procfs.status(pid)
    bounding = capabilities.names(status.capabilities["bounding"])
    found = Security(
        effective=_short(capabilities.names(status.capabilities["effective"])),
        bounding=_short(bounding),
        beyond_default=_short(name for name in bounding if name not in DEFAULT),
        below_default=_short(name for name in sorted(DEFAULT) if name not in bounding),
        seccomp=_SECCOMP.get(status.seccomp, str(status.seccomp)),
        seccomp_filters=_filters(pid),
        no_new_privileges=status.no_new_privileges,
        confinement=_confinement(pid),
        user_mapping=_mapping(pid),
        masked=sorted(mount.target for mount in mounts if _is_mask(mount)),
        read_only=sorted(mount.target for mount in mounts if _is_read_only(mount)),
        devices=_devices(pid, unseen),
        device_rules=_device_rules(cgroup, group),
    )
    found.risks = list(_risks(found, mounts, namespaces, cgroup, own_user=_has_own(namespaces, "user")))
    return found


def _short(names: Iterable[str]) -> list[str]:
    return [name.removeprefix("CAP_") for name in names]


def _mapping(pid: int) -> list[str]:
    """Which users of the host its users are; empty where they are the same."""
    ranges = [each for each in user_mapping(pid) if each != _IDENTITY]
    return [f"{inside} inside is {outside} outside" + (f", and {count - 1} on" if count > 1 else "")
            for inside, outside, count in ranges]  # fmt: skip


def _filters(pid: int) -> int | None:
    """How many filters every system call passes; the kernel tells since 5.9."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
        return next((int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters:")), None)


def _confinement(pid: int) -> str:
    """The profile of AppArmor or the context of SELinux; empty where the kernel has neither."""
    try:
        with open(f"/proc/{pid}/attr/current", encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def _is_mask(mount: MountPoint) -> bool:
    """Whether it hides a file or directory of /proc or /sys: by /dev/null, or by an empty tmpfs."""
    if not mount.target.startswith(("/proc/", "/sys/")) or mount.filesystem not in ("tmpfs", "devtmpfs"):
        return False
    return mount.root == "/null" or (mount.target != "/sys/fs/cgroup" and mount.root == "/")


def _is_read_only(mount: MountPoint) -> bool:
    return "ro" in mount.options and mount.filesystem in ("proc", "sysfs")


def _devices(pid: int, unseen: list[str]) -> list[str]:
    """Device files in its /dev beyond those that every container has."""
    try:
        entries = list(os.scandir(f"/proc/{pid}/root/dev"))
    except FileNotFoundError:
        return []
    except OSError:
        unseen.append("its devices: looking into its root directory needs root rights")
        return []
    found = []
    for entry in entries:
        try:
            what = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        number = os.major(what.st_rdev), os.minor(what.st_rdev)
        block = stat.S_ISBLK(what.st_mode)
        extra = number not in _DEFAULT_DEVICES and number[0] not in _PSEUDO_TERMINALS
        if block or (stat.S_ISCHR(what.st_mode) and extra):
            found.append(f"{'block' if block else 'char'} {number[0]}:{number[1]} {entry.name}")
    return sorted(found)


def _device_rules(cgroup: Cgroup, group: Group) -> list[str] | None:
    """The allow-list of version 1; in version 2 it is a program, which cannot be read as a list."""
    hierarchy = host_layout().find("devices", version=1)
    path = group.init.cgroups.get("devices", "/").strip("/")
    if hierarchy is None or not cgroup.own or not path:
        return None
    try:
        return read(f"{hierarchy.directory(path)}/devices.list").splitlines()
    except OSError:
        return None


def _has_own(namespaces: list[Namespace], kind: str) -> bool:
    return any(each.kind == kind and each.own for each in namespaces)


def _risks(
    found: Security, mounts: list[MountPoint], namespaces: list[Namespace], cgroup: Cgroup, *, own_user: bool
) -> Iterator[str]:
    """What is riskier than Docker's default, worst first."""
    if not own_user:
        yield from _capability_risks(found)
    yield from _mount_risks(mounts)
    for each in namespaces:
        if each.own is False and each.kind in _SHARED:
            yield f"{each.kind} namespace: {_SHARED[each.kind]}"
    for device in found.devices:
        if device.startswith("block"):
            yield f"device /dev/{device.split()[-1]}: a disk of the host, below all file permissions"
    if found.device_rules and any(rule.startswith("a ") and rule.endswith("rwm") for rule in found.device_rules):
        yield "devices: may make, read and write every device of the host"
    if found.seccomp == "off":
        yield "seccomp: no filter, every system call of the kernel is in reach"
    if not found.masked and not own_user:
        yield "/proc and /sys: nothing is masked (kcore, keys, timers, firmware)"
    if not any(mount == "/proc/sys" for mount in found.read_only) and not own_user and "SYS_ADMIN" in found.bounding:
        yield "/proc/sys: writable, kernel parameters of the host included"
    if not cgroup.own:
        yield "no cgroup of its own: nothing limits it or counts it apart from others"


def _capability_risks(found: Security) -> Iterator[str]:
    if len(found.beyond_default) > len(capabilities.NAMES) - len(DEFAULT) - 3:
        yield "capabilities: all of them, as root on the host has (privileged)"
        return
    for name, meaning in _HOLES.items():
        if name.removeprefix("CAP_") in found.beyond_default:
            yield f"{name}: {meaning}"
    if others := [name for name in found.beyond_default if f"CAP_{name}" not in _HOLES]:
        yield f"capabilities beyond the default: {', '.join(others)}"


def _mount_risks(mounts: list[MountPoint]) -> Iterator[str]:
    ours = next((mount for mount in reversed(procfs.mounts()) if mount.target == "/"), None)
    for mount in mounts:
        if os.path.basename(mount.target) in _SOCKETS or os.path.basename(mount.root) in _SOCKETS:
            yield f"{mount.target}: an engine's socket, through which one is root on the host"
        elif ours and (mount.device, mount.root) == (ours.device, "/") and mount.filesystem not in ("tmpfs", "overlay"):
            writable = "readable" if "ro" in mount.options else "writable"
            yield f"{mount.target}: the host's root file system, {writable}"
        elif mount.filesystem in ("cgroup", "cgroup2") and mount.root == "/" and "rw" in mount.options:
            yield f"{mount.target}: cgroups of the host, writable"
