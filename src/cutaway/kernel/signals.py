"""What a process does when a signal arrives: `signal(7)`. What is ignored stays so across `execve(2)`."""

from __future__ import annotations

from cutaway.kernel.syscalls import call

_OF_THE_C_LIBRARY = (32, 33)
"""Signals that the C library keeps for its threads: it lets nobody set them (`nptl(7)`), and `posix_spawn(3)` leaves
them ignored."""
_DEFAULT_ACTION = bytes(32)
"""A struct sigaction as the kernel has it: SIG_DFL, no flags, an empty mask."""
_SIGNAL_SET_BYTES = 8


def stop_ignoring_reserved() -> None:
    """Has the C library's signals act as they do in a process that no library has touched."""
    for number in _OF_THE_C_LIBRARY:
        call("rt_sigaction", number, _DEFAULT_ACTION, None, _SIGNAL_SET_BYTES, subject=str(number))
