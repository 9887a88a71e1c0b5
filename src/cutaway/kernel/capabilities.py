"""The powers of root, cut into pieces that are given and taken one by one. `capabilities(7)`

A thread has five sets of them, each a mask of bits here:

- *effective*: what the kernel asks when the thread does something;
- *permitted*: what it may make effective;
- *inheritable*: what an executed file may take over;
- *bounding*: what it can ever get again by executing anything;
- *ambient*: what an ordinary program executed by an ordinary user keeps.
"""

from __future__ import annotations

import errno

from cutaway.kernel import prctl
from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import c_uint32
from cutaway.kernel.syscalls import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number, as `linux/capability.h` has them."""
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_PR_CAP_AMBIENT_IS_SET = 1
_MOST = 64
# Made once, in the parent: a type of ctypes takes a forked child 0.4 ms to make.
_Header = c_uint32 * 2
_Sets = c_uint32 * 6


def mask(names: Iterable[str]) -> int:
    """The bits of `names` (`"CAP_CHOWN"`, …); raises `ValueError` for a name that is none."""
    bits = 0
    for name in names:
        if name not in NUMBERS:
            raise ValueError(f"{name} is not a capability; capabilities(7) lists them")
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> list[str]:
    """The names of the bits in a mask, by number; bits without a name are left out."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def last() -> int:
    """The highest capability this kernel has. Asked of the kernel itself, which knows none beyond it, and not of
    `/proc/sys/kernel/cap_last_cap`: inside a container that file is whatever the image makes of it."""
    return _asked(prctl.PR_CAPBSET_READ)[1]


def bounding() -> int:
    """The calling thread's bounding set."""
    return _asked(prctl.PR_CAPBSET_READ)[0]


def ambient() -> int:
    """The calling thread's ambient set."""
    return _asked(prctl.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET)[0]


def _asked(*question: int) -> tuple[int, int]:
    """One yes or no per capability: the mask of those with a yes, and the number of the last the kernel knows."""
    bits = 0
    for number in range(_MOST):
        try:
            bits |= prctl.prctl(*question, number) << number
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            return bits, number - 1
    return bits, _MOST - 1


def capget(pid: int = 0) -> tuple[int, int, int]:
    """Effective, permitted and inheritable set of a thread, 0 for the calling one; `capget(2)`."""
    words = _Sets()
    call("capget", _Header(_LINUX_CAPABILITY_VERSION_3, pid), words, subject=str(pid))
    effective, permitted, inheritable = (words[n] | words[n + 3] << 32 for n in range(3))
    return effective, permitted, inheritable


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Sets three sets of the calling thread; raises `KernelError` (EPERM) for what it does not have; `capset(2)`."""
    sets = (effective, permitted, inheritable)
    words = _Sets(*(bits & 0xFFFFFFFF for bits in sets), *(bits >> 32 for bits in sets))
    try:
        call("capset", _Header(_LINUX_CAPABILITY_VERSION_3, 0), words)
    except PermissionError:
        missing = names((effective | permitted | inheritable) & ~capget()[1])
        raise KernelError(errno.EPERM, "capset", f"lacking {', '.join(missing) or 'nothing'}") from None


def keep_bounding(keep: int) -> None:
    """Drops from the bounding set all that is not in `keep`, also what this file has no name for; needs CAP_SETPCAP
    unless there is nothing to drop."""
    for number in _numbers(~keep):
        try:
            prctl.prctl(prctl.PR_CAPBSET_DROP, number, subject=f"PR_CAPBSET_DROP, {_name(number)}")
        except KernelError as error:
            if error.errno == errno.EINVAL:  # the kernel has no more
                return
            if bounding() >> number & 1:
                raise


def set_ambient(bits: int) -> None:
    """Makes the ambient set exactly `bits`, which must be permitted and inheritable already (else EPERM)."""
    prctl.prctl(prctl.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, subject="PR_CAP_AMBIENT_CLEAR_ALL")
    for number in _numbers(bits):
        subject = f"PR_CAP_AMBIENT_RAISE, {_name(number)}"
        prctl.prctl(prctl.PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, subject=subject)


def _numbers(bits: int) -> list[int]:
    return [number for number in range(_MOST) if bits >> number & 1]


def _name(number: int) -> str:
    return NAMES[number] if number < len(NAMES) else f"capability {number}"
