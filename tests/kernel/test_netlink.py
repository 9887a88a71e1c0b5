"""Links, addresses and routes of a network namespace, as `ip` sees them."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.namespace import network_namespace, new_network_namespace
from cutaway.kernel.netlink.route import (
    RouteSocket,
    add_address,
    add_route,
    delete_address,
    delete_group,
    delete_link,
    delete_route,
    new_bridge,
    new_veth,
    set_link,
)


class Namespace:
    """A network namespace, and an rtnetlink socket in it."""

    def __init__(self) -> None:
        with new_network_namespace() as self.netns:
            self.route = RouteSocket()

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        with network_namespace(self.netns):
            listed = subprocess.run(["ip", "-json", "-details", *arguments], capture_output=True, check=True).stdout
        found: list[dict[str, Any]] = json.loads(listed or "[]")
        return found

    def close(self) -> None:
        self.route.close()
        os.close(self.netns)


@pytest.fixture
def here() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


@pytest.fixture
def there() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


def test_a_new_namespace_has_only_loopback_and_the_thread_is_back() -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with new_network_namespace() as netns:
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert os.fstat(netns).st_ino == os.stat("/proc/thread-self/ns/net").st_ino != before
    os.close(netns)
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_a_thread_comes_back_from_a_namespace_whatever_happens(here: Namespace) -> None:
    before = os.stat("/proc/thread-self/ns/net").st_ino
    with pytest.raises(ZeroDivisionError), network_namespace(here.netns):
        raise ZeroDivisionError
    with open("/dev/null") as no_namespace, pytest.raises(KernelError), network_namespace(no_namespace.fileno()):
        pass
    assert os.stat("/proc/thread-self/ns/net").st_ino == before


def test_a_veth_connects_two_namespaces_by_a_bridge(here: Namespace, there: Namespace) -> None:
    here.route.transact(new_bridge("br0", mac="02:42:0a:00:00:01", mtu=1400))
    bridge = here.route.link("br0").index
    here.route.transact(
        new_veth("cable", "eth0", netns=there.netns, bridge=bridge, peer_mac="02:42:0a:00:00:02", mtu=1400, up=False),
        set_link("cable", link_local=False, hairpin=True),
        set_link("cable", up=True),
    )
    there.route.transact(set_link("eth0", up=True))

    (seen,) = here.ip("link", "show", "cable")
    assert (seen["master"], seen["mtu"], seen["operstate"], seen["inet6_addr_gen_mode"]) == ("br0", 1400, "UP", "none")
    assert seen["linkinfo"]["info_slave_data"]["hairpin"] is True
    (peer,) = there.ip("link", "show", "eth0")
    assert (peer["address"], peer["mtu"], peer["operstate"]) == ("02:42:0a:00:00:02", 1400, "UP")

    cable, inside = here.route.link("cable"), there.route.link("eth0")
    assert (cable.kind, cable.master, cable.up, cable.peer) == ("veth", bridge, True, inside.index)
    assert (inside.mac, inside.mtu, inside.loopback) == ("02:42:0a:00:00:02", 1400, False)
    assert {link.name: link.kind for link in here.route.links()} == {"lo": "", "br0": "bridge", "cable": "veth"}


def test_a_link_can_be_changed(here: Namespace) -> None:
    here.route.transact(new_bridge("br0"), new_bridge("br1"))
    here.route.transact(
        set_link(here.route.link("br0").index, name="moved", mac="02:00:00:00:00:07", mtu=1300, up=False)
    )
    moved = here.route.link("moved")
    assert (moved.mac, moved.mtu, moved.up) == ("02:00:00:00:00:07", 1300, False)
    here.route.transact(delete_link(moved.index))
    assert here.route.find_link("moved") is None
    assert here.route.find_link("br1") is not None


def test_links_of_a_group_go_together(here: Namespace) -> None:
    here.route.transact(*(new_bridge(f"br{n}") for n in range(5)))
    here.route.transact(*(set_link(f"br{n}", group=77) for n in range(4)))
    assert here.route.link("br3").group == 77
    here.route.transact(delete_group(77))
    assert [link.name for link in here.route.links()] == ["lo", "br4"]


def test_addresses_and_routes(here: Namespace) -> None:
    here.route.transact(set_link(1, up=True), new_bridge("br0"))
    index = here.route.link("br0").index
    for _ in range(2):
        here.route.transact(
            add_address(index, "192.0.2.1/24"),
            add_address(index, "fd00::1/64"),
            add_route("0.0.0.0/0", "192.0.2.254"),
            add_route("198.51.100.0/24", index=index),
        )
    (seen,) = here.ip("-4", "address", "show", "br0")
    (address,) = seen["addr_info"]
    assert (address["local"], address["prefixlen"], address["broadcast"]) == ("192.0.2.1", 24, "192.0.2.255")
    routes = {route["dst"]: route.get("gateway", route["dev"]) for route in here.ip("-4", "route")}
    assert routes == {"default": "192.0.2.254", "192.0.2.0/24": "br0", "198.51.100.0/24": "br0"}

    listed = {address.interface for address in here.route.addresses() if address.index == index}
    assert {"192.0.2.1/24", "fd00::1/64"} <= listed
    found = {(route.destination, route.gateway, route.index) for route in here.route.routes()}
    assert {("0.0.0.0/0", "192.0.2.254", index), ("198.51.100.0/24", "", index)} <= found

    here.route.transact(
        delete_route("0.0.0.0/0", "192.0.2.254"), delete_route("198.51.100.0/24", index=index),
        delete_address(index, "192.0.2.1/24"),
    )  # fmt: skip
    assert here.ip("-4", "route") == []


def test_traffic_is_counted(here: Namespace) -> None:
    here.route.transact(set_link(1, up=True))
    with network_namespace(here.netns):
        receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with receiver, sender:
        receiver.bind(("127.0.0.1", 0))
        sender.sendto(bytes(1000), receiver.getsockname())
    loopback = here.route.link("lo")
    for traffic in (loopback.received, loopback.sent):
        assert (traffic.packets, traffic.bytes, traffic.errors, traffic.dropped) == (1, 1000 + 20 + 8, 0, 0)


def test_the_first_refusal_is_told_and_the_others_are_carried_out(here: Namespace) -> None:
    with pytest.raises(FileExistsError, match=r"RTM_NEWLINK\(br0\): EEXIST: File exists") as caught:
        here.route.transact(new_bridge("br0"), new_bridge("br0"), new_bridge("br1"), delete_link("gone"))
    assert isinstance(caught.value, KernelError)
    assert caught.value.errno == errno.EEXIST
    assert here.route.find_link("br1")


def test_the_kernels_own_words_are_passed_on(here: Namespace) -> None:
    with pytest.raises(
        KernelError, match=r"RTM_NEWROUTE\(.* via 192\.0\.2\.1\): ENETUNREACH: .*: Nexthop has invalid gateway"
    ):
        here.route.transact(add_route("0.0.0.0/0", "192.0.2.1"))
    with pytest.raises(KernelError, match=r"RTM_GETLINK\(nowhere\): ENODEV"):
        here.route.link("nowhere")


def test_a_socket_belongs_to_the_namespace_it_was_opened_in(here: Namespace, there: Namespace) -> None:
    with network_namespace(there.netns):
        here.route.transact(new_bridge("br0"))
    assert here.route.find_link("br0")
    assert not there.route.find_link("br0")


def test_many_requests_fit_one_datagram(here: Namespace) -> None:
    here.route.transact(*(add_address(1, f"10.{n >> 8}.{n & 255}.1/32") for n in range(6000)))
    assert len(here.route.addresses()) == 6000
