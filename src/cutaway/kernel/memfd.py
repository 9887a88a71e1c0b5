"""A file that exists only in memory and, once sealed, can be changed by nobody: `memfd_create(2)`.

A process that runs from such a copy of the interpreter has nothing behind `/proc/self/exe` that a container could
overwrite on the host.
"""

from __future__ import annotations

import errno
import fcntl
import os

_MFD_EXEC = 0x10  # since Linux 6.3; before, every memfd may be executed
_TRIES = 10
_F_SEAL_ALL = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def sealed_copy(path: str) -> int:
    """A descriptor of an executable, sealed copy of the file at `path`, closing on exec."""
    copy = _create(os.path.basename(path))
    try:
        with open(path, "rb") as original:
            while os.sendfile(copy, original.fileno(), None, 1 << 30):
                pass
        _seal(copy)
    except BaseException:
        os.close(copy)
        raise
    return copy


def _seal(copy: int) -> None:
    """Once nobody holds on to its pages, as the kernel itself does at times: it waits for that, but not for long."""
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _F_SEAL_ALL)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not tries_left:
                raise


def _create(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_EXEC)
    except OSError:
        return os.memfd_create(name, flags)
