"""Sparse files: a long run of zeros is kept as a hole, which takes no room on the disk. `lseek(2)`

In the layers that we make they are zeros like any others. tar has forms for holes, which Docker, podman and buildah can
unpack; but they cannot save or push the image then: they make the archive anew from its files, and it is another one.
"""

from __future__ import annotations

import os

LONG = 1 << 16
"""Bytes of zeros that make a hole."""
_ZEROS = bytes(LONG)


def write(file: int, content: memoryview) -> None:
    """Writes at the file's offset, where nothing is yet; `end` has to follow when `LONG` bytes or more were written."""
    begin = 0
    for at in range(0, len(content) - LONG + 1, LONG):
        if _ZEROS.startswith(content[at : at + LONG]):
            _write(file, content[begin:at])
            os.lseek(file, LONG, os.SEEK_CUR)
            begin = at + LONG
    _write(file, content[begin:])


def end(file: int) -> None:
    """Gives the file its length, of which a hole may be the last part."""
    os.ftruncate(file, os.lseek(file, 0, os.SEEK_CUR))


def _write(file: int, content: memoryview) -> None:
    while content:
        content = content[os.write(file, content) :]
