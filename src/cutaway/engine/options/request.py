"""From options to what the engine is asked to create: `Config`, `HostConfig` and `NetworkingConfig`."""

from __future__ import annotations

import errno
import json
import os
import select
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import (
    Config,
    CreateRequest,
    Device,
    EndpointIPAMConfig,
    EndpointSettings,
    HostConfig,
    LogConfig,
    NetworkingConfig,
    RestartPolicy,
)
from cutaway.engine.options import mounts, ports, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ATTACHABLE = ("stdin", "stdout", "stderr")
_PERMISSIONS = frozenset("rwm")
_PIECE = 1 << 16  # bytes: what a pipe holds
_MOST_PIECES = 256  # 16 MiB: more than any command line can hold


class Caller(NamedTuple):
    """Where options that name files, variables and descriptors take them from. `pid` 0 stands for the engine itself."""

    cwd: str
    environment: Mapping[str, str]
    pid: int = 0

    def path(self, path: str) -> str:
        """A path as the caller means it, also `/dev/fd/63`, which is how a shell passes `<(command)`."""
        if self.pid and path == "/dev/stdin":
            path = "/dev/fd/0"
        for own in ("/dev/fd/", "/proc/self/fd/") if self.pid else ():
            if path.startswith(own):
                return f"/proc/{self.pid}/fd/{path.removeprefix(own)}"
        return os.path.normpath(os.path.join(self.cwd, path))

    def read(self, path: str) -> str:
        """The text of a file; raises `InvalidArgument` where it cannot be read. It may be a pipe that somebody is still
        to write to, which is waited for as long as the caller lives."""
        try:
            with open(self.path(path), "rb", buffering=0, opener=_open_at_once) as file:
                content = b"".join(islice(self._pieces(file.fileno()), _MOST_PIECES))
        except OSError as problem:
            raise InvalidArgument(f"open {path}: {(problem.strerror or '').lower()}") from None
        return content.decode("utf-8-sig", "surrogateescape")

    def _pieces(self, file: int) -> Iterator[bytes]:
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        caller = os.pidfd_open(self.pid or os.getpid())
        waiting.register(caller, select.POLLIN)
        try:
            while file in (ready for ready, _ in waiting.poll()):
                piece = os.read(file, _PIECE)
                if not piece:
                    return
                yield piece
            raise ProcessLookupError(errno.ESRCH, "who asked for it has gone")
        finally:
            os.close(caller)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def reads_files(options: Mapping[str, Any]) -> bool:
    """Whether these options have files read, which may be pipes that someone is still to write to."""
    return bool(options.keys() & {"env-file", "label-file", "security-opt"})


def create_request(options: Mapping[str, Any], image: str, command: Sequence[str], caller: Caller) -> CreateRequest:
    """What `create` is asked for, from options that `option.read` has read. An image or `rootfs`, not both.

    Raises `InvalidArgument`; changes nothing.
    """
    try:
        return CreateRequest(
            _config(options, image, command, caller),
            _host_config(options, caller),
            _networking(options),
            options.get("name", ""),
        )
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None


def _config(options: Mapping[str, Any], image: str, command: Sequence[str], caller: Caller) -> Config:
    attached = _attached(options)
    interactive = options.get("interactive", False)
    anonymous = [place for _, place in _volumes(options, caller) if place]
    return Config(
        Hostname=options.get("hostname", ""),
        Domainname=options.get("domainname", ""),
        User=options.get("user", ""),
        AttachStdin="stdin" in attached,
        AttachStdout="stdout" in attached,
        AttachStderr="stderr" in attached,
        ExposedPorts={port: {} for port in _exposed(options)} or None,
        Tty=options.get("tty", False),
        OpenStdin=interactive,
        StdinOnce=interactive and "stdin" in attached,
        Env=_environment(options, caller) or None,
        Cmd=list(command) or None,
        Image=image,
        Volumes={place: {} for place in anonymous} or None,
        WorkingDir=options.get("workdir", ""),
        Entrypoint=[options["entrypoint"]] if "entrypoint" in options else None,
        Labels=_labels(options, caller),
        StopSignal=options.get("stop-signal", ""),
        StopTimeout=options.get("stop-timeout"),
    )


