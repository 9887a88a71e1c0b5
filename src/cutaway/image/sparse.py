"""Sparse files: where a file has contents and where it has holes, stretches of zeros that take no room. `lseek(2)`"""

from __future__ import annotations

import errno
import os

_SHORTEST = 1 << 16  # bytes a hole must have to be kept
_MOST = 20_000  # segments: a map of more would be longer than readers of tar archives accept (1 MiB)


def segments(file: int, size: int) -> list[tuple[int, int]] | None:
    """The (offset, length) parts of the first `size` bytes of an open file that hold something; None where it has no
    hole to speak of. Of very many holes only the longest are kept."""
    found = list(_stretches(file, size))
    shortest = _SHORTEST
    joined = _joined(found, shortest)
    while len(joined) > _MOST:
        shortest *= 2
        joined = _joined(joined, shortest)
    held = sum(length for _, length in joined)
    return joined if size - held >= _SHORTEST else None


def _stretches(file: int, size: int) -> list[tuple[int, int]]:
    found = []
    end = 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole follows
                break
            raise
        end = min(os.lseek(file, begin, os.SEEK_HOLE), size)
        if begin < end:
            found.append((begin, end - begin))
    return found


def _joined(parts: list[tuple[int, int]], shortest: int) -> list[tuple[int, int]]:
    """The same parts, those with less than `shortest` bytes between them made one."""
    joined: list[tuple[int, int]] = []
    for offset, length in parts:
        begin, before = joined[-1] if joined else (0, 0)
        if offset - (begin + before) < shortest:
            joined[-1:] = [(begin, offset + length - begin)]
        else:
            joined.append((offset, length))
    return joined
