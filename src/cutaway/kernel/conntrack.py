"""Connection tracking: the kernel's memory of who talks to whom, and of how their addresses are rewritten. `nft(8)`.

Rules that rewrite addresses are asked only for the first packet of a connection; what they said then holds as long as
the connection is remembered. For UDP that is as long as somebody sends.

The functions here make requests for a netfilter socket: `NetlinkSocket(NETLINK_NETFILTER).transact(…)`.
"""

from __future__ import annotations

import _socket
import sys

from cutaway.kernel.netlink.wire import Message, attribute, nest

NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_DELETE = 2
NFNETLINK_V1 = 1
"""Of a request that names a family."""

CTA_TUPLE_ORIG = 1
CTA_TUPLE_REPLY = 2
CTA_FILTER = 25
CTA_FILTER_ORIG_FLAGS = 1
CTA_FILTER_REPLY_FLAGS = 2
CTA_FILTER_F_CTA_IP_SRC = 1 << 0
CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3
CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 5
CTA_TUPLE_IP = 1
CTA_TUPLE_PROTO = 2
CTA_IP_V4_SRC = 1
CTA_PROTO_NUM = 1
CTA_PROTO_DST_PORT = 3


def forget_connections_to(port: int) -> Message:
    """Forgets what was sent by UDP to this port, on whatever address, so that rules are asked again."""
    proto = _protocol(attribute(CTA_PROTO_DST_PORT, port.to_bytes(2, "big")))
    flags = CTA_FILTER_F_CTA_PROTO_NUM | CTA_FILTER_F_CTA_PROTO_DST_PORT
    return _delete(CTA_TUPLE_ORIG, proto, CTA_FILTER_ORIG_FLAGS, flags, f"port {port}")


def forget_connections_with(address: str) -> Message:
    """Forgets what is sent by UDP to this address in the end, however it was addressed."""
    source = nest(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, _socket.inet_aton(address)))
    flags = CTA_FILTER_F_CTA_IP_SRC | CTA_FILTER_F_CTA_PROTO_NUM
    return _delete(CTA_TUPLE_REPLY, source + _protocol(), CTA_FILTER_REPLY_FLAGS, flags, address)


def _delete(direction: int, described: bytes, which_flags: int, flags: int, subject: str) -> Message:
    family = bytes((_socket.AF_INET, NFNETLINK_V1, 0, 0))
    other = CTA_FILTER_REPLY_FLAGS if which_flags == CTA_FILTER_ORIG_FLAGS else CTA_FILTER_ORIG_FLAGS
    wanted = nest(CTA_FILTER, attribute(which_flags, flags.to_bytes(4, sys.byteorder)), attribute(other, bytes(4)))
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    return Message("IPCTNL_MSG_CT_DELETE", kind, family + nest(direction, described) + wanted, subject=subject)


def _protocol(*attributes: bytes) -> bytes:
    return nest(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes((_socket.IPPROTO_UDP,))), *attributes)
