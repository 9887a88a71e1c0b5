"""What can go wrong with networks, drawn as a tree.

NetworkError
├── InvalidAddress    a subnet or an address that makes no sense, or does not fit
├── SubnetOverlaps    a subnet that the host uses already
├── NoneLeft          no address, subnet or port is free
└── PortTaken         a host port that something else answers on
"""

from __future__ import annotations


class NetworkError(Exception):
    """Base of everything this room raises on purpose; its text is one sentence for the person who asked."""


class InvalidAddress(NetworkError):
    """Nothing was done."""


class SubnetOverlaps(NetworkError):
    """`subnet` is what was asked for, `other` what it overlaps."""

    def __init__(self, subnet: object, other: object) -> None:
        super().__init__(f"subnet {subnet} overlaps {other}, which this host uses already: choose another")
        self.subnet, self.other = subnet, other


class NoneLeft(NetworkError):
    """All are taken."""


class PortTaken(NetworkError):
    """`address` ("0.0.0.0" for all of the host's) and `port` are what was asked for."""

    def __init__(self, address: str, port: int) -> None:
        super().__init__(f"Bind for {address}:{port} failed: port is already allocated")
        self.address, self.port = address, port
