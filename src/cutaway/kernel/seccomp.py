"""A filter that every system call of a process passes: a small program for the kernel's BPF machine that answers, from
the call's number and arguments, whether it may happen. Once loaded it cannot be taken off. `seccomp(2)`

What a profile means (the OCI runtime-spec's `linux.seccomp`) depends on each architecture's numbers, which libseccomp
knows; it compiles. Loading what was compiled needs nothing but the system call.
"""

from __future__ import annotations

import errno
import os
import struct

from cutaway.kernel import prctl
from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import Library, addressof, c_long, c_uint32, c_void_p, memory_of
from cutaway.kernel.syscalls import call, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Profile = Mapping[str, Any]

LIBRARY = "libseccomp.so.2"

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
ARCHITECTURES = (
    "x86", "x86_64", "x32", "arm", "aarch64", "mips", "mips64", "mips64n32", "mipsel", "mipsel64", "mipsel64n32",
    "parisc", "parisc64", "ppc", "ppc64", "ppc64le", "riscv64", "s390", "s390x", "loongarch64", "m68k", "sh", "sheb",
)  # fmt: skip

_PR_GET_SECCOMP = 21
_SECCOMP_SET_MODE_FILTER = 1
_FLAG_NEW_LISTENER = 1 << 3
_FLAG_TSYNC_ESRCH = 1 << 4
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_BINARY_TREE = 2
_NR_SCMP_ERROR = -1
_X32_BIT = 0x40000000
_X32_GETPID = 39
_SCMP_ARCH_X86_64 = 0xC000003E
_SCMP_ARCH_X32 = 0x4000003E

_INSTRUCTION = "HBBI"  # struct sock_filter: code, jt, jf, k
_SIZE = struct.calcsize(_INSTRUCTION)
_WITHOUT_REFERENCES = 2
"""A version of marshal's format in which equal values are equal bytes."""
MOST_BYTES = 4096 * _SIZE
"""The longest filter the kernel takes (BPF_MAXINSNS)."""


class LibseccompMissing(OSError):
    """A profile was to be compiled on a machine without libseccomp."""

    def __init__(self) -> None:
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT), LIBRARY)

    def __str__(self) -> str:
        return (
            f"{LIBRARY} is not installed, so the seccomp profile cannot be compiled, and no container is started "
            "without the one it was to have; install libseccomp2, or ask for --security-opt seccomp=unconfined"
        )