def _host_config(options: Mapping[str, Any], caller: Caller) -> HostConfig:
    rootfs = options.get("rootfs", "")
    host_config = HostConfig(
        Binds=[bind for bind, _ in _volumes(options, caller) if bind] or None,
        ContainerIDFile=caller.path(options["cidfile"]) if options.get("cidfile") else "",
        LogConfig=_log_config(options),
        NetworkMode=_networks(options)[0].name,
        PortBindings=ports.bindings(options.get("publish", [])),
        RestartPolicy=restart_policy(options.get("restart", "no")),
        AutoRemove=options.get("rm", False),
        Mounts=options.get("mount") or None,
        Annotations=_pairs(options.get("annotation", [])),
        CapAdd=options.get("cap-add") or None,
        CapDrop=options.get("cap-drop") or None,
        Dns=options.get("dns", []),
        DnsOptions=options.get("dns-option", []),
        DnsSearch=options.get("dns-search", []),
        ExtraHosts=options.get("add-host") or None,
        GroupAdd=options.get("group-add") or None,
        SecurityOpt=_security(options.get("security-opt", []), caller) or None,
        IpcMode=options.get("ipc") or "private",
        OomScoreAdj=options.get("oom-score-adj", 0),
        PidMode=options.get("pid", ""),
        Privileged=options.get("privileged", False),
        PublishAllPorts=options.get("publish-all", False),
        ReadonlyRootfs=options.get("read-only", False),
        Tmpfs=dict(mounts.tmpfs(text) for text in options.get("tmpfs", [])),
        UTSMode=options.get("uts", ""),
        ShmSize=options.get("shm-size") or HostConfig().ShmSize,
        Sysctls=_pairs(options.get("sysctl", [])),
        Init=options.get("init", False),
        Rootfs=caller.path(rootfs) if rootfs else "",
        ProcView=options.get("proc-view", False),
        Devices=[device(text) for text in options.get("device", [])],
        OomKillDisable=options.get("oom-kill-disable", False),
        MemorySwappiness=_swappiness(options),
        Ulimits=options.get("ulimit", []),
        CgroupParent=options.get("cgroup-parent", ""),
    )
    for name, value in resources(options).items():
        setattr(host_config, name, value)
    return host_config


_RESOURCE_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def resources(options: Mapping[str, Any]) -> dict[str, Any]:
    """The resource limits among options, by their names in the model."""
    return {field: options[name] for name, field in _RESOURCE_FIELDS.items() if name in options}


def _swappiness(options: Mapping[str, Any]) -> int | None:
    swappiness: int = options.get("memory-swappiness", -1)
    if not -1 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    return None if swappiness == -1 else swappiness


def _attached(options: Mapping[str, Any]) -> set[str]:
    asked = {stream.lower() for stream in options.get("attach", [])}
    if unknown := asked - set(ATTACHABLE):
        raise ValueError(f"invalid attach stream '{min(unknown)}': valid streams are STDIN, STDOUT and STDERR")
    if options.get("detach"):
        if asked:
            raise ValueError("conflicting options: cannot specify both --attach and --detach")
        return set()
    return asked or {"stdout", "stderr"} | ({"stdin"} if options.get("interactive") else set())


def _volumes(options: Mapping[str, Any], caller: Caller) -> list[tuple[str, str]]:
    return [mounts.volume(text, caller.cwd) for text in options.get("volume", [])]


def _exposed(options: Mapping[str, Any]) -> list[str]:
    exposed = [port for text in options.get("expose", []) for port in ports.exposed(text)]
    return [*exposed, *ports.bindings(options.get("publish", []))]


def _environment(options: Mapping[str, Any], caller: Caller) -> list[str]:
    return environment(options.get("env-file", []), options.get("env", []), caller)


def environment(files: Sequence[str], variables: Sequence[str], caller: Caller) -> list[str]:
    """`NAME=value` for each variable of `--env-file` and `-e`, a later one in the place of an earlier.

    A name without a value has the caller's; where the caller has none, a bare name in a file means nothing, and one
    given by `-e` is passed on as it is: it takes away what the image sets.
    """
    found: dict[str, str] = {}
    for file in files:
        for line in _lines(file, caller, "environment", "variable"):
            name, separator, _ = line.partition("=")
            if separator or name in caller.environment:
                found[name] = line if separator else f"{name}={caller.environment[name]}"
    for variable in variables:
        name, separator, _ = variable.partition("=")
        inherited = not separator and name in caller.environment
        found[name] = f"{name}={caller.environment[name]}" if inherited else variable
    return list(found.values())


def _labels(options: Mapping[str, Any], caller: Caller) -> dict[str, str]:
    in_files = [line for file in options.get("label-file", []) for line in _lines(file, caller, "label", "label")]
    return _pairs([*in_files, *options.get("label", [])])


def _lines(path: str, caller: Caller, what: str, each: str) -> list[str]:
    """The lines of an `--env-file` or `--label-file` that are neither empty nor comments."""
    lines = [line.lstrip() for line in caller.read(path).splitlines()]
    meant = [line for line in lines if line and not line.startswith("#")]
    for line in meant:
        name = line.partition("=")[0]
        if not name:
            raise ValueError(f"{path}: no {each} name on line '{line}'")
        if any(character.isspace() for character in name):
            raise ValueError(f"{path}: poorly formatted {what}: {each} '{name}' contains whitespaces")
    return meant


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _log_config(options: Mapping[str, Any]) -> LogConfig:
    driver, log_options = options.get("log-driver") or "local", _pairs(options.get("log-opt", []))
    if driver == "none" and log_options:
        raise ValueError("invalid logging opts for driver none")
    return LogConfig(Type=driver, Config=log_options)


