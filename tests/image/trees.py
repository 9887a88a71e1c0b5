"""Archives made member by member, and trees seen whole, so that two can be compared."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive; `fields` are those of `tarfile.TarInfo`."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.mode = kind, len(content), 0o755 if kind == tarfile.DIRTYPE else 0o644
    entry.mtime = 1_600_000_000
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry, content


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.DIRTYPE, **fields)


def link(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.SYMTYPE, linkname=target, **fields)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, kind=tarfile.LNKTYPE, linkname=target)


def archive(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar archive of these members, in PAX form, exactly as they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in members:
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def seen(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Every path below `root` with all there is to it: kind, mode, owner, contents, attributes, links, times."""
    first_names: dict[int, str] = {}
    return {path: _described(root / path, path, first_names, times) for path in _paths(root)}


def _paths(root: Path) -> Iterator[str]:
    for above, directories, files in os.walk(root):
        yield from (os.path.relpath(os.path.join(above, name), root) for name in sorted(directories + files))


def _described(path: Path, name: str, first_names: dict[int, str], times: bool) -> tuple[object, ...]:
    status = path.lstat()
    attributes = {
        key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
    }
    content: object = None
    if stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        content = status.st_rdev
    same_file = first_names.setdefault(status.st_ino, name)
    owner = (status.st_uid, status.st_gid)
    return stat.filemode(status.st_mode), owner, content, attributes, same_file, status.st_mtime_ns if times else None
