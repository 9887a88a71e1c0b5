"""Links (network devices), addresses, routes: the rtnetlink family. `rtnetlink(7)`, `veth(4)`, `ip-link(8)`.

Functions build requests, a `RouteSocket` sends any number of them in one datagram:

    with RouteSocket() as route:
        route.transact(new_bridge("br0"), set_link("br0", up=True))
        route.transact(add_address(route.link("br0").index, "192.0.2.1/24"))
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.wire import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    attribute,
    attributes_in,
    nest,
    text,
)

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_AF_SPEC = 26
IFLA_GROUP = 27
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
IFLA_BRPORT_MODE = 4
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
VETH_INFO_PEER = 1

IFF_UP = 0x1
IFF_LOOPBACK = 0x8

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_FLAGS = 8
IFA_RT_PRIORITY = 9
IFA_F_NODAD = 0x02
IFA_F_HOMEADDRESS = 0x10
IFA_F_PERMANENT = 0x80
IFA_F_MANAGETEMPADDR = 0x100
IFA_F_NOPREFIXROUTE = 0x200
IFA_F_MCAUTOJOIN = 0x400
_IFA_F_ASKED = IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN
"""The flags that somebody gave an address; the others tell how it is."""

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_TABLE = 15

RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RTN_UNICAST = 1
RTM_F_CLONED = 0x200

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg
_U32 = struct.Struct("=I")
_STATISTICS = struct.Struct("=8Q")  # the first eight of struct rtnl_link_stats64

_HAS_IPV6 = os.path.exists("/proc/net/if_inet6")
_NO_LINK_LOCAL = nest(
    IFLA_AF_SPEC, nest(_socket.AF_INET6, attribute(IFLA_INET6_ADDR_GEN_MODE, bytes((IN6_ADDR_GEN_MODE_NONE,))))
)

_HAIRPIN = nest(
    IFLA_LINKINFO,
    attribute(IFLA_INFO_SLAVE_KIND, b"bridge"),
    nest(IFLA_INFO_SLAVE_DATA, attribute(IFLA_BRPORT_MODE, b"\1")),
)


class Link:
    """A network device as its namespace sees it.

    `index`, `name`, `kind` ("veth", "bridge", "" for hardware), `mac`, `mtu` in bytes, `up`, `loopback`, `master` (the
    index of the bridge it is attached to, or 0), `peer` (the index of a veth's other end in the namespace of that end,
    or 0), `group`, and what went through it: `received` and `sent`.
    """

    __slots__ = ("group", "index", "kind", "loopback", "mac", "master", "mtu", "name", "peer", "received", "sent", "up")

    def __init__(self, body: bytes) -> None:
        _, _, self.index, flags, _ = _LINK.unpack_from(body)
        found = dict(attributes_in(body, _LINK.size))
        self.up, self.loopback = bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK)
        self.name, self.mac = text(found[IFLA_IFNAME]), found.get(IFLA_ADDRESS, b"").hex(":")
        self.mtu, self.group = _number(found.get(IFLA_MTU)), _number(found.get(IFLA_GROUP))
        self.master, self.peer = _number(found.get(IFLA_MASTER)), _number(found.get(IFLA_LINK))
        self.kind = text(dict(attributes_in(found.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b""))
        counts = _STATISTICS.unpack_from(found.get(IFLA_STATS64, bytes(_STATISTICS.size)))
        self.received, self.sent = Traffic(*counts[0::2]), Traffic(*counts[1::2])


class Traffic:
    """What went through a link in one direction since it exists: numbers of `packets`, `bytes`, `errors`, `dropped`."""

    __slots__ = ("bytes", "dropped", "errors", "packets")

    def __init__(self, packets: int, bytes: int, errors: int, dropped: int) -> None:
        self.packets, self.bytes, self.errors, self.dropped = packets, bytes, errors, dropped


class Address:
    """An address of a link: `index` of the link and `interface`, address and prefix length as in "192.0.2.1/24".

    `lasting`: it was given to the link for good, and is not one for the link alone; `description`: all that was said
    when it was given, but for the link (peer, broadcast address, scope, …), as `copy_address` takes it.
    """

    __slots__ = ("description", "index", "interface", "lasting")

    def __init__(self, body: bytes) -> None:
        family, prefix, flags, scope, self.index = _ADDRESS.unpack_from(body)
        self.lasting = bool(flags & IFA_F_PERMANENT) and scope == RT_SCOPE_UNIVERSE
        found = dict(attributes_in(body, _ADDRESS.size))
        self.interface = f"{_socket.inet_ntop(family, found.get(IFA_LOCAL) or found[IFA_ADDRESS])}/{prefix}"
        kinds = (IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_RT_PRIORITY)
        asked = [attribute(kind, found[kind]) for kind in kinds if kind in found]
        asked.append(_u32(IFA_FLAGS, _number(found.get(IFA_FLAGS)) & _IFA_F_ASKED))
        self.description = family, prefix, scope, b"".join(asked)


class Route:
    """A route: `destination` as in "192.0.2.0/24", `gateway` or "", `index` of the link it leaves by or 0, `table`."""

    __slots__ = ("destination", "gateway", "index", "table")

    def __init__(self, body: bytes) -> None:
        family, prefix, _, _, table, *_ = _ROUTE.unpack_from(body)
        found = dict(attributes_in(body, _ROUTE.size))
        nowhere = bytes(4 if family == _socket.AF_INET else 16)
        self.destination = f"{_socket.inet_ntop(family, found.get(RTA_DST, nowhere))}/{prefix}"
        self.gateway = _socket.inet_ntop(family, found[RTA_GATEWAY]) if RTA_GATEWAY in found else ""
        self.index, self.table = _number(found.get(RTA_OIF)), _number(found.get(RTA_TABLE)) or table


class RouteSocket(NetlinkSocket):
    """A socket that configures the network namespace it was opened in."""

    def __init__(self, fileno: int = -1) -> None:
        super().__init__(NETLINK_ROUTE, fileno)

    def links(self) -> list[Link]:
        """All network devices of the namespace."""
        return [Link(body) for body in self.dump(Message("RTM_GETLINK", RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)))]

    def link(self, link: str | int) -> Link:
        """One device, by name or index; raises `KernelError` (ENODEV)."""
        return Link(self.ask(_link_request("RTM_GETLINK", RTM_GETLINK, link)))

    def find_link(self, name: str) -> Link | None:
        """One device by name, or None."""
        try:
            return self.link(name)
        except KernelError as error:
            if error.errno != errno.ENODEV:
                raise
            return None

    def addresses(self) -> list[Address]:
        """All addresses of the namespace's devices."""
        return [Address(body) for body in self.dump(Message("RTM_GETADDR", RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)))]

    def routes(self, family: int = _socket.AF_INET) -> list[Route]:
        """The routes of all tables."""
        request = Message("RTM_GETROUTE", RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))
        return [Route(body) for body in self.dump(request)]