def restart_policy(text: str) -> RestartPolicy:
    """`no`, `always`, `unless-stopped` or `on-failure[:times]`. Raises `ValueError`."""
    name, separator, count = text.partition(":")
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise ValueError(f"invalid restart policy '{name}': it is no, always, unless-stopped or on-failure[:times]")
    if not separator:
        return RestartPolicy(Name=name)  # type: ignore[arg-type]  # one of the four
    if name != "on-failure":
        raise ValueError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if not count.isdigit():
        raise ValueError("invalid restart policy format: maximum retry count must be an integer")
    return RestartPolicy(Name="on-failure", MaximumRetryCount=int(count))


def device(text: str) -> Device:
    """`/dev/a[:/dev/b][:rwm]`. Raises `ValueError`."""
    source, *rest = text.split(":")
    permissions = rest.pop() if rest and _is_permissions(rest[-1]) else "rwm"
    target = rest.pop() if rest else source
    if rest:
        raise ValueError(f"invalid device specification: {text}")
    for path in (source, target):
        if not path.startswith("/"):
            raise ValueError(f"{path} is not an absolute path")
    return Device(PathOnHost=source, PathInContainer=target, CgroupPermissions=permissions)


def _is_permissions(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= _PERMISSIONS


def _security(texts: Sequence[str], caller: Caller) -> list[str]:
    """`--security-opt`, each as `name=value`; a seccomp profile is read here and now."""
    kept = []
    for text in texts:
        name, separator, value = text.partition("=" if "=" in text else ":")
        if name not in _SECURITY or not (separator or name == "no-new-privileges"):
            raise ValueError(f'Invalid --security-opt: "{text}"')
        kept.append(_SECURITY[name](value, caller))
    return kept


def _no_new_privileges(value: str, _: Caller) -> str:
    return f"no-new-privileges={str(values.boolean(value or 'true')).lower()}"


def _seccomp(value: str, caller: Caller) -> str:
    if value in ("unconfined", "builtin"):
        return f"seccomp={value}"
    try:
        return "seccomp=" + json.dumps(json.loads(caller.read(value)), separators=(",", ":"))
    except json.JSONDecodeError as problem:
        raise ValueError(f"seccomp profile {value} is not JSON: {problem}") from None


def _only(name: str, known: str) -> Callable[[str, Caller], str]:
    def check(value: str, _: Caller) -> str:
        if value != known:
            raise ValueError(f"--security-opt {name}={value}: only {name}={known} is known here")
        return f"{name}={value}"

    return check


_SECURITY: dict[str, Callable[[str, Caller], str]] = {
    "no-new-privileges": _no_new_privileges,
    "seccomp": _seccomp,
    "apparmor": _only("apparmor", "unconfined"),
    "label": _only("label", "disable"),
    "systempaths": _only("systempaths", "unconfined"),
}


class _NetworkOption(NamedTuple):
    """One `--network`: a name, or `name=…,alias=…,ip=…,mac-address=…`."""

    name: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    mac_address: str = ""


def _networks(options: Mapping[str, Any]) -> list[_NetworkOption]:
    """All networks asked for; `--ip`, `--mac-address` and `--network-alias` belong to the first."""
    first, *others = [_network(text) for text in options.get("network", [])] or [_NetworkOption("default")]
    first = first._replace(
        aliases=(*first.aliases, *options.get("network-alias", [])),
        ip=options.get("ip", first.ip),
        mac_address=options.get("mac-address", first.mac_address),
    )
    names = [network.name for network in (first, *others)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'network "{name}" is specified multiple times')
        if len(names) > 1 and (name in ("host", "none") or name.startswith("container:")):
            raise ValueError(f"conflicting options: cannot attach both network mode '{name}' and other networks")
    return [first, *others]


def _network(text: str) -> _NetworkOption:
    if "=" not in text:
        return _NetworkOption(text)
    network = _NetworkOption("")
    for written in text.split(","):
        key, _, value = written.partition("=")
        if key == "name":
            network = network._replace(name=value)
        elif key == "alias":
            network = network._replace(aliases=(*network.aliases, value))
        elif key == "ip":
            network = network._replace(ip=values.ipv4_address(value))
        elif key == "mac-address":
            network = network._replace(mac_address=values.mac_address(value))
        else:
            raise ValueError(f"invalid field {key} in --network {text}")
    if not network.name:
        raise ValueError(f"network name is not specified in --network {text}")
    return network


def _networking(options: Mapping[str, Any]) -> NetworkingConfig:
    return NetworkingConfig(EndpointsConfig={network.name: _endpoint(network) for network in _networks(options)})


def _endpoint(network: _NetworkOption) -> EndpointSettings:
    return EndpointSettings(
        IPAMConfig=EndpointIPAMConfig(IPv4Address=network.ip) if network.ip else None,
        Aliases=list(network.aliases) or None,
        MacAddress=network.mac_address,
    )
