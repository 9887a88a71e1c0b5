"""Files on their way into and out of a container: tar archives (`tar(5)`) in memory."""

from __future__ import annotations

import io
import os
import tarfile

from cutaway.client.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_FRAME = 64 << 10
"""Bytes; more than an archive adds to one file: its headers, extended attributes among them, and its end."""


def packed(name: str, source: bytes | str | os.PathLike[str], mode: int) -> BinaryIO:
    """An archive of one file with these bytes, or this text, and mode; or of a file or directory of this host. Raises
    `OSError` where that cannot be read."""
    if name in ("", ".", ".."):
        raise InvalidArgument("the path in the container has to end with the name of a file")
    file = open(os.memfd_create("archive", os.MFD_CLOEXEC), "w+b")  # noqa: SIM115, it is returned
    try:
        with tarfile.open(fileobj=file, mode="w") as tar:
            if isinstance(source, os.PathLike):
                tar.add(source, name)
            else:
                content = source.encode() if isinstance(source, str) else source
                tar.addfile(_member(name, len(content), mode), io.BytesIO(content))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _member(name: str, size: int, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, mode
    return member


def size_with(content: int) -> int:
    """How large an archive of a file with so many bytes may be."""
    return content + _FRAME


def only_file(path: str, archive: bytes) -> bytes:
    """What the one file in an archive holds. Raises `InvalidArgument` where `path` is something else than a file."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        member = tar.next()
        content = tar.extractfile(member) if member and member.isreg() else None
        if content is None:
            raise InvalidArgument(f"{path} is not a regular file")
        return content.read()
