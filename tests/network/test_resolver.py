"""The name server of a container, asked from inside its network namespace, as the C library asks it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord  # type: ignore[import-untyped]

from cutaway.kernel.netlink.namespace import network_namespace
from cutaway.network import resolver as resolver_module
from cutaway.network.names import Zone
from cutaway.network.resolver import Resolver
from cutaway.plan.firewall import RedirectNames
from cutaway.plan.network import BringUpLoopback, CreateNetworkNamespace
from cutaway.plan.operation import Context

SERVER = ("127.0.0.11", 53)
PATIENCE = 5.0


@pytest.fixture
def netns() -> Iterator[int]:
    context = Context()
    for operation in (CreateNetworkNamespace("names"), BringUpLoopback("names"), RedirectNames("names")):
        operation.apply(context)
    yield context.descriptors["netns"]
    for descriptor in context.descriptors.values():
        os.close(descriptor)


@pytest.fixture
def zone() -> Zone:
    zone = Zone("backend")
    zone.add("10.213.1.2", ["web", "0123456789ab", "www"])
    zone.add("10.213.1.3", ["DB", "www"])
    return zone


def ask(netns: int, question: DNSRecord, kind: socket.SocketKind = socket.SOCK_DGRAM) -> DNSRecord:
    with network_namespace(netns):
        client = socket.socket(socket.AF_INET, kind)
    with client:
        client.settimeout(PATIENCE)
        client.connect(SERVER)
        packed = question.pack()
        if kind == socket.SOCK_DGRAM:
            client.send(packed)
            return DNSRecord.parse(client.recv(65535))
        client.send(len(packed).to_bytes(2, "big") + packed)
        with client.makefile("rb") as stream:
            return DNSRecord.parse(stream.read(int.from_bytes(stream.read(2), "big")))


def answers(reply: DNSRecord) -> set[str]:
    return {str(record.rdata) for record in reply.rr}


def serve(
    netns: int, zones: list[Zone], questions: Callable[[Resolver], Awaitable[None]], upstreams: list[str] | None = None
) -> None:
    async def main() -> None:
        resolver = Resolver(zones, upstreams or [])
        await resolver.start(netns)
        try:
            await questions(resolver)
        finally:
            resolver.stop()

    asyncio.run(main())


def asked(netns: int, zones: list[Zone], name: str, kind: str = "A") -> DNSRecord:
    replies: list[DNSRecord] = []

    async def one(_: Resolver) -> None:
        replies.append(await asyncio.to_thread(ask, netns, DNSRecord.question(name, kind)))

    serve(netns, zones, one)
    return replies[0]


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("web", {"10.213.1.2"}),
        ("WEB.backend.", {"10.213.1.2"}),
        ("0123456789ab", {"10.213.1.2"}),
        ("db", {"10.213.1.3"}),
        ("www", {"10.213.1.2", "10.213.1.3"}),
    ],
)
def test_neighbours_answer_to_their_names(netns: int, zone: Zone, name: str, addresses: set[str]) -> None:
    assert answers(asked(netns, [zone], name)) == addresses


def test_names_are_answered_over_tcp_too(netns: int, zone: Zone) -> None:
    async def two(_: Resolver) -> None:
        reply = await asyncio.to_thread(ask, netns, DNSRecord.question("web"), socket.SOCK_STREAM)
        assert answers(reply) == {"10.213.1.2"}

    serve(netns, [zone], two)


def test_an_address_answers_to_its_name(netns: int, zone: Zone) -> None:
    assert answers(asked(netns, [zone], "2.1.213.10.in-addr.arpa", "PTR")) == {"web.backend."}


def test_a_neighbour_has_no_ipv6_address_and_exists(netns: int, zone: Zone) -> None:
    reply = asked(netns, [zone], "web", "AAAA")
    assert (reply.header.rcode, reply.rr) == (RCODE.NOERROR, [])


def test_who_left_is_no_longer_known(netns: int, zone: Zone) -> None:
    zone.remove("10.213.1.2")
    zone.remove("10.213.1.2")
    assert asked(netns, [zone], "web").header.rcode == RCODE.SERVFAIL
    assert answers(asked(netns, [zone], "www")) == {"10.213.1.3"}


def test_a_container_may_use_port_53_itself(netns: int, zone: Zone) -> None:
    async def bind(_: Resolver) -> None:
        with network_namespace(netns):
            own = socket.create_server(("0.0.0.0", 53))
        own.close()

    serve(netns, [zone], bind)


def test_nonsense_is_survived(netns: int, zone: Zone) -> None:
    async def questions(_: Resolver) -> None:
        with network_namespace(netns):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            looping_name = bytes((0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + b"\xc0\x0c\0\1\0\1"
            for nonsense in (b"", b"\0", os.urandom(40), bytes(12), looping_name, b"\xff" * 4000):
                client.sendto(nonsense, SERVER)
            reply = await asyncio.to_thread(ask, netns, DNSRecord.question("web"))
        assert answers(reply) == {"10.213.1.2"}

    serve(netns, [zone], questions)


class Upstream:
    """A resolver on the host's loopback, which first sends answers that it should not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.bind(("127.0.0.1", 0))
        self.port = self.datagrams.getsockname()[1]
        self.streams = socket.create_server(("127.0.0.1", self.port))
        monkeypatch.setattr(resolver_module, "DNS_PORT", self.port)
        for listener in (self.datagrams, self.streams):
            listener.settimeout(PATIENCE)

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.datagrams.close()
        self.streams.close()

    def answer_datagram(self) -> DNSRecord:
        query, origin = self.datagrams.recvfrom(4096)
        asked = DNSRecord.parse(query)
        forgeries = (
            _reply(DNSRecord.question("elsewhere"), "203.0.113.9", asked.header.id),
            _reply(asked, "203.0.113.9", asked.header.id ^ 1),
        )
        for forged in forgeries:
            self.datagrams.sendto(forged, origin)
        self.datagrams.sendto(_reply(asked, "203.0.113.1", asked.header.id), origin)
        return asked

    def answer_stream(self) -> None:
        connection, _ = self.streams.accept()
        with connection, connection.makefile("rb") as stream:
            asked = DNSRecord.parse(stream.read(int.from_bytes(stream.read(2), "big")))
            reply = _reply(asked, "203.0.113.1", asked.header.id)
            connection.send(len(reply).to_bytes(2, "big") + reply)


