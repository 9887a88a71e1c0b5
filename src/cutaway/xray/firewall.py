"""Address translation: which ports of the host lead to a container, and what gives its packets the host's address.

All rules that hang on nat hooks are read, whoever made them: nft, iptables-nft, Docker, podman's netavark or CNI,
cutaway with its maps. Tables of iptables-legacy are another part of the kernel, which only their own program reads.
`nft(8)`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.kernel.errors import KernelError
from cutaway.kernel.nftables import expressions
from cutaway.kernel.nftables.header import NF_INET_POST_ROUTING, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC
from cutaway.kernel.nftables.objects import Set, Table
from cutaway.kernel.nftables.reading import Condition, Reading
from cutaway.kernel.nftables.ruleset import NftablesSocket
from cutaway.xray.model import Port

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cutaway.kernel.nftables.expressions import Type

_FAMILIES = ("ip", "inet", "ip6")
_TYPES: dict[str, Type] = {
    "daddr": expressions.IPV4_ADDR, "saddr": expressions.IPV4_ADDR, "protocol": expressions.INET_PROTO,
    "dport": expressions.INET_SERVICE, "iifname": expressions.IFNAME, "oifname": expressions.IFNAME,
}  # fmt: skip
_DESTINATION = (expressions.IPV4_ADDR, expressions.INET_SERVICE)
_DEEPEST = 16
"""Jumps that are followed: as many as the kernel allows."""
_LEGACY = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")


class Packet:
    """One on its way out: from a container's address, in by its bridge, out by an uplink, to somewhere outside."""

    def __init__(self, source: str, bridge: str, uplink: str) -> None:
        self.source = int.from_bytes(expressions.IPV4_ADDR.pack(source), "big")
        self.names = {"iifname": bridge, "oifname": uplink}


