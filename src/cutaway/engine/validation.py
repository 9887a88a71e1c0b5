"""Is what is asked for possible at all? Asked before anything is made, whoever asks: command line, Python, Docker API.

Every check raises `InvalidArgument` with Docker's sentence where Docker has one.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import msgspec

from cutaway.engine import procview
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import Mount
from cutaway.engine.options import mounts, values

if TYPE_CHECKING:
    from cutaway.engine.model import Config, CreateRequest, HostConfig, LogConfig, NetworkingConfig, Resources

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
MIN_MEMORY = 6 << 20
"""Bytes; below it no program starts. Docker's limit."""
_LOG_OPTIONS = {"json-file": {"max-size", "max-file"}, "local": {"max-size", "max-file"}, "none": set[str]()}
_MAX_CPUS = 8192
"""No kernel is built for more (`CONFIG_NR_CPUS`)."""
_DEFAULT_NETWORKS = frozenset({"", "default", "bridge", "host", "none"})


def validate(request: CreateRequest) -> None:
    """Raises `InvalidArgument` where a container cannot be as asked for."""
    config, host_config, networking, name = request
    try:
        _check_text(request)
        _check_config(config, name)
        _check_modes(host_config)
        _check_mounts(config, host_config)
        _check_log_config(host_config.LogConfig)
        _check_network(config, host_config, networking)
        _check_sysctls(host_config)
        _check_capabilities(host_config)
        check_resources(host_config)
        _check_restart(host_config)
        _check_proc_view(host_config)
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None


def _check_proc_view(host_config: HostConfig) -> None:
    if not host_config.ProcView:
        return
    if not procview.program():
        raise ValueError(procview.MISSING)
    if host_config.PidMode == "host":
        raise ValueError("--proc-view goes by the limits of PID 1, which with --pid host is the host's own")


