"""The words of a rule. A rule is evaluated from left to right until a comparison fails or a verdict falls: `nft(8)`.

The kernel knows only small steps over registers ("load the input device's name into register 8", "compare register 8
with …"). A `Field` is what can be loaded; its methods give the steps of a whole comparison, packed for the kernel, so
that `oifname.among(bridges), ct_status.has(DNAT), accept` reads as `oifname @bridges ct status dnat accept` in nft.
"""

from __future__ import annotations

import _socket
import sys

from cutaway.kernel.netlink.wire import attribute, nest
from cutaway.kernel.nftables.header import (
    NF_ACCEPT,
    NF_DROP,
    NFPROTO_IPV4,
    NFT_CMP_EQ,
    NFT_CMP_NEQ,
    NFT_CT_STATE,
    NFT_CT_STATUS,
    NFT_FIB_RESULT_ADDRTYPE,
    NFT_JUMP,
    NFT_LOOKUP_F_INV,
    NFT_META_IIF,
    NFT_META_IIFNAME,
    NFT_META_L4PROTO,
    NFT_META_OIFNAME,
    NFT_NAT_DNAT,
    NFT_PAYLOAD_NETWORK_HEADER,
    NFT_PAYLOAD_TRANSPORT_HEADER,
    NFT_REG32_00,
    NFT_REG32_01,
    NFT_REG_VERDICT,
    NFTA_BITWISE_DREG,
    NFTA_BITWISE_LEN,
    NFTA_BITWISE_MASK,
    NFTA_BITWISE_SREG,
    NFTA_BITWISE_XOR,
    NFTA_CMP_DATA,
    NFTA_CMP_OP,
    NFTA_CMP_SREG,
    NFTA_COUNTER_BYTES,
    NFTA_COUNTER_PACKETS,
    NFTA_CT_KEY,
    NFTA_DATA_VALUE,
    NFTA_DATA_VERDICT,
    NFTA_EXPR_DATA,
    NFTA_EXPR_NAME,
    NFTA_FIB_F_DADDR,
    NFTA_FIB_FLAGS,
    NFTA_FIB_RESULT,
    NFTA_IMMEDIATE_DATA,
    NFTA_IMMEDIATE_DREG,
    NFTA_LIST_ELEM,
    NFTA_LOOKUP_DREG,
    NFTA_LOOKUP_FLAGS,
    NFTA_LOOKUP_SET,
    NFTA_LOOKUP_SREG,
    NFTA_META_KEY,
    NFTA_NAT_FAMILY,
    NFTA_NAT_REG_ADDR_MIN,
    NFTA_NAT_REG_PROTO_MIN,
    NFTA_NAT_TYPE,
    NFTA_PAYLOAD_BASE,
    NFTA_PAYLOAD_LEN,
    NFTA_PAYLOAD_OFFSET,
    NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from cutaway.kernel.nftables.objects import Set

ESTABLISHED = 1 << 1
RELATED = 1 << 2
"""Bits of `ct_state`."""
DNAT = 1 << 5
"""A bit of `ct_status`: the connection's destination was rewritten."""
LOCAL = 2
"""A value of `fib_daddr_type`: an address of this host."""

_DREG = 1
"""Of all expressions that load something, the attribute that says into which register."""
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}


class Type:
    """A type of values: its `name` and `number` in nft, its `length` in bytes, how to pack a value (an integer)."""

    __slots__ = ("byteorder", "length", "name", "number")

    def __init__(
        self, name: str, number: int, length: int, byteorder: Literal["little", "big"] = sys.byteorder
    ) -> None:
        self.name, self.number, self.length, self.byteorder = name, number, length, byteorder

    def pack(self, value: object) -> bytes:
        """A value as the kernel keeps it."""
        assert isinstance(value, int)
        return value.to_bytes(self.length, self.byteorder)

    def unpack(self, packed: bytes) -> object:
        """The inverse of `pack`."""
        return int.from_bytes(packed, self.byteorder)

    def range(self, value: object) -> tuple[bytes, bytes]:
        """The first and the last of the values meant."""
        return self.pack(value), self.pack(value)


