"""What system calls take from C: its types, memory at an address, the functions of its libraries.

These are `ctypes`' own, from the extension that it is written around. `ctypes` itself prepares much that nobody here
needs, and to import it takes as long as all mounts of a container: `cutaway-oci` does so each time.
<https://docs.python.org/3/library/ctypes.html>
"""

from __future__ import annotations

from _ctypes import (
    FUNCFLAG_CDECL,
    FUNCFLAG_PYTHONAPI,
    FUNCFLAG_USE_ERRNO,
    CFuncPtr,
    _SimpleCData,
    addressof,
    dlopen,
    dlsym,
    get_errno,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char, c_int, c_long, c_uint32, c_uint64, c_void_p
    from typing import Any
else:

    class c_char(_SimpleCData):
        _type_ = "c"

    class c_int(_SimpleCData):
        _type_ = "i"

    class c_long(_SimpleCData):
        _type_ = "l"

    class c_uint32(_SimpleCData):
        _type_ = "I"

    class c_uint64(_SimpleCData):
        _type_ = "Q"

    class c_void_p(_SimpleCData):
        _type_ = "P"


__all__ = [
    "Library", "addressof", "c_char", "c_int", "c_long", "c_uint32", "c_uint64", "c_void_p", "get_errno", "memory_of",
]  # fmt: skip


class Library:
    """A shared library, or (None) what this process is made of; its functions are attributes that return an `int`.

    While one runs other threads do, too, unless it `holds_the_lock` of the interpreter. Raises `OSError` for a library
    that cannot be loaded, `AttributeError` for a function that is not in it.
    """

    def __init__(self, name: str | None = None, *, holds_the_lock: bool = False) -> None:
        flags = FUNCFLAG_CDECL | FUNCFLAG_USE_ERRNO | (FUNCFLAG_PYTHONAPI if holds_the_lock else 0)
        self._handle = dlopen(name, 0)  # type: ignore[arg-type]
        self._function = type("Function", (CFuncPtr,), {"_flags_": flags, "_restype_": c_int})

    def __getattr__(self, name: str) -> Any:
        function = self._function((name, self))
        setattr(self, name, function)
        return function

    def pointer(self, variable: str) -> int:
        """The address that is in one of the library's variables."""
        return c_void_p.from_address(dlsym(self._handle, variable)).value or 0


def memory_of(content: bytes | bytearray) -> Array[c_char]:
    """A copy of `content` in memory whose address C may have, as long as what this returns is kept."""
    return (c_char * len(content)).from_buffer_copy(content)
