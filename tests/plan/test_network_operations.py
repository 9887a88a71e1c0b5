"""Containers' networks as containers see them: who reaches whom, under which address, and what is left afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.plan.docker import AllowForwarding
from cutaway.plan.firewall import AddNetworkToTable, CreateTable, MapPorts, unmap_ports
from cutaway.plan.network import (
    AwaitCarrier,
    BringUpLoopback,
    ConfigureInterface,
    CreateBridge,
    CreateNetworkNamespace,
    CreateVeth,
    EnableForwarding,
    NameNetworkNamespace,
    delete_veths,
)
from cutaway.plan.operation import Context, Operation, dump, load
from tests.dockerd import Docker
from tests.host import ADDRESS, OUTSIDE, OUTSIDE_ADDRESS

PATIENCE = 0.4
"""Seconds after which a packet that is not to arrive is taken for dropped."""
LONG = 5.0
"""Seconds in which one arrives that is to, however busy the machine is."""
TABLE = f"cutaway-{os.getpid()}"


@contextmanager
def applied(*operations: Operation, context: Context | None = None) -> Iterator[Context]:
    """The operations, done; at the end they are undone as after a crash: twice, from what was written down of them."""
    context = context or Context()
    try:
        for operation in operations:
            operation.apply(context)
        yield context
    finally:
        for operation in [*reversed(load(dump(operations))), *reversed(operations)]:
            operation.undo(Context())
        for descriptor in context.descriptors.values():
            os.close(descriptor)


class Network:
    """A bridge, and its network in the table."""

    def __init__(self, number: int, internal: bool = False) -> None:
        self.bridge, self.prefix = f"ct{secrets.token_hex(5)}", f"10.213.{number}"
        self.gateway = f"{self.prefix}.1"
        self.operations: list[Operation] = [
            CreateBridge(self.bridge, f"{self.gateway}/24", f"02:42:0a:d5:{number:02x}:01"),
            EnableForwarding(self.bridge),
            AddNetworkToTable(TABLE, self.bridge, f"{self.prefix}.0/24", internal),
            AllowForwarding(self.bridge),
        ]

    def endpoint(self, number: int) -> list[Operation]:
        """What connects a container."""
        name, address = secrets.token_hex(5), f"{self.prefix}.{number}"
        return [
            CreateNetworkNamespace(name),
            CreateVeth(f"vt{name}", "eth0", name, self.bridge, f"02:42:0a:d5:00:{number:02x}"),
            BringUpLoopback(name),
            ConfigureInterface("eth0", name, f"{address}/24", self.gateway),
            AwaitCarrier([self.bridge, f"vt{name}"]),
        ]


class Box:
    """A container's network namespace; `netns` -1 is the host's own."""

    def __init__(self, netns: int = -1, address: str = "") -> None:
        self.netns, self.address = netns, address

    def open(self, kind: int) -> socket.socket:
        with ExitStack() as inside:
            if self.netns >= 0:
                inside.enter_context(network_namespace(self.netns))
            return socket.socket(socket.AF_INET, kind)

    def listen(self, port: int, kind: int = socket.SOCK_STREAM, address: str = "") -> socket.socket:
        listener = self.open(kind)
        listener.bind((address, port))
        if kind == socket.SOCK_STREAM:
            listener.listen()
        return listener

    def is_kept_from(self, address: str, port: int, listener: socket.socket) -> bool:
        """Whether nothing that it sends arrives."""
        return not self.reaches(address, port, listener, PATIENCE)

    def reaches(self, address: str, port: int, listener: socket.socket, patience: float = LONG) -> str:
        """Sends a byte and gets one back: the address that the listener saw it come from, "" where it saw none."""
        listener.settimeout(patience)
        with self.open(listener.type) as client:
            client.settimeout(patience)
            try:
                client.connect((address, port))
                client.send(b"?")
                answering, origin = _accept(listener)
                with answering:
                    answering.sendto(b"!", origin) if listener.type == socket.SOCK_DGRAM else answering.send(b"!")
                return origin[0] if client.recv(1) == b"!" else ""
            except (TimeoutError, ConnectionRefusedError, OSError) as error:
                if isinstance(error, TimeoutError) or error.errno in (errno.ECONNREFUSED, errno.ENETUNREACH):
                    return ""
                raise


def _accept(listener: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    if listener.type == socket.SOCK_STREAM:
        return listener.accept()
    _, origin = listener.recvfrom(1)
    return listener.dup(), origin


HOST = Box()


class Wiring:
    """Makes networks and boxes for one test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def network(self, number: int = 1, internal: bool = False) -> Network:
        network = Network(number, internal)
        self._stack.enter_context(applied(*network.operations))
        return network

    def box(self, network: Network, number: int = 2) -> Box:
        context = self._stack.enter_context(applied(*network.endpoint(number)))
        return Box(context.descriptors["netns"], f"{network.prefix}.{number}")

    def publish(self, *ports: list[str | int]) -> None:
        self._stack.enter_context(applied(MapPorts(TABLE, list(ports))))

    def outside(self) -> Box:
        netns = os.open("/run/netns/outside", os.O_RDONLY)
        self._stack.callback(os.close, netns)
        return Box(netns, OUTSIDE_ADDRESS)


