"""Staying with a process until it ends: its terminal, the signals that are meant for it, its exit code."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
from select import POLLIN, poll

from cutaway.kernel.prctl import set_child_subreaper
from cutaway.kernel.pty import Raw, set_window_size, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cutaway.runtime.command.talk import Process
    from cutaway.runtime.command.terminals import Terminal

_KEPT = {
    _signal.SIGKILL, _signal.SIGSTOP, _signal.SIGPIPE, _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE,
    _signal.SIGILL, _signal.SIGURG, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGTSTP, _signal.SIGCONT,
}  # fmt: skip
"""Signals that concern this process and not the one it stays with, or that nobody can catch."""
_MOST_BYTES = 1 << 16


class Foreground:
    """Made when the process is ready to execute its program: then no signal comes too early, and its terminal has its
    size. `reaps`: orphans of the container become this process's children, and are reaped."""

    def __init__(self, process: Process, terminal: Terminal, *, reaps: bool) -> None:
        self._process, self._master = process, terminal.receive()
        self._signals, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(writing)
        for number in _signal.valid_signals() - _KEPT:
            _signal.signal(number, lambda *_: None)
        set_child_subreaper(reaps)
        self._poll = poll()
        for descriptor in (process.pidfd, self._signals, *((0, self._master) if self._master >= 0 else ())):
            self._poll.register(descriptor, POLLIN)
        self._resize()

    def attend(self) -> int:
        """Returns the exit code of the process, 128 and its number for a signal."""
        if self._master < 0 or not os.isatty(0):
            return self._until_its_end()
        with Raw(0):
            return self._until_its_end()

    def _until_its_end(self) -> int:
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._process.pidfd:
                    self._show_the_rest()
                    return self._reap()
                if descriptor == self._signals:
                    self._pass_on(os.read(self._signals, _MOST_BYTES))
                elif descriptor == 0:
                    self._type()
                else:
                    self._show()

    def _pass_on(self, numbers: bytes) -> None:
        for number in numbers:
            if number == _signal.SIGCHLD:
                self._reap_orphans()
                continue
            if number == _signal.SIGWINCH:
                self._resize()
                continue
            try:
                _signal.pidfd_send_signal(self._process.pidfd, number)
            except ProcessLookupError:
                pass

    def _resize(self) -> None:
        """As large as the caller's terminal; one that nobody sees, as in a build, has no size to pass on."""
        if self._master >= 0 and os.isatty(0) and any(size := window_size(0)):
            set_window_size(self._master, *size)

    def _type(self) -> None:
        typed = os.read(0, _MOST_BYTES)
        if not typed:
            self._poll.unregister(0)
        _write_all(self._master, typed or b"\x04")

    def _show(self) -> bool:
        """Passes on what the process has written; False where there is no more."""
        try:
            shown = os.read(self._master, _MOST_BYTES)
        except OSError:  # EIO: nobody has the terminal open any more
            shown = b""
        if shown:
            _write_all(1, shown)
        else:
            self._poll.unregister(self._master)
        return bool(shown)

    def _show_the_rest(self) -> None:
        if self._master < 0:
            return
        rest = poll()
        rest.register(self._master, POLLIN)
        while any(events & POLLIN for _, events in rest.poll(0)) and self._show():
            pass

    def _reap_orphans(self) -> None:
        """All that have ended, but for the process itself, which is looked at when it is its turn."""
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == self._process.pid:
                return
            os.waitpid(ended.si_pid, 0)

    def _reap(self) -> int:
        _, status = os.waitpid(self._process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
