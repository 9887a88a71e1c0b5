"""Signals by name, and exit codes as shells show them. `signal(7)`, `wait(2)`"""

from __future__ import annotations

import os
import signal

from cutaway.engine.errors import InvalidArgument

_REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
_NUMBERS = {
    **{name.removeprefix("SIG"): int(number) for name, number in signal.Signals.__members__.items()},
    **{f"RTMIN+{number - _REAL_TIME[0]}": number for number in _REAL_TIME},
    **{f"RTMAX-{_REAL_TIME[-1] - number}": number for number in _REAL_TIME},
}


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: the exit code, or 128 and the signal's number."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def signal_number(name: str) -> int:
    """`9`, `KILL`, `SIGKILL` or `RTMIN+1` as a number. Raises `InvalidArgument`."""
    number = int(name) if name.isdecimal() else _NUMBERS.get(name.upper().removeprefix("SIG"), 0)
    if not 0 < number < signal.NSIG:
        raise InvalidArgument(f"Invalid signal: {name}")
    return number
