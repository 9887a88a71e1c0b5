"""A terminal without a screen: what is written to its one end, the slave, a program wrote to its terminal; what is
written to the other, the master, it reads as if typed. `pty(7)`, `ioctl_tty(2)`

Terminals are made by opening `ptmx` of a devpts mount, and every such mount has terminals of its own. The slave has a
name there, `/dev/pts/N`, which whoever controls the tree can make mean something else; it is opened through the master.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cutaway.kernel.errors import KernelError
from cutaway.kernel.statfs import DEVPTS_SUPER_MAGIC, filesystem_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

TIOCSCTTY = 0x540E
TIOCGWINSZ = 0x5413
TIOCSWINSZ = 0x5414
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441

_PTMX = os.makedev(5, 2)
_WINDOW_SIZE = "HHHH"  # struct winsize: rows, columns, and two in pixels that nobody uses


def open_slave(master: int) -> int:
    """Opens the slave of the terminal whose master is given, in the devpts mount that the master is of.

    Raises `KernelError` (ENOTTY) for a descriptor that is not a `ptmx` on devpts.
    """
    if os.fstat(master).st_rdev != _PTMX or filesystem_type(master) != DEVPTS_SUPER_MAGIC:
        raise KernelError(errno.ENOTTY, "TIOCGPTPEER", "a file that is not the ptmx of a devpts")
    _ioctl("TIOCSPTLCK", master, TIOCSPTLCK, struct.pack("i", 0))
    return int(_ioctl("TIOCGPTPEER", master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))


def make_controlling(slave: int) -> None:
    """Makes the terminal the one that sends this process's session its ^C; the process must lead the session."""
    _ioctl("TIOCSCTTY", slave, TIOCSCTTY, 0)


def window_size(terminal: int) -> tuple[int, int]:
    """Columns and rows."""
    rows, columns, _, _ = struct.unpack(_WINDOW_SIZE, _ioctl("TIOCGWINSZ", terminal, TIOCGWINSZ, bytes(8)))
    return columns, rows


def set_window_size(terminal: int, columns: int, rows: int) -> None:
    """Sets the size; if it changes, the terminal's foreground processes get SIGWINCH."""
    _ioctl("TIOCSWINSZ", terminal, TIOCSWINSZ, struct.pack(_WINDOW_SIZE, rows, columns, 0, 0))


def _ioctl(name: str, terminal: int, request: int, argument: int | bytes) -> Any:
    try:
        return fcntl.ioctl(terminal, request, argument)
    except OSError as error:
        raise KernelError(error.errno or 0, name, f"descriptor {terminal}") from None


class Raw:
    """A terminal in raw mode while the block lasts: every key, ^C too, is a byte to read. `termios(3)`

    with Raw(0):
        ...
    """

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal

    def __enter__(self) -> None:
        import termios
        import tty

        self._before = termios.tcgetattr(self.terminal)
        tty.setraw(self.terminal, termios.TCSADRAIN)  # drain, not flush: what was typed ahead is not lost

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        termios.tcsetattr(self.terminal, termios.TCSADRAIN, self._before)
