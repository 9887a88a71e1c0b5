"""Which file system a descriptor's file really is on, whatever its path claims. `fstatfs(2)`"""

from __future__ import annotations

from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import c_long, get_errno
from cutaway.kernel.syscalls import libc

PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1

_Status = c_long * 32  # struct statfs, which begins with the magic number


def filesystem_type(descriptor: int) -> int:
    """The file system's magic number, as `linux/magic.h` has them."""
    status = _Status()
    if libc.fstatfs(descriptor, status) == -1:
        raise KernelError(get_errno(), "fstatfs", f"descriptor {descriptor}")
    return int(status[0])