def check_name(name: str) -> None:
    """Raises `InvalidArgument` for what cannot be a container's name."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


def _check_text(request: CreateRequest) -> None:
    """A container is kept, and shown, as JSON."""
    try:
        msgspec.json.encode(request)
    except UnicodeEncodeError as problem:
        raise ValueError(f"{os.fsencode(problem.object)!r} is not text: it is not encoded in UTF-8") from None


def _check_config(config: Config, name: str) -> None:
    if name:
        check_name(name)
    if config.WorkingDir and not config.WorkingDir.startswith("/"):
        raise ValueError(f"the working directory '{config.WorkingDir}' is invalid, it needs to be an absolute path")
    for variable in config.Env or []:
        values.variable(variable)
    if len(config.Hostname) > 64:
        raise ValueError(f"invalid hostname '{config.Hostname}': longer than 64 bytes")


def _check_modes(host_config: HostConfig) -> None:
    for flag, mode, known in (
        ("--pid: invalid PID mode", host_config.PidMode, {"", "host"}),
        ("--uts: invalid UTS mode", host_config.UTSMode, {"", "host"}),
        ("Invalid IPC mode", host_config.IpcMode, {"", "none", "private", "shareable", "host"}),
    ):
        joins = mode.startswith("container:") and len(mode) > len("container:") and "UTS" not in flag
        if mode not in known and not joins:
            raise ValueError(f"{flag}: {mode}")
    if not -1000 <= host_config.OomScoreAdj <= 1000:
        raise ValueError(f"Invalid value {host_config.OomScoreAdj}, range for oom score adj is [-1000, 1000]")
    if host_config.ShmSize <= 0:
        raise ValueError("SHM size can not be less than 0")


def _check_mounts(config: Config, host_config: HostConfig) -> None:
    if host_config.Rootfs and not os.path.isdir(host_config.Rootfs):
        raise ValueError(f"--rootfs {host_config.Rootfs}: no such directory")
    wanted = [mounts.parse_bind(bind) for bind in host_config.Binds or []] + list(host_config.Mounts or [])
    wanted += [Mount(Type="tmpfs", Target=place) for place in host_config.Tmpfs]
    places = set()
    for mount in wanted:
        mounts.check(mount)
        place = os.path.normpath(mount.Target)
        if place in places:
            raise ValueError(f"Duplicate mount point: {place}")
        places.add(place)
    for place in config.Volumes or {}:  # one that something else is mounted at gives way to it
        mounts.check(Mount(Target=place))
    for place, options in host_config.Tmpfs.items():
        mounts.tmpfs(f"{place}:{options}")


def _check_log_config(log_config: LogConfig) -> None:
    known = _LOG_OPTIONS.get(log_config.Type)
    if known is None:
        raise ValueError(f"logging driver '{log_config.Type}' is unknown: it is json-file, local or none")
    for name, value in log_config.Config.items():
        if name not in known:
            raise ValueError(f"unknown log opt '{name}' for {log_config.Type} log driver")
        if (values.size(value) if name == "max-size" else values.integer(value)) < 1:
            raise ValueError(f"log opt {name}={value}: at least 1")


def _check_network(config: Config, host_config: HostConfig, networking: NetworkingConfig) -> None:
    mode = host_config.NetworkMode
    if mode.startswith("container:"):
        _check_shared_network(config, host_config, networking)
    if mode == "host" and host_config.UTSMode == "host" and config.Hostname:
        raise ValueError("conflicting options: hostname and the UTS mode")
    for name, endpoint in networking.EndpointsConfig.items():
        user_defined = name not in _DEFAULT_NETWORKS and not name.startswith("container:")
        if endpoint.IPAMConfig and endpoint.IPAMConfig.IPv4Address and not user_defined:
            raise ValueError("user specified IP address is supported on user defined networks only")
        if endpoint.Aliases and not user_defined:
            raise ValueError("network-scoped alias is supported only for containers in user defined networks")
        if endpoint.MacAddress:
            values.mac_address(endpoint.MacAddress)
    for address in host_config.Dns:
        values.address(address)
    for host in host_config.ExtraHosts or []:
        values.extra_host(host)


def _check_sysctls(host_config: HostConfig) -> None:
    for name, value in host_config.Sysctls.items():
        setting = values.sysctl(f"{name}={value}")
        of_network = name.startswith(("net.", "net/"))
        if (host_config.NetworkMode if of_network else host_config.IpcMode) == "host":
            whose = "network" if of_network else "IPC namespace"
            raise ValueError(f"sysctl '{setting}' is not allowed: the {whose} is the host's")


def _check_shared_network(config: Config, host_config: HostConfig, networking: NetworkingConfig) -> None:
    """What belongs to the network namespace is set by the container that it was made for."""
    mac_addresses = [endpoint.MacAddress for endpoint in networking.EndpointsConfig.values() if endpoint.MacAddress]
    for what, given in (
        ("hostname and the network mode", config.Hostname),
        ("dns and the network mode", host_config.Dns),
        ("custom host-to-IP mapping and the network mode", host_config.ExtraHosts),
        ("mac-address and the network mode", mac_addresses),
        ("port publishing and the container type network mode", host_config.PortBindings),
        ("port publishing and the container type network mode", host_config.PublishAllPorts),
        ("port exposing and the container type network mode", config.ExposedPorts),
    ):
        if given:
            raise ValueError(f"conflicting options: {what}")


def _check_capabilities(host_config: HostConfig) -> None:
    for field, names in (("CapAdd", host_config.CapAdd), ("CapDrop", host_config.CapDrop)):
        for name in names or []:
            try:
                values.capability(name)
            except ValueError as problem:
                raise ValueError(f"invalid {field}: {problem}") from None


def _check_restart(host_config: HostConfig) -> None:
    policy = host_config.RestartPolicy
    if host_config.AutoRemove and policy.Name not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    if policy.MaximumRetryCount < 0:
        raise ValueError("maximum retry count must be a positive integer")


def check_resources(resources: Resources) -> None:
    """Raises `ValueError` for limits that contradict each other or that this host cannot give."""
    _check_memory(resources)
    _check_cpu(resources)
    if resources.BlkioWeight and not 10 <= resources.BlkioWeight <= 1000:
        raise ValueError("Range of blkio weight is from 10 to 1000")


def _check_memory(resources: Resources) -> None:
    memory, swap, reservation = resources.Memory, resources.MemorySwap, resources.MemoryReservation
    if memory and memory < MIN_MEMORY:
        raise ValueError("Minimum memory limit allowed is 6MB")
    if memory and swap > 0 and swap < memory:
        raise ValueError("Minimum memoryswap limit should be larger than memory limit, see usage")
    if swap > 0 and not memory:
        raise ValueError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if reservation and reservation < MIN_MEMORY:
        raise ValueError("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise ValueError("Minimum memory limit can not be less than memory reservation limit, see usage")
    if resources.MemorySwappiness is not None and not 0 <= resources.MemorySwappiness <= 100:
        raise ValueError(f"Invalid value: {resources.MemorySwappiness}, valid memory swappiness range is 0-100")


def _check_cpu(resources: Resources) -> None:
    cpus = os.cpu_count() or 1
    if resources.NanoCpus and (resources.CpuPeriod or resources.CpuQuota):
        what = "Period" if resources.CpuPeriod else "Quota"
        raise ValueError(f"Conflicting options: Nano CPUs and CPU {what} cannot both be set.")
    if resources.NanoCpus < 0 or resources.NanoCpus > cpus * 10**9 or 0 < resources.NanoCpus < 10**7:
        raise ValueError(f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if resources.CpuPeriod and not 1000 <= resources.CpuPeriod <= 1000000:
        raise ValueError("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < resources.CpuQuota < 1000:
        raise ValueError("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_cpuset("CPUs", resources.CpusetCpus, "/sys/devices/system/cpu/online")
    _check_cpuset("memory nodes", resources.CpusetMems, "/sys/devices/system/node/online")


def _check_cpuset(what: str, asked: str, file: str) -> None:
    """`cpuset(7)`, List format."""
    if not asked:
        return
    try:
        with open(file) as online:
            available = online.read().strip()
    except FileNotFoundError:  # a kernel without NUMA has the one node
        available = "0"
    if not _numbers(asked) <= _numbers(available):
        raise ValueError(f"Requested {what} are not available - requested {asked}, available: {available}")


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, separator, last = part.strip().partition("-")
        if not first.isdecimal() or (separator and not last.isdecimal()) or int(last or first) > _MAX_CPUS:
            raise ValueError(f"Invalid value {text} for cpuset: it is a list such as 0-2,4")
        found.update(range(int(first), int(last or first) + 1))
    return found
