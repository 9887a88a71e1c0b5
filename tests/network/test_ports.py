"""Host ports for published ports, as Docker gives them out."""

from __future__ import annotations

import socket

import pytest

from cutaway.network.errors import InvalidAddress, NoneLeft, PortTaken
from cutaway.network.ports import EPHEMERAL, Published, Wanted, allocate
from tests.host import ADDRESS


def test_ports_that_are_asked_for_are_given() -> None:
    wanted = [
        Wanted("tcp", 80, "", "8080"),
        Wanted("udp", 80, "0.0.0.0", "8080"),
        Wanted("tcp", 81, "127.0.0.1", "8081"),
    ]
    assert allocate(wanted, {}) == [
        Published("tcp", "", 8080, 80),
        Published("udp", "", 8080, 80),
        Published("tcp", "127.0.0.1", 8081, 81),
    ]


def test_a_port_without_a_host_port_gets_a_free_one() -> None:
    one, two = allocate([Wanted("tcp", 80), Wanted("tcp", 80, host_port="0")], {})
    assert one.host_port in EPHEMERAL and two.host_port in EPHEMERAL and one.host_port != two.host_port


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", ADDRESS])
def test_a_port_that_a_process_listens_on_is_taken(kind: socket.SocketKind, address: str) -> None:
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        port = listener.getsockname()[1]
        protocol = "tcp" if kind == socket.SOCK_STREAM else "udp"
        with pytest.raises(PortTaken, match=rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated"):
            allocate([Wanted(protocol, 80, "", str(port))], {})


def test_a_port_whose_connections_are_closing_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()  # who closes first, waits
    assert allocate([Wanted("tcp", 80, "", str(port))], {})


@pytest.mark.parametrize(
    ("published", "wanted", "conflicts"),
    [("", "", True), ("", "127.0.0.1", True), ("127.0.0.1", "", True), ("127.0.0.1", ADDRESS, False)],
)
def test_a_published_port_is_taken_on_its_addresses(published: str, wanted: str, conflicts: bool) -> None:
    request = Wanted("tcp", 80, wanted, "8080")
    if conflicts:
        with pytest.raises(PortTaken):
            allocate([request], {("tcp", 8080): {published}})
    else:
        assert allocate([request], {("tcp", 8080): {published}, ("udp", 8080): {""}})


def test_a_port_asked_for_twice_is_taken_the_second_time() -> None:
    with pytest.raises(PortTaken):
        allocate([Wanted("tcp", 80, "", "8080"), Wanted("tcp", 81, "127.0.0.1", "8080")], {})


def test_of_a_range_the_first_free_port_is_given() -> None:
    assert allocate([Wanted("tcp", 80, "", "8080-8082")], {("tcp", 8080): {""}})[0].host_port == 8081
    with pytest.raises(NoneLeft, match=r"0\.0\.0\.0:8080-8081/tcp"):
        allocate([Wanted("tcp", 80, "", "8080-8081")], {("tcp", port): {""} for port in (8080, 8081)})


@pytest.mark.parametrize("address", ["198.51.100.1", "::1"])
def test_an_address_that_is_not_the_hosts_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress, match="cannot publish on"):
        allocate([Wanted("tcp", 80, address, "8080")], {})
