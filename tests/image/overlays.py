"""Layers as a container sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cutaway.kernel.mounts import unmount
from cutaway.kernel.overlay import mount_overlay


@contextmanager
def mounted(lower_dirs: Sequence[str], where: Path) -> Iterator[Path]:
    """An overlay of `lower_dirs`, the topmost first, with its upper directory `where/upper`."""
    for name in ("upper", "work", "merged"):
        (where / name).mkdir()
    mount_overlay(str(where / "merged"), list(lower_dirs), str(where / "upper"), str(where / "work"))
    try:
        yield where / "merged"
    finally:
        unmount(str(where / "merged"))