def new_bridge(name: str, *, mac: str = "", mtu: int = 0, up: bool = True) -> Message:
    """Creates a bridge. Without `mac` (as in "02:42:ac:12:00:01") it has its ports' lowest, and changes with them."""
    described = nest(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"bridge"))
    return _new_link(name, _named(name, mac, mtu) + described, up)


def new_veth(
    name: str,
    peer: str,
    *,
    netns: int,
    bridge: int = 0,
    mac: str = "",
    peer_mac: str = "",
    mtu: int = 0,
    up: bool = True,
) -> Message:
    """Creates a pair of connected devices: `name` here, attached to the bridge of that index, and `peer` in the network
    namespace of descriptor `netns`."""
    inside = _header(0, None) + _named(peer, peer_mac, mtu) + _u32(IFLA_NET_NS_FD, netns)
    pair = nest(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, inside))
    master = _u32(IFLA_MASTER, bridge) if bridge else b""
    described = nest(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, b"veth"), pair)
    return _new_link(name, _named(name, mac, mtu) + master + described, up)


def set_link(
    link: str | int,
    *,
    up: bool | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    group: int = 0,
    link_local: bool = True,
    hairpin: bool = False,
    netns: int = -1,
) -> Message:
    """Changes what is given of a link.

    `master` is the index of the bridge to attach it to, 0 detaches it. Without `link_local`, which must be said before
    the link goes up, it gives itself no IPv6 address. With `hairpin` its bridge may send a frame back out of it that
    came in by it. `netns`: a descriptor of the network namespace that it goes to, without its addresses, and down.
    """
    changes = _named(name, mac, mtu)
    changes += _u32(IFLA_NET_NS_FD, netns) if netns >= 0 else b""
    changes += b"" if link_local or not _HAS_IPV6 else _NO_LINK_LOCAL
    changes += b"" if master is None else _u32(IFLA_MASTER, master)
    changes += _u32(IFLA_GROUP, group) if group else b""
    changes += _HAIRPIN if hairpin else b""
    return _link_request("RTM_NEWLINK", RTM_NEWLINK, link, changes, up)


