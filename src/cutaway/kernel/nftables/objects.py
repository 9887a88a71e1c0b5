"""Requests about tables, chains, rules, sets and elements. `nft(8)`, `<linux/netfilter/nf_tables.h>`."""

from __future__ import annotations

import sys

from cutaway.kernel.netlink.wire import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Message, attribute, nest
from cutaway.kernel.nftables.expressions import NFTA_DATA_VALUE, NFTA_LIST_ELEM, Type, number, string

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Elements = Iterable[tuple[object, ...]] | dict[tuple[object, ...], tuple[object, ...]]

NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWTABLE = 0
NFT_MSG_GETTABLE = 1
NFT_MSG_DELTABLE = 2
NFT_MSG_NEWCHAIN = 3
NFT_MSG_GETCHAIN = 4
NFT_MSG_DELCHAIN = 5
NFT_MSG_NEWRULE = 6
NFT_MSG_GETRULE = 7
NFT_MSG_DELRULE = 8
NFT_MSG_NEWSET = 9
NFT_MSG_GETSET = 10
NFT_MSG_DELSET = 11
NFT_MSG_NEWSETELEM = 12
NFT_MSG_GETSETELEM = 13
NFT_MSG_DELSETELEM = 14

CALLS = {number: name for name, number in list(globals().items()) if name.startswith(("NFT_MSG_NEW", "NFT_MSG_DEL"))}

NF_INET_PRE_ROUTING = 0
NF_INET_LOCAL_IN = 1
NF_INET_FORWARD = 2
NF_INET_LOCAL_OUT = 3
NF_INET_POST_ROUTING = 4
NF_IP_PRI_RAW = -300
NF_IP_PRI_NAT_DST = -100
NF_IP_PRI_FILTER = 0
NF_IP_PRI_NAT_SRC = 100

NFT_SET_INTERVAL = 0x4
NFT_SET_MAP = 0x8
NFT_SET_CONCAT = 0x80
_BITS_OF_A_TYPE = 6
_LONGEST_COMMENT = 128

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}


class Set:
    """A set of elements, or, with `value`, a map. An element is a tuple of values of the types in `key`; where several
    types make an `interval` set, an address in it may be a whole network ("192.0.2.0/24")."""

    __slots__ = ("interval", "key", "name", "value")

    def __init__(
        self, name: str, key: tuple[Type, ...], value: tuple[Type, ...] = (), *, interval: bool = False
    ) -> None:
        self.name, self.key, self.value, self.interval = name, key, value, interval


