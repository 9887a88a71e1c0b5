"""Signals by name, and exit codes as shells show them. `signal(7)`, `wait(2)`"""

from __future__ import annotations

import os
import signal

from cutaway.engine.errors import InvalidArgument


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def signal_number(name: str) -> int:
    """`9`, `KILL`, `SIGKILL` or `RTMIN+1` as a number. Raises `InvalidArgument`."""
    if name.isdigit() and 0 < int(name) <= signal.SIGRTMAX:
        return int(name)
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    for base, sign in (("SIGRTMIN+", 1), ("SIGRTMAX-", -1)):
        if full.startswith(base) and full.removeprefix(base).isdigit():
            return int(signal.Signals[base[:-1]]) + sign * int(full.removeprefix(base))
    if full in signal.Signals.__members__:
        return int(signal.Signals[full])
    raise InvalidArgument(f"Invalid signal: {name}")
