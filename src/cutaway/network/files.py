"""What a container reads of the network in /etc, as Docker writes it: `hosts(5)`, `hostname(5)`, `resolv.conf(5)`."""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cutaway.plan.firewall import NAME_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOST_GATEWAY = "host-gateway"
"""As an address in `--add-host`: the host's own, as the container sees it."""

_LOOPBACK = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_PLACES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""Where the second exists, the first may name only systemd's own resolver on loopback."""


class Resolvers(NamedTuple):
    """Who answers questions for names, and how: the three kinds of lines of resolv.conf."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def reachable(self) -> tuple[str, ...]:
        """The name servers that a container can reach: by IPv4, and not on the host's loopback."""
        return tuple(server for server in self.nameservers if _is_reachable(server))


def hosts(own: Iterable[tuple[str, str]], extra: Iterable[str] = (), gateway: str = "") -> str:
    """/etc/hosts. `own`: the container's addresses, each with its names in one string; `extra`: `--add-host`'s, each
    "name:address", where "host-gateway" means `gateway`."""
    lines = [f"{address}\t{names}\n" for address, names in own]
    for entry in extra:
        name, _, address = entry.partition(":")
        lines.append(f"{gateway if address == HOST_GATEWAY else address}\t{name}\n")
    return _LOOPBACK + "".join(lines)


def hostname(name: str) -> str:
    """/etc/hostname."""
    return f"{name}\n"


def parse_resolv_conf(text: str) -> Resolvers:
    """The lines that count; of several `search` lines the last, as the C library has it."""
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword == "nameserver" and values and _is_address(values[0]):
            nameservers.append(values[0])
        elif keyword in ("search", "domain"):
            search = tuple(values)
        elif keyword == "options":
            options += values
    return Resolvers(tuple(nameservers), search, tuple(options))


def resolvers_of_host() -> Resolvers:
    """The host's, those behind systemd's own resolver where that is all that /etc/resolv.conf names."""
    return _resolvers_as_of(tuple(_changed_at(place) for place in _PLACES))


@lru_cache(maxsize=1)
def _resolvers_as_of(_times: tuple[int, ...]) -> Resolvers:
    found = [parse_resolv_conf(_read(place)) for place in _PLACES]
    return next((resolvers for resolvers in found if resolvers.reachable), found[0])


def _changed_at(place: str) -> int:
    """In nanoseconds since 1970; 0 where nothing is."""
    try:
        return os.stat(place).st_mtime_ns
    except FileNotFoundError:
        return 0


def resolv_conf(resolvers: Resolvers, *, embedded: bool) -> str:
    """/etc/resolv.conf; `embedded`: the container asks the engine, which knows its neighbours and asks others."""
    servers = (NAME_SERVER,) if embedded else resolvers.reachable
    options = (*resolvers.options, "ndots:0") if embedded and not _mentions_ndots(resolvers) else resolvers.options
    search = () if resolvers.search == (".",) else resolvers.search
    lines = [f"nameserver {server}\n" for server in servers]
    lines += [f"search {' '.join(search)}\n"] if search else []
    return "".join(lines) + (f"options {' '.join(options)}\n" if options else "")


def resolvers_for(host: Resolvers, dns: Sequence[str], search: Sequence[str], options: Sequence[str]) -> Resolvers:
    """The host's, with what `--dns`, `--dns-search` and `--dns-option` put in their place."""
    return Resolvers(tuple(dns) or host.nameservers, tuple(search) or host.search, tuple(options) or host.options)


def _mentions_ndots(resolvers: Resolvers) -> bool:
    return any(option.startswith("ndots:") for option in resolvers.options)


def _is_reachable(server: str) -> bool:
    address = ip_address(server.partition("%")[0])
    return address.version == 4 and not address.is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _read(place: str) -> str:
    try:
        return Path(place).read_text(errors="replace")
    except FileNotFoundError:
        return ""
