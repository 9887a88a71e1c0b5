"""procfs: the kernel's account of processes, mounts and the machine, as text files. `proc(5)`

Whatever asks about a process raises `ProcessLookupError` where it has ended, before or while it is read, and
`PermissionError` where it is another's.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_ALL_USERS = 4294967295
_PF_EXITING = 0x4  # include/linux/sched.h
_SIGKILL = 1 << 8  # as a bit of a set of signals
_GONE = (errno.ENOENT, errno.ESRCH, errno.EINVAL)
"""What reading about a process that ends can say; the last where it has no namespaces any more."""


class Identity:
    """Which process a PID stood for: its `start_time`, in ticks since the machine was started, tells it from those that
    are given the PID after it."""

    __slots__ = ("pid", "start_time")

    def __init__(self, pid: int, start_time: int) -> None:
        self.pid, self.start_time = pid, start_time

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and (self.pid, self.start_time) == (other.pid, other.start_time)

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time))

    def __repr__(self) -> str:
        return f"Identity({self.pid}, {self.start_time})"

    def is_alive(self) -> bool:
        """Whether it has not ended; a zombie has."""
        try:
            now = stat(self.pid)
        except ProcessLookupError:
            return False
        return now.start_time == self.start_time and now.state not in ("Z", "X")


def identity(pid: int) -> Identity:
    """The identity of the process that `pid` stands for now."""
    return Identity(pid, stat(pid).start_time)


class Stat:
    """`/proc/PID/stat`, in the words of `proc_pid_stat(5)`.

    `user_time`, `system_time`: CPU seconds. `start_time`: ticks since the machine was started. `virtual_size`: bytes.
    `terminal`: the device number of the controlling terminal, 0 for none; `foreground_group`: of its processes, -1 for
    none. `flags`: the kernel's own, `PF_…`. `exit_status`: a wait status, of a zombie. Its `rss` is left out: the
    kernel only estimates it there.
    """

    __slots__ = (
        "command", "exit_status", "flags", "foreground_group", "group", "nice", "parent", "pid", "session",
        "start_time", "state", "system_time", "terminal", "threads", "user_time", "virtual_size",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        # The name may hold anything, parentheses and newlines included; no field after it does.
        start, _, rest = text.rpartition(")")
        pid, _, self.command = start.partition(" (")
        fields = rest.split()
        self.pid, self.state = int(pid), fields[0]
        numbers = [int(field) for field in fields[1:]]
        self.parent, self.group, self.session, self.terminal, self.foreground_group, self.flags = numbers[:6]
        self.user_time, self.system_time = numbers[10] / TICKS_PER_SECOND, numbers[11] / TICKS_PER_SECOND
        self.nice, self.threads, self.start_time = numbers[15], numbers[16], numbers[18]
        self.virtual_size, self.exit_status = numbers[19], numbers[48]


def stat(pid: int | str = "self") -> Stat:
    """How process `pid` is, and what it has used."""
    return Stat(_read(pid, "stat"))


class Status:
    """`/proc/PID/status`.

    `uids`, `gids`: real, effective, saved, of the file system. `pids`: its PID in each PID namespace, the reader's
    first and its own last. `capabilities`: sets of bits, by "inheritable", "permitted", "effective", "bounding",
    "ambient". `pending`: signals that have come and were not yet dealt with, a set of bits. `seccomp`: 0 off, 1 strict,
    2 filter. `rss`, `locked`: memory in bytes.
    """

    __slots__ = (
        "capabilities", "gids", "groups", "locked", "no_new_privileges", "pending", "pids",
        "rss", "seccomp", "uids", "umask",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        self.uids, self.gids = _integers(fields["Uid"]), _integers(fields["Gid"])
        self.groups, self.pids = _integers(fields["Groups"]), _integers(fields.get("NSpid", fields["Pid"]))
        self.capabilities = {name: int(fields[key], 16) for key, name in _CAPABILITY_SETS.items()}
        self.no_new_privileges, self.seccomp = fields["NoNewPrivs"].strip() == "1", int(fields["Seccomp"])
        self.rss, self.locked = _kilobytes(fields.get("VmRSS", "0")), _kilobytes(fields.get("VmLck", "0"))
        self.umask = int(fields.get("Umask", "0"), 8)
        self.pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)


_CAPABILITY_SETS = {
    "CapInh": "inheritable",
    "CapPrm": "permitted",
    "CapEff": "effective",
    "CapBnd": "bounding",
    "CapAmb": "ambient",
}


def status(pid: int | str = "self") -> Status:
    """Who process `pid` is, and what it may."""
    return Status(_read(pid, "status"))


def is_ending(pid: int) -> bool:
    """Whether it has been killed and is only to notice, or is on its way out."""
    return status(pid).pending & _SIGKILL != 0 or stat(pid).flags & _PF_EXITING != 0


def command_line(pid: int | str = "self") -> list[str]:
    """The arguments it was executed with, or has put in their place since; none of a zombie or a kernel thread."""
    text = _read(pid, "cmdline")
    return text.removesuffix("\0").split("\0") if text else []


def environment(pid: int | str = "self") -> dict[str, str]:
    """The environment it was executed with."""
    variables = (variable.partition("=") for variable in _read(pid, "environ").split("\0") if variable)
    return {name: value for name, _, value in variables}


def cgroups(pid: int | str = "self") -> dict[str, str]:
    """Its cgroup in each hierarchy, by the controllers as the kernel writes them: `"cpu,cpuacct"`, `"name=systemd"`,
    `""` for version 2."""
    lines = (line.split(":", 2) for line in _read(pid, "cgroup").splitlines())
    return {controllers: path for _, controllers, path in lines}


def namespaces(pid: int | str = "self") -> dict[str, int]:
    """The inode number that names each namespace it is in, by kind: `{"net": 4026531840, …}`."""
    with _Reading(pid):
        directory = f"/proc/{pid}/ns"
        return {kind: int(os.readlink(f"{directory}/{kind}").split("[")[1][:-1]) for kind in os.listdir(directory)}


def is_host_root() -> bool:
    """Whether this process is root to the kernel, and not only in a user namespace. `user_namespaces(7)`"""
    return os.geteuid() == 0 and _text("/proc/self/uid_map").split() == ["0", "0", str(_ALL_USERS)]


def outer_uid() -> int:
    """The user of this process as whoever is outside its user namespace knows them. `user_namespaces(7)`"""
    inner = os.geteuid()
    for line in _text("/proc/self/uid_map").splitlines():
        first, outer, count = map(int, line.split())
        if first <= inner < first + count:
            return outer + inner - first
    return inner


def descriptors(pid: int | str = "self") -> int:
    """How many file descriptors it has open."""
    with _Reading(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))


def children(pid: int | str = "self") -> list[int]:
    """The PIDs of its children, whichever of its threads made them."""
    with _Reading(pid):
        threads = os.listdir(f"/proc/{pid}/task")
    return [int(child) for thread in threads for child in _read(pid, f"task/{thread}/children").split()]


def limits(pid: int | str = "self") -> dict[str, tuple[int | None, int | None]]:
    """Its resource limits, soft and hard, None for unlimited, by name: `{"Max open files": (1024, 4096), …}`."""
    return {
        line[:26].rstrip(): (_limit(line[26:47]), _limit(line[47:68])) for line in _read(pid, "limits").splitlines()[1:]
    }


def proportional_size(pid: int | str = "self") -> int:
    """Its memory in bytes (PSS), of each page that it shares only its part: those of all processes add up to what is in
    use."""
    fields = dict(line.split(":", 1) for line in _read(pid, "smaps_rollup").splitlines()[1:])
    return _kilobytes(fields["Pss"])


class LinkTraffic:
    """What went through a network link since it was made: bytes, packets, errors, and packets dropped."""

    __slots__ = (
        "received_bytes", "received_dropped", "received_errors", "received_packets",
        "sent_bytes", "sent_dropped", "sent_errors", "sent_packets",
    )  # fmt: skip

    def __init__(self, fields: list[int]) -> None:
        self.received_bytes, self.received_packets, self.received_errors, self.received_dropped = fields[:4]
        self.sent_bytes, self.sent_packets, self.sent_errors, self.sent_dropped = fields[8:12]


def link_traffic(pid: int | str = "self") -> dict[str, LinkTraffic]:
    """What went through the links of its network namespace, by name."""
    lines = (line.split(":") for line in _read(pid, "net/dev").splitlines()[2:])
    return {name.strip(): LinkTraffic(_integers(fields)) for name, fields in lines}


class MountPoint:
    """One line of `/proc/PID/mountinfo`.

    `root` is what of the file system is mounted, `target` where; `options` are the mount's own, `super_options` the
    file system's; `propagation` holds tags such as `shared:1`; `identity` and `parent` are the numbers of mounts.
    """

    __slots__ = (
        "device", "filesystem", "identity", "options", "parent",
        "propagation", "root", "source", "super_options", "target",
    )  # fmt: skip

    def __init__(self, line: str) -> None:
        left, _, right = line.partition(" - ")
        identity, parent, self.device, root, target, options, *self.propagation = left.split(" ")
        self.identity, self.parent = int(identity), int(parent)
        self.root, self.target, self.options = unescape(root), unescape(target), options.split(",")
        self.filesystem, source, super_options = right.split(" ", 2)
        self.source, self.super_options = unescape(source), super_options.split(",")


def mounts(pid: int | str = "self") -> list[MountPoint]:
    """The mounts that it sees, in the order they were mounted."""
    return [MountPoint(line) for line in _read(pid, "mountinfo").splitlines()]


def mount_id(descriptor: int) -> int:
    """The number of the mount that an open file is reached by. `proc_pid_fdinfo(5)`"""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def unescape(field: str) -> str:
    r"""A path as it is, from a field in which blanks and backslashes are octal: `/a\040b` is `/a b`."""
    if "\\" not in field:
        return field
    first, *escaped = field.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in escaped)


class PsEntry:
    """What `ps(1)` shows of a process.

    `cpu`, `memory`: percent of one CPU over its life, and of the machine's memory. `virtual_size`, `rss`: bytes.
    `terminal`: "pts/0", or "?". `state`: letters such as "Ss+". `started`: seconds since 1970. `cpu_time`: seconds.
    `command`: its command line, or its name in brackets where it has none. `stat`, `status`: what it is all from.
    """

    __slots__ = (
        "command", "cpu", "cpu_time", "memory", "name", "parent", "pid",
        "rss", "started", "stat", "state", "status", "terminal", "uid", "virtual_size",
    )  # fmt: skip

    def __init__(self, pid: int, uptime: float, boot_time: int, memory: int) -> None:
        self.stat, self.status = now, who = stat(pid), status(pid)
        age = max(uptime - now.start_time / TICKS_PER_SECOND, 1 / TICKS_PER_SECOND)
        self.pid, self.parent, self.uid, self.name = pid, now.parent, who.uids[1], now.command
        self.cpu_time = now.user_time + now.system_time
        self.cpu, self.memory = 100 * self.cpu_time / age, 100 * who.rss / memory
        self.virtual_size, self.rss = now.virtual_size, who.rss
        self.terminal, self.state = terminal_name(now.terminal), _state_letters(now, who)
        self.started = boot_time + now.start_time / TICKS_PER_SECOND
        self.command = " ".join(command_line(pid)) or f"[{now.command}]"


def ps(pids: Iterable[int]) -> list[PsEntry]:
    """What `ps(1)` shows of these processes, without those that have ended."""
    machine = uptime(), boot_time(), memory()["MemTotal"]
    entries = []
    for pid in pids:
        try:
            entries.append(PsEntry(pid, *machine))
        except ProcessLookupError:
            pass
    return entries


def _state_letters(now: Stat, who: Status) -> str:
    marks = (
        ("<", now.nice < 0), ("N", now.nice > 0), ("L", who.locked > 0),
        ("s", now.session == now.pid), ("l", now.threads > 1), ("+", now.foreground_group == now.group),
    )  # fmt: skip
    return now.state + "".join(mark for mark, applies in marks if applies)


def terminal_name(device: int) -> str:
    """The name below /dev of the terminal with this number; "?" for none."""
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:  # Documentation/admin-guide/devices.txt
        return f"pts/{(major - 136) * 256 + minor}"
    try:
        with open(f"/sys/dev/char/{major}:{minor}/uevent", encoding="utf-8") as lines:
            return dict(line.rstrip("\n").split("=", 1) for line in lines)["DEVNAME"]
    except (FileNotFoundError, KeyError):
        return "?"


def pids() -> list[int]:
    """The PIDs of all processes that are to be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def memory() -> dict[str, int]:
    """The machine's memory in bytes, by the names of `/proc/meminfo`: `MemTotal`, `MemAvailable`, …"""
    lines = (line.split(":") for line in _text("/proc/meminfo").splitlines())
    return {name: _kilobytes(amount) for name, amount in lines}


