"""What rules say, read back from the steps the kernel keeps them in: `expressions`, the other way round. `nft(8)`

Rules of anyone: nft, iptables-nft (which packs old extensions whole into a step, `xtables-nft(8)`), engines. A step
that is not known here makes no condition: of what a rule does, not of when, one can be sure.
"""

from __future__ import annotations

import _socket
import struct

from cutaway.kernel.netlink.wire import attributes_in, text
from cutaway.kernel.nftables import header as h
from cutaway.kernel.nftables.expressions import INET_PROTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_VERDICTS = {h.NF_ACCEPT: "accept", h.NF_DROP: "drop", h.NFT_JUMP: "jump", h.NFT_GOTO: "jump", -5: "return"}
_META = {h.NFT_META_IIFNAME: "iifname", h.NFT_META_OIFNAME: "oifname", h.NFT_META_L4PROTO: "protocol",
         h.NFT_META_MARK: "mark", h.NFT_META_IIF: "iif"}  # fmt: skip
_LAST_LONG_REGISTER = 4  # NFT_REG_1 to 4, of 16 bytes, are the same places as four of NFT_REG32_00 and on each
_PORTS = struct.Struct("=4H")  # the ranges that struct xt_tcp and struct xt_udp begin with
_RANGE_V2 = struct.Struct("=I16s16s")  # struct nf_nat_range2 up to the ports
_RANGE_V1 = struct.Struct("=II4s4s")  # struct nf_nat_ipv4_multi_range_compat up to the ports


class Condition:
    """That `field` ("saddr", "daddr", "dport", "iifname", "oifname", "protocol", "mark", …) equals the bytes `value`,
    or with `negated` does not; of an address only the first `bits`. With `group` instead: that the fields joined by "
    . " are in that set."""

    __slots__ = ("bits", "field", "group", "negated", "value")

    def __init__(
        self, field: str, value: bytes = b"", *, bits: int = 0, negated: bool = False, group: str = ""
    ) -> None:
        self.field, self.value, self.bits, self.negated, self.group = field, value, bits, negated, group


