"""Subnets for networks, and addresses in them for containers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from cutaway.kernel.netlink.route import RouteSocket
from cutaway.network.errors import InvalidAddress, NoneLeft, SubnetOverlaps

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

SMALLEST_PREFIX, LARGEST_PREFIX = 30, 8
"""A network needs room for a gateway and a container."""


def parse_subnet(text: str) -> IPv4Network:
    """ "172.30.0.0/16", as Docker takes it: host bits may be set. Raises `InvalidAddress`."""
    try:
        subnet = IPv4Network(text, strict=False)
    except ValueError:
        raise InvalidAddress(
            f"invalid subnet {text}: it is an IPv4 address and a prefix length, 172.30.0.0/16"
        ) from None
    if not LARGEST_PREFIX <= subnet.prefixlen <= SMALLEST_PREFIX:
        raise InvalidAddress(
            f"invalid subnet {text}: its prefix length is not between {LARGEST_PREFIX} and {SMALLEST_PREFIX}"
        )
    return subnet


def subnets_of_host() -> list[IPv4Network]:
    """All subnets that this host has routes to, and so must not be given to containers."""
    with RouteSocket() as route:
        return [IPv4Network(found.destination) for found in route.routes() if not found.destination.endswith("/0")]


def check_subnet(subnet: IPv4Network, used: Iterable[IPv4Network]) -> None:
    """Raises `SubnetOverlaps` where the subnet shares addresses with one in use."""
    for other in used:
        if subnet.overlaps(other):
            raise SubnetOverlaps(subnet, other)


def choose_subnet(used: Iterable[IPv4Network]) -> IPv4Network:
    """A subnet for a network that was given none; raises `NoneLeft`."""
    used = list(used)
    for subnet in _pools():
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise NoneLeft("no private subnet is free on this host: give the network one with --subnet")


def _pools() -> Iterator[IPv4Network]:
    """From the top down, since Docker takes the same ones from the bottom up. 172.31.0.0/16 is a cloud provider's."""
    yield from reversed(list(IPv4Network("172.16.0.0/12").subnets(new_prefix=16))[2:-1])
    yield from reversed(list(IPv4Network("192.168.0.0/16").subnets(new_prefix=20)))


def choose_gateway(subnet: IPv4Network, wanted: str = "") -> str:
    """The bridge's own address: the subnet's first unless another is wanted. Raises `InvalidAddress`."""
    return _checked(subnet, wanted) if wanted else str(subnet[1])


def allocate(
    subnet: IPv4Network, taken: Container[str], wanted: str = "", after: str = "", within: IPv4Network | None = None
) -> str:
    """An address that is not in `taken` (which has the gateway's): `wanted`, or the next one free.

    `after` is the address given out last: the search starts behind it, so that it takes equally long in a full network
    and an address is not soon another's. `within` is the part of the subnet to choose from. Raises `InvalidAddress`
    where `wanted` is not in the subnet, `NoneLeft` where it or all are taken.
    """
    if wanted:
        if _checked(subnet, wanted) in taken:
            raise NoneLeft(f"address {wanted} is already in use")
        return wanted
    pool = within or subnet
    first = int(pool.network_address)
    start = int(IPv4Address(after)) - first + 1 if after and IPv4Address(after) in pool else 0
    for n in range(pool.num_addresses):
        address = IPv4Address(first + (start + n) % pool.num_addresses)
        if str(address) not in taken and address not in (subnet.network_address, subnet.broadcast_address):
            return str(address)
    raise NoneLeft(f"no address is free in {pool}")


def mac_address(address: str) -> str:
    """The hardware address that goes with an address, as Docker derives it."""
    return "02:42:" + IPv4Address(address).packed.hex(":")


def _checked(subnet: IPv4Network, wanted: str) -> str:
    try:
        address = IPv4Address(wanted)
    except ValueError:
        raise InvalidAddress(f"invalid IPv4 address {wanted}") from None
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        raise InvalidAddress(f"address {wanted} is not one of a container in {subnet}")
    return str(address)
