"""The command's modules in one file, compiled: to find and read them one by one takes as long as all they then do.

`packaging/freeze.py` writes it where the command is installed:

    (the code of this module, {name: (is a package, where its code begins in the file, how many bytes it has)})
    the code of each module, without its docstrings

each as marshal writes it. A module that is not in it is looked for as ever, and so is every one once another file is in
its place: places in that are others.
"""

from __future__ import annotations

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class Frozen:
    """Finds and loads modules; what `sys.meta_path` has in it. `places`: what the file `path` begins with, which is the
    one that `stamp` tells from those that will replace it."""

    def __init__(self, path: str, stamp: tuple[int, int], places: dict[str, tuple[bool, int, int]]) -> None:
        self._path, self._stamp, self._places = path, stamp, places

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self._places:
            return None
        is_package, begin, size = self._places[name]
        content = self._read(begin, size)
        if not content:
            return None
        code = marshal.loads(content)
        spec = ModuleSpec(name, self, loader_state=code, is_package=is_package)  # type: ignore[arg-type]
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(code.co_filename.rpartition("/")[0])
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        code = module.__spec__.loader_state  # type: ignore[union-attr]
        module.__file__ = code.co_filename
        exec(code, module.__dict__)

    def _read(self, begin: int, size: int) -> bytes:
        """Opens the file anew each time: what is open is in the way of descriptors that the caller wants preserved.
        Nothing where it is no longer the same."""
        try:
            file = posix.open(self._path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return posix.pread(file, size, begin) if stamp_of(file) == self._stamp else b""
        finally:
            posix.close(file)


def stamp_of(file: int) -> tuple[int, int]:
    """What tells an open file from others that had or will have its name."""
    seen = posix.fstat(file)
    return seen.st_ino, seen.st_mtime_ns


def thaw(path: str, stamp: tuple[int, int], places: dict[str, tuple[bool, int, int]]) -> None:
    """Has modules imported from the file from now on."""
    sys.meta_path.insert(0, Frozen(path, stamp, places))
