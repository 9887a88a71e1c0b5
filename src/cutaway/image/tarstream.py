"""Reading tar archives from a stream of chunks: `tar(5)` of libarchive, POSIX `pax`, GNU tar's manual.

Forms: V7, ustar, GNU (long names, old sparse files) and PAX (all records that matter, three sparse forms). The
archive may be hostile: nothing it says makes this read more than `SPECIAL_LARGEST` bytes at once, contents pass
through in pieces, and every number is checked.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator

from cutaway.image.errors import BrokenArchive

BLOCK = 512
SPECIAL_LARGEST = 1 << 20
"""Bytes that one long name, PAX header or sparse map may have; Go's reader, hence Docker, has the same bound."""

REGULAR, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_CONTIGUOUS, _SPARSE, _OLD_REGULAR = b"7", b"S", b"\0"
_LONG_NAME, _LONG_LINK, _PAX, _SOLARIS_PAX, _GLOBAL, _VOLUME_LABEL = b"L", b"K", b"x", b"X", b"g", b"V"

_WITHOUT_CONTENTS = (LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)
"""Kinds that nothing follows, whatever size their headers state."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_CHECKSUM = slice(148, 156)
_SIZE_LARGEST = 1 << 62  # bytes; what file offsets can express, with room to add
_FILE_CHUNK = 64 << 10
_XATTR = b"SCHILY.xattr."
_NUL_BLOCK = bytes(BLOCK)


class Stream:
    """Bytes that come in chunks of any length, taken in lengths the reader wants, without copying where possible."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces; raises `BrokenArchive` where the stream ends before."""
        while size > 0:
            if not self._left and not self._next():
                raise BrokenArchive("the archive ends in the middle of a file")
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            yield piece

    def take(self, size: int) -> bytes:
        """The next `size` bytes; fewer only where the stream ends."""
        if len(self._left) < size:
            joined = bytearray(self._left)
            while len(joined) < size and self._next():
                joined += self._left
            self._left = memoryview(bytes(joined))
        taken, self._left = bytes(self._left[:size]), self._left[size:]
        return taken

    def skip(self, size: int) -> None:
        """Goes on behind the next `size` bytes."""
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        """Reads what is left, so that a digest over the stream covers all of it."""
        while self._next():
            pass

    def _next(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._left = memoryview(chunk)
                return True
        self._left = memoryview(b"")
        return False


class FileStream(Stream):
    """The bytes of a file from where it stands, of which long stretches can be skipped without being read."""

    def __init__(self, file: int) -> None:
        self._file, self._offset = file, os.lseek(file, 0, os.SEEK_CUR)
        super().__init__(self._read())

    def _read(self) -> Iterator[bytes]:
        while chunk := os.pread(self._file, _FILE_CHUNK, self._offset):
            self._offset += len(chunk)
            yield chunk

    @property
    def position(self) -> int:
        """The offset in the file of the byte that comes next."""
        return self._offset - len(self._left)

    def skip(self, size: int) -> None:
        if size > len(self._left):
            self._offset, self._left = self.position + size, memoryview(b"")
        else:
            self._left = self._left[size:]


class Entry:
    """One member: `kind` is a tar type, `mtime` in nanoseconds since 1970, `device` (major, minor), names as bytes.

    `segments` are the (offset, length) parts of a sparse file that have contents; None for an ordinary file.
    """

    __slots__ = ("device", "gid", "kind", "linkname", "mode", "mtime", "name", "segments", "size", "uid", "xattrs")

    def __init__(self, name: bytes, kind: bytes = REGULAR) -> None:
        self.name, self.kind, self.linkname = name, kind, b""
        self.mode = self.uid = self.gid = self.size = self.mtime = 0
        self.device = (0, 0)
        self.xattrs: dict[bytes, bytes] = {}
        self.segments: list[tuple[int, int]] | None = None


class Reader:
    """The members of a tar archive in order: iterate, and read each one's `contents` before going on, or not at all."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._globals: dict[bytes, bytes] = {}
        self._stored = 0  # bytes of the current member that are still in the stream
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next_entry()) is not None:
            yield entry
            self.skip()

    def contents(self, size: int | None = None) -> Iterator[memoryview]:
        """The next `size` bytes that the archive holds of the current member, or all, in pieces."""
        for piece in self.stream.pieces(self._stored if size is None else size):
            self._stored -= len(piece)
            yield piece

    def skip(self) -> None:
        """Goes on to the next member's header."""
        self.stream.skip(self._stored + self._padding)
        self._stored = self._padding = 0

    def _next_entry(self) -> Entry | None:
        records: dict[bytes, bytes] = {}
        while (block := self._header()) is not None:
            entry = _entry(block)
            self._expect(entry)
            if entry.kind in (_PAX, _SOLARIS_PAX):
                records |= _pax_records(self._special())
            elif entry.kind == _GLOBAL:
                self._globals |= _pax_records(self._special())
            elif entry.kind == _LONG_NAME:
                records[b"path"] = self._special().partition(b"\0")[0]
            elif entry.kind == _LONG_LINK:
                records[b"linkpath"] = self._special().partition(b"\0")[0]
            elif entry.kind == _VOLUME_LABEL:
                self.skip()
            else:
                return self._complete(entry, block, self._globals | records if self._globals else records)
        if records:
            raise BrokenArchive("the archive ends after a header that describes a file which does not follow")
        return None

    def _header(self) -> bytes | None:
        block = self.stream.take(BLOCK)
        if not block or block == _NUL_BLOCK:
            return None
        if len(block) < BLOCK:
            raise BrokenArchive("the archive ends in the middle of a header")
        return block

    def _expect(self, entry: Entry) -> None:
        if not 0 <= entry.size <= _SIZE_LARGEST:
            raise BrokenArchive(f"{shown(entry.name)} has an impossible size: {entry.size}")
        size = 0 if entry.kind in _WITHOUT_CONTENTS else entry.size
        self._stored, self._padding = size, -size % BLOCK

    def _special(self) -> bytes:
        if self._stored > SPECIAL_LARGEST:
            raise BrokenArchive(f"a header of {self._stored} bytes; more than {SPECIAL_LARGEST} are not accepted")
        content = b"".join(self.contents())
        self.skip()
        return content

    def _complete(self, entry: Entry, block: bytes, records: dict[bytes, bytes]) -> Entry:
        if records:
            _apply(entry, records)
            self._expect(entry)
        if entry.kind == _SPARSE:
            entry.kind, entry.segments = REGULAR, self._old_sparse_map(block)
            entry.size = _number(block[483:495])
        elif any(record.startswith(b"GNU.sparse.") for record in records):
            entry.segments = self._pax_sparse_map(records)
            entry.size = _decimal(records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size", b"0"))
        if entry.segments is not None:
            _check_segments(entry.segments, entry.size, self._stored)
        if entry.kind in (_OLD_REGULAR, _CONTIGUOUS):
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else REGULAR
        return entry

    def _old_sparse_map(self, block: bytes) -> list[tuple[int, int]]:
        segments = _old_segments(block[386:482])
        extended, count = block[482], 1
        while extended:
            extension = self.stream.take(BLOCK)
            count += 1
            if len(extension) < BLOCK or count * BLOCK > SPECIAL_LARGEST:
                raise BrokenArchive("a sparse file whose map of contents does not end")
            segments += _old_segments(extension[:504])
            extended = extension[504]
        return segments

    def _pax_sparse_map(self, records: dict[bytes, bytes]) -> list[tuple[int, int]]:
        if records.get(b"GNU.sparse.major") == b"1":
            return self._sparse_map_in_contents()
        numbers = [_decimal(number) for number in records.get(b"GNU.sparse.map", b"").split(b",") if number]
        return list(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else _broken_map()

    def _sparse_map_in_contents(self) -> list[tuple[int, int]]:
        lines: list[bytes] = []
        text, read, wanted = b"", 0, 1
        while len(lines) < wanted:
            block = self.stream.take(min(BLOCK, self._stored))
            read += BLOCK
            self._stored -= len(block)
            if len(block) < BLOCK or read > SPECIAL_LARGEST:
                _broken_map()
            *complete, text = (text + block).split(b"\n")
            lines += complete
            wanted = 1 + 2 * _decimal(lines[0]) if lines else 1
        numbers = [_decimal(line) for line in lines[1:wanted]]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _entry(block: bytes) -> Entry:
    (name, mode, uid, gid, size, mtime, checksum, kind, linkname, magic, _, _, major, minor, prefix) = _HEADER.unpack(
        block
    )
    if not _checksum_holds(block, _number(checksum)):
        raise BrokenArchive("this is not a tar archive, or it is damaged: a header's checksum is wrong")
    name = name.partition(b"\0")[0]
    if magic.startswith(b"ustar\0") and prefix[0]:
        name = prefix.partition(b"\0")[0] + b"/" + name
    entry = Entry(name, kind)
    entry.linkname = linkname.partition(b"\0")[0]
    entry.mode, entry.uid, entry.gid = _number(mode) & 0o7777, _number(uid), _number(gid)
    entry.size, entry.mtime = _number(size), _number(mtime) * 1_000_000_000
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.device = (_number(major), _number(minor))
    return entry


def _checksum_holds(block: bytes, stated: int) -> bool:
    rest = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
    return sum(rest) == stated or sum(byte - 256 if byte > 127 else byte for byte in rest) == stated


def _number(field: bytes) -> int:
    """A header's number: octal text, or GNU's base 256 where the first bit is set."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") - (1 << bits)
        return value - (1 << bits) if field[0] & 0x40 else value
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise BrokenArchive(f"this is not a tar archive, or it is damaged: {field!r} is no number") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise BrokenArchive(f"the archive is damaged: {text[:40]!r} is no number")
    return int(text)


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """The records `length key=value\\n` of a PAX header; the map of sparse form 0.0 is brought into form 0.1."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(content) and content[at]:
        length = _decimal(content[at : at + 21].partition(b" ")[0])
        record = content[at : at + length]
        key, equals, value = record.partition(b" ")[2].partition(b"=")
        if not equals or not record.endswith(b"\n"):
            raise BrokenArchive("the archive is damaged: a PAX header that is none")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value[:-1])
        records[key] = value[:-1]
        at += length
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def _apply(entry: Entry, records: dict[bytes, bytes]) -> None:
    entry.name = records.get(b"GNU.sparse.name") or records.get(b"path") or entry.name
    entry.linkname = records.get(b"linkpath") or entry.linkname
    for field in ("size", "uid", "gid"):
        if text := records.get(field.encode()):
            setattr(entry, field, _decimal(text))
    if text := records.get(b"mtime"):
        entry.mtime = _nanoseconds(text)
    for key, value in records.items():
        if key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value


def _nanoseconds(text: bytes) -> int:
    sign, whole, _, fraction = text[:1] == b"-", *text.lstrip(b"-").partition(b".")
    nanoseconds = _decimal(whole) * 1_000_000_000 + _decimal(fraction[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def _old_segments(fields: bytes) -> list[tuple[int, int]]:
    numbers = [_number(fields[at : at + 12]) for at in range(0, len(fields), 12) if fields[at]]
    return list(zip(numbers[::2], numbers[1::2], strict=True)) if len(numbers) % 2 == 0 else _broken_map()


def _check_segments(segments: list[tuple[int, int]], size: int, stored: int) -> None:
    end = 0
    for offset, length in segments:
        if offset < end or length < 0:
            _broken_map()
        end = offset + length
    if end > size or sum(length for _, length in segments) != stored:
        _broken_map()


def _broken_map() -> list[tuple[int, int]]:
    raise BrokenArchive("the archive is damaged: a sparse file whose map of contents does not fit")


def shown(name: bytes) -> str:
    """A name from an archive as an error message may carry it: printable, and not endless."""
    text = name.decode(errors="replace")
    return ascii(text if len(text) <= 200 else text[:200] + "…")[1:-1]
