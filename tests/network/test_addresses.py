"""Subnets that do not get in the host's way, and addresses that are given out once."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from cutaway.network import addresses
from cutaway.network.errors import InvalidAddress, NoneLeft, SubnetOverlaps
from tests.host import ADDRESS

SUBNET = IPv4Network("10.9.8.0/29")


def test_a_network_without_subnet_gets_one_that_is_free() -> None:
    used = addresses.subnets_of_host()
    chosen = [addresses.choose_subnet(used)]
    chosen.append(addresses.choose_subnet([*used, *chosen]))
    assert [str(subnet) for subnet in chosen] == ["172.30.0.0/16", "172.29.0.0/16"]


def test_a_route_to_all_of_a_pool_leaves_the_other_pool() -> None:
    assert str(addresses.choose_subnet([IPv4Network("172.16.0.0/12")])) == "192.168.240.0/20"
    with pytest.raises(NoneLeft, match="--subnet"):
        addresses.choose_subnet([IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16")])


def test_a_subnet_of_the_host_is_refused() -> None:
    with pytest.raises(SubnetOverlaps, match=r"192\.0\.2\.0/25 overlaps 192\.0\.2\.0/24, which this host uses"):
        addresses.check_subnet(addresses.parse_subnet(f"{ADDRESS}/25"), addresses.subnets_of_host())


@pytest.mark.parametrize("text", ["172.30.0.0/33", "fd00::/64", "web", "172.30.0.0/31", "10.0.0.0/7", ""])
def test_a_subnet_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress, match="invalid subnet"):
        addresses.parse_subnet(text)


def test_addresses_are_given_out_in_turn_until_none_is_left() -> None:
    taken = {addresses.choose_gateway(SUBNET)}
    last = ""
    for _ in range(5):
        last = addresses.allocate(SUBNET, taken, after=last)
        taken.add(last)
    assert taken == {f"10.9.8.{n}" for n in range(1, 7)}
    with pytest.raises(NoneLeft, match=r"no address is free in 10\.9\.8\.0/29"):
        addresses.allocate(SUBNET, taken, after=last)


def test_an_address_that_was_given_back_comes_last() -> None:
    assert addresses.allocate(SUBNET, {"10.9.8.1"}, after="10.9.8.2") == "10.9.8.3"
    assert addresses.allocate(SUBNET, {"10.9.8.1"}, after="10.9.8.6") == "10.9.8.2"


def test_an_address_can_be_asked_for() -> None:
    assert addresses.allocate(SUBNET, {"10.9.8.1"}, wanted="10.9.8.5") == "10.9.8.5"
    with pytest.raises(NoneLeft, match="already in use"):
        addresses.allocate(SUBNET, {"10.9.8.1"}, wanted="10.9.8.1")
    for outside in ("10.9.8.0", "10.9.8.7", "10.9.9.1", "::1", "web"):
        with pytest.raises(InvalidAddress):
            addresses.allocate(SUBNET, set(), wanted=outside)


def test_addresses_come_from_the_range_of_the_network() -> None:
    subnet, within = IPv4Network("10.9.0.0/16"), IPv4Network("10.9.5.0/24")
    assert addresses.allocate(subnet, set(), within=within) == "10.9.5.0"


def test_the_hardware_address_follows_from_the_address() -> None:
    assert addresses.mac_address("172.17.0.2") == "02:42:ac:11:00:02"