def delete_link(link: str | int) -> Message:
    """Deletes a link (of a veth: both ends)."""
    return _link_request("RTM_DELLINK", RTM_DELLINK, link)


def delete_group(group: int) -> Message:
    """Deletes all links of a group at once, which takes the kernel little longer than deleting one."""
    return Message("RTM_DELLINK", RTM_DELLINK, _header(0, None) + _u32(IFLA_GROUP, group), subject=f"group {group}")


def add_address(index: int, interface: str) -> Message:
    """Gives the link of that index an address, as in "192.0.2.1/24"; no error if it has it already."""
    return Message(
        "RTM_NEWADDR",
        RTM_NEWADDR,
        _address(index, interface),
        NLM_F_CREATE | NLM_F_REPLACE,
        f"{interface} on link {index}",
    )


def copy_address(index: int, address: Address) -> Message:
    """Gives the link of that index an address as another one has or had it."""
    family, prefix, scope, attributes = address.description
    body = _ADDRESS.pack(family, prefix, 0, scope, index) + attributes
    subject = f"{address.interface} on link {index}"
    return Message("RTM_NEWADDR", RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE, subject)


def delete_address(index: int, interface: str) -> Message:
    """Takes an address from a link."""
    return Message("RTM_DELADDR", RTM_DELADDR, _address(index, interface), subject=f"{interface} on link {index}")


def add_route(destination: str, gateway: str = "", index: int = 0) -> Message:
    """Adds a route ("0.0.0.0/0" is the default route) by a gateway, by the link of that index, or both; replaces one to
    the same destination."""
    body, subject = _route(destination, gateway, index)
    return Message("RTM_NEWROUTE", RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_REPLACE, subject)


def delete_route(destination: str, gateway: str = "", index: int = 0) -> Message:
    """Takes a route away."""
    body, subject = _route(destination, gateway, index)
    return Message("RTM_DELROUTE", RTM_DELROUTE, body, subject=subject)


def _new_link(name: str, attributes: bytes, up: bool) -> Message:
    return Message("RTM_NEWLINK", RTM_NEWLINK, _header(0, up or None) + attributes, NLM_F_CREATE | NLM_F_EXCL, name)


def _link_request(call: str, kind: int, link: str | int, changes: bytes = b"", up: bool | None = None) -> Message:
    index, named = (0, attribute(IFLA_IFNAME, _string(link))) if isinstance(link, str) else (link, b"")
    return Message(call, kind, _header(index, up) + named + changes, subject=str(link))


def _header(index: int, up: bool | None) -> bytes:
    """struct ifinfomsg; `up` None leaves the state as it is."""
    return _LINK.pack(_socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)


def _named(name: str, mac: str, mtu: int) -> bytes:
    """The attributes that every kind of link has, those that are given."""
    attributes = attribute(IFLA_IFNAME, _string(name)) if name else b""
    attributes += attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b""
    return attributes + (_u32(IFLA_MTU, mtu) if mtu else b"")


def _address(index: int, interface: str) -> bytes:
    host, _, prefix = interface.partition("/")
    family, packed = _packed(host)
    body = _ADDRESS.pack(family, int(prefix), 0, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return body + (attribute(IFA_BROADCAST, _broadcast(packed, int(prefix))) if family == _socket.AF_INET else b"")


def _broadcast(address: bytes, prefix: int) -> bytes:
    return (int.from_bytes(address, "big") | (1 << (32 - prefix)) - 1).to_bytes(4, "big")


def _route(destination: str, gateway: str, index: int) -> tuple[bytes, str]:
    host, _, prefix = destination.partition("/")
    family, packed = _packed(host)
    scope = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
    body = _ROUTE.pack(family, int(prefix), 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
    body += attribute(RTA_DST, packed) if int(prefix) else b""
    body += attribute(RTA_GATEWAY, _packed(gateway)[1]) if gateway else b""
    body += _u32(RTA_OIF, index) if index else b""
    return body, f"{destination} via {gateway or index}"


def _packed(address: str) -> tuple[int, bytes]:
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    return family, _socket.inet_pton(family, address)


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def _number(value: bytes | None) -> int:
    return int(_U32.unpack(value)[0]) if value else 0


def _string(value: str | int) -> bytes:
    return str(value).encode() + b"\0"
