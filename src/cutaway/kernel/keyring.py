"""Keys and tickets the kernel keeps for a session. A container gets a session of its own, or it would share the one of
whoever started the engine. `keyrings(7)`, `keyctl(2)`"""

from __future__ import annotations

import errno

from cutaway.kernel.errors import KernelError
from cutaway.kernel.syscalls import call

KEYCTL_JOIN_SESSION_KEYRING = 1


def join_session(name: str) -> None:
    """Joins a new session keyring called `name`. It grants nobody the right to search it, so no second container can
    join it by its name.

    A kernel built without keys (ENOSYS) has nothing to separate; that is no error.
    """
    try:
        call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name, subject=f"KEYCTL_JOIN_SESSION_KEYRING, {name}")
    except KernelError as error:
        if error.errno != errno.ENOSYS:
            raise
