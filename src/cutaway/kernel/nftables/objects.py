"""Requests about tables, chains, rules, sets and elements. `nft(8)`, `<linux/netfilter/nf_tables.h>`."""

from __future__ import annotations

import sys

from cutaway.kernel.netlink.wire import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Message, attribute, nest
from cutaway.kernel.nftables import header
from cutaway.kernel.nftables.expressions import Type, number, string
from cutaway.kernel.nftables.header import (
    NF_IP_PRI_FILTER,
    NFNL_SUBSYS_NFTABLES,
    NFPROTO_ARP,
    NFPROTO_BRIDGE,
    NFPROTO_INET,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    NFPROTO_NETDEV,
    NFT_SET_CONCAT,
    NFT_SET_INTERVAL,
    NFT_SET_MAP,
    NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME,
    NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE,
    NFTA_DATA_VALUE,
    NFTA_HOOK_HOOKNUM,
    NFTA_HOOK_PRIORITY,
    NFTA_LIST_ELEM,
    NFTA_RULE_CHAIN,
    NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_HANDLE,
    NFTA_RULE_TABLE,
    NFTA_RULE_USERDATA,
    NFTA_SET_DATA_LEN,
    NFTA_SET_DATA_TYPE,
    NFTA_SET_DESC,
    NFTA_SET_DESC_CONCAT,
    NFTA_SET_ELEM_DATA,
    NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END,
    NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE,
    NFTA_SET_FIELD_LEN,
    NFTA_SET_FLAGS,
    NFTA_SET_ID,
    NFTA_SET_KEY_LEN,
    NFTA_SET_KEY_TYPE,
    NFTA_SET_NAME,
    NFTA_SET_TABLE,
    NFTA_SET_USERDATA,
    NFTA_TABLE_NAME,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Elements = Iterable[tuple[object, ...]] | dict[tuple[object, ...], tuple[object, ...]]

_BITS_OF_A_TYPE = 6
_LONGEST_COMMENT = 128
_ID_WITHIN_BATCH = 1
"""The kernel wants one; it would matter to who names a set so in the same batch, and here that goes by name."""
_HOSTS, _NETWORKS = 1, 2
"""Byte orders, as nft notes them with a set for those who list it."""

FAMILIES = {
    "inet": NFPROTO_INET,
    "ip": NFPROTO_IPV4,
    "arp": NFPROTO_ARP,
    "netdev": NFPROTO_NETDEV,
    "bridge": NFPROTO_BRIDGE,
    "ip6": NFPROTO_IPV6,
}
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
        return self.request("NFT_MSG_NEWTABLE", string(NFTA_TABLE_NAME, self.name), flags=NLM_F_CREATE)

    def delete(self) -> Message:
        """Deletes the table with all that is in it."""
        return self.request("NFT_MSG_DELTABLE", string(NFTA_TABLE_NAME, self.name))

    def create_chain(self, chain: str) -> Message:
        """Makes a chain that others jump to."""
        return self._chain("NFT_MSG_NEWCHAIN", chain, flags=NLM_F_CREATE)

    def create_base_chain(self, chain: str, kind: str, hook: int, priority: int = NF_IP_PRI_FILTER) -> Message:
        """Makes a chain that packets meet at a hook, by priority; `kind` is "filter" or "nat"."""
        place = nest(NFTA_CHAIN_HOOK, number(NFTA_HOOK_HOOKNUM, hook), number(NFTA_HOOK_PRIORITY, priority))
        return self._chain("NFT_MSG_NEWCHAIN", chain, place, string(NFTA_CHAIN_TYPE, kind), flags=NLM_F_CREATE)

    def delete_chain(self, chain: str) -> Message:
        """Deletes an empty chain that nothing jumps to."""
        return self._chain("NFT_MSG_DELCHAIN", chain)

    def flush_chain(self, chain: str) -> Message:
        """Deletes the rules of a chain."""
        return self._rule("NFT_MSG_DELRULE", chain)

    def add_rule(self, chain: str, *expressions: bytes, comment: str = "") -> Message:
        """Adds a rule at the end of a chain."""
        return self._new_rule(chain, expressions, comment, NLM_F_CREATE | NLM_F_APPEND)

    def insert_rule(self, chain: str, *expressions: bytes, comment: str = "") -> Message:
        """Adds a rule at the beginning of a chain."""
        return self._new_rule(chain, expressions, comment, NLM_F_CREATE)

    def delete_rule(self, chain: str, handle: int) -> Message:
        """Deletes the rule that the kernel gave this number."""
        return self._rule("NFT_MSG_DELRULE", chain, attribute(NFTA_RULE_HANDLE, handle.to_bytes(8, "big")))

    def create_set(self, group: Set) -> Message:
        """Makes a set or a map, or leaves the one that is there as it is."""
        flags = (NFT_SET_MAP if group.value else 0) | (NFT_SET_INTERVAL if group.interval else 0)
        flags |= NFT_SET_CONCAT if len(group.key) > 1 else 0
        attributes = [number(NFTA_SET_FLAGS, flags), number(NFTA_SET_ID, _ID_WITHIN_BATCH)]
        attributes += [number(NFTA_SET_KEY_TYPE, _type_number(group.key)), number(NFTA_SET_KEY_LEN, _length(group.key))]
        if group.value:
            value_type, value_length = _type_number(group.value), _length(group.value)
            attributes += [number(NFTA_SET_DATA_TYPE, value_type), number(NFTA_SET_DATA_LEN, value_length)]
        attributes += [_description(group), attribute(NFTA_SET_USERDATA, _byteorders(group))]
        return self._set("NFT_MSG_NEWSET", group, *attributes, flags=NLM_F_CREATE)

    def delete_set(self, group: Set) -> Message:
        """Deletes a set that no rule looks at."""
        return self._set("NFT_MSG_DELSET", group)

    def add_elements(self, group: Set, elements: Elements, *, exclusive: bool = False) -> Message:
        """Adds elements; `exclusive` refuses (EEXIST) what is there already, a different value for it always is."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        return self._elements("NFT_MSG_NEWSETELEM", group, elements, flags)

    def delete_elements(self, group: Set, elements: Elements) -> Message:
        """Deletes elements; refuses (ENOENT) what is not there."""
        return self._elements("NFT_MSG_DELSETELEM", group, elements)

    def list_chains(self) -> Message:
        """Asks for the chains of all tables of the family."""
        return self.request("NFT_MSG_GETCHAIN")

    def list_rules(self, chain: str) -> Message:
        """Asks for the rules of a chain."""
        return self._rule("NFT_MSG_GETRULE", chain)

    def list_elements(self, group: Set, elements: Elements = ()) -> Message:
        """Asks for elements of a set, or for all."""
        return self._elements("NFT_MSG_GETSETELEM", group, elements)

    def request(self, call: str, *attributes: bytes, flags: int = 0, of: str = "") -> Message:
        """Any request; `of` names in an error what in the table it is about."""
        family = bytes((FAMILIES[self.family], 0, 0, 0))
        subject = " ".join(filter(None, (self.family, self.name, of)))
        kind = NFNL_SUBSYS_NFTABLES << 8 | getattr(header, call)
        return Message(call, kind, family + b"".join(attributes), flags, subject)

    def _chain(self, call: str, chain: str, *attributes: bytes, flags: int = 0) -> Message:
        named = string(NFTA_CHAIN_TABLE, self.name) + string(NFTA_CHAIN_NAME, chain)
        return self.request(call, named, *attributes, flags=flags, of=chain)

    def _rule(self, call: str, chain: str, *attributes: bytes, flags: int = 0) -> Message:
        named = string(NFTA_RULE_TABLE, self.name) + string(NFTA_RULE_CHAIN, chain)
        return self.request(call, named, *attributes, flags=flags, of=chain)

    def _new_rule(self, chain: str, expressions: tuple[bytes, ...], comment: str, flags: int) -> Message:
        userdata = attribute(NFTA_RULE_USERDATA, _comment(comment)) if comment else b""
        return self._rule("NFT_MSG_NEWRULE", chain, nest(NFTA_RULE_EXPRESSIONS, *expressions), userdata, flags=flags)

    def _set(self, call: str, group: Set, *attributes: bytes, flags: int = 0) -> Message:
        named = string(NFTA_SET_TABLE, self.name) + string(NFTA_SET_NAME, group.name)
        return self.request(call, named, *attributes, flags=flags, of=group.name)

    def _elements(self, call: str, group: Set, elements: Elements, flags: int = 0) -> Message:
        values = elements if isinstance(elements, dict) else dict.fromkeys(elements, ())
        packed = (nest(NFTA_LIST_ELEM, *_element(group, key, value)) for key, value in values.items())
        named = string(NFTA_SET_ELEM_LIST_TABLE, self.name) + string(NFTA_SET_ELEM_LIST_SET, group.name)
        listed = nest(NFTA_SET_ELEM_LIST_ELEMENTS, *packed) if values else b""
        shown = ", ".join(" . ".join(map(str, key)) for key in values)
        return self.request(call, named, listed, flags=flags, of=f"{group.name} {{{shown}}}")


def _element(group: Set, key: tuple[object, ...], value: tuple[object, ...] = ()) -> list[bytes]:
    """The attributes of one element."""
    ends = [kind.range(part) for kind, part in zip(group.key, key, strict=True)]
    attributes = [_value(NFTA_SET_ELEM_KEY, [first for first, _ in ends])]
    if group.interval:
        attributes.append(_value(NFTA_SET_ELEM_KEY_END, [last for _, last in ends]))
    if value:
        parts = [kind.pack(part) for kind, part in zip(group.value, value, strict=True)]
        attributes.append(_value(NFTA_SET_ELEM_DATA, parts))
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
    parts = (nest(NFTA_LIST_ELEM, number(NFTA_SET_FIELD_LEN, _registers(kind))) for kind in group.key)
    return nest(NFTA_SET_DESC, nest(NFTA_SET_DESC_CONCAT, *parts))


def _byteorders(group: Set) -> bytes:
    orders = (_NETWORKS if types and types[0].byteorder == "big" else _HOSTS for types in (group.key, group.value))
    return b"".join(bytes((kind, 4)) + order.to_bytes(4, sys.byteorder) for kind, order in enumerate(orders))


def _comment(words: str) -> bytes:
    packed = words.encode()[:_LONGEST_COMMENT] + b"\0"
    return bytes((0, len(packed))) + packed
