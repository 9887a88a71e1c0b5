"""Operations that connect a container: its network namespace, the bridge, the cable between them, the host's switches.

The container's network namespace is `context.descriptors["netns"]`; in a script it is the one that `ip netns` knows by
the name in the field `netns`. `network_namespaces(7)`, `veth(4)`, `ip-netns(8)`, `ip-link(8)`.
"""

from __future__ import annotations

import _socket
import errno
import os

from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.namespace import network_namespace, new_network_namespace
from cutaway.kernel.netlink.route import (
    RouteSocket,
    add_address,
    add_route,
    delete_group,
    delete_link,
    new_bridge,
    new_veth,
    set_link,
)
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK = 1
"""The index of the loopback device in every network namespace."""


class CreateNetworkNamespace(Operation):
    """Makes the container's network namespace: `context.descriptors["netns"]`, with an rtnetlink socket inside it,
    `["netns:route"]`. It ends with its last process and descriptor, so there is nothing to undo."""

    netns: str

    manual = "network_namespaces(7)"

    def apply(self, context: Context) -> None:
        with new_network_namespace() as netns:
            context.descriptors["netns"] = netns
            context.descriptors["netns:route"] = RouteSocket().detach()

    def shell(self) -> str:
        return f"ip netns add {self.netns}"

    def shell_undo(self) -> str:
        return f"ip netns delete {self.netns}"

    def why(self) -> str:
        return "Gives the container devices, addresses, routes, ports and a packet filter of its own."


class NameNetworkNamespace(Operation):
    """Shows the network namespace of process `context.pid` to `ip netns` under a name, which leads nowhere once the
    process has gone."""

    netns: str

    manual = "ip-netns(8)"
    needs_process = True

    def apply(self, context: Context) -> None:
        os.makedirs("/run/netns", exist_ok=True)
        self.undo(context)
        os.symlink(f"/proc/{context.pid}/ns/net", self._path())

    def undo(self, context: Context) -> None:  # noqa: ARG002
        if os.path.islink(self._path()):
            os.unlink(self._path())

    def shell(self) -> str:
        return f"ln -s /proc/$PID/ns/net {self._path()}"

    def shell_undo(self) -> str:
        return f"rm -f {self._path()}"

    def why(self) -> str:
        return f"Lists the container's network namespace in `ip netns`, so that `ip -n {self.netns}` looks inside."

    def _path(self) -> str:
        return f"/run/netns/{self.netns}"


class BringUpLoopback(Operation):
    """Brings the namespace's own loopback device up, with 127.0.0.1."""

    netns: str

    manual = "ip-link(8)"

    def apply(self, context: Context) -> None:
        with route_inside(context) as route:
            route.transact(set_link(LOOPBACK, up=True))

    def shell(self) -> str:
        return f"ip -n {self.netns} link set lo up"

    def why(self) -> str:
        return "A new network namespace's loopback device is down: without this, not even 127.0.0.1 answers."


class CreateBridge(Operation):
    """Makes a bridge with the gateway's address, or takes the one that is there by that name."""

    name: str
    address: str
    """Address and prefix length: "172.18.0.1/16"."""
    mac: str
    mtu: int = 1500

    manual = "ip-link(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        with RouteSocket() as route:
            link = route.find_link(self.name)
            if link is None:
                route.transact(new_bridge(self.name, mac=self.mac, mtu=self.mtu, up=False))
            elif link.kind != "bridge":
                raise KernelError(
                    errno.EEXIST, "RTM_NEWLINK", f"{self.name}, which is a {link.kind or 'device'} already"
                )
            index = route.link(self.name).index
            route.transact(
                set_link(index, link_local=False), set_link(index, up=True), add_address(index, self.address)
            )

    def undo(self, context: Context) -> None:  # noqa: ARG002
        with RouteSocket() as route:
            delete_if_there(route, self.name)

    def shell(self) -> str:
        name = self.name
        return "\n".join(
            (
                f"ip link add {name} address {self.mac} mtu {self.mtu} type bridge",
                f"ip link set {name} addrgenmode none",
                f"ip link set {name} up",
                f"ip address add {self.address} broadcast + dev {name}",
            )
        )

    def shell_undo(self) -> str:
        return f"ip link delete {self.name}"

    def why(self) -> str:
        return f"A bridge is a switch in the kernel; its own address, {self.address}, is the containers' gateway."


