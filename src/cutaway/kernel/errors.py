"""What the kernel says when it refuses. `errno(3)`"""

from __future__ import annotations

import errno
import os


class KernelError(OSError):
    """A system call that failed: `errno` and `strerror` as in OSError, `call` the call's name, `subject` on what, and
    `hint` what can be done about it.

    It is also a `FileNotFoundError`, `PermissionError`, … where Python has such a class for its `errno`.
    """

    _of_kind: dict[tuple[type, type], type] = {}

    def __new__(cls, number: int, call: str, subject: str = "", hint: str = "") -> KernelError:  # noqa: ARG004
        kind = type(OSError(number, ""))
        if kind is not OSError and (cls, kind) not in cls._of_kind:
            cls._of_kind[cls, kind] = type(cls.__name__, (cls, kind), {})
        return super().__new__(cls._of_kind.get((cls, kind), cls), number, os.strerror(number))

    def __init__(self, number: int, call: str, subject: str = "", hint: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.call, self.subject, self.hint = call, subject, hint

    def __str__(self) -> str:
        name = errno.errorcode.get(self.errno or 0, str(self.errno))
        said = f"{self.call}({self.subject}): {name}: {self.strerror}"
        return f"{said}: {self.hint}" if self.hint else said


def sentence(error: Exception) -> str:
    """What went wrong, for a person: without Python's number and quotes."""
    if not isinstance(error, OSError) or type(error).__str__ is not OSError.__str__ or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