@pytest.fixture
def wire() -> Iterator[Wiring]:
    with applied(CreateTable(TABLE)), ExitStack() as stack:
        yield Wiring(stack)


KINDS = pytest.mark.parametrize(("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])


def test_a_container_reaches_its_own_loopback(wire: Wiring) -> None:
    box = wire.box(wire.network())
    with box.listen(80) as listener:
        assert box.reaches("127.0.0.1", 80, listener) == "127.0.0.1"


def test_containers_of_one_network_see_each_other_under_their_own_addresses(wire: Wiring) -> None:
    network = wire.network()
    one, two = wire.box(network, 2), wire.box(network, 3)
    with two.listen(80) as listener:
        assert one.reaches(two.address, 80, listener) == one.address


def test_the_host_reaches_a_container_and_is_reached(wire: Wiring) -> None:
    network = wire.network()
    box = wire.box(network)
    with box.listen(80) as listener:
        assert HOST.reaches(box.address, 80, listener) == network.gateway
    with HOST.listen(8000, address=network.gateway) as listener:
        assert box.reaches(network.gateway, 8000, listener) == box.address


def test_a_container_reaches_the_outside_under_the_hosts_address(wire: Wiring) -> None:
    box, outside = wire.box(wire.network()), wire.outside()
    with outside.listen(80) as listener:
        assert box.reaches(OUTSIDE_ADDRESS, 80, listener) == ADDRESS


def test_the_outside_reaches_no_port_that_is_not_published(wire: Wiring) -> None:
    network = wire.network()
    box, outside = wire.box(network), wire.outside()
    with neighbour_route(network), box.listen(80) as listener:
        assert outside.is_kept_from(box.address, 80, listener)


def test_containers_of_different_networks_do_not_reach_each_other(wire: Wiring) -> None:
    one, other = wire.box(wire.network(1)), wire.box(wire.network(2))
    with other.listen(80) as listener:
        assert one.is_kept_from(other.address, 80, listener)


def test_an_internal_network_is_closed_but_within(wire: Wiring) -> None:
    network = wire.network(internal=True)
    one, two, outside = wire.box(network, 2), wire.box(network, 3), wire.outside()
    with outside.listen(80) as listener:
        assert one.is_kept_from(OUTSIDE_ADDRESS, 80, listener)
    wire.publish(["tcp", "", 8080, two.address, 80])
    with two.listen(80) as listener:
        assert one.reaches(two.address, 80, listener) == one.address
        assert outside.is_kept_from(ADDRESS, 8080, listener)


@KINDS
def test_a_published_port_answers_everywhere(wire: Wiring, protocol: str, kind: int) -> None:
    network = wire.network(1)
    box, neighbour, stranger = wire.box(network, 2), wire.box(network, 3), wire.box(wire.network(2))
    outside = wire.outside()
    wire.publish([protocol, "", 8080, box.address, 80])
    with box.listen(80, kind) as listener:
        assert outside.reaches(ADDRESS, 8080, listener) == OUTSIDE_ADDRESS
        assert HOST.reaches(ADDRESS, 8080, listener)
        assert HOST.reaches("127.0.0.1", 8080, listener) == network.gateway
        assert neighbour.reaches(ADDRESS, 8080, listener) == network.gateway
        assert neighbour.reaches(network.gateway, 8080, listener) == network.gateway
        assert stranger.reaches(ADDRESS, 8080, listener) == stranger.address
        assert box.reaches(ADDRESS, 8080, listener)


def test_a_port_published_on_one_address_answers_there_only(wire: Wiring) -> None:
    box, outside = wire.box(wire.network()), wire.outside()
    wire.publish(["tcp", "127.0.0.1", 8080, box.address, 80], ["tcp", ADDRESS, 8081, box.address, 80])
    with box.listen(80) as listener:
        assert HOST.reaches("127.0.0.1", 8080, listener)
        assert outside.is_kept_from(ADDRESS, 8080, listener)
        assert outside.reaches(ADDRESS, 8081, listener)
        assert HOST.is_kept_from("127.0.0.1", 8081, listener)


def test_a_withdrawn_port_no_longer_answers(wire: Wiring) -> None:
    box, outside = wire.box(wire.network()), wire.outside()
    published = MapPorts(TABLE, [["tcp", "", 8080, box.address, 80], ["tcp", "", 8081, box.address, 80]])
    with box.listen(80) as listener:
        published.apply(Context())
        assert outside.reaches(ADDRESS, 8080, listener)
        unmap_ports([published, published])
        assert outside.is_kept_from(ADDRESS, 8080, listener) and outside.is_kept_from(ADDRESS, 8081, listener)


def test_who_sends_all_the_time_is_heard_by_whoever_has_the_port_now(wire: Wiring) -> None:
    network, outside = wire.network(), wire.outside()
    boxes = wire.box(network, 2), wire.box(network, 3)
    with outside.open(socket.SOCK_DGRAM) as sender:
        sender.connect((ADDRESS, 8080))
        sender.send(b"nobody listens")
        for box in boxes:
            with (
                applied(MapPorts(TABLE, [["udp", "", 8080, box.address, 80]])),
                box.listen(80, socket.SOCK_DGRAM) as listener,
            ):
                with contextlib.suppress(ConnectionRefusedError):  # what was said of the datagram before
                    sender.send(b"who has the port?")
                sender.send(b"and now?")
                assert listener.recv(20)


def test_a_port_that_is_taken_publishes_nothing_and_stays_anothers(wire: Wiring) -> None:
    network = wire.network()
    box, other, outside = wire.box(network, 2), wire.box(network, 3), wire.outside()
    wire.publish(["tcp", "", 8080, box.address, 80])
    late = MapPorts(TABLE, [["tcp", "", 8079, other.address, 80], ["tcp", "", 8080, other.address, 80]])
    with pytest.raises(FileExistsError, match=r"tcp \. 8080"):
        late.apply(Context())
    late.undo(Context())
    with box.listen(80) as listener, other.listen(80) as others:
        assert outside.reaches(ADDRESS, 8080, listener)
        assert outside.is_kept_from(ADDRESS, 8079, others)


def test_a_neighbour_does_not_reach_the_hosts_loopback(wire: Wiring) -> None:
    network = wire.network()
    box = wire.box(network)
    with network_namespace(box.netns):
        subprocess.run(["ip", "route", "delete", "local", "127.0.0.0/8", "dev", "lo", "table", "local"], check=True)
        subprocess.run(["ip", "route", "add", "127.0.0.9", "via", network.gateway], check=True)
    with HOST.listen(8000, socket.SOCK_DGRAM, "127.0.0.9") as listener, box.open(socket.SOCK_DGRAM) as client:
        listener.settimeout(PATIENCE)
        client.sendto(b"?", ("127.0.0.9", 8000))
        with pytest.raises(TimeoutError):
            listener.recv(1)


def test_the_hosts_own_firewall_decides(wire: Wiring) -> None:
    box, outside = wire.box(wire.network()), wire.outside()
    wire.publish(["tcp", "", 8080, box.address, 80])
    with box.listen(80) as listener, hosts_firewall():
        assert outside.is_kept_from(ADDRESS, 8080, listener)


def test_applied_again_operations_change_nothing(wire: Wiring) -> None:
    network = wire.network()
    box = wire.box(network)
    wire.publish(["tcp", "", 8080, box.address, 80])
    before = ruleset()
    for operation in (CreateTable(TABLE), *network.operations, MapPorts(TABLE, [["tcp", "", 8080, box.address, 80]])):
        operation.apply(Context())
    assert ruleset() == before
    with box.listen(80) as listener:
        assert HOST.reaches("127.0.0.1", 8080, listener)


def test_a_hundred_cables_are_deleted_at_once(wire: Wiring) -> None:
    network = wire.network()
    veths = [
        operation for n in range(2, 102) for operation in wired(wire, network, n) if isinstance(operation, CreateVeth)
    ]
    delete_veths([*veths, *veths])
    assert not {veth.name for veth in veths} & {name for _, name in socket.if_nameindex()}


def test_a_bridge_does_not_take_the_name_of_another_device() -> None:
    with pytest.raises(FileExistsError, match="uplink, which is a veth already"):
        CreateBridge("uplink", "10.213.9.1/24", "02:42:0a:d5:09:01").apply(Context())


def test_ip_netns_lists_a_containers_namespace() -> None:
    name = f"cutaway-test-{os.getpid()}-{secrets.token_hex(4)}"
    with applied(NameNetworkNamespace(name), context=Context(pid=os.getpid())):
        listed = subprocess.run(["ip", "-n", name, "-br", "link"], capture_output=True, text=True, check=True).stdout
        assert "uplink" in listed
    assert name not in os.listdir("/run/netns")


def wired(wire: Wiring, network: Network, number: int) -> list[Operation]:
    operations = network.endpoint(number)
    wire._stack.enter_context(applied(*operations))
    return operations


def ruleset() -> str:
    return subprocess.run(["nft", "-s", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


@contextmanager
def neighbour_route(network: Network) -> Iterator[None]:
    """The world outside sends what is for the containers' own addresses to the host."""
    route = [f"{network.prefix}.0/24", "via", ADDRESS]
    subprocess.run([*OUTSIDE, "ip", "route", "add", *route], check=True)
    yield
    subprocess.run([*OUTSIDE, "ip", "route", "delete", *route], check=True)


@contextmanager
def hosts_firewall() -> Iterator[None]:
    rules = "table inet admin { chain forward { type filter hook forward priority filter; policy drop; }; }"
    subprocess.run(["nft", rules], check=True)
    yield
    subprocess.run(["nft", "delete", "table", "inet", "admin"], check=True)


def test_beside_docker_both_reach_out_and_neither_reaches_the_other(wire: Wiring, docker: Docker) -> None:
    network = wire.network()
    one, two, outside = wire.box(network, 2), wire.box(network, 3), wire.outside()
    wire.publish(["tcp", "", 8080, one.address, 80])
    with docker_container(docker, "-p", "8090:80") as other:
        with outside.listen(80) as listener:
            assert one.reaches(OUTSIDE_ADDRESS, 80, listener) == ADDRESS
            assert other.reaches(OUTSIDE_ADDRESS, 80, listener) == ADDRESS
        with one.listen(80) as listener:
            assert two.reaches(one.address, 80, listener) == two.address
            assert outside.reaches(ADDRESS, 8080, listener) == OUTSIDE_ADDRESS
            assert other.reaches(ADDRESS, 8080, listener)
            assert other.is_kept_from(one.address, 80, listener)
        with other.listen(80) as listener:
            assert outside.reaches(ADDRESS, 8090, listener) == OUTSIDE_ADDRESS
            assert one.reaches(ADDRESS, 8090, listener)
        with other.listen(81) as listener:
            assert one.is_kept_from(other.address, 81, listener)


@pytest.mark.usefixtures("docker")
def test_dockers_tables_are_afterwards_as_before() -> None:
    before = ruleset()
    network = Network(1)
    with applied(CreateTable(TABLE), *network.operations):
        listed = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True, check=True).stdout
        assert f"-A FORWARD -i {network.bridge} -m comment --comment" in listed
        assert ruleset() != before
    assert ruleset() == before


@contextmanager
def docker_container(docker: Docker, *options: str) -> Iterator[Box]:
    name = docker("run", "-d", *options, "busybox", "sleep", "1000")
    try:
        pid, address = docker("inspect", "-f", "{{.State.Pid}} {{.NetworkSettings.IPAddress}}", name).split()
        with open(f"/proc/{pid}/ns/net") as netns:
            yield Box(netns.fileno(), address)
    finally:
        docker("rm", "-f", name)