class CreateVeth(Operation):
    """Makes a pair of connected devices: `name` on the host's bridge, which goes up, and `peer` in the container."""

    name: str
    peer: str
    netns: str
    bridge: str
    mac: str
    """Of the peer: "02:42:ac:12:00:02"."""
    mtu: int = 1500

    manual = "veth(4)"
    slow_to_undo = True

    def apply(self, context: Context) -> None:
        bridge = _index_of(self.bridge)
        netns = context.descriptors["netns"]
        with RouteSocket() as route:
            route.transact(
                new_veth(self.name, self.peer, netns=netns, bridge=bridge, peer_mac=self.mac, mtu=self.mtu, up=False),
                set_link(self.name, link_local=False, hairpin=True),
                set_link(self.name, up=True),
            )

    def undo(self, context: Context) -> None:  # noqa: ARG002
        with RouteSocket() as route:
            delete_if_there(route, self.name)

    @classmethod
    def undo_all(cls, operations: list[CreateVeth], context: Context) -> list[OSError]:
        try:
            delete_veths(operations)
        except OSError:
            return super().undo_all(operations, context)
        return []

    def shell(self) -> str:
        name, peer, netns = self.name, self.peer, self.netns
        return "\n".join(
            (
                f"ip link add {name} mtu {self.mtu} master {self.bridge} type veth"
                f" peer name {peer} address {self.mac} mtu {self.mtu} netns {netns}",
                f"ip link set {name} addrgenmode none",
                f"ip link set {name} type bridge_slave hairpin on",
                f"ip link set {name} up",
            )
        )

    def shell_undo(self) -> str:
        return f"ip link delete {self.name}"

    def why(self) -> str:
        return f"Connects the container to {self.bridge} by a cable: what enters at {self.peer} leaves at {self.name}."


class ConfigureInterface(Operation):
    """Gives the container's device its address and brings it up; with `gateway`, makes that the default route."""

    name: str
    netns: str
    address: str
    """Address and prefix length: "172.18.0.2/16"."""
    gateway: str = ""

    manual = "ip-address(8)"

    def apply(self, context: Context) -> None:
        with route_inside(context) as route:
            index = route.link(self.name).index
            requests = [set_link(index, link_local=False), set_link(index, up=True), add_address(index, self.address)]
            if self.gateway:
                requests.append(add_route("0.0.0.0/0", self.gateway, index))
            route.transact(*requests)

    def subject(self) -> str:
        return f"{self.name} {self.address}"

    def shell(self) -> str:
        name, inside = self.name, f"ip -n {self.netns}"
        lines = [
            f"{inside} link set {name} addrgenmode none",
            f"{inside} link set {name} up",
            f"{inside} address add {self.address} broadcast + dev {name}",
        ]
        if self.gateway:
            lines.append(f"{inside} route add default via {self.gateway} dev {name}")
        return "\n".join(lines)

    def why(self) -> str:
        return f"Gives the container the address {self.address}" + (
            f" and sends what is for elsewhere to {self.gateway}." if self.gateway else "."
        )


class AwaitCarrier(Operation):
    """Waits until the host's links send, once both ends of a veth are up.

    The kernel starts a link's queue some time after it got a carrier, and throws away what is sent before; asking for
    the link makes it do so at once. A lost first packet of a connection is sent again only after a second.
    """

    links: list[str]

    manual = "rtnetlink(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        with RouteSocket() as route:
            for name in self.links:
                route.link(name)

    def shell(self) -> str:
        return "\n".join(f"ip link show dev {name} >/dev/null" for name in self.links)

    def why(self) -> str:
        return "Makes sure that the cable carries packets before the container's program sends its first."


class EnableForwarding(Operation):
    """Lets the host pass packets on between its devices, and from its 127.0.0.1 to the containers of one bridge.

    Undone, forwarding stays on: others on the host may have come to rely on it.
    """

    bridge: str

    manual = "ip-sysctl(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _write_sysctl("ip_forward", "1")
        _write_sysctl(f"conf/{self.bridge}/route_localnet", "1")

    def undo(self, context: Context) -> None:  # noqa: ARG002
        try:
            _write_sysctl(f"conf/{self.bridge}/route_localnet", "0")
        except FileNotFoundError:
            pass

    def shell(self) -> str:
        return f"sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.{self.bridge}.route_localnet=1"

    def shell_undo(self) -> str:
        return f"sysctl -qw net.ipv4.conf.{self.bridge}.route_localnet=0"

    def why(self) -> str:
        return (
            "Makes the host a router for its containers; route_localnet lets its 127.0.0.1 reach their published ports."
        )


def route_inside(context: Context) -> RouteSocket:
    """An rtnetlink socket in the container's network namespace, opened at its first use and kept as
    `context.descriptors["netns:route"]`; the one returned is the caller's to close."""
    if "netns:route" not in context.descriptors:
        with network_namespace(context.descriptors["netns"]):
            context.descriptors["netns:route"] = RouteSocket().detach()
    return RouteSocket(os.dup(context.descriptors["netns:route"]))


def delete_veths(operations: Iterable[CreateVeth]) -> None:
    """Undoes any number of `CreateVeth` at once: the kernel waits once for all that may still look at the devices."""
    group = int.from_bytes(os.urandom(4), "big") | 1
    with RouteSocket() as route:
        there = {link.name for link in route.links()}
        names = there & {operation.name for operation in operations}
        route.transact(*(set_link(name, group=group) for name in names))
        if names:
            route.transact(delete_group(group))


def delete_if_there(route: RouteSocket, name: str) -> None:
    """Deletes a link, unless there is none of that name."""
    try:
        route.transact(delete_link(name))
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise


def _index_of(link: str) -> int:
    try:
        return _socket.if_nametoindex(link)
    except OSError:
        raise KernelError(errno.ENODEV, "if_nametoindex", link) from None


def _write_sysctl(name: str, value: str) -> None:
    with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)
