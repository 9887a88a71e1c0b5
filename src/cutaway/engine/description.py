"""A container's description for the kernel: from Docker's words (`model`) to an OCI runtime-spec. Changes nothing.

<https://github.com/opencontainers/runtime-spec/blob/main/config.md>
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import InvalidArgument
from cutaway.kernel import rlimits as process_limits
from cutaway.runtime.identity import capability_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cutaway.engine.model import Container, HostConfig, Resources
    from cutaway.runtime.identity import Identity

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CPU_PERIOD = 100_000  # microseconds: the kernel's default, to which --cpus is a share

_NETWORK_DEFAULTS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
_MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

_ALLOWED_DEVICES = (
    ("c", None, None, "m"), ("b", None, None, "m"),  # nodes may be made, not opened
    ("c", 1, 3, "rwm"), ("c", 1, 5, "rwm"), ("c", 1, 7, "rwm"), ("c", 1, 8, "rwm"), ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"), ("c", 5, 2, "rwm"), ("c", 136, None, "rwm"),
)  # fmt: skip
"""Memory devices, the terminal, and pseudo-terminals of any number."""

_OPEN_FILES = process_limits.get("RLIMIT_NOFILE")


class Surroundings(NamedTuple):
    """What a description needs beside the container: who its program is, what is mounted, what is shared.

    `mounts`: OCI mounts after the standard ones; `shared`: namespace type → path of the one it joins, empty for the
    host's; `root`: its root directory; `shm`: a directory of the host to be its /dev/shm, if that is shared; `hidden`:
    paths of its root that must not be seen, whatever it is allowed.
    """

    identity: Identity
    mounts: list[dict[str, Any]]
    shared: dict[str, str]
    root: str
    shm: str
    hidden: list[str]


def describe(container: Container, around: Surroundings) -> dict[str, Any]:
    """The OCI runtime-spec of a container. Raises `InvalidArgument` for devices that are not there, and for kernel
    parameters that would be the host's."""
    host = container.HostConfig
    return {
        "ociVersion": "1.3.0",
        "root": {"path": around.root, "readonly": host.ReadonlyRootfs},
        "hostname": "" if "uts" in around.shared else container.Config.Hostname,
        "domainname": "" if "uts" in around.shared else container.Config.Domainname,
        "mounts": [*_standard_mounts(host, around), *around.mounts],
        "process": _process(container, around.identity),
        "annotations": host.Annotations,
        "linux": {
            "namespaces": namespaces(around.shared),
            "devices": list(_devices(host)),
            "sysctl": _sysctls(host, around),
            "maskedPaths": [*around.hidden, *([] if _unmasked(host) else _MASKED)],
            "readonlyPaths": [] if _unmasked(host) else _READONLY,
        },
    }


def environment(container: Container, home: str, more: Sequence[str] = (), *, terminal: bool) -> list[str]:
    """The program's variables: Docker's own, under those of the image and the user, and `more` over them."""
    variables = {"PATH": DEFAULT_PATH, "HOSTNAME": container.Config.Hostname}
    if terminal:
        variables["TERM"] = "xterm"
    for entry in (*(container.Config.Env or ()), *more):
        name, equals, value = entry.partition("=")
        if equals:
            variables[name] = value
    variables.setdefault("HOME", home or "/")
    return [f"{name}={value}" for name, value in variables.items()]


def resources(wanted: HostConfig, *, swap: bool) -> dict[str, Any]:
    """OCI's `linux.resources`, devices included; `swap`: whether the host accounts swap. Raises `InvalidArgument`."""
    return limits(wanted, swap=swap) | {"devices": _device_rules(wanted, list(_devices(wanted)))}


def limits(wanted: Resources, *, swap: bool) -> dict[str, Any]:
    """OCI's `linux.resources` without devices; what was not asked for is left out."""
    return _without_empty(
        {
            "memory": _memory(wanted, swap=swap),
            "cpu": _cpu(wanted),
            "pids": {"limit": wanted.PidsLimit} if wanted.PidsLimit else {},
            "blockIO": _block_io(wanted),
        }
    )


