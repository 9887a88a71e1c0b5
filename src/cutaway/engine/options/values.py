"""How the values of options are written: sizes, CPUs, key=value pairs, addresses, limits.

Each function turns the text of a value into what it means and raises `ValueError` with the reason where it is wrong.
"""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction

from cutaway.engine.model import Ulimit
from cutaway.kernel import capabilities, rlimits

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d*)?) ?(?P<unit>[kmgtp]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE, _FALSE = {"1", "t", "T", "TRUE", "true", "True"}, {"0", "f", "F", "FALSE", "false", "False"}
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}", re.IGNORECASE)


def boolean(text: str) -> bool:
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError(f"'{text}' is neither true nor false")


def integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"'{text}' is not a whole number") from None


def pull_policy(text: str) -> str:
    if text not in ("always", "missing", "never"):
        raise ValueError(f"'{text}' is none of always, missing and never")
    return text


def natural(text: str) -> int:
    number = integer(text)
    if not 0 <= number < 1 << 16:
        raise ValueError(f"{number} is not between 0 and 65535")
    return number


def size(text: str) -> int:
    """Bytes: `"64m"`, `"1.5GiB"`; a unit is a power of 1024, as in Docker."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"invalid size: '{text}'")
    return int(Fraction(match["number"]) * 1024 ** _POWERS[match["unit"].lower()])


def size_or_unlimited(text: str) -> int:
    """As `size`; `"-1"` is without limit."""
    return -1 if text == "-1" else size(text)


def nano_cpus(text: str) -> int:
    """CPUs in billionths: `".5"`, `"1/3"` is too precise."""
    try:
        nanos = Fraction(text) * 10**9
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    if nanos.denominator != 1:
        raise ValueError("value is too precise")
    return int(nanos)


def duration(text: str) -> int:
    """Nanoseconds: `"1m30s"`, `"-1.5h"`."""
    unsigned = text.removeprefix("-").removeprefix("+")
    parts = _DURATION_PART.findall(unsigned)
    if "".join(number + unit for number, unit in parts) != unsigned or not parts:
        raise ValueError(f"invalid duration '{text}'")
    total = sum(Fraction(number) * _NANOSECONDS[unit] for number, unit in parts)
    return -int(total) if text.startswith("-") else int(total)


def variable(text: str) -> str:
    """`NAME=value`, or `NAME` alone, which takes the caller's value."""
    if not text.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {text}")
    return text


def label(text: str) -> str:
    if not text.partition("=")[0]:
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def pair(text: str) -> str:
    name, separator, _ = text.partition("=")
    if not name or not separator:
        raise ValueError(f"'{text}' is not of the form key=value")
    return text


def sysctl(text: str) -> str:
    """Only those that belong to a namespace of the container: `sysctl.d(5)`, `namespaces(7)`."""
    name = pair(text).partition("=")[0].replace("/", ".")
    ipc = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"}
    ipc |= {"kernel.shmmni", "kernel.shm_rmid_forced"}
    if ".." not in name and (name in ipc or name.startswith(("net.", "fs.mqueue."))):
        return text
    raise ValueError(f"sysctl '{text}' is not allowed: it does not belong to a namespace of the container")


def address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def ipv4_address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"invalid IPv4 address: {text}") from None


def mac_address(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text} is not a valid mac address")
    return text.lower().replace("-", ":")


def extra_host(text: str) -> str:
    """`host:ip`, `host=ip`, `host=[ip]`; `host-gateway` stands for the host's own address on the bridge."""
    name, separator, place = text.partition("=" if "=" in text else ":")
    if not name or not separator:
        raise ValueError(f'bad format for add-host: "{text}"')
    if place == "host-gateway":
        return f"{name}:{place}"
    try:
        return f"{name}:{address(place.removeprefix('[').removesuffix(']'))}"
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{place}"') from None


def ulimit(text: str) -> Ulimit:
    """`name=soft[:hard]`; -1 is unlimited (`getrlimit(2)`)."""
    name, separator, limits = text.partition("=")
    if not separator:
        raise ValueError(f"invalid ulimit argument: {text}")
    if f"RLIMIT_{name.upper()}" not in rlimits.NUMBERS:
        raise ValueError(f"invalid ulimit type: {name}")
    soft_text, _, hard_text = limits.partition(":")
    soft = integer(soft_text)
    hard = integer(hard_text) if hard_text else soft
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(Name=name.lower(), Soft=soft, Hard=hard)


def key_sequence(text: str) -> str:
    """Keys that detach, such as `ctrl-p,ctrl-q`; `key_bytes` gives what a terminal sends for them."""
    key_bytes(text)
    return text


def key_bytes(text: str) -> bytes:
    return bytes(_key(key) for key in text.split(",")) if text else b""


def _key(name: str) -> int:
    if len(name) == 1 and name.isascii():
        return ord(name)
    letter = name.removeprefix("ctrl-")
    if len(letter) == 1 and (letter in "@[\\]^_" or (letter.isascii() and letter.isalpha())):
        return ord(letter.upper()) & 0x1F
    raise ValueError(f"unknown key '{name}': a single character, or ctrl- and one of a-z, @, [, \\, ], ^, _")


def capability(text: str) -> str:
    """By its full name: `"net_admin"` is `"CAP_NET_ADMIN"`; `"ALL"` is itself (`capabilities(7)`)."""
    name = text.upper()
    if name == "ALL":
        return name
    name = "CAP_" + name.removeprefix("CAP_")
    if name not in capabilities.NUMBERS:
        raise ValueError(f'unknown capability: "{name}"')
    return name
