"""The way of a container's packets: interface, veth, bridge, address translation, published port. `veth(4)`

A network namespace is read from within: a thread steps in for as long as it takes to open a socket. Without the right
to do that, /proc still tells addresses and counts.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from cutaway.kernel import procfs
from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.kernel.netlink.route import RouteSocket
from cutaway.xray.firewall import Firewall, Packet
from cutaway.xray.model import Bridge, Interface, Network, Peer, Port
from cutaway.xray.sight import arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from cutaway.kernel.netlink.route import Link
    from cutaway.xray.finding import Group
    from cutaway.xray.sight import Sight

    Found = TypeVar("Found")

_ANYWHERE = ("0.0.0.0/0", "::/0")
_PROXY = "docker-proxy"
_IN_USERLAND = ("slirp4netns", "pasta", "pasta.avx2", "passt", "rootlessport")
"""Programs that carry packets, or ports, of containers without root rights."""


class Space:
    """What one network namespace holds: its `links` by index, addresses of each, `gateway`, and which links the default
    routes leave by."""

    def __init__(self, route: RouteSocket) -> None:
        self.links = {link.index: link for link in route.links()}
        self.addresses: dict[int, list[str]] = {}
        for address in route.addresses():
            self.addresses.setdefault(address.index, []).append(address.interface)
        defaults = [each for each in route.routes() if each.destination in _ANYWHERE]
        self.gateway = next((each.gateway for each in defaults if each.gateway), "")
        self.uplinks = [each.index for each in defaults if each.index in self.links]


class Networks:
    """The network namespaces of a host, each read once, when something in it is asked for. The other end of a veth may
    be in the reader's own, or in that of process 1."""

    def __init__(self) -> None:
        self._spaces: dict[int, Space | None] = {}

    @cached_property
    def here(self) -> Space:
        """The network namespace of who looks."""
        with RouteSocket() as route:
            return Space(route)

    @cached_property
    def _around(self) -> list[Space]:
        host = _inode(1)
        other = self._of(1, host) if host not in (0, _inode("self")) else None
        return [self.here, *([other] if other else [])]

    def uplinks(self) -> list[Interface]:
        """The interfaces by which packets leave the host."""
        return [_interface(self.here, self.here.links[index]) for index in dict.fromkeys(self.here.uplinks)]

    def bridges(self) -> list[Bridge]:
        """The host's bridges."""
        return [
            Bridge(link.name, self.here.addresses.get(index, []))
            for index, link in self.here.links.items()
            if link.kind == "bridge"
        ]

    def addresses(self, group: Group, sight: Sight) -> list[str] | None:
        """The addresses of a container without those of loopback and the link; None where they cannot be read, or are
        the host's."""
        namespaces = group.init.namespaces
        if namespaces is None or namespaces["net"] in sight.host["net"]:
            return None
        found = _asked(group.init.pid, RouteSocket.addresses)
        return None if found is None else _beyond_the_link(each.interface for each in found)

    def of_group(self, group: Group, sight: Sight, unseen: list[str]) -> Network:
        """The network of a container."""
        namespaces = group.init.namespaces
        if namespaces is None:
            return _from_proc(group.init.pid)
        if namespaces["net"] in sight.host["net"]:
            return Network(own=False)
        space = self._of(group.init.pid, namespaces["net"])
        if space is None:
            unseen.append("its network in full: entering its network namespace needs root rights")
            return _from_proc(group.init.pid)
        found = Network(own=True, gateway=space.gateway)
        found.interfaces = [self._with_peer(space, link) for link in space.links.values() if not link.loopback]
        self._translate(found, unseen)
        return found

    def _of(self, pid: int, inode: int) -> Space | None:
        if inode not in self._spaces:
            self._spaces[inode] = _asked(pid, Space)
        return self._spaces[inode]

    def _with_peer(self, space: Space, link: Link) -> Interface:
        found = _interface(space, link)
        if link.kind != "veth":
            return found
        for around in self._around:
            other = around.links.get(link.peer)
            if other and other.kind == "veth" and other.peer == link.index and around is not space:
                bridge = around.links.get(other.master)
                found.peer = Peer(other.name)
                if bridge:
                    found.peer.bridge, found.peer.bridge_addresses = (
                        bridge.name,
                        around.addresses.get(bridge.index, []),
                    )
                break
        return found

    def _translate(self, found: Network, unseen: list[str]) -> None:
        firewall = self._firewall
        unseen += [sentence for sentence in firewall.unread if found.interfaces]
        uplink = next((link.name for link in self.uplinks()), "")
        addresses = []
        for interface in found.interfaces:
            for address in interface.addresses:
                host = address.partition("/")[0]
                addresses.append(host)
                if interface.peer and ":" not in host and not found.translation:
                    found.translation = firewall.translation(
                        Packet(host, interface.peer.bridge or interface.peer.name, uplink)
                    )
        found.ports = _with_proxies(firewall.ports(addresses), self._proxied(addresses))
        for pid, words in self._carriers:
            name = os.path.basename(words[0])
            if name in _IN_USERLAND and any(each.kind == "tun" for each in found.interfaces):
                unseen.append(
                    f"published ports: {name} (process {pid}) carries the packets, and the kernel knows no more"
                )

    @cached_property
    def _firewall(self) -> Firewall:
        return Firewall()

    def _proxied(self, addresses: list[str]) -> Iterator[Port]:
        """The ports that Docker's proxies, a process each, pass on to one of these addresses."""
        for pid, words in self._carriers:
            options = dict(zip(words[1::2], words[2::2], strict=False))
            if os.path.basename(words[0]) == _PROXY and options.get("-container-ip") in addresses:
                yield Port(
                    options.get("-proto", "tcp"),
                    options.get("-host-ip", "0.0.0.0"),
                    _number(options.get("-host-port", "")),
                    options["-container-ip"],
                    _number(options.get("-container-port", "")),
                    [f"{_PROXY} {pid}"],
                )

    @cached_property
    def _carriers(self) -> list[tuple[int, list[str]]]:
        """The processes that pass packets on."""
        carriers = (pid for pid in procfs.pids() if _name(pid) in (_PROXY, *_IN_USERLAND))
        return [(pid, words) for pid in carriers if (words := arguments(pid))]