def _process(container: Container, identity: Identity) -> dict[str, Any]:
    config, host = container.Config, container.HostConfig
    process: dict[str, Any] = {
        "terminal": config.Tty,
        "user": {"uid": identity.uid, "gid": identity.gid, "additionalGids": identity.additional_gids},
        "args": [container.Path, *container.Args] if container.Path else [],
        "env": environment(container, identity.home, terminal=config.Tty),
        "cwd": config.WorkingDir or "/",
        "capabilities": process_capabilities(host, identity.uid),
        "noNewPrivileges": "no-new-privileges" in security_options(host),
        "rlimits": rlimits(host),
    }
    if host.OomScoreAdj:
        process["oomScoreAdj"] = host.OomScoreAdj
    return process


def process_capabilities(host: HostConfig, uid: int, *, privileged: bool = False) -> dict[str, list[str]]:
    """The five sets: as `--cap-add`, `--cap-drop` and `--privileged` say, ineffective at first for who is not root."""
    return capability_sets(host.CapAdd or [], host.CapDrop or [], privileged=host.Privileged or privileged, uid=uid)


def security_options(host: HostConfig) -> dict[str, str]:
    """`--security-opt` taken apart: `{"no-new-privileges": "", "seccomp": "unconfined"}`."""
    found = {}
    for option in host.SecurityOpt or ():
        name, _, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
        if name == "no-new-privileges" and value == "false":
            continue
        found[name] = value
    return found


def rlimits(host: HostConfig) -> list[dict[str, Any]]:
    """OCI's `process.rlimits`; on open files what the engine was started with, as it has raised its own since."""
    soft, hard = _OPEN_FILES
    usual = {} if soft == hard else {"RLIMIT_NOFILE": _OPEN_FILES}
    asked = {f"RLIMIT_{limit.Name.upper()}": (limit.Soft, limit.Hard) for limit in host.Ulimits}
    return [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in (usual | asked).items()]


def _sysctls(host: HostConfig, around: Surroundings) -> dict[str, str]:
    """As in Docker, whoever a program runs as, it may listen on any port and send pings in a network of its own."""
    for name, value in host.Sysctls.items():
        kind, flag = ("network", "net") if name.startswith(("net.", "net/")) else ("ipc", "ipc")
        if _is_hosts(around.shared.get(kind, ""), flag):
            raise InvalidArgument(
                f"sysctl '{name}={value}' is not allowed: the {kind} namespace that is shared is the host's"
            )
    defaults = {} if "network" in around.shared else _NETWORK_DEFAULTS
    return defaults | host.Sysctls


def _is_hosts(path: str, kind: str) -> bool:
    """Whether the namespace at `path`, if any, is the one that the engine is in."""
    return os.path.exists(path) and os.path.samefile(path, f"/proc/self/ns/{kind}")


def _unmasked(host: HostConfig) -> bool:
    return host.Privileged or security_options(host).get("systempaths") == "unconfined"


def namespaces(shared: dict[str, str]) -> list[dict[str, str]]:
    """OCI's `linux.namespaces`. A type that is shared by an empty path stays the host's, and is left out."""
    kinds = ("mount", "uts", "ipc", "pid", "network", "cgroup")
    return [{"type": kind, "path": shared.get(kind, "")} for kind in kinds if shared.get(kind, "new")]


def _standard_mounts(host: HostConfig, around: Surroundings) -> Iterator[dict[str, Any]]:
    """Docker's, in Docker's order; what the user mounts at the same place comes instead."""
    taken = {mount["destination"] for mount in around.mounts}
    secure = ["nosuid", "noexec", "nodev"]
    writable = [] if host.Privileged else ["ro"]
    standard = [
        _mount("/proc", "proc", secure),
        _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        _mount("/sys", "sysfs", secure + writable),
        _mount("/sys/fs/cgroup", "cgroup", [*secure, "relatime", *writable]),
        _mount("/dev/mqueue", "mqueue", secure),
        *([] if host.IpcMode == "none" else [_shm(host, around)]),
    ]
    yield from (mount for mount in standard if mount["destination"] not in taken)


def _shm(host: HostConfig, around: Surroundings) -> dict[str, Any]:
    if around.shm:
        return {"destination": "/dev/shm", "type": "bind", "source": around.shm, "options": ["rbind", "rprivate"]}
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host.ShmSize}"]
    return {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}


