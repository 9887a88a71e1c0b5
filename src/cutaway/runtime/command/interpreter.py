"""The interpreter that enters containers is one that they cannot write to.

A container can have its first process execute `/proc/self/exe`, which then is this interpreter, and open that for
writing once it is no longer in use: as root on the host's own file (CVE-2019-5736). So a verb that puts a process into
a container runs from a file that cannot be written through what `/proc/PID/exe` leads to: one on a read-only mount (of
a host whose `/usr` is, or the mount made here), an immutable one (as `make install` sets up), or one that belongs to
another user. Any other is executed again, through a read-only mount of it that is attached nowhere.
"""

from __future__ import annotations

import os
import sys

_EXE = "/proc/self/exe"
_PYTHON = (sys.executable, "-I", "-S")


def protect() -> None:
    """Returns where this process runs from an interpreter that is protected; has it start over from one if not.

    Raises `OSError` where the kernel lets no such be made.
    """
    if os.access(_EXE, os.W_OK):  # what root may not write, nobody may: `access(2)` heeds mounts and attributes
        os.execve(_readonly_mount(), [*_PYTHON, *sys.argv], dict(os.environ))


def _readonly_mount() -> int:
    """A descriptor of the interpreter on a mount of its own, which goes with the last process that runs from it."""
    from cutaway.kernel.mounts import MOUNT_ATTR_RDONLY, clone_tree, set_attributes

    here = os.open(_EXE, os.O_PATH | os.O_CLOEXEC)
    mount = clone_tree("", directory=here)
    set_attributes(mount, MOUNT_ATTR_RDONLY)
    return mount