def load(program: bytes, flags: Iterable[str] = (), notify: bool = False) -> int:
    """Loads a compiled filter for this thread and all it will execute; needs no_new_privs or CAP_SYS_ADMIN.

    `flags`: keys of `FLAGS`. With `notify` returns the descriptor that receives what SCMP_ACT_NOTIFY holds up, else 0.
    Raises `KernelError`: EACCES without the right, EINVAL for a flag or an action that the kernel does not have.
    """
    bits = _flag_bits(flags)
    if notify:
        bits |= _FLAG_NEW_LISTENER | (_FLAG_TSYNC_ESRCH if bits & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"] else 0)
    instructions = memory_of(program)
    header = struct.pack("HP", len(program) // _SIZE, addressof(instructions))  # struct sock_fprog
    subject = f"SECCOMP_SET_MODE_FILTER, {len(program) // _SIZE} instructions"
    return call("seccomp", _SECCOMP_SET_MODE_FILTER, bits, header, subject=subject)


def _flag_bits(flags: Iterable[str]) -> int:
    bits = 0
    for flag in flags:
        bits |= _known(FLAGS, flag, "flag")
    return bits


def notifies(profile: Profile) -> bool:
    """Whether a profile hands calls to another process, so that its filter needs a listener."""
    return any(entry["action"] == "SCMP_ACT_NOTIFY" for entry in profile.get("syscalls") or ())


def compile(profile: Profile) -> bytes:
    """The filter of an OCI `linux.seccomp` as BPF instructions.

    Names of system calls that libseccomp does not know are skipped, as runc does. A call newer than all that the
    profile names fails with ENOSYS, not with the profile's refusal, so that C libraries fall back to an older one.
    Raises `ValueError` for a profile that means nothing, `LibseccompMissing`, `KernelError` where libseccomp refuses.
    """
    _check_notify(profile)
    _flag_bits(profile.get("flags") or ())
    library = _libseccomp()
    context = c_void_p(library.seccomp_init(c_uint32(_default_action(profile))))
    if not context:
        raise ValueError(f"seccomp: {profile['defaultAction']} cannot be the default action")
    try:
        architectures = _add_architectures(library, context, profile)
        _checked(library, "attr_set", "SCMP_FLTATR_CTL_OPTIMIZE", context, _SCMP_FLTATR_CTL_OPTIMIZE, _BINARY_TREE)
        for entry in profile.get("syscalls") or ():
            _add_rules(library, context, entry, _default_action(profile))
        program = _newer_calls_fail(library, architectures, profile) + _export(library, context)
    finally:
        library.seccomp_release(context)
    if len(program) > MOST_BYTES:
        raise ValueError(
            f"seccomp: the filter has {len(program) // _SIZE} instructions, of which the kernel takes 4096"
        )
    return program


def _check_notify(profile: Profile) -> None:
    """The process sends the listener away under the filter itself; held up in that, it would wait for ever."""
    for entry in profile.get("syscalls") or ():
        if entry["action"] == "SCMP_ACT_NOTIFY" and {"sendmsg", "write"} & set(entry["names"]):
            raise ValueError("seccomp: SCMP_ACT_NOTIFY cannot be used for write and sendmsg, which start the container")
    if profile["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise ValueError("seccomp: SCMP_ACT_NOTIFY cannot be the default action")


def _libseccomp() -> Library:
    try:
        library = Library(LIBRARY)
    except OSError:
        raise LibseccompMissing from None
    library.seccomp_init.restype = c_void_p
    library.seccomp_version.restype = c_void_p
    library.seccomp_arch_native.restype = library.seccomp_arch_resolve_name.restype = c_uint32
    return library


def _version(library: Library) -> tuple[int, ...]:
    """Major, minor, micro."""
    return tuple((c_uint32 * 3).from_address(library.seccomp_version()))


def _checked(library: Library, function: str, subject: str, *arguments: Any) -> None:
    result = getattr(library, f"seccomp_{function}")(*arguments)
    if result < 0:
        raise KernelError(-result, "seccomp_" + function, subject)


def _known(table: Mapping[str, int], name: str, kind: str) -> int:
    if name not in table:
        raise ValueError(f"seccomp: {name} is not a known {kind}; there are {', '.join(table)}")
    return table[name]


def _action(name: str, number: int | None) -> int:
    action = _known(ACTIONS, name, "action")
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        return action | (errno.EPERM if number is None else number) & 0xFFFF
    if number:
        raise ValueError(f"seccomp: {name} takes no errnoRet")
    return action


def _default_action(profile: Profile) -> int:
    return _action(profile["defaultAction"], profile.get("defaultErrnoRet"))


def _add_architectures(library: Library, context: c_void_p, profile: Profile) -> set[int]:
    """Adds the profile's architectures to the machine's own, which is always there; returns libseccomp's tokens."""
    tokens = {library.seccomp_arch_native()}
    for name in profile.get("architectures") or ():
        short = name.removeprefix("SCMP_ARCH_").lower()
        if short not in ARCHITECTURES:
            raise ValueError(f"seccomp: {name} is not a known architecture")
        token = library.seccomp_arch_resolve_name(short.encode())
        if token and token not in tokens and (token != _SCMP_ARCH_X32 or _has_x32()):
            _checked(library, "arch_add", name, context, c_uint32(token))
            tokens.add(token)
    return tokens


def _has_x32() -> bool:
    """Whether the kernel may run x32 programs. Few do, and leaving the third set of numbers out makes loading a filter
    a third faster. It is asked by such a call, unless a filter that this process is under might kill it for asking."""
    filtered = prctl.prctl(_PR_GET_SECCOMP) != 0
    return filtered or int(libc.syscall(c_long(_X32_BIT | _X32_GETPID))) != -1


def _add_rules(library: Library, context: c_void_p, entry: Mapping[str, Any], default: int) -> None:
    action = _action(entry["action"], entry.get("errnoRet"))
    if action == default:  # nothing to say; libseccomp calls it an error
        return
    conditions = _conditions(entry.get("args") or ())
    for name in entry["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _NR_SCMP_ERROR:
            continue
        for packed in conditions:
            count = len(packed) // struct.calcsize("IIQQ")
            _checked(library, "rule_add_array", name, context, c_uint32(action), number, count, packed)


def _conditions(arguments: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The comparisons of a rule as `struct scmp_arg_cmp`: all must hold, but where one argument is compared more than
    once, each comparison is a rule of its own, as runc has it."""
    packed = [
        struct.pack(
            "IIQQ",
            entry["index"],
            _known(OPERATORS, entry["op"], "operator"),
            entry["value"],
            entry.get("valueTwo") or 0,
        )
        for entry in arguments
    ]
    indices = {comparison[:4] for comparison in packed}
    return [b"".join(packed)] if len(indices) == len(packed) else packed


def _export(library: Library, context: c_void_p) -> bytes:
    file = os.memfd_create("seccomp")
    with open(file, "rb") as exported:
        _checked(library, "export_bpf", "", context, file)
        exported.seek(0)
        return exported.read()


_LD_NR = struct.pack(_INSTRUCTION, 0x20, 0, 0, 0)
_LD_ARCH = struct.pack(_INSTRUCTION, 0x20, 0, 0, 4)
_RET_ENOSYS = struct.pack(_INSTRUCTION, 0x06, 0, 0, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35


def _newer_calls_fail(library: Library, architectures: set[int], profile: Profile) -> bytes:
    """What comes before libseccomp's program: per architecture, calls above the highest that the profile names are not
    there (ENOSYS). x32 has the architecture of x86_64 and higher numbers: where it is to run, the profile decides."""
    if profile["defaultAction"] in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        return b""
    names = {name.encode() for entry in profile.get("syscalls") or () for name in entry["names"]}
    resolve = library.seccomp_syscall_resolve_name_arch
    blocks = []
    for token in sorted(architectures - {_SCMP_ARCH_X32}):
        highest = max((resolve(c_uint32(token), name) for name in names), default=-1)
        if highest >= 0:
            blocks.append(_fail_above(token, highest, _SCMP_ARCH_X32 in architectures))
    return b"".join(blocks)


def _fail_above(architecture: int, highest: int, x32: bool) -> bytes:
    block = struct.pack(_INSTRUCTION, _JGT, 0, 1, highest) + _RET_ENOSYS
    if x32 and architecture == _SCMP_ARCH_X86_64:
        block = struct.pack(_INSTRUCTION, _JGE, 2, 0, _X32_BIT) + block
    block = _LD_NR + block
    return _LD_ARCH + struct.pack(_INSTRUCTION, _JEQ, 0, len(block) // _SIZE, architecture) + block


def compile_cached(profile: Profile, directory: str) -> bytes:
    """`compile`, keeping its result in a file of `directory`, which must exist and belong to the caller alone."""
    name = os.path.join(directory, _key(profile))
    program = _read(name)
    if program is None:
        program = compile(profile)
        _write(name, program)
    return program


def _digest(content: bytes) -> bytes:
    from _blake2 import blake2b  # `hashlib` takes longer to import than all of this file

    return bytes(blake2b(content, digest_size=32).digest())


def _key(profile: Profile) -> str:
    """Names a profile, and what else its filter depends on: the machine, its kernel, libseccomp."""
    from marshal import dumps

    subject = [os.uname().machine, _has_x32(), _version(_libseccomp()), profile]
    return _digest(dumps(subject, _WITHOUT_REFERENCES)).hex() + ".bpf"


def _read(name: str) -> bytes | None:
    """A kept program; None where there is none that can be trusted: ours alone to write, and whole."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # not there, or a link
        return None
    with open(file, "rb") as kept:
        status = os.fstat(file)
        digest, program = kept.read(32), kept.read(MOST_BYTES + 1)
    trusted = status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return program if trusted and digest == _digest(program) else None


def _write(name: str, program: bytes) -> None:
    """In one step: another process sees all of it or none."""
    passing = f"{name}.{os.urandom(4).hex()}"
    file = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb") as kept:
            kept.write(_digest(program) + program)
        os.rename(passing, name)
    except OSError:
        os.unlink(passing)
        raise
