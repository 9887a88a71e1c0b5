"""Control files: small texts in a cgroup's directory, by which it is limited and tells its use. `cgroups(7)`"""

from __future__ import annotations

import errno
import os

from cutaway.kernel.errors import KernelError

_ADVICE = {
    errno.ENOENT: "the cgroup is gone, or the kernel lacks the limit, or its parent does not pass the controller on",
    errno.EBUSY: "its processes use more than that",
    errno.EINVAL: "out of range, or at odds with another limit",
    errno.ERANGE: "out of range",
    errno.ENODEV: "there is no such device",
    errno.ENOSPC: "its parent, or the machine, has no such CPU or memory node",
    errno.EROFS: "the cgroup file system is mounted read-only here",
    errno.EPERM: "the parent cgroup does not allow it",
}


class RefusedWrite(KernelError):
    """A control file that could not be written; `subject` is the file and the value."""

    def __str__(self) -> str:
        advice = _ADVICE.get(self.errno or 0)
        return super().__str__() + (f": {advice}" if advice else "")


def read(path: str) -> str:
    """The text of a control file, without its last newline; raises `KernelError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunks = []
            while chunk := os.read(descriptor, 1 << 16):
                chunks.append(chunk)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise KernelError(error.errno or 0, "read", path) from None
    return b"".join(chunks).decode().rstrip("\n")


def write(path: str, *values: str, root: int | None = None) -> None:
    """Writes a control file, each value by itself; raises `RefusedWrite`. `root`: a descriptor where a `path` without
    first slash starts."""
    value = ""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
        try:
            for value in values:
                os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise RefusedWrite(error.errno or 0, "write", f"{path}, {value or values[0]!r}") from None


def read_number(path: str, absent: int = 0) -> int:
    """The number a control file holds; `absent` where the kernel has no such file."""
    try:
        return int(read(path))
    except FileNotFoundError:
        return absent


def read_limit(path: str) -> int | None:
    """The limit a control file holds; None where there is none."""
    try:
        text = read(path)
    except FileNotFoundError:
        return None
    # v1 knows no "max" for memory: it rounds the largest signed number down to a page.
    return None if text in ("max", "-1") or int(text) >= 1 << 62 else int(text)


def read_keyed(path: str) -> dict[str, int]:
    """A control file of `key number` lines; empty where the kernel has no such file."""
    try:
        lines = read(path).splitlines()
    except FileNotFoundError:
        return {}
    return {key: int(number) for key, number in (line.split() for line in lines)}


def members(directory: str) -> list[int]:
    """The PIDs of the processes in the cgroup itself; none where it is absent, or only a group of threads."""
    try:
        text = read(f"{directory}/cgroup.procs")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
            return []
        raise
    return [int(pid) for pid in text.split() if pid != "0"]  # "0": of a PID namespace that is not ours to see