class _Protocol(Type):
    """ "tcp", "udp", …"""

    def pack(self, value: object) -> bytes:
        return bytes((_PROTOCOLS[str(value)],))

    def unpack(self, packed: bytes) -> object:
        return next((name for name, number in _PROTOCOLS.items() if number == packed[0]), packed[0])


class _Address(Type):
    """An IPv4 address: "192.0.2.1"."""

    def pack(self, value: object) -> bytes:
        return _socket.inet_pton(_socket.AF_INET, str(value))

    def unpack(self, packed: bytes) -> object:
        return _socket.inet_ntop(_socket.AF_INET, packed)

    def range(self, value: object) -> tuple[bytes, bytes]:
        host, _, prefix = str(value).partition("/")
        first, rest = self.pack(host), (1 << 32 - int(prefix or 32)) - 1
        return first, (int.from_bytes(first, "big") | rest).to_bytes(4, "big")


class _InterfaceName(Type):
    def pack(self, value: object) -> bytes:
        return str(value).encode().ljust(self.length, b"\0")

    def unpack(self, packed: bytes) -> object:
        return packed.rstrip(b"\0").decode()


IPV4_ADDR = _Address("ipv4_addr", 7, 4, "big")
INET_PROTO = _Protocol("inet_proto", 12, 1)
INET_SERVICE = Type("inet_service", 13, 2, "big")
IFACE_INDEX = Type("iface_index", 20, 4)
CT_STATE = Type("ct_state", 26, 4)
CT_STATUS = Type("ct_status", 28, 4)
FIB_ADDRTYPE = Type("fib_addrtype", 38, 4)
IFNAME = _InterfaceName("ifname", 41, 16)


class Field:
    """Something of a packet that a rule can look at: its type, and the expression that loads it."""

    __slots__ = ("_attributes", "_expression", "type")

    def __init__(self, kind: Type, name: str, *attributes: bytes) -> None:
        self.type, self._expression, self._attributes = kind, name, attributes

    def load(self, register: int = NFT_REG32_00) -> bytes:
        """Loads it into a register."""
        return expression(self._expression, number(_DREG, register), *self._attributes)

    def equals(self, value: object) -> bytes:
        """Goes on only where it equals the value."""
        return self.load() + compare(NFT_CMP_EQ, self.type.pack(value))

    def differs(self, value: object) -> bytes:
        """Goes on only where it differs from the value."""
        return self.load() + compare(NFT_CMP_NEQ, self.type.pack(value))

    def within(self, network: str) -> bytes:
        """Goes on only where it is an address of the network: "127.0.0.0/8"."""
        address, _, prefix = network.partition("/")
        mask = (0xFFFFFFFF << (32 - int(prefix)) & 0xFFFFFFFF).to_bytes(4, "big")
        return self.load() + _and(mask) + compare(NFT_CMP_EQ, self.type.pack(address))

    def has(self, bits: int) -> bytes:
        """Goes on only where one of the bits is set."""
        return self.load() + _and(self.type.pack(bits)) + compare(NFT_CMP_NEQ, bytes(self.type.length))

    def among(self, group: Set) -> bytes:
        """Goes on only where the set has it."""
        return among((self,), group)

    def not_among(self, group: Set) -> bytes:
        """Goes on only where the set does not have it."""
        return self.load() + _look_up(group, number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV))


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits, in network byte order as all of nftables'."""
    return attribute(kind, value.to_bytes(4, "big", signed=value < 0))


def string(kind: int, value: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, value.encode() + b"\0")


def expression(name: str, *attributes: bytes) -> bytes:
    """One step of a rule."""
    return nest(NFTA_LIST_ELEM, string(NFTA_EXPR_NAME, name), nest(NFTA_EXPR_DATA, *attributes))


def _meta(kind: Type, key: int) -> Field:
    return Field(kind, "meta", number(NFTA_META_KEY, key))


def _ct(kind: Type, key: int) -> Field:
    return Field(kind, "ct", number(NFTA_CT_KEY, key))


def _payload(kind: Type, base: int, offset: int) -> Field:
    place = number(NFTA_PAYLOAD_BASE, base) + number(NFTA_PAYLOAD_OFFSET, offset)
    return Field(kind, "payload", place, number(NFTA_PAYLOAD_LEN, kind.length))


