"""Operations on the packet filter: an engine's one table, the networks and published ports in it.

Whatever there are many of (networks, ports) is an element of a set or a map, so that a packet's way is equally long
however many there are, and a change is one element. `accept` in one table never overrules another's `drop`: the host's
own firewall has the last word. `nft(8)`.
"""

from __future__ import annotations

import errno

from cutaway.kernel.conntrack import forget_connections_to, forget_connections_with
from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.kernel.nftables.expressions import (
    DNAT,
    ESTABLISHED,
    IFNAME,
    INET_PROTO,
    INET_SERVICE,
    IPV4_ADDR,
    LOCAL,
    RELATED,
    accept,
    among,
    ct_state,
    ct_status,
    daddr,
    dnat,
    dnat_to,
    dport,
    drop,
    fib_daddr_type,
    iif,
    iifname,
    jump,
    l4proto,
    masquerade,
    oifname,
    saddr,
)
from cutaway.kernel.nftables.header import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_NAT_DST,
    NF_IP_PRI_NAT_SRC,
    NF_IP_PRI_RAW,
)
from cutaway.kernel.nftables.objects import Set, Table
from cutaway.kernel.nftables.ruleset import NftablesSocket, kept_socket
from cutaway.plan.network import LOOPBACK
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.kernel.netlink.wire import Message

NAME_SERVER = "127.0.0.11"
NAME_SERVER_PORT = 61053
"""Beyond the ports that the kernel gives to sockets without one (`ip_local_port_range`)."""
NAME_PROTOCOLS = ("udp", "tcp")

BRIDGES = Set("bridges", (IFNAME,))
INTERNAL = Set("internal", (IFNAME,))
"""Bridges with no way in or out."""
LINKS = Set("links", (IFNAME, IFNAME))
"""From which device to which a packet may pass: from each bridge to itself, which is asked only with br_netfilter."""
NETWORKS = Set("networks", (IPV4_ADDR, IFNAME), interval=True)
PORTS = Set("ports", (INET_PROTO, INET_SERVICE), (IPV4_ADDR, INET_SERVICE))
ADDRESS_PORTS = Set("address_ports", (IPV4_ADDR, INET_PROTO, INET_SERVICE), (IPV4_ADDR, INET_SERVICE))
SETS = (BRIDGES, INTERNAL, LINKS, NETWORKS, PORTS, ADDRESS_PORTS)