class Table:
    """A table of a family ("ip", "inet", …): requests about what is in it, for `NftablesSocket.commit`."""

    __slots__ = ("family", "name")

    def __init__(self, family: str, name: str) -> None:
        self.family, self.name = family, name

    def create(self) -> Message:
        """Makes the table, or leaves the one that is there as it is."""
        return self.request("NFT_MSG_NEWTABLE", string(1, self.name), flags=NLM_F_CREATE)

    def delete(self) -> Message:
        """Deletes the table with all that is in it."""
        return self.request("NFT_MSG_DELTABLE", string(1, self.name))

    def create_chain(self, chain: str) -> Message:
        """Makes a chain that others jump to."""
        return self.request("NFT_MSG_NEWCHAIN", string(1, self.name), string(3, chain), flags=NLM_F_CREATE, of=chain)

    def create_base_chain(self, chain: str, kind: str, hook: int, priority: int = NF_IP_PRI_FILTER) -> Message:
        """Makes a chain that packets meet at a hook, by priority; `kind` is "filter" or "nat"."""
        place = nest(4, number(1, hook), number(2, priority))
        attributes = (string(1, self.name), string(3, chain), place, string(7, kind))
        return self.request("NFT_MSG_NEWCHAIN", *attributes, flags=NLM_F_CREATE, of=chain)

    def delete_chain(self, chain: str) -> Message:
        """Deletes an empty chain that nothing jumps to."""
        return self.request("NFT_MSG_DELCHAIN", string(1, self.name), string(3, chain), of=chain)

    def flush_chain(self, chain: str) -> Message:
        """Deletes the rules of a chain."""
        return self.request("NFT_MSG_DELRULE", string(1, self.name), string(2, chain), of=chain)

    def add_rule(self, chain: str, *expressions: bytes, comment: str = "") -> Message:
        """Adds a rule at the end of a chain."""
        return self._rule(chain, NLM_F_CREATE | NLM_F_APPEND, expressions, comment)

    def insert_rule(self, chain: str, *expressions: bytes, comment: str = "") -> Message:
        """Adds a rule at the beginning of a chain."""
        return self._rule(chain, NLM_F_CREATE, expressions, comment)

    def delete_rule(self, chain: str, handle: int) -> Message:
        """Deletes the rule that the kernel gave this number."""
        attributes = (string(1, self.name), string(2, chain), attribute(3, handle.to_bytes(8, "big")))
        return self.request("NFT_MSG_DELRULE", *attributes, of=f"{chain} handle {handle}")

    def create_set(self, group: Set) -> Message:
        """Makes a set or a map, or leaves the one that is there as it is."""
        flags = (NFT_SET_MAP if group.value else 0) | (NFT_SET_INTERVAL if group.interval else 0)
        flags |= NFT_SET_CONCAT if len(group.key) > 1 else 0
        attributes = [string(1, self.name), string(2, group.name), number(3, flags)]
        attributes += [number(4, _type_number(group.key)), number(5, _length(group.key)), number(10, 1)]
        if group.value:
            attributes += [number(6, _type_number(group.value)), number(7, _length(group.value))]
        attributes += [_description(group), attribute(13, _byteorders(group))]
        return self.request("NFT_MSG_NEWSET", *attributes, flags=NLM_F_CREATE, of=group.name)

    def delete_set(self, group: Set) -> Message:
        """Deletes a set that no rule looks at."""
        return self.request("NFT_MSG_DELSET", string(1, self.name), string(2, group.name), of=group.name)

    def add_elements(self, group: Set, elements: Elements, *, exclusive: bool = False) -> Message:
        """Adds elements; `exclusive` refuses (EEXIST) what is there already, a different value for it always is."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        return self._elements("NFT_MSG_NEWSETELEM", group, elements, flags)

    def delete_elements(self, group: Set, elements: Elements) -> Message:
        """Deletes elements; refuses (ENOENT) what is not there."""
        return self._elements("NFT_MSG_DELSETELEM", group, elements)

    def request(self, call: str, *attributes: bytes, flags: int = 0, of: str = "") -> Message:
        """Any request; `of` names in an error what in the table it is about."""
        header = bytes((FAMILIES[self.family], 0, 0, 0))
        subject = " ".join(filter(None, (self.family, self.name, of)))
        kind = NFNL_SUBSYS_NFTABLES << 8 | globals()[call]
        return Message(call, kind, header + b"".join(attributes), flags, subject)

    def _rule(self, chain: str, flags: int, expressions: tuple[bytes, ...], comment: str) -> Message:
        attributes = [string(1, self.name), string(2, chain), nest(4, *expressions)]
        attributes += [attribute(7, _comment(comment))] if comment else []
        return self.request("NFT_MSG_NEWRULE", *attributes, flags=flags, of=chain)

    def _elements(self, call: str, group: Set, elements: Elements, flags: int = 0) -> Message:
        values = elements if isinstance(elements, dict) else dict.fromkeys(elements, ())
        packed = (nest(NFTA_LIST_ELEM, *pack_element(group, key, value)) for key, value in values.items())
        attributes = (string(1, self.name), string(2, group.name), nest(3, *packed))
        shown = ", ".join(" . ".join(map(str, key)) for key in values)
        return self.request(call, *attributes, flags=flags, of=f"{group.name} {{{shown}}}")


def pack_element(group: Set, key: tuple[object, ...], value: tuple[object, ...] = ()) -> list[bytes]:
    """The attributes of one element."""
    ends = [kind.range(part) for kind, part in zip(group.key, key, strict=True)]
    attributes = [_value(1, [first for first, _ in ends])]
    if group.interval:
        attributes.append(_value(10, [last for _, last in ends]))
    if value:
        attributes.append(_value(2, [kind.pack(part) for kind, part in zip(group.value, value, strict=True)]))
    return attributes


def unpack(types: tuple[Type, ...], packed: bytes) -> tuple[object, ...]:
    """The values of a key or a map's value."""
    values, start = [], 0
    for kind in types:
        values.append(kind.unpack(packed[start : start + kind.length]))
        start += _registers(kind)
    return tuple(values)


def _value(kind: int, parts: list[bytes]) -> bytes:
    if len(parts) > 1:
        parts = [part + bytes(-len(part) % 4) for part in parts]
    return nest(kind, attribute(NFTA_DATA_VALUE, b"".join(parts)))


def _registers(kind: Type) -> int:
    """The bytes that a value takes in a concatenation."""
    return (kind.length + 3) & ~3


def _length(types: tuple[Type, ...]) -> int:
    return types[0].length if len(types) == 1 else sum(map(_registers, types))


def _type_number(types: tuple[Type, ...]) -> int:
    total = 0
    for kind in types:
        total = total << _BITS_OF_A_TYPE | kind.number
    return total


def _description(group: Set) -> bytes:
    """The lengths of a concatenated key's parts."""
    if len(group.key) == 1:
        return b""
    return nest(9, nest(2, *(nest(NFTA_LIST_ELEM, number(1, _registers(kind))) for kind in group.key)))


def _byteorders(group: Set) -> bytes:
    """For those who list the set with nft: which way round its numbers are (1 the host's, 2 the network's)."""
    orders = (2 if types and types[0].byteorder == "big" else 1 for types in (group.key, group.value))
    return b"".join(bytes((kind, 4)) + order.to_bytes(4, sys.byteorder) for kind, order in enumerate(orders))


def _comment(words: str) -> bytes:
    packed = words.encode()[:_LONGEST_COMMENT] + b"\0"
    return bytes((0, len(packed))) + packed
