"""The ruleset of one network namespace: changed by transactions, listed, and watched. `nft(8)`.

A transaction is a batch of requests between two marks; the kernel carries out all of them or none.
"""

from __future__ import annotations

import errno
import os
from _thread import get_ident

from cutaway.kernel.errors import KernelError
from cutaway.kernel.netlink.wire import NETLINK_NETFILTER, Message, NetlinkSocket, attributes_in, text
from cutaway.kernel.nftables import header
from cutaway.kernel.nftables.header import (
    NF_ACCEPT,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
    NFTA_CHAIN_HANDLE,
    NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME,
    NFTA_CHAIN_POLICY,
    NFTA_CHAIN_TABLE,
    NFTA_DATA_VALUE,
    NFTA_HOOK_HOOKNUM,
    NFTA_HOOK_PRIORITY,
    NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_HANDLE,
    NFTA_RULE_TABLE,
    NFTA_RULE_USERDATA,
    NFTA_SET_ELEM_DATA,
    NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_TABLE_NAME,
)
from cutaway.kernel.nftables.objects import FAMILY_NAMES, Set, Table, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = {number: name for name, number in vars(header).items() if name.startswith(("NFT_MSG_NEW", "NFT_MSG_DEL"))}
"""What can be done, by number."""

_BATCH = bytes((0, 0)) + NFNL_SUBSYS_NFTABLES.to_bytes(2, "big")
_HEADER = 4  # struct nfgenmsg
_kept: dict[tuple[int, int], NftablesSocket] = {}
"""By thread, since two would read each other's answers, and by network namespace."""


class Chain:
    """A chain as listed: `table`, `name`, `handle`, and for a base chain `hook` (else None), `priority`, `policy`
    (`NF_ACCEPT` or `NF_DROP`)."""

    __slots__ = ("handle", "hook", "name", "policy", "priority", "table")

    def __init__(self, body: bytes) -> None:
        found = dict(attributes_in(body, _HEADER))
        place = dict(attributes_in(found.get(NFTA_CHAIN_HOOK, b"")))
        self.table, self.name = text(found[NFTA_CHAIN_TABLE]), text(found[NFTA_CHAIN_NAME])
        self.handle = int.from_bytes(found[NFTA_CHAIN_HANDLE], "big")
        self.hook = int.from_bytes(place[NFTA_HOOK_HOOKNUM], "big") if place else None
        self.priority = int.from_bytes(place.get(NFTA_HOOK_PRIORITY, b""), "big", signed=True)
        self.policy = int.from_bytes(found.get(NFTA_CHAIN_POLICY, bytes((NF_ACCEPT,))), "big")


class Rule:
    """A rule as listed: `table`, `chain`, `handle`, `expressions` as the kernel packs them, `comment`."""

    __slots__ = ("chain", "comment", "expressions", "handle", "table")

    def __init__(self, body: bytes) -> None:
        found = dict(attributes_in(body, _HEADER))
        self.table, self.chain = text(found[NFTA_RULE_TABLE]), text(found[NFTA_RULE_CHAIN])
        self.handle = int.from_bytes(found[NFTA_RULE_HANDLE], "big")
        self.expressions = found.get(NFTA_RULE_EXPRESSIONS, b"")
        self.comment = _comment_in(found.get(NFTA_RULE_USERDATA, b""))


class Change:
    """What somebody did to a table: `call` as in "NFT_MSG_NEWCHAIN", `family`, the name of the `table`."""

    __slots__ = ("call", "family", "table")

    def __init__(self, call: str, body: bytes) -> None:
        self.call, self.family = call, FAMILY_NAMES.get(body[0], "")
        self.table = text(dict(attributes_in(body, _HEADER))[NFTA_TABLE_NAME])


class NftablesSocket(NetlinkSocket):
    """A socket to the ruleset of the network namespace it was opened in."""

    def __init__(self, fileno: int = -1) -> None:
        super().__init__(NETLINK_NETFILTER, fileno)

    def commit(self, *requests: Message) -> None:
        """Carries out all requests or none; raises `KernelError` for the first that is refused."""
        begin = Message("NFNL_MSG_BATCH_BEGIN", NFNL_MSG_BATCH_BEGIN, _BATCH, subject="nftables")
        end = Message("NFNL_MSG_BATCH_END", NFNL_MSG_BATCH_END, _BATCH, subject="nftables")
        if requests:
            self.transact(begin, *requests, end)

    def changes(self) -> list[Change]:
        """What was done to tables, chains, rules and sets since, once the socket has joined `NFNLGRP_NFTABLES`.

        Raises `OSError` (ENOBUFS) where more was done than the socket can hold.
        """
        return [Change(CALLS[kind & 0xFF], body) for kind, body in self.pending() if kind & 0xFF in CALLS]

    def tables(self, family: str) -> list[str]:
        """The names of a family's tables."""
        bodies = self.dump(Table(family, "").request("NFT_MSG_GETTABLE"))
        return [text(dict(attributes_in(body, _HEADER))[NFTA_TABLE_NAME]) for body in bodies]

    def chains(self, family: str) -> list[Chain]:
        """The chains of all tables of a family."""
        return [Chain(body) for body in self.dump(Table(family, "").list_chains())]

    def rules(self, table: Table, chain: str) -> list[Rule]:
        """The rules of a chain, in order; none where there is no such chain."""
        return [Rule(body) for body in self.dump(table.list_rules(chain))]

    def elements(self, table: Table, group: Set) -> dict[tuple[object, ...], tuple[object, ...]]:
        """The elements of a set, with their values where it is a map; raises `KernelError` (ENOENT)."""
        bodies = self.dump(table.list_elements(group))
        return dict(element for body in bodies for element in _elements_in(body, group))

    def find_element(self, table: Table, group: Set, key: tuple[object, ...]) -> tuple[object, ...] | None:
        """The value of one element of a map (of a set: an empty tuple), or None where there is no such element."""
        try:
            found = self.ask(table.list_elements(group, [key]))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        return next((value for _, value in _elements_in(found, group)), None)


def kept_socket() -> NftablesSocket:
    """A socket to the ruleset of the namespace that the calling thread is in, opened at its first use and never closed.

    Closing one waits until the kernel has let go of all that was deleted in the namespace, by anyone: 10 to 40 ms.
    """
    owner = get_ident(), os.stat("/proc/thread-self/ns/net").st_ino
    if owner not in _kept:
        _kept[owner] = NftablesSocket()
    return _kept[owner]


def _elements_in(body: bytes, group: Set) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    listed = dict(attributes_in(body, _HEADER)).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
    for _, element in attributes_in(listed):
        found = dict(attributes_in(element))
        key, value = (dict(attributes_in(found.get(kind, b""))) for kind in (NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA))
        yield unpack(group.key, key[NFTA_DATA_VALUE]), unpack(group.value, value.get(NFTA_DATA_VALUE, b""))


def _comment_in(userdata: bytes) -> str:
    return text(userdata[2 : 2 + userdata[1]]) if userdata[:1] == b"\0" else ""