def _with_proxies(ports: list[Port], proxied: Iterator[Port]) -> list[Port]:
    """Ports that rules and proxies publish, each once."""
    for each in proxied:
        same = [port for port in ports if (port.protocol, port.host_port, port.address, port.port)
                == (each.protocol, each.host_port, each.address, each.port)
                and port.host_address in (each.host_address, "0.0.0.0")]  # fmt: skip
        if same:
            same[0].by += each.by
        elif ":" not in each.host_address or not any(port.host_port == each.host_port for port in ports):
            ports.append(each)
    return ports


def _asked(pid: int, ask: Callable[[RouteSocket], Found]) -> Found | None:
    """What a socket in the network namespace of a process answers; None where that may not be entered, or is gone."""
    try:
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        with network_namespace(netns):
            route = RouteSocket()
        with route:
            return ask(route)
    except OSError:
        return None
    finally:
        os.close(netns)


def _beyond_the_link(interfaces: Iterable[str]) -> list[str]:
    return [each for each in interfaces if not each.startswith(("127.", "::1/", "fe80:"))]


def _interface(space: Space, link: Link) -> Interface:
    return Interface(
        name=link.name,
        kind=link.kind,
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        addresses=space.addresses.get(link.index, []),
        received_bytes=link.received.bytes,
        sent_bytes=link.sent.bytes,
    )


def _from_proc(pid: int) -> Network:
    """What /proc tells of a network namespace that may not be entered."""
    found = Network(own=None)
    try:
        traffic = procfs.link_traffic(pid)
    except (OSError, ValueError):
        return found
    found.interfaces = [
        Interface(name, "", "", 0, True, [], each.received_bytes, each.sent_bytes)
        for name, each in traffic.items()
        if name != "lo"
    ]
    return found


def _inode(pid: int | str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as name:
            return name.read().rstrip("\n")
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
