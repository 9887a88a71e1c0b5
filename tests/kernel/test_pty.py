"""Terminals of a devpts of their own, as the program at their slave end sees them."""

from __future__ import annotations

import errno
import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.kernel import pty
from cutaway.kernel.errors import KernelError
from cutaway.kernel.mounts import mount, unmount
from tests.children import exit_status


@pytest.fixture
def devpts(tmp_path: Path) -> Iterator[Path]:
    mount("devpts", str(tmp_path), "devpts", data="newinstance,ptmxmode=0666,mode=0620")
    yield tmp_path
    unmount(str(tmp_path))


@pytest.fixture
def terminal(devpts: Path) -> Iterator[tuple[int, int]]:
    master = os.open(devpts / "ptmx", os.O_RDWR | os.O_NOCTTY)
    slave = pty.open_slave(master)
    yield master, slave
    os.close(slave)
    os.close(master)


def test_slave_is_of_the_same_devpts(devpts: Path, terminal: tuple[int, int]) -> None:
    _, slave = terminal
    assert os.fstat(slave).st_dev == devpts.stat().st_dev
    assert os.fstat(slave).st_ino == (devpts / "0").stat().st_ino
    assert not os.get_inheritable(slave)


def test_slave_is_not_looked_up_by_name(devpts: Path) -> None:
    """What is mounted over its name, as an image's program could, is not opened."""
    master = os.open(devpts / "ptmx", os.O_RDWR | os.O_NOCTTY)
    mount("/etc/passwd", str(devpts / "0"), flags=0x1000)  # MS_BIND
    try:
        slave = pty.open_slave(master)
        assert os.isatty(slave)
        os.close(slave)
    finally:
        unmount(str(devpts / "0"))
        os.close(master)


@pytest.mark.parametrize("path", ["/dev/null", "/etc/passwd", "/dev/tty0"])
def test_what_is_not_a_ptmx_is_refused(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"there is no {path} here")
    other = os.open(path, os.O_RDONLY | os.O_NOCTTY)
    try:
        with pytest.raises(KernelError, match="not the ptmx of a devpts") as refused:
            pty.open_slave(other)
        assert refused.value.errno == errno.ENOTTY
    finally:
        os.close(other)


def test_slave_is_not_a_ptmx_either(terminal: tuple[int, int]) -> None:
    with pytest.raises(KernelError, match="not the ptmx of a devpts"):
        pty.open_slave(terminal[1])


def test_bytes_pass(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    os.write(master, b"typed\n")
    assert os.read(slave, 100) == b"typed\n"
    assert os.read(master, 100) == b"typed\r\n"  # the terminal's echo


def test_interrupt_reaches_the_session(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    ready, told = os.pipe()

    def session() -> None:
        os.setsid()
        pty.make_controlling(slave)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.write(told, b"+")
        signal.pause()

    pid = os.fork()
    if pid == 0:
        try:
            session()
        finally:
            os._exit(0)
    os.read(ready, 1)
    os.write(master, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    os.close(ready)
    os.close(told)


def test_only_a_session_leader_gets_a_controlling_terminal(terminal: tuple[int, int]) -> None:
    _, slave = terminal

    def not_a_leader() -> None:
        with pytest.raises(KernelError, match="TIOCSCTTY"):
            pty.make_controlling(slave)

    assert exit_status(not_a_leader) == 0


def test_window_size(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    pty.set_window_size(master, 132, 43)
    assert pty.window_size(slave) == (132, 43)
    assert os.get_terminal_size(slave) == (132, 43)
    with open("/dev/null") as other, pytest.raises(KernelError, match="TIOCGWINSZ"):
        pty.window_size(other.fileno())


def test_raw_mode_ends_with_the_block(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    with pytest.raises(RuntimeError), pty.Raw(slave):
        os.write(master, b"\x03")
        assert os.read(slave, 10) == b"\x03"
        raise RuntimeError
    assert termios.tcgetattr(slave) == before
