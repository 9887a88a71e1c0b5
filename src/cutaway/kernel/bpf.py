"""BPF: small programs that the kernel checks, compiles and runs at a hook. `bpf(2)`

Here is what limits the devices of a cgroup of version 2: an assembler of a few instructions, the program that decides
by a list of rules, and the calls that load it and attach it to a cgroup. The instructions are described in the kernel's
`Documentation/bpf/standardization`.
"""

from __future__ import annotations

import os
import struct

from cutaway.kernel.cgroups.devices import effective
from cutaway.kernel.native import addressof, c_uint32, memory_of
from cutaway.kernel.syscalls import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cutaway.kernel.cgroups.devices import DeviceRule

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_DETACH = 9
BPF_PROG_GET_FD_BY_ID = 13
BPF_PROG_QUERY = 16
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2
BPF_F_REPLACE = 4
BPF_DEVCG_ACC_MKNOD, BPF_DEVCG_ACC_READ, BPF_DEVCG_ACC_WRITE = 1, 2, 4
BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR = 1, 2

_ACCESS = {"m": BPF_DEVCG_ACC_MKNOD, "r": BPF_DEVCG_ACC_READ, "w": BPF_DEVCG_ACC_WRITE}
_KINDS = {"b": BPF_DEVCG_DEV_BLOCK, "c": BPF_DEVCG_DEV_CHAR}

RESULT, CONTEXT, KIND, ACCESS, MAJOR, MINOR, SCRATCH = range(7)
"""Registers: r0 is what the program returns, r1 points to the `struct bpf_cgroup_dev_ctx` it is asked about."""


def instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """One instruction, `struct bpf_insn`."""
    return struct.pack("=BBhi", code, to | source << 4, offset, value)


def load_word(to: int, base: int, offset: int) -> bytes:
    """`to` = the 32 bits at `base` + `offset`."""
    return instruction(0x61, to, base, offset)


def move(to: int, value: int) -> bytes:
    """`to` = `value`."""
    return instruction(0xB7, to, value=value)


def copy(to: int, source: int) -> bytes:
    """`to` = `source`."""
    return instruction(0xBF, to, source)


def keep_bits(to: int, mask: int) -> bytes:
    """`to` &= `mask`."""
    return instruction(0x57, to, value=mask)


def shift_right(to: int, bits: int) -> bytes:
    """`to` >>= `bits`."""
    return instruction(0x77, to, value=bits)


def skip_if_equal(register: int, value: int, count: int) -> bytes:
    """Leaves out the next `count` instructions where the register holds `value`."""
    return instruction(0x15, register, offset=count, value=value)


def skip_if_different(register: int, value: int, count: int) -> bytes:
    """Leaves out the next `count` instructions where the register holds another value."""
    return instruction(0x55, register, offset=count, value=value)


def leave(verdict: bool) -> bytes:
    """Ends the program: 1 allows, 0 denies."""
    return move(RESULT, verdict) + instruction(0x95)


def device_program(rules: Iterable[DeviceRule]) -> bytes:
    """The instructions that decide by `rules`, the last one first.

    The register ACCESS holds what is asked for and not decided yet: an allowing rule takes out of it what it allows, a
    denying one ends the matter if any of it is what it denies.
    """
    allowed, following = effective(rules)
    return b"".join([
        load_word(KIND, CONTEXT, 0),
        copy(ACCESS, KIND),
        keep_bits(KIND, 0xFFFF),
        shift_right(ACCESS, 16),
        load_word(MAJOR, CONTEXT, 4),
        load_word(MINOR, CONTEXT, 8),
        *map(_decide, reversed(following)),
        leave(allowed),
    ])  # fmt: skip


def _decide(rule: DeviceRule) -> bytes:
    mask = sum(_ACCESS[letter] for letter in rule.access)
    if rule.allow:
        verdict = keep_bits(ACCESS, ~mask) + skip_if_different(ACCESS, 0, 2) + leave(True)
    else:
        verdict = copy(SCRATCH, ACCESS) + keep_bits(SCRATCH, mask) + skip_if_equal(SCRATCH, 0, 2) + leave(False)
    for register, wanted in (MINOR, rule.minor), (MAJOR, rule.major), (KIND, _KINDS[rule.kind]):
        if wanted is not None:
            verdict = skip_if_different(register, wanted, len(verdict) // 8) + verdict
    return verdict


def load_device_program(program: bytes) -> int:
    """Gives the program to the kernel, which checks it; returns its descriptor. Raises `KernelError`."""
    instructions, licence = memory_of(program), memory_of(b"GPL\0")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8,
        addressof(instructions), addressof(licence),
        0, 0, 0,  # log_level, log_size, log_buf
        0, 0, b"cutaway_devices",  # kern_version, prog_flags, prog_name
        0, BPF_CGROUP_DEVICE,  # prog_ifindex, expected_attach_type
    )  # fmt: skip
    return _bpf(BPF_PROG_LOAD, attributes, "a device program")


def attach(cgroup: int, program: int, replaced: int = 0) -> None:
    """Attaches a device program to the cgroup v2 directory open as `cgroup`, in place of the one open as `replaced`.
    All programs attached there and above must allow an access."""
    flags = BPF_F_ALLOW_MULTI | (BPF_F_REPLACE if replaced else 0)
    attributes = struct.pack("=IIIII", cgroup, program, BPF_CGROUP_DEVICE, flags, replaced)
    _bpf(BPF_PROG_ATTACH, attributes, "a device program to a cgroup")


def detach(cgroup: int, program: int) -> None:
    """Takes a device program off a cgroup."""
    _bpf(BPF_PROG_DETACH, struct.pack("=III", cgroup, program, BPF_CGROUP_DEVICE), "a device program from a cgroup")


def attached(cgroup: int) -> list[int]:
    """The numbers of the device programs on a cgroup itself."""
    most = 64  # BPF_CGROUP_MAX_PROGS
    numbers = (c_uint32 * most)()
    attributes = bytearray(struct.pack("=IIIIQI4x", cgroup, BPF_CGROUP_DEVICE, 0, 0, addressof(numbers), most))
    _bpf(BPF_PROG_QUERY, attributes, "the device programs of a cgroup")
    count = struct.unpack_from("=I", attributes, 24)[0]
    return list(numbers[:count])


def open_program(number: int) -> int:
    """A descriptor of the program that has this number."""
    return _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0), f"program {number}")


def limit_devices(directory: str, rules: Iterable[DeviceRule]) -> None:
    """Limits the devices of the cgroup v2 `directory` to what `rules` allow, in place of the rules before, if any; at
    no moment is anything else allowed. Raises `KernelError`."""
    opened = [os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        cgroup = opened[0]
        opened.append(program := load_device_program(device_program(rules)))
        before = [open_program(number) for number in attached(cgroup)]
        opened += before
        attach(cgroup, program, replaced=before[0] if before else 0)
        for other in before[1:]:
            detach(cgroup, other)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _bpf(command: int, attributes: bytes | bytearray, subject: str) -> int:
    buffer = memory_of(attributes)
    result = call("bpf", command, buffer, len(attributes), subject=subject)
    if isinstance(attributes, bytearray):
        attributes[:] = buffer.raw
    return result