def uptime() -> float:
    """Seconds since the machine was started."""
    return float(_text("/proc/uptime").split()[0])


def boot_time() -> int:
    """When the machine was started, in seconds since 1970."""
    return next(int(line.split()[1]) for line in _text("/proc/stat").splitlines() if line.startswith("btime "))


def boot_id() -> str:
    """Random, and another after each start of the machine."""
    return _text("/proc/sys/kernel/random/boot_id").strip()


def load_average() -> tuple[float, float, float]:
    """How many processes ran or waited for a disk, on average of 1, 5 and 15 minutes."""
    one, five, fifteen, *_ = _text("/proc/loadavg").split()
    return float(one), float(five), float(fifteen)


def _read(pid: int | str, name: str) -> str:
    with _Reading(pid):
        return _text(f"/proc/{pid}/{name}")


def _text(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, 1 << 16):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return os.fsdecode(b"".join(chunks))


class _Reading:
    """Says in one way that the process has ended, whichever way the kernel says it."""

    def __init__(self, pid: int | str) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in _GONE:
            raise ProcessLookupError(errno.ESRCH, f"process {self._pid} has ended") from None


def _integers(fields: str) -> list[int]:
    return [int(field) for field in fields.split()]


def _kilobytes(amount: str) -> int:
    """`"  12 kB"` in bytes; a bare number as it is."""
    number, *unit = amount.split()
    return int(number) * (1024 if unit else 1)


def _limit(field: str) -> int | None:
    return None if field.strip() == "unlimited" else int(field)