def _mount(target: str, filesystem: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": filesystem, "source": filesystem, "options": options}


def _memory(wanted: Resources, *, swap: bool) -> dict[str, Any]:
    """Docker lets a container swap as much again as it may have in memory, unless told otherwise."""
    memory_swap = wanted.MemorySwap or (wanted.Memory * 2 if swap else 0)
    return _without_empty(
        {
            "limit": wanted.Memory,
            "reservation": wanted.MemoryReservation,
            "swap": memory_swap,
            "swappiness": None if wanted.MemorySwappiness in (None, -1) else wanted.MemorySwappiness,
            "disableOOMKiller": wanted.OomKillDisable or None,
        }
    )


def _cpu(wanted: Resources) -> dict[str, Any]:
    quota, period = wanted.CpuQuota, wanted.CpuPeriod
    if wanted.NanoCpus:
        quota, period = wanted.NanoCpus * _CPU_PERIOD // 1_000_000_000, _CPU_PERIOD
    return _without_empty(
        {
            "shares": wanted.CpuShares,
            "quota": quota,
            "period": period,
            "realtimePeriod": wanted.CpuRealtimePeriod,
            "realtimeRuntime": wanted.CpuRealtimeRuntime,
            "cpus": wanted.CpusetCpus,
            "mems": wanted.CpusetMems,
        }
    )


def _block_io(wanted: Resources) -> dict[str, Any]:
    def rates(devices: list[Any]) -> list[dict[str, int]]:
        return [_numbers(device.Path) | {"rate": device.Rate} for device in devices]

    return _without_empty(
        {
            "weight": wanted.BlkioWeight,
            "weightDevice": [_numbers(device.Path) | {"weight": device.Weight} for device in wanted.BlkioWeightDevice],
            "throttleReadBpsDevice": rates(wanted.BlkioDeviceReadBps),
            "throttleWriteBpsDevice": rates(wanted.BlkioDeviceWriteBps),
            "throttleReadIOPSDevice": rates(wanted.BlkioDeviceReadIOps),
            "throttleWriteIOPSDevice": rates(wanted.BlkioDeviceWriteIOps),
        }
    )


def _numbers(path: str) -> dict[str, int]:
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise InvalidArgument(f'device "{path}" cannot be looked at: {error.strerror}') from None
    return {"major": os.major(number), "minor": os.minor(number)}


def _devices(host: HostConfig) -> Iterator[dict[str, Any]]:
    """The device nodes to be made inside, with `access` for the rule that allows them."""
    if host.Privileged:
        for path in _nodes_below("/dev"):
            yield _device(path, path, "rwm")
    for device in host.Devices:
        nodes = list(_nodes_below(device.PathOnHost))
        if not nodes:
            raise InvalidArgument(f'device "{device.PathOnHost}" is not there, or not a device')
        for path in nodes:
            inside = device.PathInContainer + path.removeprefix(device.PathOnHost)
            yield _device(path, inside, device.CgroupPermissions)


def _nodes_below(path: str) -> Iterator[str]:
    """`path`, if it is a device, or all devices in that directory, without those that a container has of its own."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        yield path
    elif stat.S_ISDIR(mode):
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.name not in ("pts", "shm", "mqueue", "fd", "console", "ptmx") and not entry.is_symlink():
                yield from _nodes_below(entry.path)


def _device(path: str, inside: str, access: str) -> dict[str, Any]:
    found = os.stat(path)
    return {
        "path": os.path.normpath(inside),
        "type": "c" if stat.S_ISCHR(found.st_mode) else "b",
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "access": access,
    }


def _device_rules(wanted: HostConfig, devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if wanted.Privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [_rule(*allowed) for allowed in _ALLOWED_DEVICES]
    rules += [_rule(device["type"], device["major"], device["minor"], device["access"]) for device in devices]
    return rules


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": True, "type": kind, "access": access}
    return rule | _without_none({"major": major, "minor": minor})


def _without_empty(section: dict[str, Any]) -> dict[str, Any]:
    """Without what is 0, empty or None, as Docker's fields say "not asked for"; a swappiness of 0 is kept."""
    return {key: value for key, value in section.items() if value or (key == "swappiness" and value == 0)}


def _without_none(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}