class Reading:
    """A rule as conditions and what it does: `action` is "accept", "drop", "jump" (to the chain `target`), "return",
    "masquerade", "snat", "dnat", or "". Of "dnat": `address` and `port`, or `map`, the name of one, and `keys`, the
    fields that are looked up there."""

    def __init__(self, expressions: bytes) -> None:
        self.conditions: list[Condition] = []
        self.action, self.target, self.address, self.port, self.map = "", "", "", 0, ""
        self.keys: tuple[str, ...] = ()
        self._fields: dict[int, tuple[str, int]] = {}
        self._values: dict[int, bytes] = {}
        for _, packed in attributes_in(expressions):
            found = dict(attributes_in(packed))
            read = _STEPS.get(text(found.get(h.NFTA_EXPR_NAME, b"")))
            if read:
                read(self, dict(attributes_in(found.get(h.NFTA_EXPR_DATA, b""))))

    def value(self, field: str) -> bytes | None:
        """What the field must equal; None where the rule does not say."""
        for condition in self.conditions:
            if condition.field == field and not condition.negated and not condition.group:
                return condition.value
        return None

    def _meta(self, step: dict[int, bytes]) -> None:
        if h.NFTA_META_DREG in step:
            self._load(step[h.NFTA_META_DREG], _META.get(_number(step[h.NFTA_META_KEY]), ""))

    def _payload(self, step: dict[int, bytes]) -> None:
        if h.NFTA_PAYLOAD_DREG not in step:
            return
        base, offset, length = (
            _number(step[kind]) for kind in (h.NFTA_PAYLOAD_BASE, h.NFTA_PAYLOAD_OFFSET, h.NFTA_PAYLOAD_LEN)
        )
        field = _PAYLOADS.get((base, offset), "")
        self._load(step[h.NFTA_PAYLOAD_DREG], field, 8 * length)

    def _load(self, register: bytes, field: str, bits: int = 0) -> None:
        self._fields[_place(register)] = field, bits

    def _bitwise(self, step: dict[int, bytes]) -> None:
        place = _place(step[h.NFTA_BITWISE_SREG])
        field, _ = self._fields.get(place, ("", 0))
        mask = int.from_bytes(_data(step[h.NFTA_BITWISE_MASK]), "big") if h.NFTA_BITWISE_MASK in step else 0
        self._fields[_place(step[h.NFTA_BITWISE_DREG])] = field, mask.bit_count()

    def _compare(self, step: dict[int, bytes]) -> None:
        field, bits = self._fields.get(_place(step[h.NFTA_CMP_SREG]), ("", 0))
        negated = _number(step[h.NFTA_CMP_OP]) == h.NFT_CMP_NEQ
        if field:
            self.conditions.append(Condition(field, _data(step[h.NFTA_CMP_DATA]), bits=bits, negated=negated))

    def _look_up(self, step: dict[int, bytes]) -> None:
        name, first = text(step[h.NFTA_LOOKUP_SET]), _place(step[h.NFTA_LOOKUP_SREG])
        fields = tuple(field for place, (field, _) in sorted(self._fields.items()) if place >= first)
        if h.NFTA_LOOKUP_DREG in step:
            self.map, self.keys = name, fields
        else:
            negated = _number(step.get(h.NFTA_LOOKUP_FLAGS, bytes(4))) & h.NFT_LOOKUP_F_INV
            self.conditions.append(Condition(" . ".join(fields), group=name, negated=bool(negated)))
        self._fields.clear()

    def _immediate(self, step: dict[int, bytes]) -> None:
        value = dict(attributes_in(step.get(h.NFTA_IMMEDIATE_DATA, b"")))
        verdict = dict(attributes_in(value.get(h.NFTA_DATA_VERDICT, b"")))
        if verdict:
            code = int.from_bytes(verdict[h.NFTA_VERDICT_CODE], "big", signed=True)
            self.action, self.target = _VERDICTS.get(code, ""), text(verdict.get(h.NFTA_VERDICT_CHAIN, b""))
        else:
            self._values[_place(step[h.NFTA_IMMEDIATE_DREG])] = value.get(h.NFTA_DATA_VALUE, b"")

    def _nat(self, step: dict[int, bytes]) -> None:
        self.action = "dnat" if _number(step[h.NFTA_NAT_TYPE]) == h.NFT_NAT_DNAT else "snat"
        address = self._values.get(_place(step.get(h.NFTA_NAT_REG_ADDR_MIN, bytes(4))), b"")
        port = self._values.get(_place(step.get(h.NFTA_NAT_REG_PROTO_MIN, bytes(4))), b"")
        self.address, self.port = address_text(address), int.from_bytes(port[:2], "big")

    def _masquerade(self, _: dict[int, bytes]) -> None:
        self.action = "masquerade"

    def _match(self, step: dict[int, bytes]) -> None:
        name, info = text(step.get(h.NFTA_MATCH_NAME, b"")), step.get(h.NFTA_MATCH_INFO, b"")
        if name in ("tcp", "udp") and len(info) >= _PORTS.size:
            _, _, first, last = _PORTS.unpack_from(info)
            self.conditions.append(Condition("protocol", INET_PROTO.pack(name)))
            if first == last:
                self.conditions.append(Condition("dport", first.to_bytes(2, "big")))

    def _target(self, step: dict[int, bytes]) -> None:
        name, info = text(step.get(h.NFTA_TARGET_NAME, b"")), step.get(h.NFTA_TARGET_INFO, b"")
        self.action = {"MASQUERADE": "masquerade", "SNAT": "snat", "DNAT": "dnat"}.get(name, "")
        if name == "DNAT":
            self.address, self.port = _old_range(info)


_STEPS: dict[str, Callable[[Reading, dict[int, bytes]], None]] = {
    "meta": Reading._meta, "payload": Reading._payload, "bitwise": Reading._bitwise, "cmp": Reading._compare,
    "lookup": Reading._look_up, "immediate": Reading._immediate, "nat": Reading._nat, "masq": Reading._masquerade,
    "match": Reading._match, "target": Reading._target,
}  # fmt: skip
_PAYLOADS = {
    (h.NFT_PAYLOAD_NETWORK_HEADER, 12): "saddr",
    (h.NFT_PAYLOAD_NETWORK_HEADER, 16): "daddr",
    (h.NFT_PAYLOAD_NETWORK_HEADER, 9): "protocol",
    (h.NFT_PAYLOAD_TRANSPORT_HEADER, 2): "dport",
}


def address_text(packed: bytes) -> str:
    """An address as one writes it; "" for what is none."""
    family = {4: _socket.AF_INET, 16: _socket.AF_INET6}.get(len(packed))
    return _socket.inet_ntop(family, packed) if family else ""


def _old_range(info: bytes) -> tuple[str, int]:
    """The address and port that iptables' DNAT rewrites to."""
    if len(info) >= _RANGE_V2.size + 4:
        _, address, _ = _RANGE_V2.unpack_from(info)
        start, packed = _RANGE_V2.size, address[:4] if not any(address[4:]) else address
    elif len(info) >= _RANGE_V1.size + 4:
        _, _, packed, _ = _RANGE_V1.unpack_from(info)
        start = _RANGE_V1.size
    else:
        return "", 0
    return address_text(packed), int.from_bytes(info[start : start + 2], "big")


def _place(register: bytes) -> int:
    number = _number(register)
    return h.NFT_REG32_00 + 4 * (number - 1) if 1 <= number <= _LAST_LONG_REGISTER else number


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _data(value: bytes) -> bytes:
    return dict(attributes_in(value)).get(h.NFTA_DATA_VALUE, b"")
