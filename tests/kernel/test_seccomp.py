"""Filters by what they do to a process that is under them, and what is kept on disk by what it takes to be believed."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.kernel import capabilities, prctl, seccomp
from cutaway.kernel.syscalls import libc
from tests.children import exit_status, in_child, proc_status

_SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
_SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
_ALLOW_ALL = struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)


def profile(*syscalls: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(syscalls), **more}


def refuse(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", **more}


def under(loaded: dict[str, Any], act: Callable[[], object]) -> int | None:
    """The errno that `act` fails with in a child under the profile; None where it succeeds."""
    program = seccomp.compile(loaded)

    def child() -> int | None:
        seccomp.load(program)
        try:
            act()
        except OSError as error:
            return error.errno
        return None

    return in_child(child)


def death(action: str) -> int:
    program = seccomp.compile(profile({"names": ["getppid"], "action": action}))

    def child() -> None:
        seccomp.load(program)
        os.getppid()

    return exit_status(child)


def test_refused_calls_fail() -> None:
    refused = profile(refuse("mkdir", "mkdirat"), refuse("rmdir", errnoRet=errno.EROFS))
    assert under(refused, lambda: os.mkdir("/tmp")) == errno.EPERM
    assert under(refused, lambda: os.rmdir("/tmp")) == errno.EROFS
    assert under(refused, lambda: os.listdir("/tmp")) is None


def test_a_filter_stays_over_exec() -> None:
    program = seccomp.compile(profile(refuse("mkdir", "mkdirat", errnoRet=errno.EDQUOT)))

    def child() -> None:
        seccomp.load(program)
        assert proc_status("Seccomp") == "2"
        os.execv("/bin/sh", ["sh", "-c", "mkdir /tmp/never 2>&1 | grep -q 'quota exceeded'"])

    assert exit_status(child) == 0


def test_default_action_is_for_all_others() -> None:
    needed = ["exit_group", "exit", "brk", "mmap", "munmap", "write", "close", "futex", "rt_sigprocmask", "openat",
              "lseek", "fstat", "newfstatat", "read", "ioctl", "clock_gettime", "madvise", "mprotect"]  # fmt: skip
    rest = profile(
        {"names": needed, "action": "SCMP_ACT_ALLOW"}, default="SCMP_ACT_ERRNO", defaultErrnoRet=errno.ENODEV
    )
    assert under(rest, lambda: os.rmdir("/tmp")) == errno.ENODEV
    assert under(rest, lambda: os.close(os.open("/etc/passwd", os.O_RDONLY))) is None


def test_calls_newer_than_the_profile_are_not_there() -> None:
    """So that a C library falls back to the older call, which it does not on EPERM."""
    allowed = {"names": ["read", "write", "exit_group", "openat2"], "action": "SCMP_ACT_ALLOW"}
    program = seccomp.compile(profile(allowed, default="SCMP_ACT_ERRNO"))

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        seccomp.load(program)
        results = bytearray()
        for call in (436, 437, 438):
            libc.syscall(ctypes.c_long(call), -1, 0, -1, 0)
            results.append(ctypes.get_errno())
        os.write(writer, results)
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as channel:
        assert list(channel.read()) == [errno.EPERM, errno.EINVAL, errno.ENOSYS]


def test_actions_that_kill() -> None:
    assert death("SCMP_ACT_KILL_PROCESS") == -signal.SIGSYS
    assert death("SCMP_ACT_KILL") == -signal.SIGSYS
    assert death("SCMP_ACT_TRAP") == -signal.SIGSYS


def test_actions_that_only_tell() -> None:
    assert death("SCMP_ACT_LOG") == 0
    assert death("SCMP_ACT_ALLOW") == 0
    tracer = profile({"names": ["getpgid"], "action": "SCMP_ACT_TRACE", "errnoRet": 7})
    assert under(tracer, lambda: os.getpgid(0)) == errno.ENOSYS  # there is no tracer


@pytest.mark.parametrize(
    ("op", "value", "two", "refused"),
    [
        ("SCMP_CMP_EQ", 5, None, [5]),
        ("SCMP_CMP_NE", 5, None, [4, 6]),
        ("SCMP_CMP_LT", 5, None, [4]),
        ("SCMP_CMP_LE", 5, None, [4, 5]),
        ("SCMP_CMP_GE", 5, None, [5, 6]),
        ("SCMP_CMP_GT", 5, None, [6]),
        ("SCMP_CMP_MASKED_EQ", 4, 4, [4, 5, 6]),
        ("SCMP_CMP_MASKED_EQ", 1, 1, [5]),
    ],
)
def test_comparisons(op: str, value: int, two: int | None, refused: list[int]) -> None:
    """On the signal of `kill(2)`, to a process that is not there."""
    compared = {"index": 1, "value": value, "valueTwo": two, "op": op}
    rule = profile(refuse("kill", errnoRet=errno.EDOM, args=[compared]))
    nobody = 2**22 + 1
    for sent in (4, 5, 6):
        expected = errno.EDOM if sent in refused else errno.ESRCH
        assert under(rule, lambda sent=sent: os.kill(nobody, sent)) == expected  # type: ignore[misc]


def test_comparisons_of_different_arguments_must_all_hold() -> None:
    both = [{"index": 0, "value": 2**22 + 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]
    rule = profile(refuse("kill", args=both))
    assert under(rule, lambda: os.kill(2**22 + 1, 5)) == errno.EPERM
    assert under(rule, lambda: os.kill(2**22 + 1, 6)) == errno.ESRCH


def test_comparisons_of_one_argument_are_alternatives() -> None:
    either = [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 6, "op": "SCMP_CMP_EQ"}]
    rule = profile(refuse("kill", args=either))
    assert under(rule, lambda: os.kill(2**22 + 1, 5)) == errno.EPERM
    assert under(rule, lambda: os.kill(2**22 + 1, 6)) == errno.EPERM
    assert under(rule, lambda: os.kill(2**22 + 1, 4)) == errno.ESRCH


def test_unknown_calls_are_skipped() -> None:
    assert under(profile(refuse("no_such_call", "rmdir")), lambda: os.rmdir("/tmp")) == errno.EPERM


def test_rules_that_say_the_default_again_are_no_error() -> None:
    assert seccomp.compile(profile({"names": ["read"], "action": "SCMP_ACT_ALLOW"}))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (profile(default="SCMP_ACT_FLY"), "SCMP_ACT_FLY is not a known action"),
        (profile(default="SCMP_ACT_NOTIFY"), "cannot be the default action"),
        (profile({"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}), "cannot be used for write and sendmsg"),
        (profile({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 3}), "takes no errnoRet"),
        (profile(refuse("read", args=[{"index": 0, "value": 0, "op": "FLY"}])), "FLY is not a known operator"),
        (profile(architectures=["SCMP_ARCH_Z80"]), "SCMP_ARCH_Z80 is not a known architecture"),
        (profile(flags=["FLY"]), "FLY is not a known flag"),
    ],
)
def test_senseless_profiles_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        seccomp.compile(wrong)


def test_foreign_architectures() -> None:
    both = profile(refuse("rmdir"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"])
    assert len(seccomp.compile(both)) > len(seccomp.compile(profile(refuse("rmdir"))))
    assert under(both, lambda: os.rmdir("/tmp")) == errno.EPERM


def test_loading_needs_a_right() -> None:
    def load_without() -> None:
        capabilities.capset(0, 0, 0)
        seccomp.load(_ALLOW_ALL)

    with pytest.raises(PermissionError):
        in_child(load_without)

    def load_with_no_new_privs() -> None:
        capabilities.capset(0, 0, 0)
        prctl.set_no_new_privs()
        seccomp.load(_ALLOW_ALL)

    in_child(load_with_no_new_privs)


def test_nothing_is_not_a_filter() -> None:
    with pytest.raises(OSError, match="EINVAL"):
        in_child(lambda: seccomp.load(b""))


@pytest.mark.parametrize("flag", sorted(seccomp.FLAGS))
def test_flags(flag: str) -> None:
    if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV":
        with pytest.raises(OSError, match="EINVAL"):  # only with a listener
            in_child(lambda: seccomp.load(_ALLOW_ALL, [flag]))
    else:
        in_child(lambda: seccomp.load(_ALLOW_ALL, [flag]))


def test_notify_hands_calls_to_another_process() -> None:
    asked = profile({"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"})
    assert seccomp.notifies(asked)
    assert not seccomp.notifies(profile(refuse("getppid")))
    program = seccomp.compile(asked)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        listener = seccomp.load(program, ["SECCOMP_FILTER_FLAG_TSYNC"], notify=True)
        socket.send_fds(theirs, [b"listener"], [listener])
        os._exit(libc.getppid())
    with ours, theirs:
        _, descriptors, _, _ = socket.recv_fds(ours, 10, 1)
    request = array.array("B", bytes(80))  # struct seccomp_notif
    fcntl.ioctl(descriptors[0], _SECCOMP_IOCTL_NOTIF_RECV, request)
    identifier, caller = struct.unpack_from("QI", request)
    assert caller == pid
    answer = array.array("B", struct.pack("QqiI", identifier, 42, 0, 0))  # struct seccomp_notif_resp
    fcntl.ioctl(descriptors[0], _SECCOMP_IOCTL_NOTIF_SEND, answer)
    os.close(descriptors[0])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def test_without_libseccomp_there_is_no_filter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(seccomp, "LIBRARY", "libseccomp.so.nowhere")
    with pytest.raises(seccomp.LibseccompMissing, match="install libseccomp2, or ask for"):
        seccomp.compile(profile())
    with pytest.raises(seccomp.LibseccompMissing):
        seccomp.compile_cached(profile(), str(tmp_path))


def kept(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_compiled_filters_are_kept(tmp_path: Path) -> None:
    first = profile(refuse("rmdir"))
    program = seccomp.compile_cached(first, str(tmp_path))
    assert program == seccomp.compile(first)
    file = kept(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.stat().st_ino
    assert seccomp.compile_cached(first, str(tmp_path)) == program
    assert kept(tmp_path).stat().st_ino == before
    seccomp.compile_cached(profile(refuse("mkdir")), str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("harm", ["torn", "changed", "writable", "foreign", "replaced by a link"])
def test_kept_filters_are_not_believed_when_they_could_be_another_s(tmp_path: Path, harm: str) -> None:
    wanted = profile(refuse("rmdir"))
    directory = tmp_path / "kept"
    directory.mkdir()
    program = seccomp.compile_cached(wanted, str(directory))
    file = kept(directory)
    if harm == "torn":
        os.truncate(file, file.stat().st_size - 8)
    elif harm == "changed":
        file.write_bytes(file.read_bytes()[:-8] + _ALLOW_ALL)
    elif harm == "writable":
        file.chmod(0o666)
    elif harm == "foreign":
        os.chown(file, 1000, 1000)
    else:
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    assert seccomp.compile_cached(wanted, str(directory)) == program
    mended = kept(directory).lstat()
    assert (mended.st_uid, mended.st_mode) == (0, 0o100600)


def test_a_filter_that_cannot_be_kept_leaves_no_piece(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        seccomp.compile_cached(profile(), str(tmp_path / "missing"))
    assert list(tmp_path.iterdir()) == []
