"""Sizes and times as people read them, in Docker's words."""

from __future__ import annotations

import datetime
import re

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_MINUTE, _HOUR = 60, 3600


def size(count: int | float, digits: int = 3) -> str:
    """Bytes in powers of 1000: `"1.99MB"`."""
    return _scaled(count, 1000, _DECIMAL, digits)


def binary_size(count: int | float) -> str:
    """Bytes in powers of 1024: `"23.54GiB"`."""
    return _scaled(count, 1024, _BINARY, 4)


def _scaled(count: int | float, base: int, units: tuple[str, ...], digits: int) -> str:
    amount, unit = float(count), 0
    while amount >= base and unit < len(units) - 1:
        amount, unit = amount / base, unit + 1
    return f"{amount:.{digits}g}".replace("e+03", "000") + units[unit]


def duration(seconds: float) -> str:
    """How long ago, or for how long: `"3 minutes"`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < _MINUTE:
        return f"{whole} seconds"
    minutes = whole // _MINUTE
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    return f"{hours} hours" if hours < 48 else _days(hours)


def _days(hours: int) -> str:
    for limit, length, name in ((14, 1, "days"), (60, 7, "weeks"), (730, 30, "months")):
        if hours < limit * 24:
            return f"{hours // (24 * length)} {name}"
    return f"{hours // (24 * 365)} years"


def seconds_of(moment: str) -> float:
    """An RFC 3339 moment in seconds since 1970; 0 for one that never came."""
    match = _MOMENT.fullmatch(moment)
    if not match:
        raise ValueError(f"not a moment: {moment}")
    if moment.startswith("0001-"):
        return 0.0
    zone = "+00:00" if match[3] == "Z" else match[3]
    whole = datetime.datetime.fromisoformat(match[1] + zone).timestamp()
    return whole + (float(f"0.{match[2]}") if match[2] else 0.0)


def parse_moment(text: str) -> float:
    """A date, with or without a time and a zone (else the host's), in seconds since 1970. Raises `ValueError`."""
    try:
        return seconds_of(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"'{text}' is neither a date, nor seconds since 1970, nor a duration such as 10m") from None


def ago(moment: str, now: float) -> str:
    """`"3 minutes ago"`; `"N/A"` for what never was."""
    return since(seconds_of(moment), now)


def since(then: float, now: float) -> str:
    """The same of a moment in seconds since 1970; 0 never was."""
    return f"{duration(now - then)} ago" if then > 0 else "N/A"


def local_time(seconds: float) -> str:
    """A moment as Go prints it: `"2026-11-21 18:19:54 +0000 UTC"`."""
    return datetime.datetime.fromtimestamp(int(seconds)).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")
