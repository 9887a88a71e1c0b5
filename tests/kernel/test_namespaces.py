"""Processes in new namespaces, and the descriptors that name them."""

from __future__ import annotations

import os
import signal

import pytest

from cutaway.kernel import namespaces, pidfd
from cutaway.kernel.errors import KernelError
from cutaway.kernel.memfd import sealed_copy
from cutaway.kernel.namespaces import CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWUTS, clone, setns
from cutaway.kernel.syscalls import call


def test_a_cloned_child_is_the_first_process_of_its_namespace() -> None:
    reader, writer = os.pipe()
    pid, descriptor = clone(CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)
    if pid == 0:
        call("sethostname", "inside", 6)
        os.write(writer, f"{os.getpid()} {os.uname().nodename}".encode())
        os._exit(7)
    os.close(writer)
    with open(reader, encoding="ascii") as said:
        assert said.read() == "1 inside"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    os.close(descriptor)
    assert os.uname().nodename != "inside"


def test_a_namespace_is_joined_through_a_descriptor_of_a_process_in_it() -> None:
    pid, descriptor = clone(CLONE_NEWUTS)
    if pid == 0:
        call("sethostname", "theirs", 6)
        signal.pause()
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)
    try:
        while namespaces.identity("uts", pid) == namespaces.identity("uts"):
            pass
        setns(descriptor, CLONE_NEWUTS)
        assert namespaces.identity("uts") == namespaces.identity("uts", pid)
    finally:
        setns(own, CLONE_NEWUTS)
        os.close(own)
        pidfd.send_signal(descriptor, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def test_an_end_can_be_asked_of_a_descriptor_after_it_was_reaped() -> None:
    pid, descriptor = clone()
    if pid == 0:
        os._exit(3)
    os.waitpid(pid, 0)
    status = pidfd.exit_status(descriptor)
    os.close(descriptor)
    if status is None:
        pytest.skip("the kernel does not tell, before Linux 6.15")
    assert os.waitstatus_to_exitcode(status) == 3


def test_a_signal_does_not_reach_whoever_has_the_pid_later() -> None:
    pid, descriptor = clone()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        pidfd.send_signal(descriptor, signal.SIGTERM)
    os.close(descriptor)


def test_a_sealed_copy_runs_and_cannot_be_written() -> None:
    copy = sealed_copy("/bin/busybox")
    try:
        with pytest.raises(PermissionError):
            os.write(copy, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(copy, 0)
        pid = os.posix_spawn(f"/proc/self/fd/{copy}", ["true"], {})
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(copy)


def test_an_error_says_the_call_and_on_what() -> None:
    with pytest.raises(KernelError, match=r"setns\(uts\): EBADF") as refused:
        setns(-1, CLONE_NEWUTS)
    assert refused.value.call == "setns"
