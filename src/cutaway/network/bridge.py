"""A network that is a bridge, a container's place on it, and the operations that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cutaway.kernel.netlink.route import RouteSocket
from cutaway.network.addresses import mac_address
from cutaway.plan.docker import AllowForwarding
from cutaway.plan.firewall import AddNetworkToTable, MapPorts
from cutaway.plan.network import (
    AwaitCarrier,
    BringUpLoopback,
    ConfigureInterface,
    CreateBridge,
    CreateNetworkNamespace,
    CreateVeth,
    EnableForwarding,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cutaway.network.ports import Published
    from cutaway.plan.operation import Operation

LARGEST_MTU = 1500


class Network(NamedTuple):
    """`bridge` is its device's name, `subnet` as in "172.30.0.0/16", `gateway` the bridge's address, `mtu` in bytes;
    `internal`: no way in or out."""

    bridge: str
    subnet: str
    gateway: str
    internal: bool = False
    mtu: int = LARGEST_MTU

    @property
    def prefix(self) -> int:
        """The length of the subnet's prefix."""
        return int(self.subnet.partition("/")[2])


class Endpoint(NamedTuple):
    """A container's place on a network: `link` is the veth's name on the host, `interface` inside; `is_default`: by
    this network goes what is for elsewhere."""

    network: Network
    link: str
    interface: str
    address: str
    mac: str
    is_default: bool = True


def bridge_name(network_id: str) -> str:
    """The device's name for a user-defined network."""
    return f"ct-{network_id[:12]}"


def link_name(container_id: str, number: int) -> str:
    """The host's end of a container's veth of that number."""
    return f"ct{container_id[:10]}-{number}"


def usual_mtu() -> int:
    """The largest packet, in bytes, that both Ethernet and the host's way out take."""
    with RouteSocket() as route:
        ways_out = [found.index for found in route.routes() if found.destination == "0.0.0.0/0" and found.index]
        return min([LARGEST_MTU, *(route.link(index).mtu for index in ways_out)])


def create(network: Network, table: str) -> list[Operation]:
    """What makes a network; undone in reverse order, what takes it away."""
    return [
        CreateBridge(network.bridge, f"{network.gateway}/{network.prefix}", mac_address(network.gateway), network.mtu),
        EnableForwarding(network.bridge),
        AddNetworkToTable(table, network.bridge, network.subnet, network.internal),
        AllowForwarding(network.bridge),
    ]


def isolate(netns: str) -> list[Operation]:
    """A network namespace with nothing but loopback: all that `--network none` has, and the beginning of the others."""
    return [CreateNetworkNamespace(netns), BringUpLoopback(netns)]


def connect(endpoint: Endpoint, netns: str) -> list[Operation]:
    """What connects a container, running or about to; undone, what disconnects it."""
    network = endpoint.network
    gateway = network.gateway if endpoint.is_default and not network.internal else ""
    return [
        CreateVeth(endpoint.link, endpoint.interface, netns, network.bridge, endpoint.mac, network.mtu),
        ConfigureInterface(endpoint.interface, netns, f"{endpoint.address}/{network.prefix}", gateway),
        AwaitCarrier([network.bridge, endpoint.link]),
    ]


def publish(ports: Sequence[Published], address: str, table: str) -> list[Operation]:
    """What publishes ports of the container with that address."""
    if not ports:
        return []
    return [
        MapPorts(
            table, [[port.protocol, port.host_address, port.host_port, address, port.container_port] for port in ports]
        )
    ]
