"""Writing tar archives: `ustar` headers, and PAX records before those that they cannot express. `pax(1)`

The same entries make the same bytes, always: no names of owners, no process's ID, no time but the files' own.
"""

from __future__ import annotations

from cutaway.image.tarstream import BLOCK, Entry

END = bytes(2 * BLOCK)
"""What closes an archive."""

_OCTAL_ID, _OCTAL_SIZE = 0o7777777, 0o77777777777  # the largest that seven and eleven digits hold
_SECOND = 1_000_000_000  # nanoseconds
_PAX_NAME = b"PaxHeader"


def header(entry: Entry) -> bytes:
    """The blocks in front of the entry's contents."""
    records = _records(entry)
    if not records:
        return _block(entry)
    pax = Entry(_PAX_NAME, b"x")
    pax.mode, content = 0o644, b"".join(_record(key, value) for key, value in records.items())
    pax.size = len(content)
    return _block(pax) + content + padding(len(content)) + _block(entry)


def padding(size: int) -> bytes:
    """What follows contents of `size` bytes."""
    return bytes(-size % BLOCK)


def _records(entry: Entry) -> dict[bytes, bytes]:
    records = {}
    if len(entry.name) > 100:
        records[b"path"] = entry.name
    if len(entry.linkname) > 100:
        records[b"linkpath"] = entry.linkname
    for key, number, largest in ((b"uid", entry.uid, _OCTAL_ID), (b"gid", entry.gid, _OCTAL_ID)):
        if number > largest:
            records[key] = b"%d" % number
    if entry.size > _OCTAL_SIZE:
        records[b"size"] = b"%d" % entry.size
    if entry.mtime % _SECOND or not 0 <= entry.mtime // _SECOND <= _OCTAL_SIZE:
        records[b"mtime"] = _decimal(entry.mtime)
    return records | {b"SCHILY.xattr." + name: value for name, value in sorted(entry.xattrs.items())}


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`, where the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _decimal(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), _SECOND)
    return b"%s%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, fraction)


def _block(entry: Entry) -> bytes:
    major, minor = entry.device
    fields = [
        entry.name[:100].ljust(100, b"\0"),
        _octal(entry.mode, 8),
        _octal(entry.uid if entry.uid <= _OCTAL_ID else 0, 8),
        _octal(entry.gid if entry.gid <= _OCTAL_ID else 0, 8),
        _octal(entry.size if entry.size <= _OCTAL_SIZE else 0, 12),
        _octal(min(max(entry.mtime // _SECOND, 0), _OCTAL_SIZE), 12),
        b" " * 8,
        entry.kind,
        entry.linkname[:100].ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        _octal(major, 8),
        _octal(minor, 8),
    ]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)