iif = _meta(IFACE_INDEX, NFT_META_IIF)
iifname = _meta(IFNAME, NFT_META_IIFNAME)
oifname = _meta(IFNAME, NFT_META_OIFNAME)
l4proto = _meta(INET_PROTO, NFT_META_L4PROTO)
saddr = _payload(IPV4_ADDR, NFT_PAYLOAD_NETWORK_HEADER, 12)
daddr = _payload(IPV4_ADDR, NFT_PAYLOAD_NETWORK_HEADER, 16)
dport = _payload(INET_SERVICE, NFT_PAYLOAD_TRANSPORT_HEADER, 2)
ct_state = _ct(CT_STATE, NFT_CT_STATE)
ct_status = _ct(CT_STATUS, NFT_CT_STATUS)
fib_daddr_type = Field(
    FIB_ADDRTYPE, "fib", number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE), number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR)
)


def compare(operator: int, value: bytes) -> bytes:
    """Goes on only where the first register compares so with the value."""
    compared = number(NFTA_CMP_SREG, NFT_REG32_00) + number(NFTA_CMP_OP, operator)
    return expression("cmp", compared, _value(NFTA_CMP_DATA, value))


def among(fields: tuple[Field, ...], group: Set) -> bytes:
    """Goes on only where the set has the fields' values in one element."""
    return _load_all(fields) + _look_up(group)


def dnat_to(fields: tuple[Field, ...], ports: Set) -> bytes:
    """Sends the connection to the address and port that the map has for the fields; goes on where it has none."""
    return _load_all(fields) + _look_up(ports, number(NFTA_LOOKUP_DREG, NFT_REG32_00)) + _REWRITE


def dnat(address: str, port: int) -> bytes:
    """Sends the connection to an address and a port."""
    return _set(NFT_REG32_00, IPV4_ADDR.pack(address)) + _set(NFT_REG32_01, INET_SERVICE.pack(port)) + _REWRITE


def verdict(code: int, chain: str = "") -> bytes:
    """What becomes of the packet; `chain` is where `NFT_JUMP` goes."""
    to = string(NFTA_VERDICT_CHAIN, chain) if chain else b""
    value = nest(NFTA_DATA_VERDICT, number(NFTA_VERDICT_CODE, code), to)
    return expression("immediate", number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT), nest(NFTA_IMMEDIATE_DATA, value))


def jump(chain: str) -> bytes:
    """Evaluates another chain, then goes on here."""
    return verdict(NFT_JUMP, chain)


accept = verdict(NF_ACCEPT)
"""The packet passes this hook's chain; those of others may still drop it."""
drop = verdict(NF_DROP)
masquerade = expression("masq")
"""The packet leaves with the address of the device it leaves by."""
counter = expression("counter", attribute(NFTA_COUNTER_BYTES, bytes(8)), attribute(NFTA_COUNTER_PACKETS, bytes(8)))


_REWRITE = expression(
    "nat",
    number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
    number(NFTA_NAT_FAMILY, NFPROTO_IPV4),
    number(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00),
    number(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_01),
)
"""Rewrites the destination to the address and the port in the first two registers."""


def _load_all(fields: tuple[Field, ...]) -> bytes:
    steps, register = b"", NFT_REG32_00
    for field in fields:
        steps += field.load(register)
        register += (field.type.length + 3) // 4
    return steps


def _look_up(group: Set, *attributes: bytes) -> bytes:
    return expression(
        "lookup", string(NFTA_LOOKUP_SET, group.name), number(NFTA_LOOKUP_SREG, NFT_REG32_00), *attributes
    )


def _and(mask: bytes) -> bytes:
    registers = number(NFTA_BITWISE_SREG, NFT_REG32_00) + number(NFTA_BITWISE_DREG, NFT_REG32_00)
    masks = _value(NFTA_BITWISE_MASK, mask) + _value(NFTA_BITWISE_XOR, bytes(len(mask)))
    return expression("bitwise", registers, number(NFTA_BITWISE_LEN, len(mask)), masks)


def _set(register: int, value: bytes) -> bytes:
    return expression("immediate", number(NFTA_IMMEDIATE_DREG, register), _value(NFTA_IMMEDIATE_DATA, value))


def _value(kind: int, value: bytes) -> bytes:
    return nest(kind, attribute(NFTA_DATA_VALUE, value))
