"""Numbers as people read them."""

from __future__ import annotations

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def size(count: float | None) -> str:
    """Bytes: `"1.5 MiB"`; "?" where they are not known."""
    if count is None:
        return "?"
    unit = 0
    while count >= 1024 and unit < len(_SIZES) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_SIZES[unit]}" if unit == 0 or count >= 100 else f"{_brief(count)} {_SIZES[unit]}"


def short(count: float) -> str:
    """Bytes in a column: `"1.5M"`."""
    return size(count).replace(" ", "").replace("iB", "")


def seconds(count: float) -> str:
    """A time that was used: `"0.03 s"`, `"12 s"`, `"3 min 20 s"`, `"5 h 2 min"`."""
    if count < 60:
        return f"{count:.2f} s" if count < 10 else f"{count:.0f} s"
    minutes, rest = divmod(int(count), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(count: float) -> str:
    """How long since: `"3 hours"`."""
    for length, name in _SPANS:
        if count >= length:
            number = int(count // length)
            return f"{number} {name}{'s' if number != 1 else ''}"
    return "a moment"


def age(count: float) -> str:
    """The same where there is little room: `"3 h"`."""
    return next(
        (
            f"{int(count // length)} {name[:3] if name == 'minute' else name[0]}"
            for length, name in _SPANS
            if count >= length
        ),
        "0 s",
    )


def cpus(count: float) -> str:
    """`"0.5 CPUs"`, `"1 CPU"`."""
    return f"{count:.2f}".rstrip("0").rstrip(".") + (" CPU" if count == 1 else " CPUs")


def number(count: int, noun: str) -> str:
    """`"1 file"`, `"2 files"`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", "\u202f")


def share(part: float, whole: float) -> float:
    """Which part of the whole it is, from 0 to 1."""
    return min(max(part / whole, 0.0), 1.0) if whole else 0.0


def _brief(count: float) -> str:
    return f"{count:.1f}".removesuffix(".0")