BASE_CHAINS = (
    ("raw", "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW),
    ("prerouting", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST),
    ("output", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST),
    ("forward", "filter", NF_INET_FORWARD, 0),
    ("postrouting", "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC),
)

RULES: tuple[tuple[str, str, bytes], ...] = (
    # A neighbour must not reach what listens on the host's loopback, which route_localnet would let in (CVE-2020-8558).
    ("raw", 'iif != "lo" ip daddr 127.0.0.0/8 drop', iif.differs(LOOPBACK) + daddr.within("127.0.0.0/8") + drop),
    ("prerouting", "fib daddr type local jump published", fib_daddr_type.equals(LOCAL) + jump("published")),
    ("output", "fib daddr type local jump published", fib_daddr_type.equals(LOCAL) + jump("published")),
    (
        "published",
        "dnat ip to ip daddr . meta l4proto . th dport map @address_ports",
        dnat_to((daddr, l4proto, dport), ADDRESS_PORTS),
    ),
    ("published", "dnat ip to meta l4proto . th dport map @ports", dnat_to((l4proto, dport), PORTS)),
    ("forward", "ct state established,related accept", ct_state.has(ESTABLISHED | RELATED) + accept),
    ("forward", "iifname . oifname @links accept", among((iifname, oifname), LINKS) + accept),
    ("forward", "iifname @internal drop", iifname.among(INTERNAL) + drop),
    ("forward", "oifname @internal drop", oifname.among(INTERNAL) + drop),
    ("forward", "oifname @bridges ct status dnat accept", oifname.among(BRIDGES) + ct_status.has(DNAT) + accept),
    ("forward", "oifname @bridges drop", oifname.among(BRIDGES) + drop),
    (
        "postrouting",
        "iifname @bridges oifname != @bridges masquerade",
        iifname.among(BRIDGES) + oifname.not_among(BRIDGES) + masquerade,
    ),
    # Else a container that reaches a neighbour by the host's address would be answered past the host, by a stranger.
    (
        "postrouting",
        "ct status dnat ip saddr . oifname @networks masquerade",
        ct_status.has(DNAT) + among((saddr, oifname), NETWORKS) + masquerade,
    ),
    (
        "postrouting",
        "ip saddr 127.0.0.0/8 oifname @bridges masquerade",
        saddr.within("127.0.0.0/8") + oifname.among(BRIDGES) + masquerade,
    ),
)
"""The chain, what nft would call the rule, and the rule."""


class CreateTable(Operation):
    """Makes an engine's table, or puts its chains right and leaves the networks and ports in it as they are."""

    table: str = "cutaway"

    manual = "nft(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        table = Table("ip", self.table)
        kept_socket().commit(table.create(), *_sets(table), *_chains(table), *_rules(table))

    def undo(self, context: Context) -> None:  # noqa: ARG002
        _commit_if_there(Table("ip", self.table).delete())

    def shell(self) -> str:
        hooks = {
            NF_INET_PRE_ROUTING: "prerouting",
            NF_INET_LOCAL_OUT: "output",
            NF_INET_FORWARD: "forward",
            NF_INET_POST_ROUTING: "postrouting",
        }
        lines = [f"\t{_declare(group)}" for group in SETS] + ["\tchain published {"]
        lines += [f"\t\t{rule}" for chain, rule, _ in RULES if chain == "published"] + ["\t}"]
        for name, kind, hook, priority in BASE_CHAINS:
            lines += [f"\tchain {name} {{", f"\t\ttype {kind} hook {hooks[hook]} priority {priority};"]
            lines += [f"\t\t{rule}" for chain, rule, _ in RULES if chain == name] + ["\t}"]
        return "\n".join([f"nft -f - <<'END'\ntable ip {self.table} {{", *lines, "}", "END"])

    def shell_undo(self) -> str:
        return f"nft delete table ip {self.table}"

    def why(self) -> str:
        return (
            "Holds every packet-filter rule of this engine; its sets and maps say which networks and ports there are."
        )


class AddNetworkToTable(Operation):
    """Lets a network's containers reach each other and the outside, but no other network; nobody reaches them but by
    published ports.

    `internal`: no way in or out at all.
    """

    table: str
    bridge: str
    subnet: str
    """"172.18.0.0/16"."""
    internal: bool = False

    manual = "nft(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        table = Table("ip", self.table)
        kept_socket().commit(*(table.add_elements(group, [element]) for group, element in self._elements()))

    def undo(self, context: Context) -> None:  # noqa: ARG002
        table = Table("ip", self.table)
        _commit_if_there(*(table.delete_elements(group, [element]) for group, element in self._elements()))

    def subject(self) -> str:
        return self.bridge

    def shell(self) -> str:
        return self._nft("add")

    def shell_undo(self) -> str:
        return self._nft("delete")

    def why(self) -> str:
        if self.internal:
            return f"Keeps the network {self.subnet} to itself: no packet enters or leaves it."
        return f"Lets {self.subnet} out under the host's address, and nothing in but answers and published ports."

    def _elements(self) -> list[tuple[Set, tuple[str, ...]]]:
        elements: list[tuple[Set, tuple[str, ...]]] = [
            (BRIDGES, (self.bridge,)),
            (LINKS, (self.bridge, self.bridge)),
            (NETWORKS, (self.subnet, self.bridge)),
        ]
        return elements + ([(INTERNAL, (self.bridge,))] if self.internal else [])

    def _nft(self, verb: str) -> str:
        return "\n".join(
            f"nft {verb} element ip {self.table} {group.name} '{{ {' . '.join(element)} }}'"
            for group, element in self._elements()
        )


class MapPorts(Operation):
    """Publishes ports of a container on the host, all or, where one is taken already, none.

    `ports` are lists of protocol ("tcp", "udp", "sctp"), host address ("" for all), host port, container address,
    container port.
    """

    table: str
    ports: list[list[str | int]]

    manual = "nft(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        table = Table("ip", self.table)
        try:
            kept_socket().commit(*_additions(table, self.ports))
        except FileExistsError:  # perhaps its own, from an apply that was cut short
            kept_socket().commit(*_additions(table, [port for port in self.ports if not _is_mapped(table, port)]))
        _forget(forget_connections_to(int(port[2])) for port in self.ports if port[0] == "udp")

    def undo(self, context: Context) -> None:  # noqa: ARG002
        unmap_ports([self])

    @classmethod
    def undo_all(cls, operations: list[MapPorts], context: Context) -> list[OSError]:
        try:
            unmap_ports(operations)
        except OSError:
            return super().undo_all(operations, context)
        return []

    def subject(self) -> str:
        return self._shown()

    def shell(self) -> str:
        return "\n".join(
            f"nft add element ip {self.table} {_map_of(port).name}"
            f" '{{ {' . '.join(map(str, _key(port)))} : {port[3]} . {port[4]} }}'"
            for port in self.ports
        )

    def shell_undo(self) -> str:
        return "\n".join(
            f"nft delete element ip {self.table} {_map_of(port).name} '{{ {' . '.join(map(str, _key(port)))} }}'"
            for port in self.ports
        )

    def why(self) -> str:
        return (
            f"Sends on what arrives at the host's {self._shown()} to the container: one element of a map for each port."
        )

    def _shown(self) -> str:
        return ", ".join(f"{host or '*'}:{port}/{protocol}" for protocol, host, port, *_ in self.ports)


def unmap_ports(operations: Iterable[MapPorts]) -> None:
    """Undoes any number of `MapPorts` in one transaction for each table. What is mapped elsewhere by now stays."""
    by_table: dict[str, list[list[str | int]]] = {}
    for operation in operations:
        by_table.setdefault(operation.table, []).extend(operation.ports)
    for name, ports in by_table.items():
        table = Table("ip", name)
        mine = {(_map_of(port), _key(port)) for port in ports if _is_mapped(table, port)}
        kept_socket().commit(*(table.delete_elements(group, [key]) for group, key in mine))
        _forget(forget_connections_with(address) for address in {str(port[3]) for port in ports if port[0] == "udp"})


class RedirectNames(Operation):
    """Sends the container's questions for names, asked at 127.0.0.11, to the port where the engine answers, so that
    port 53 stays free for the container's own use. It ends with the network namespace."""

    netns: str

    manual = "resolv.conf(5)"

    def apply(self, context: Context) -> None:
        table = Table("ip", "cutaway")
        with network_namespace(context.descriptors["netns"]):
            nft = NftablesSocket()
        with nft:
            nft.commit(
                table.create(),
                table.create_base_chain("output", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST),
                table.flush_chain("output"),
                *(table.add_rule("output", _redirect(protocol)) for protocol in NAME_PROTOCOLS),
            )

    def shell(self) -> str:
        rules = [
            f"\t\tip daddr {NAME_SERVER} {protocol} dport 53 dnat to {NAME_SERVER}:{NAME_SERVER_PORT}"
            for protocol in NAME_PROTOCOLS
        ]
        chain = ["\tchain output {", "\t\ttype nat hook output priority -100;", *rules, "\t}"]
        command = f"ip netns exec {self.netns} nft -f - <<'END'"
        return "\n".join([command, "table ip cutaway {", *chain, "}", "END"])

    def why(self) -> str:
        return f"Lets the container ask {NAME_SERVER} for its neighbours by name."


def _redirect(protocol: str) -> bytes:
    asked = daddr.equals(NAME_SERVER) + l4proto.equals(protocol) + dport.equals(53)
    return asked + dnat(NAME_SERVER, NAME_SERVER_PORT)


def _commit_if_there(*requests: Message) -> None:
    try:
        kept_socket().commit(*requests)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise


def _sets(table: Table) -> list[Message]:
    return [table.create_set(group) for group in SETS]


def _chains(table: Table) -> list[Message]:
    base = [table.create_base_chain(*chain) for chain in BASE_CHAINS]
    return [table.create_chain("published"), *base]


def _rules(table: Table) -> list[Message]:
    chains = dict.fromkeys(chain for chain, _, _ in RULES)
    return [table.flush_chain(chain) for chain in chains] + [table.add_rule(chain, rule) for chain, _, rule in RULES]


def _map_of(port: list[str | int]) -> Set:
    return ADDRESS_PORTS if port[1] else PORTS


def _key(port: list[str | int]) -> tuple[object, ...]:
    protocol, address, number = port[:3]
    return (address, protocol, number) if address else (protocol, number)


def _forget(requests: Iterable[Message]) -> None:
    """Makes who sends by UDP all the time go where the map leads now; a kernel before 5.8 does so in time."""
    try:
        kept_socket().transact(*requests)
    except KernelError:
        pass


def _additions(table: Table, ports: list[list[str | int]]) -> list[Message]:
    return [table.add_elements(_map_of(port), {_key(port): tuple(port[3:])}, exclusive=True) for port in ports]


def _is_mapped(table: Table, port: list[str | int]) -> bool:
    """Whether the host port leads to this container now."""
    return kept_socket().find_element(table, _map_of(port), _key(port)) == tuple(port[3:])


def _declare(group: Set) -> str:
    key = " . ".join(kind.name for kind in group.key)
    value = f" : {' . '.join(kind.name for kind in group.value)}" if group.value else ""
    flags = " flags interval;" if group.interval else ""
    return f"{'map' if group.value else 'set'} {group.name} {{ type {key}{value};{flags} }}"
