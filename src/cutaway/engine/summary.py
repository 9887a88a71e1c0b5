"""A container in one line of a list: its state in words, its ports, its mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from cutaway.engine.units import duration, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cutaway.engine.model import Container, State


class Port(Struct):
    """A port that a container listens on, and where it is published (`IP` empty and `PublicPort` 0 where it is not)."""

    IP: str
    PrivatePort: int
    PublicPort: int
    Type: str


def status(state: State, now: float) -> str:
    """`"Up 3 minutes (Paused)"`, `"Exited (137) 2 minutes ago"`; `now` in seconds since 1970."""
    since_start = duration(now - seconds_of(state.StartedAt))
    since_end = duration(now - seconds_of(state.FinishedAt))
    if state.Restarting:
        return f"Restarting ({state.ExitCode}) {since_end} ago"
    if state.Running:
        return f"Up {since_start}{' (Paused)' if state.Paused else ''}"
    if state.Status == "removing":
        return "Removal In Progress"
    if state.Dead:
        return "Dead"
    if state.Status == "created":
        return "Created"
    return f"Exited ({state.ExitCode}) {since_end} ago"


def ports(container: Container) -> list[Port]:
    """All ports, in the order in which they are shown."""
    return sorted(_ports(container), key=lambda port: (port.PrivatePort, port.IP, port.PublicPort, port.Type))


def _ports(container: Container) -> Iterator[Port]:
    for name, bindings in container.NetworkSettings.Ports.items():
        number, _, protocol = name.partition("/")
        if not bindings:
            yield Port("", int(number), 0, protocol)
        for binding in bindings or ():
            yield Port(binding.HostIp, int(number), int(binding.HostPort), protocol)


def ports_text(ports: Iterable[Port]) -> str:
    """`"80/tcp, 0.0.0.0:9000-9002->9000-9002/tcp, 0.0.0.0:8080->80/tcp"`: neighbours alike in one range."""
    ranges: dict[tuple[str, str], list[list[int]]] = {}
    moved = []
    for port in ports:
        if port.IP and port.PublicPort != port.PrivatePort:
            moved.append(f"{host_port(port.IP, port.PublicPort)}->{port.PrivatePort}/{port.Type}")
            continue
        groups = ranges.setdefault((port.IP, port.Type), [])
        if groups and port.PrivatePort == groups[-1][1] + 1:
            groups[-1][1] += 1
        else:
            groups.append([port.PrivatePort, port.PrivatePort])
    same = [_range_text(ip, kind, *group) for (ip, kind), groups in ranges.items() for group in groups]
    return ", ".join(same + moved)


def _range_text(ip: str, kind: str, first: int, last: int) -> str:
    numbers = f"{first}-{last}" if last > first else str(first)
    return f"{host_port(ip, numbers)}->{numbers}/{kind}" if ip else f"{numbers}/{kind}"


def host_port(ip: str, port: object) -> str:
    """An address and a port, an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
