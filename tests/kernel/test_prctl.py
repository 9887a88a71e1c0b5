"""The switches, by what they change for others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.kernel import prctl
from tests.children import exit_status, in_child, proc_status


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_no_new_privs_takes_the_effect_from_setuid_bits(open_directory: Path) -> None:
    program = open_directory / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)

    def effective_user(no_new_privs: bool) -> str:
        if no_new_privs:
            prctl.set_no_new_privs()
        assert prctl.no_new_privs() is no_new_privs
        os.setresuid(65534, 65534, 65534)
        return subprocess.run([program, "-u"], capture_output=True, text=True, check=True).stdout.strip()

    if in_child(lambda: effective_user(False)) != "0":
        pytest.skip(f"setuid bits have no effect in {open_directory}")
    assert in_child(lambda: effective_user(True)) == "65534"


def test_who_is_not_dumpable_cannot_be_looked_into() -> None:
    """By a process of the same user, that is: root of the host may anything."""

    def look_at_each_other(dumpable: bool) -> bool:
        os.setresuid(65534, 65534, 65534)
        prctl.set_dumpable(dumpable)
        assert prctl.dumpable() is dumpable
        parent = os.getpid()
        return exit_status(lambda: os.readlink(f"/proc/{parent}/exe")) == 0

    assert in_child(lambda: look_at_each_other(True))
    assert not in_child(lambda: look_at_each_other(False))


def test_parent_death_signal() -> None:
    reader, writer = os.pipe()

    def leave_a_child() -> int:
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            prctl.set_parent_death_signal(signal.SIGKILL)
            os.write(writer, b"+")
            while True:
                signal.pause()
        os.read(reader, 1)
        return pid

    orphan = in_child(leave_a_child)
    os.close(writer)
    with open(reader, "rb") as channel:
        assert channel.read() == b""  # the kernel closed the orphan's end: it is dead
    assert orphan


def test_child_subreaper_gets_the_orphans() -> None:
    def adopt() -> bool:
        prctl.set_child_subreaper(True)
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                os._exit(7)
            os._exit(0)
        ended = {os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]) for _ in range(2)}
        return ended == {0, 7}

    assert in_child(adopt)


def test_name() -> None:
    def rename() -> str:
        prctl.set_name("a name of twenty characters")
        return proc_status("Name")

    assert in_child(rename) == "a name of twent"


def test_securebits_take_root_s_powers() -> None:
    def without_root() -> str:
        prctl.set_securebits(prctl.SECBIT_NOROOT)
        assert prctl.securebits() == prctl.SECBIT_NOROOT
        return subprocess.run(["grep", "CapEff", "/proc/self/status"], capture_output=True, text=True).stdout

    assert in_child(without_root).split()[1] == "0" * 16


def test_keepcaps_ends_with_exec() -> None:
    def keep() -> str:
        prctl.set_keepcaps(True)
        os.setresuid(65534, 65534, 65534)
        return subprocess.run(["grep", "CapPrm", "/proc/self/status"], capture_output=True, text=True).stdout

    assert in_child(keep).split()[1] == "0" * 16
