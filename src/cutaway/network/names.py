"""Names of containers, and the answers to questions for them. RFC 1035."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from dnslib import PTR, QTYPE, RCODE, RR, A, DNSLabel, DNSRecord  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS_TO_LIVE = 600
"""How long an answer may be kept, as with Docker."""
_REVERSE = ".in-addr.arpa"


class Zone:
    """The names on one network: those of its containers, their IDs' first twelve digits, their aliases."""

    def __init__(self, network: str) -> None:
        self.network = network
        self._addresses: dict[str, list[str]] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def add(self, address: str, names: Iterable[str]) -> None:
        """A container's names, in place of those it had; its address is called by the first. Several containers may
        share an alias."""
        self.remove(address)
        self._names[address] = tuple(dict.fromkeys(name.lower() for name in names))
        for name in self._names[address]:
            self._addresses.setdefault(name, []).append(address)

    def remove(self, address: str) -> None:
        """Forgets a container; safe to call twice."""
        for name in self._names.pop(address, ()):
            self._addresses[name].remove(address)
            if not self._addresses[name]:
                del self._addresses[name]

    def addresses(self, name: str) -> list[str]:
        """Who has the name, with or without the network's name behind it; no two questions get the same order."""
        found = self._addresses.get(name) or self._addresses.get(name.removesuffix(f".{self.network.lower()}"), [])
        return random.sample(found, len(found))

    def name(self, address: str) -> str:
        """What the address is called, "web.backend", or ""."""
        names = self._names.get(address)
        return f"{names[0]}.{self.network}" if names else ""


def answer(query: bytes, zones: Iterable[Zone]) -> bytes | None:
    """The answer to a question, or None where it is not about a container and must be asked elsewhere.

    Raises `ValueError` where the query is not one.
    """
    asked = _parse(query)
    name = str(asked.q.qname).rstrip(".").lower()
    if name.endswith(_REVERSE):
        address = ".".join(reversed(name.removesuffix(_REVERSE).split(".")))
        found = next(filter(None, (zone.name(address) for zone in zones)), "")
        return _reply(asked, [PTR(f"{found}.")] if asked.q.qtype == QTYPE.PTR else []) if found else None
    addresses = next(filter(None, (zone.addresses(name) for zone in zones)), [])
    if not addresses:
        return None
    return _reply(asked, [A(address) for address in addresses] if asked.q.qtype == QTYPE.A else [])


def failure(query: bytes) -> bytes:
    """The answer that says that there is none to be had. Raises `ValueError`."""
    reply = _parse(query).reply()
    reply.header.rcode = RCODE.SERVFAIL
    return bytes(reply.pack())


def _reply(asked: DNSRecord, values: list[A | PTR]) -> bytes:
    reply = asked.reply(aa=0)
    for value in values:
        reply.add_answer(RR(DNSLabel(asked.q.qname), asked.q.qtype, ttl=SECONDS_TO_LIVE, rdata=value))
    return bytes(reply.pack())


def _parse(query: bytes) -> DNSRecord:
    """A query with one question, from whom nothing is trusted."""
    try:
        asked = DNSRecord.parse(query)
    except Exception as error:  # the library raises many kinds
        raise ValueError("not a DNS query") from error
    if asked.header.qr or len(asked.questions) != 1:
        raise ValueError("not a DNS query with one question")
    return asked
