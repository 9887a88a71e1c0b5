"""Host ports for published container ports: those asked for, or free ones.

Nothing holds a published port open. That it is free is tried by binding a socket to it for a moment; that it is not
published twice is for whoever knows what is published, and the kernel's map has the last word.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import TYPE_CHECKING, NamedTuple

from cutaway.network.errors import InvalidAddress, NoneLeft, PortTaken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Taken = Mapping[tuple[str, int], set[str]]

EPHEMERAL = range(32768, 61000)
"""Where a host port comes from when none is asked for."""
ALL = "0.0.0.0"

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Wanted(NamedTuple):
    """A request: `protocol` ("tcp", "udp"), the container's port, and of the host an address ("" or "0.0.0.0": all) and
    ports: "8080", one of "8000-8010", or "" for any."""

    protocol: str
    container_port: int
    host_address: str = ""
    host_port: str = ""


class Published(NamedTuple):
    """A host port that leads to a container's; `host_address` "" means all of the host's addresses."""

    protocol: str
    host_address: str
    host_port: int
    container_port: int


def allocate(wanted: Iterable[Wanted], taken: Taken) -> list[Published]:
    """A host port for each request. `taken`: the addresses on which each (protocol, port) is published already.

    Raises `PortTaken` for one that is asked for and not free, `NoneLeft` where a range has no free one,
    `InvalidAddress` where the host does not have the address.
    """
    found: list[Published] = []
    new: dict[tuple[str, int], set[str]] = {}
    for request in wanted:
        published = _choose(request, (taken, new))
        new.setdefault((published.protocol, published.host_port), set()).add(published.host_address)
        found.append(published)
    return found


def _choose(wanted: Wanted, taken: tuple[Taken, ...]) -> Published:
    address = "" if wanted.host_address == ALL else _checked(wanted.host_address)
    candidates = _candidates(wanted.host_port)
    for port in candidates:
        key = wanted.protocol, port
        if not any(_overlaps(address, ports.get(key, ())) for ports in taken) and _is_free(
            wanted.protocol, address, port
        ):
            return Published(wanted.protocol, address, port, wanted.container_port)
    if len(candidates) == 1:
        raise PortTaken(address or ALL, candidates[0])
    raise NoneLeft(f"all ports of {address or ALL}:{wanted.host_port or 'any'}/{wanted.protocol} are already allocated")


def _candidates(host_port: str) -> Sequence[int]:
    if not host_port or host_port == "0":
        start = random.choice(EPHEMERAL)
        return (*range(start, EPHEMERAL.stop), *range(EPHEMERAL.start, start))
    first, _, last = host_port.partition("-")
    return range(int(first), int(last or first) + 1)


def _checked(address: str) -> str:
    if ":" in address:
        raise InvalidAddress(f"cannot publish on {address}: containers have IPv4 addresses only")
    return address


def _overlaps(address: str, published: Iterable[str]) -> bool:
    """Whether the port cannot be published on the address ("": on all) where it is published on those."""
    return any(not address or not other or address == other for other in published)


def _is_free(protocol: str, address: str, port: int) -> bool:
    """Whether a process could listen there now."""
    with socket.socket(socket.AF_INET, _KINDS[protocol]) as probe:
        if protocol == "tcp":  # as all servers do: connections that are closing do not count
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidAddress(f"cannot publish on {address}: this host has no such address") from None
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True