class Firewall:
    """The rules of the network namespace that the calling thread is in, read once. `unread`: sentences about what could
    not be."""

    def __init__(self) -> None:
        self.unread: list[str] = []
        self._rules: dict[tuple[str, str, str], list[Reading]] = {}
        self._bases: list[tuple[str, str, str]] = []
        self._elements: dict[tuple[str, str, str], Mapping[tuple[object, ...], tuple[object, ...]]] = {}
        try:
            with NftablesSocket() as nft:
                for family in _FAMILIES:
                    self._read(nft, family)
        except OSError as problem:
            self.unread.append(f"address translation and published ports: nftables cannot be read: {problem.strerror}")
        if any(map(_has_tables, _LEGACY)):
            self.unread.append("rules of iptables-legacy: this host has some, and only that program reads them")

    def _read(self, nft: NftablesSocket, family: str) -> None:
        chains = nft.chains(family)
        translating = {chain.table for chain in chains if chain.hook is not None and _translates(chain.priority)}
        for chain in chains:
            if chain.table not in translating:
                continue
            key = family, chain.table, chain.name
            self._rules[key] = [Reading(rule.expressions) for rule in nft.rules(Table(family, chain.table), chain.name)]
            if chain.hook == NF_INET_POST_ROUTING and _translates(chain.priority):
                self._bases.append(key)
            self._read_elements(nft, family, chain.table, self._rules[key])

    def _read_elements(self, nft: NftablesSocket, family: str, table: str, rules: Iterable[Reading]) -> None:
        """The elements of the sets and maps that rules look into."""
        wanted: list[tuple[str, tuple[str, ...], tuple[Type, ...]]]
        wanted = [(rule.map, rule.keys, _DESTINATION) for rule in rules if rule.map]
        wanted += [(each.group, tuple(each.field.split(" . ")), ()) for rule in rules for each in rule.conditions
                   if each.group]  # fmt: skip
        for name, fields, value in wanted:
            if (family, table, name) in self._elements or not set(fields) <= _TYPES.keys():
                continue
            group = Set(name, tuple(_TYPES[field] for field in fields), value)
            try:
                self._elements[family, table, name] = nft.elements(Table(family, table), group)
            except (KernelError, KeyError, ValueError, IndexError):  # of other types than these fields have
                self._elements[family, table, name] = {}

    def ports(self, addresses: Iterable[str]) -> list[Port]:
        """The ports of the host that lead to one of these addresses."""
        wanted, found = set(addresses), dict[tuple[str, str, int, str, int], Port]()
        for (family, table, chain), rules in self._rules.items():
            for rule in rules:
                for port in self._leads(family, table, rule):
                    if port.address in wanted:
                        key = (port.protocol, port.host_address, port.host_port, port.address, port.port)
                        by = found.setdefault(key, port).by
                        by += [each for each in [f"nftables {family} {table} {chain}"] if each not in by]
        return sorted(found.values(), key=lambda port: (port.host_port, port.protocol, port.host_address))

    def _leads(self, family: str, table: str, rule: Reading) -> Iterable[Port]:
        """Where a rule leads: to one destination, or to those of a map."""
        if rule.action != "dnat":
            return
        if rule.map:
            for key, value in self._elements.get((family, table, rule.map), {}).items():
                said = dict(zip(rule.keys, key, strict=False))
                address, port = value
                yield _port(said.get("protocol"), said.get("daddr"), said.get("dport"), address, port)
        elif rule.address and (number := rule.value("dport")):
            protocol, to = rule.value("protocol"), rule.value("daddr")
            yield _port(
                expressions.INET_PROTO.unpack(protocol) if protocol else None,
                expressions.IPV4_ADDR.unpack(to) if to and len(to) == 4 else None,
                int.from_bytes(number, "big"),
                rule.address,
                rule.port or int.from_bytes(number, "big"),
            )

    def translation(self, packet: Packet) -> str:
        """The chain that gives the packet the host's address, as "nftables ip nat POSTROUTING"; "" where none does."""
        for base in self._bases:
            if found := self._translated(base, packet, _DEEPEST):
                return found
        return ""

    def _translated(self, key: tuple[str, str, str], packet: Packet, deepest: int) -> str:
        family, table, chain = key
        for rule in self._rules.get(key, []):
            if not all(self._holds(family, table, condition, packet) for condition in rule.conditions):
                continue
            if rule.action in ("masquerade", "snat"):
                return f"nftables {family} {table} {chain}"
            if rule.action == "jump" and deepest:
                found = self._translated((family, table, rule.target), packet, deepest - 1)
                if found:
                    return found
            elif rule.action in ("accept", "drop", "return"):
                return ""
        return ""

    def _holds(self, family: str, table: str, condition: Condition, packet: Packet) -> bool:
        """Whether a packet to anywhere outside meets it."""
        if condition.group:
            elements = self._elements.get((family, table, condition.group), {})
            names = [packet.names.get(field) for field in condition.field.split(" . ")]
            met = any(all(name in (None, part) for name, part in zip(names, key, strict=False)) for key in elements)
        elif condition.field in packet.names:
            met = packet.names[condition.field] == condition.value.rstrip(b"\0").decode(errors="replace")
        elif condition.field == "saddr":
            met = self._from(condition, packet)
        else:
            met = condition.field in ("protocol", "dport")  # it may be any
        return met is not condition.negated

    def _from(self, condition: Condition, packet: Packet) -> bool:
        value = condition.value
        bits = condition.bits or 8 * len(value)
        wanted = int.from_bytes(value.ljust(4, b"\0")[:4], "big")
        return len(value) <= 4 and packet.source >> (32 - bits) == wanted >> (32 - bits)


def _translates(priority: int) -> bool:
    """Whether a chain's priority is of those at which addresses are translated (`nft(8)`: dstnat, srcnat)."""
    return priority in (NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC)


def _has_tables(path: str) -> bool:
    try:
        with open(path, encoding="ascii") as names:
            return "nat" in names.read().split()
    except OSError:
        return False


def _port(protocol: object, host_address: object, host_port: object, address: object, port: object) -> Port:
    number = int(str(host_port or 0))
    return Port(str(protocol or "tcp"), str(host_address or "0.0.0.0"), number, str(address), int(str(port)))
