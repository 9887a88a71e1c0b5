"""The ruleset of one network namespace: changed by transactions, listed, and watched. `nft(8)`.

A transaction is a batch of requests between two marks; the kernel carries out all of them or none.
"""

from __future__ import annotations

import errno
import os
from _thread import get_ident

from cutaway.kernel.netlink.wire import NETLINK_NETFILTER, Message, NetlinkSocket, attributes_in, nest, text
from cutaway.kernel.nftables.expressions import NFTA_DATA_VALUE, NFTA_LIST_ELEM, string
from cutaway.kernel.nftables.objects import CALLS, FAMILY_NAMES, NFNL_SUBSYS_NFTABLES, Set, Table, pack_element, unpack
from cutaway.kernel.syscalls import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NFNL_MSG_BATCH_BEGIN = 0x10
NFNL_MSG_BATCH_END = 0x11
NFNLGRP_NFTABLES = 7
NFNETLINK_V0_NFTABLES = bytes((0, 0)) + NFNL_SUBSYS_NFTABLES.to_bytes(2, "big")

_HEADER = 4  # struct nfgenmsg
_kept: dict[tuple[int, int], NftablesSocket] = {}
"""By thread, since two would read each other's answers, and by network namespace."""


class Chain:
    """A chain as listed: `table`, `name`, `handle`, and for a base chain `hook` (else None), `priority`, `policy`
    (`NF_ACCEPT` or `NF_DROP`)."""

    __slots__ = ("handle", "hook", "name", "policy", "priority", "table")

    def __init__(self, body: bytes) -> None:
        found = dict(attributes_in(body, _HEADER))
        place = dict(attributes_in(found.get(4, b"")))
        self.table, self.name, self.handle = text(found[1]), text(found[3]), int.from_bytes(found[2], "big")
        self.hook = int.from_bytes(place[1], "big") if place else None
        self.priority = int.from_bytes(place.get(2, b""), "big", signed=True)
        self.policy = int.from_bytes(found.get(5, b"\1"), "big")


class Rule:
    """A rule as listed: `table`, `chain`, `handle`, `expressions` as the kernel packs them, `comment`."""

    __slots__ = ("chain", "comment", "expressions", "handle", "table")

    def __init__(self, body: bytes) -> None:
        found = dict(attributes_in(body, _HEADER))
        self.table, self.chain, self.handle = text(found[1]), text(found[2]), int.from_bytes(found[3], "big")
        self.expressions = found.get(4, b"")
        self.comment = _comment_in(found.get(7, b""))


class Change:
    """What somebody did to a table: `call` as in "NFT_MSG_NEWCHAIN", `family`, the name of the `table`."""

    __slots__ = ("call", "family", "table")

    def __init__(self, call: str, body: bytes) -> None:
        self.call, self.family = call, FAMILY_NAMES.get(body[0], "")
        self.table = text(dict(attributes_in(body, _HEADER))[1])


class NftablesSocket(NetlinkSocket):
    """A socket to the ruleset of the network namespace it was opened in."""

    def __init__(self, fileno: int = -1) -> None:
        super().__init__(NETLINK_NETFILTER, fileno)

    def commit(self, *requests: Message) -> None:
        """Carries out all requests or none; raises `KernelError` for the first that is refused."""
        begin = Message("NFNL_MSG_BATCH_BEGIN", NFNL_MSG_BATCH_BEGIN, NFNETLINK_V0_NFTABLES, subject="nftables")
        end = Message("NFNL_MSG_BATCH_END", NFNL_MSG_BATCH_END, NFNETLINK_V0_NFTABLES, subject="nftables")
        if requests:
            self.transact(begin, *requests, end)

    def changes(self) -> list[Change]:
        """What was done to tables, chains, rules and sets since, once the socket has joined `NFNLGRP_NFTABLES`.

        Raises `OSError` (ENOBUFS) where more was done than the socket can hold.
        """
        return [Change(CALLS[kind & 0xFF], body) for kind, body in self.pending() if kind & 0xFF in CALLS]

    def tables(self, family: str) -> list[str]:
        """The names of a family's tables."""
        return [
            text(dict(attributes_in(body, _HEADER))[1])
            for body in self.dump(Table(family, "").request("NFT_MSG_GETTABLE"))
        ]

    def chains(self, family: str) -> list[Chain]:
        """The chains of all tables of a family."""
        return [Chain(body) for body in self.dump(Table(family, "").request("NFT_MSG_GETCHAIN"))]

    def rules(self, table: Table, chain: str) -> list[Rule]:
        """The rules of a chain, in order; raises `KernelError` (ENOENT)."""
        request = table.request("NFT_MSG_GETRULE", string(1, table.name), string(2, chain), of=chain)
        return [Rule(body) for body in self.dump(request)]

    def elements(self, table: Table, group: Set) -> dict[tuple[object, ...], tuple[object, ...]]:
        """The elements of a set, with their values where it is a map; raises `KernelError` (ENOENT)."""
        request = table.request("NFT_MSG_GETSETELEM", string(1, table.name), string(2, group.name), of=group.name)
        return dict(element for body in self.dump(request) for element in _elements_in(body, group))

    def find_element(self, table: Table, group: Set, key: tuple[object, ...]) -> tuple[object, ...] | None:
        """The value of one element of a map (of a set: an empty tuple), or None where there is no such element."""
        wanted = nest(3, nest(NFTA_LIST_ELEM, *pack_element(group, key)))
        request = table.request(
            "NFT_MSG_GETSETELEM", string(1, table.name), string(2, group.name), wanted, of=group.name
        )
        try:
            return next((value for _, value in _elements_in(self.ask(request), group)), None)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return None


def kept_socket() -> NftablesSocket:
    """A socket to the ruleset of the namespace that the calling thread is in, opened at its first use and never closed.

    Closing one waits until the kernel has let go of all that was deleted in the namespace, by anyone: 10 to 40 ms.
    """
    owner = get_ident(), os.stat("/proc/thread-self/ns/net").st_ino
    if owner not in _kept:
        _kept[owner] = NftablesSocket()
    return _kept[owner]


def _elements_in(body: bytes, group: Set) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    for _, packed in attributes_in(dict(attributes_in(body, _HEADER)).get(3, b"")):
        found = {
            kind: dict(attributes_in(value)).get(NFTA_DATA_VALUE, b"")
            for kind, value in attributes_in(packed)
            if kind in (1, 2)
        }
        yield unpack(group.key, found[1]), unpack(group.value, found.get(2, b""))


def _comment_in(userdata: bytes) -> str:
    return text(userdata[2 : 2 + userdata[1]]) if userdata[:1] == b"\0" else ""
