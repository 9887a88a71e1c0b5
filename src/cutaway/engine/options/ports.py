"""`-p` and `--expose`: which ports of a container are published, and where on the host."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from cutaway.engine.model import PortBinding, PortMap

if TYPE_CHECKING:
    from collections.abc import Sequence

PROTOCOLS = ("tcp", "udp")


class _Range(NamedTuple):
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.size == 1 else f"{self.first}-{self.last}"


def bindings(texts: Sequence[str]) -> PortMap:
    """Several `-p`: `[[address:]host port:]port[/protocol]`, where a port may be a range. Raises `ValueError`.

    A single container port with a host range takes one that is free; an absent host port, any that is free.
    """
    found: PortMap = {}
    for text in texts:
        for port, binding in _bindings(_in_long_form(text) if "=" in text else text):
            found.setdefault(port, []).append(binding)
    return found


def exposed(text: str) -> list[str]:
    """One `--expose`: `"3000-3001/udp"` is `["3000/udp", "3001/udp"]`. Raises `ValueError`."""
    try:
        ports, protocol = _split_protocol(text)
        wanted = _range(ports, "port")
    except ValueError as problem:
        raise ValueError(f"invalid range format for --expose: {text}, error: {problem}") from None
    return [f"{port}/{protocol}" for port in range(wanted.first, wanted.last + 1)]


def _bindings(text: str) -> list[tuple[str, PortBinding]]:
    rest, protocol = _split_protocol(text)
    rest, _, container_text = rest.rpartition(":")
    host_ip, host_text = _split_address(rest)
    if not container_text:
        raise ValueError(f"no port specified: {text}<empty>")
    container = _range(container_text, "containerPort")
    if not host_text:
        return [(f"{container.first + n}/{protocol}", PortBinding(HostIp=host_ip)) for n in range(container.size)]
    host = _range(host_text, "hostPort")
    if container.size == 1:
        return [(f"{container}/{protocol}", PortBinding(HostIp=host_ip, HostPort=str(host)))]
    if container.size != host.size:
        raise ValueError(f"invalid ranges specified for container and host Ports: {container} and {host}")
    return [
        (f"{container.first + n}/{protocol}", PortBinding(HostIp=host_ip, HostPort=str(host.first + n)))
        for n in range(container.size)
    ]


def _split_protocol(text: str) -> tuple[str, str]:
    rest, separator, protocol = text.partition("/")
    if not separator:
        return rest, "tcp"
    if protocol.lower() not in PROTOCOLS:
        raise ValueError(f"invalid proto: {protocol}: it is tcp or udp")
    return rest, protocol.lower()


def _split_address(text: str) -> tuple[str, str]:
    """`"[::1]:80"`, `"127.0.0.1:80"`, `"80"` or `""` as address and port."""
    address, separator, port = text.rpartition(":")
    if not separator:
        return "", port
    try:
        return str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))), port
    except ValueError:
        raise ValueError(f"invalid IP address: {address}") from None


def _range(text: str, what: str) -> _Range:
    first, separator, last = text.partition("-")
    if not first.isdecimal() or (separator and not last.isdecimal()):
        raise ValueError(f"invalid {what}: {text}")
    found = _Range(int(first), int(last if separator else first))
    if not 0 <= found.first <= found.last < 1 << 16:
        raise ValueError(f"invalid {what}: {text}")
    return found


def _in_long_form(text: str) -> str:
    """`published=8080,target=80,protocol=tcp` in the short form."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    if unknown := sorted(set(fields) - {"published", "target", "protocol", "mode"}):
        raise ValueError(f"invalid field key {unknown[0]} in {text}")
    if not fields.get("target"):
        raise ValueError(f"no port specified: {text}")
    if fields.get("mode", "ingress") not in ("ingress", "host"):
        raise ValueError(f"invalid publish mode value ({fields['mode']}): must be either 'ingress' or 'host'")
    return f"{fields.get('published', '')}:{fields['target']}/{fields.get('protocol', 'tcp')}"
