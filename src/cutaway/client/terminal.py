"""The caller's terminal while a container's terminal is attached to it (`termios(3)`, `tty_ioctl(4)`).

In raw mode every key, ^C and ^Z among them, goes to the container's terminal, whose line discipline acts on it there.
"""

from __future__ import annotations

import fcntl
import posix
import termios
import tty

from cutaway.client.pump import Pump

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from collections.abc import Callable
    from typing import Any

    from cutaway.client import wire
else:
    import _signal

FATAL = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
SIZE_BYTES = 8
"""sizeof(struct winsize)."""


def attach(connection: _socket.socket, attachment: wire.Attachment) -> int:
    """Connects the caller's terminal to a container's until it exits or the caller detaches; returns the exit code."""
    master = attachment.descriptors["t"]
    _signal.signal(_signal.SIGWINCH, lambda *_: copy_size(master))
    copy_size(master)
    pump = Pump(connection, attachment)
    if "i" not in attachment.descriptors or not posix.isatty(0):
        return pump.run()
    return _raw(pump.run, lambda: copy_size(master))


def copy_size(master: int) -> None:
    """Gives the container's terminal the size of the caller's window, if there is one."""
    for descriptor in (1, 0, 2):
        try:
            size = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * SIZE_BYTES)
            if any(size):
                fcntl.ioctl(master, termios.TIOCSWINSZ, size)
                return
        except OSError:  # not a terminal
            pass


def _raw(run: Callable[[], int], resize: Callable[[], None]) -> int:
    """`run()` with the terminal in raw mode, which is taken back whatever happens."""

    def enter(*_: object) -> None:
        tty.setraw(0, termios.TCSADRAIN)  # drain, not flush: what was typed ahead is for the container
        resize()

    before = termios.tcgetattr(0)
    _restore_before_dying(before)
    _signal.signal(_signal.SIGCONT, enter)
    try:
        enter()
        return run()
    finally:
        _restore(before)


def _restore_before_dying(before: list[Any]) -> None:
    """Signals that end this process, where they are not passed on to the container."""

    def die(number: int, _frame: object) -> None:
        _restore(before)
        _signal.signal(number, _signal.SIG_DFL)
        posix.kill(posix.getpid(), number)

    for number in FATAL:
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, die)


def _restore(before: list[Any]) -> None:
    try:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
    except termios.error:  # the terminal is gone
        pass