def _reply(asked: DNSRecord, address: str, identity: int) -> bytes:
    reply = asked.reply()
    reply.header.id = identity
    reply.add_answer(RR(asked.q.qname, QTYPE.A, rdata=A(address), ttl=1))
    packed: bytes = reply.pack()
    return packed


def test_other_names_are_asked_of_the_hosts_resolvers(netns: int, zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    async def questions(_: Resolver) -> None:
        question = DNSRecord.question("example.com")
        reply, passed_on = await asyncio.gather(
            asyncio.to_thread(ask, netns, question), asyncio.to_thread(upstream.answer_datagram)
        )
        assert answers(reply) == {"203.0.113.1"}
        assert reply.header.id == question.header.id != passed_on.header.id
        reply, _none = await asyncio.gather(
            asyncio.to_thread(ask, netns, question, socket.SOCK_STREAM), asyncio.to_thread(upstream.answer_stream)
        )
        assert answers(reply) == {"203.0.113.1"}

    with Upstream(monkeypatch) as upstream:
        serve(netns, [zone], questions, ["127.0.0.1"])


def test_the_next_resolver_is_asked_where_one_is_silent(
    netns: int, zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def questions(_: Resolver) -> None:
        reply, _asked = await asyncio.gather(
            asyncio.to_thread(ask, netns, DNSRecord.question("example.com")),
            asyncio.to_thread(upstream.answer_datagram),
        )
        assert answers(reply) == {"203.0.113.1"}

    monkeypatch.setattr(resolver_module, "PATIENCE", 0.1)
    with Upstream(monkeypatch) as upstream:
        serve(netns, [zone], questions, ["127.0.0.77", "127.0.0.1"])
