"""What a volume holds at first: what the image has at its place. It is copied as an archive is, owners and all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.roots import assembled
from cutaway.image import archive
from cutaway.kernel.openat2 import open_in_root

if TYPE_CHECKING:
    from cutaway.engine.containers import Container


def copy_up(container: Container, places: list[tuple[str, str]]) -> None:
    """To each directory that is empty what the image has at its place: `places` holds pairs of place and directory.

    To be called in a thread with mounts of its own. Raises `InvalidArgument` where the image has a file at a place.
    """
    empty = [(place, directory) for place, directory in places if is_empty(directory)]
    if empty:
        with assembled(container, []) as root:
            for place, directory in empty:
                _copy(root, place, directory)


def is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def _copy(root: int, place: str, directory: str) -> None:
    """What `place` inside `root` holds, and its own owner, mode and attributes; nothing where it is missing."""
    try:
        source = open_in_root(root, place, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InvalidArgument(f"cannot mount volume over existing file, file exists {place}") from None
    target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        archive.unpack(target, ".", archive.packed(source, "/", "."))
    finally:
        os.close(source)
        os.close(target)
