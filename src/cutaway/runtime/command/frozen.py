"""The command's modules in one file, compiled: to find and read them one by one takes as long as all they then do.

`packaging/freeze.py` writes it where the command is installed:

    (the code of this module, {name: (is a package, where its code begins in the file, how many bytes it has)})
    the code of each module, without its docstrings

each as marshal writes it. A module that is not in it is looked for as ever.
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
    from typing import Any


class Frozen:
    """Finds and loads modules; what `sys.meta_path` has in it. `places`: what the file `path` begins with."""

    def __init__(self, path: str, places: dict[str, tuple[bool, int, int]]) -> None:
        self._path, self._places = path, places

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        place = self._places.get(name)
        return ModuleSpec(name, self, is_package=place[0]) if place else None  # type: ignore[arg-type]

    def create_module(self, _: ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        code = self._code(module.__name__)
        module.__file__ = code.co_filename
        exec(code, module.__dict__)

    def _code(self, name: str) -> Any:
        """Opens the file anew each time: what is open is in the way of descriptors that the caller wants preserved."""
        _, begin, size = self._places[name]
        file = posix.open(self._path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return marshal.loads(posix.pread(file, size, begin))
        finally:
            posix.close(file)


def thaw(path: str, places: dict[str, tuple[bool, int, int]]) -> None:
    """Has modules imported from the file from now on."""
    sys.meta_path.insert(0, Frozen(path, places))
