"""Operations that turn the first process of the new namespaces into the container's program: who it is, what it may do,
what it sees of itself, and last of all `execve`. `credentials(7)`

Their order is part of their meaning. A seccomp filter may be loaded by a process that cannot gain privileges any more
or by one that holds CAP_SYS_ADMIN, so it comes after `SetNoNewPrivileges` or before `SetUser`; the user changes before
the capabilities go, because changing it takes some of them.

For a script, `SetUser`, `DropCapabilities` and `SetNoNewPrivileges` gather the options of one `setpriv(1)` in the
shell's own arguments, and `Exec` calls it: setpriv has to do the three at once, each being needed for the next.
"""

from __future__ import annotations

import errno
import os
import struct
import sys

from cutaway.kernel import capabilities, keyring, mounts, prctl, pty, rlimits, seccomp
from cutaway.kernel.descriptors import close_on_exec, close_range, is_null
from cutaway.kernel.errors import KernelError
from cutaway.kernel.native import c_char
from cutaway.kernel.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    make_file,
    open_in_root,
    openat2,
)
from cutaway.kernel.statfs import PROC_SUPER_MAGIC, filesystem_type
from cutaway.kernel.syscalls import call, libc
from cutaway.plan.operation import Context, Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal  # `signal` imports `enum`

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROC_ROOT_INO = 1
_FIFO = 0o010000
_STANDARD = 3  # streams
_LongestPath = c_char * 4096
_HARMLESS = frozenset({_signal.SIGCHLD, _signal.SIGCONT, _signal.SIGURG, _signal.SIGWINCH})
"""What programs ignore unless they say otherwise (`signal(7)`)."""
_FILE_TYPE = 0o170000


class ExecError(OSError):
    """The program could not be executed. `exit_code` is what a shell, and Docker, make of it."""

    exit_code = 126

    def __init__(self, number: int, program: str, reason: str) -> None:
        super().__init__(number, f'exec: "{program}": {reason}')

    def __str__(self) -> str:
        return str(self.strerror)


class CommandNotFound(ExecError):
    """There is no such program, or what it needs to run (its interpreter, its loader) is not there."""

    exit_code = 127


class CannotInvoke(ExecError):
    """There is a file, but it may not or cannot be executed."""


class SetHostname(Operation):
    """The host name of the new UTS namespace."""

    name: str
    manual = "sethostname(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        name = os.fsencode(self.name)
        call("sethostname", name, len(name), subject=self.name)

    def shell(self) -> str:
        return f"hostname {_quote(self.name)}"

    def why(self) -> str:
        return f"The container calls itself {self.name}; the host keeps its own name."


class SetDomainname(Operation):
    """The NIS domain name of the new UTS namespace."""

    name: str
    manual = "setdomainname(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        name = os.fsencode(self.name)
        call("setdomainname", name, len(name), subject=self.name)

    def shell(self) -> str:
        return f"domainname {_quote(self.name)}"

    def why(self) -> str:
        return f"The container's NIS domain is {self.name}; the host keeps its own."


class SetSysctl(Operation):
    """One kernel parameter of the new namespaces; `key` with dots or slashes, as sysctl(8) takes it."""

    key: str
    value: str
    manual = "sysctl(8)"

    def apply(self, context: Context) -> None:
        proc = _procfs(context)
        try:
            _write_below(proc, "sys/" + self.path, self.value)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._write_unseen()
        finally:
            os.close(proc)

    def _write_unseen(self) -> None:
        """Where something is mounted over it, as `/proc/sys` itself is on a host that is a container: in a procfs that
        is attached nowhere nothing is."""
        proc = mounts.new_mount("proc", "proc")
        try:
            _write_below(proc, "sys/" + self.path, self.value)
        finally:
            os.close(proc)

    @property
    def path(self) -> str:
        """Below /proc/sys. Whichever separator comes first separates: an interface's name may hold the other one.

        Raises `KernelError` for a key that leads elsewhere than it says.
        """
        slash, dot = (self.key.find(separator) for separator in "/.")
        path = self.key if dot == -1 or -1 < slash < dot else self.key.translate({ord("."): "/", ord("/"): "."})
        if {"", ".", ".."} & {*path.split("/")}:
            raise KernelError(errno.EINVAL, "write", f"/proc/sys/{path}")
        return path

    def shell(self) -> str:
        return f"sysctl -qw {_quote(f'{self.key}={self.value}')}"

    def why(self) -> str:
        return f"The kernel parameter {self.key} is {self.value} in the container's namespaces alone."


class SetOomScore(Operation):
    """How readily the kernel kills the container when memory runs out: -1000 (never) to 1000 (first)."""

    score: int
    manual = "proc(5)"

    def apply(self, context: Context) -> None:
        try:
            _write_proc(context, f"{context.pid or 'self'}/oom_score_adj", str(self.score))
        except PermissionError as error:
            reason = "lowering the score needs CAP_SYS_RESOURCE, which is not to be had here"
            raise PermissionError(error.errno, f"{error}: {reason}") from None

    def shell(self) -> str:
        return f"echo {self.score} > /proc/self/oom_score_adj"

    def why(self) -> str:
        return f"When the host runs out of memory, the kernel weighs this container by {self.score}."


class SetExecLabel(Operation):
    """By what the kernel's security module knows the program from its execution on: an SELinux context, or
    `exec PROFILE` for AppArmor."""

    label: str
    manual = "proc_pid_attr(5)"

    def apply(self, context: Context) -> None:
        _write_proc(context, "self/attr/exec", self.label)

    def shell(self) -> str:
        return f"echo {_quote(self.label)} > /proc/self/attr/exec"

    def why(self) -> str:
        return f"What the program may do is also decided by the rules that the host has for {self.label}."


class SetRlimits(Operation):
    """Limits of each process, as in the OCI runtime-spec: `[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}]`."""

    limits: list[dict[str, Any]]
    manual = "getrlimit(2)"

    def apply(self, context: Context) -> None:
        for limit in self.limits:
            rlimits.set(limit["type"], limit["soft"], limit["hard"], context.pid)

    def subject(self) -> str:
        return " ".join(limit["type"] for limit in self.limits)

    def shell(self) -> str:
        options = (
            f"--{limit['type'].removeprefix('RLIMIT_').lower()}={_limit(limit['soft'])}:{_limit(limit['hard'])}"
            for limit in self.limits
        )
        return "prlimit --pid $$ " + " ".join(options)

    def why(self) -> str:
        names = ", ".join(limit["type"] for limit in self.limits)
        return f"Each process of the container is held to its own {names}."


def _limit(value: int) -> str:
    return "unlimited" if value & rlimits.RLIM_INFINITY == rlimits.RLIM_INFINITY else str(value)


class NewSession(Operation):
    """A session of its own, without a controlling terminal."""

    manual = "setsid(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _named(os.setsid)

    def shell(self) -> str:
        return 'exec setsid "$@"'

    def why(self) -> str:
        return "A session of its own: the container cannot type into the terminal it was started from."


class NewKeyring(Operation):
    """A session keyring of its own, called `name`."""

    name: str
    manual = "keyrings(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        keyring.join_session(self.name)

    def shell(self) -> str:
        return f"# a keyring of its own: keyctl new_session {_quote(self.name)}, of the package keyutils"

    def why(self) -> str:
        return "A keyring of its own: the keys of whoever started the engine stay out of the container's reach."


class SetUser(Operation):
    """User, group and additional groups of the program, and its umask (-1 leaves it as it is).

    The pipes on descriptors 0 to 2 are given to the user, who could not open `/dev/stdout` again otherwise.
    The permitted capabilities are kept over the change, for `DropCapabilities` to choose from; where nobody chooses,
    `execve` takes them from a user who is not root.
    """

    uid: int
    gid: int
    additional_gids: list[int] = []
    umask: int = -1
    manual = "credentials(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _give_pipes_to(self.uid)
        self._set_groups()
        _named(os.setresgid, self.gid, self.gid, self.gid)
        prctl.set_keepcaps(True)
        _named(os.setresuid, self.uid, self.uid, self.uid)
        # The kernel takes 4294967295 as -1, "leave it", and reports success: the program would stay root.
        if {*_named(os.getresuid)} != {self.uid} or {*_named(os.getresgid)} != {self.gid}:
            raise KernelError(errno.EINVAL, "setresuid", f"{self.uid}:{self.gid}")
        if self.umask >= 0:
            os.umask(self.umask)

    def _set_groups(self) -> None:
        try:
            _named(os.setgroups, list(dict.fromkeys(self.additional_gids)))
        except PermissionError:  # user namespaces of ordinary users may forbid it (user_namespaces(7))
            if self.additional_gids:
                raise

    def subject(self) -> str:
        return f"{self.uid}:{self.gid}"

    def shell(self) -> str:
        groups = ",".join(str(gid) for gid in self.additional_gids)
        options = f"--reuid={self.uid} --regid={self.gid} " + (f"--groups={groups}" if groups else "--clear-groups")
        umask = [f"umask {self.umask:04o}"] if self.umask >= 0 else []
        give = "for stream in 0 1 2; do [ ! -p /proc/self/fd/$stream ] || chown {0} /proc/self/fd/$stream; done"
        pipes = [give.format(self.uid)] if self.uid else []
        return "\n".join([*umask, *pipes, f'set -- "$@" {options}'])

    def why(self) -> str:
        return f"The program runs as user {self.uid} and group {self.gid}, with no group of the engine's left."


def _give_pipes_to(uid: int) -> None:
    for descriptor in range(3):
        try:
            status = os.fstat(descriptor)
            if status.st_mode & _FILE_TYPE == _FIFO and status.st_uid != uid:
                os.fchown(descriptor, uid, -1)
        except OSError:  # closed, or not ours to give away: the program still has the descriptor itself
            continue


class DropCapabilities(Operation):
    """The five capability sets, as in the OCI runtime-spec, by name; what is not named goes."""

    bounding: list[str] = []
    effective: list[str] = []
    permitted: list[str] = []
    inheritable: list[str] = []
    ambient: list[str] = []
    manual = "capabilities(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _, permitted, inheritable = capabilities.capget()
        capabilities.capset(permitted, permitted, inheritable)  # a change of user has emptied the effective set
        capabilities.keep_bounding(capabilities.mask(self.bounding))
        effective, permitted, inheritable = map(capabilities.mask, (self.effective, self.permitted, self.inheritable))
        capabilities.capset(effective, permitted, inheritable)
        capabilities.set_ambient(capabilities.mask(self.ambient))
        prctl.set_keepcaps(False)

    def subject(self) -> str:
        return f"all but {len(self.bounding)}"

    def shell(self) -> str:
        sets = {"bounding-set": self.bounding, "inh-caps": self.inheritable, "ambient-caps": self.ambient}
        options = (f"--{option}={','.join(['-all', *map(_setpriv_name, names)])}" for option, names in sets.items())
        return 'set -- "$@" ' + " ".join(options)

    def why(self) -> str:
        kept = ", ".join(self.bounding) or "none of them"
        return f"Root inside keeps these of root's powers and can never get another: {kept}."


def _setpriv_name(capability: str) -> str:
    return "+" + capability.removeprefix("CAP_").lower()


class SetNoNewPrivileges(Operation):
    """From here on executing a file grants nothing: setuid bits and file capabilities have no effect."""

    manual = "PR_SET_NO_NEW_PRIVS(2const)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        prctl.set_no_new_privs()

    def shell(self) -> str:
        return 'set -- "$@" --no-new-privs'

    def why(self) -> str:
        return "No program inside gains rights by being executed: setuid bits and file capabilities have no effect."


class LoadSeccomp(Operation):
    """The filter that every system call of the container passes: BPF instructions as hexadecimal digits in `filter`, or
    in the file held as `descriptor`. `flags` are keys of `kernel.seccomp.FLAGS`.

    With SCMP_ACT_NOTIFY in it, the descriptor that receives the calls goes to who listens at the unix socket
    `listener`, with `announcement`: the OCI runtime-spec's "container process state" but for the process's number,
    which is the container's, too, where its state has none yet.
    """

    filter: str = ""
    descriptor: str = ""
    flags: list[str] = []
    listener: str = ""
    announcement: dict[str, Any] = {}
    manual = "seccomp(2)"

    def prepare(self, context: Context) -> None:
        if self.listener:
            import json  # inside, the image's would be imported

            _ = json
            context.descriptors["listener"] = _connected(self.listener)

    def apply(self, context: Context) -> None:
        _reset_signals()  # which the filter may forbid
        if not self.listener:
            seccomp.load(self._program(context), self.flags)
            return
        message = self._message(context)
        listener = seccomp.load(self._program(context), self.flags, notify=True)
        _send_descriptor(context.descriptors["listener"], listener, message)
        os.close(listener)

    def _message(self, context: Context) -> bytes:
        from json import dumps

        pid = {"pid": context.own_pid or own_pid(context)}
        return dumps(self.announcement | pid | {"state": pid | self.announcement.get("state", {})}).encode()

    def _program(self, context: Context) -> bytes:
        if self.descriptor:
            return os.pread(context.descriptors[self.descriptor], seccomp.MOST_BYTES, 0)
        return bytes.fromhex(self.filter)

    def subject(self) -> str:
        return ""

    def shell(self) -> str:
        return "# the seccomp filter: no stock tool loads one, so every system call is allowed"

    def why(self) -> str:
        return "System calls that containers do not need, and with which one could get out, are refused."


class OpenTerminal(Operation):
    """A terminal of the container's own devpts: descriptors 0, 1 and 2, `/dev/console` (unless the container has one),
    and the session's controlling terminal. Its other end goes out over the socket `context.descriptors["console"]`.

    Neither the terminal nor what `/dev/console` is bound to is ever looked up by a name (CVE-2025-52565).
    """

    columns: int = 0
    rows: int = 0
    uid: int = 0
    console: bool = True
    manual = "pty(7)"

    def apply(self, context: Context) -> None:
        root = context.root if context.root >= 0 else os.open("/", os.O_PATH | os.O_CLOEXEC)
        master = open_in_root(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW)
        slave = pty.open_slave(master)
        os.fchown(slave, self.uid, -1)
        if self.columns and self.rows:
            pty.set_window_size(slave, self.columns, self.rows)
        if self.console:
            _bind_console(root, slave)
        _send_descriptor(context.descriptors["console"], master, b"/dev/pts/ptmx")
        os.close(master)
        pty.make_controlling(slave)
        for descriptor in range(3):
            os.dup2(slave, descriptor)

    def subject(self) -> str:
        return "/dev/console" if self.console else ""

    def shell(self) -> str:
        return "# a terminal of the container's own devpts: no stock tool opens one, script(1) gives one of the host's"

    def why(self) -> str:
        return "A terminal that belongs to the container: the caller's own never gets inside."


def _bind_console(root: int, slave: int) -> None:
    os.close(make_file(root, "/dev/console"))
    target = open_in_root(root, "/dev/console", os.O_PATH | os.O_NOFOLLOW)
    terminal = mounts.clone_tree("", directory=slave)
    mounts.attach(terminal, target)
    os.close(terminal)
    os.close(target)


class ReopenNull(Operation):
    """Standard streams that are the host's /dev/null become the container's own: of a file that is open, the mode and
    the owner can be changed, too."""

    manual = "fchmod(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        streams = [number for number in range(_STANDARD) if is_null(number)]
        if not streams:
            return
        try:
            null = os.open("/dev/null", os.O_RDWR | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # it has none, or may not use it
            return
        if is_null(null):  # an image, or who is in there already, can have anything at this path
            os.set_blocking(null, True)
            for number in streams:
                os.dup2(null, number)
        os.close(null)

    def subject(self) -> str:
        return "/dev/null"

    def shell(self) -> str:
        return ""

    def why(self) -> str:
        return (
            "Where a standard stream is the host's /dev/null, it becomes the container's: modes can be changed by it."
        )


class ChangeDirectory(Operation):
    """The working directory. To be applied once the container's root is the process's root.

    `make`: it is made if it is missing, as Docker does for a container's first process.
    """

    path: str
    make: bool = True
    manual = "chdir(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        try:
            _named(os.chdir, self.path)
        except FileNotFoundError:
            if not self.make:
                raise
            _named(os.makedirs, self.path)
            _named(os.chdir, self.path)
        self._check_inside()

    def _check_inside(self) -> None:
        """A path like `/proc/self/fd/7` leads out where a descriptor of the host is open (CVE-2024-21626). The kernel
        then has no path to tell from the root to here; the C library would go looking for one, so it is not asked."""
        here = _LongestPath()
        length = call("getcwd", here, len(here), subject=self.path)
        if length < 2 or here.raw[:1] != b"/":
            raise KernelError(errno.EXDEV, "chdir", f"{self.path}, which is outside of the container's root")

    def shell(self) -> str:
        path = '"$ROOT"' + _quote(self.path)
        return f"mkdir -p {path}\ncd {path}" if self.make else f"cd {path}"

    def why(self) -> str:
        return f"The program starts in {self.path}, and that is checked to be inside the container."


class CloseDescriptors(Operation):
    """Every descriptor from `first` on closes when the program is executed."""

    first: int = 3
    manual = "close_range(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        close_on_exec(self.first)

    def subject(self) -> str:
        return f"{self.first} and above"

    def shell(self) -> str:
        return "exec 3>&- 4>&- 5>&- 6>&- 7>&-"

    def why(self) -> str:
        return "No file that the engine has open gets into the container."


class BecomeInit(Operation):
    """`--init`: what follows is done by a child, while this process stays as PID 1. It passes signals on to the child,
    reaps every process that ends, and ends with the child's exit code (128+n for a signal), and all others with it.

    It is the one process of the engine's that stays inside a container, so it can be neither traced nor looked into,
    holds no descriptor, and does not show the command line it was started with.
    """

    manual = "pid_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        prctl.set_dumpable(False)
        prctl.set_child_subreaper(True)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        program = os.fork()
        if program == 0:
            _lead_foreground()
            return
        close_range(0)
        _show_as(b"init")
        os._exit(_serve(program))

    def shell(self) -> str:
        return "# no stock tool is an init that passes signals on and reaps, and no more: PID 1 is the program itself"

    def why(self) -> str:
        return (
            "PID 1 has duties that programs do not expect: it must reap orphans, and gets no signal it does not handle."
        )


class Idle(Operation):
    """`--init` without a program: the process stays as PID 1, beside which others are executed. It reaps every process
    that ends, and ends at the first signal that ends programs, with 128 and its number as exit code.

    As with `BecomeInit`, it can be neither traced nor looked into, and holds no descriptor.
    """

    manual = "pid_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        prctl.set_dumpable(False)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        close_range(0)
        _show_as(b"init")
        os._exit(_idle())

    def shell(self) -> str:
        return 'exec setpriv "$@" sleep infinity'

    def why(self) -> str:
        return "PID 1 only waits, and reaps what ends: the container is there for what is executed in it."


def _lead_foreground() -> None:
    """^C goes to the program and its children, and not to PID 1 as well, which would pass it on a second time."""
    os.setpgid(0, 0)
    try:
        os.tcsetpgrp(0, os.getpid())
    except OSError:  # no terminal, or not this session's
        pass


def _show_as(name: bytes) -> None:
    """Overwrites what `ps` shows of this process: its name, and the memory its arguments are in."""
    prctl.set_name(name.decode())
    length = sum(len(os.fsencode(argument)) + 1 for argument in sys.orig_argv)
    arguments = libc.pointer("program_invocation_name")
    (c_char * length).from_address(arguments).raw = name.ljust(length, b"\0")[:length]


def _serve(program: int) -> int:
    signals = _signal.valid_signals()
    while True:
        signal = _signal.sigwait(signals)
        if signal != _signal.SIGCHLD:
            _pass_on(signal, program)
            continue
        exit_code = _reap(program)
        if exit_code is not None:
            return exit_code


def _idle() -> int:
    while (signal := _signal.sigwait(_signal.valid_signals())) in _HARMLESS:
        _reap(0)
    return 128 + signal


def _pass_on(signal: int, program: int) -> None:
    try:
        os.kill(program, signal)
    except PermissionError:  # it has become another user's
        pass


def _reap(program: int) -> int | None:
    """Reaps all that have ended; returns the program's exit code if it is among them."""
    exit_code = None
    pid = -1
    while pid:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            exit_code = 128 - code if code < 0 else code
    return exit_code


class SendSignal(Operation):
    """A signal for a process, which it may take as a request to end. `signal(7)` says what each does to who has no
    handler for it."""

    pid: int
    number: int
    manual = "kill(1)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _named(os.kill, self.pid, self.number)

    def subject(self) -> str:
        return f"{self._name} to {self.pid}"

    def shell(self) -> str:
        return f"kill -{self._name.removeprefix('SIG')} {self.pid}"

    def why(self) -> str:
        if self.number == _signal.SIGKILL:
            return "Nobody can ignore SIGKILL; with PID 1 of a PID namespace, the kernel kills all that are in it."
        return f"{self._name} asks PID 1 to end. As PID 1 has no default actions, it must have a handler to hear it."

    @property
    def _name(self) -> str:
        import signal  # imports `enum`; only an explanation needs it

        named = {number.value: number.name for number in signal.Signals}
        return named.get(self.number) or f"SIGRTMIN+{self.number - signal.SIGRTMIN}"


class Exec(Operation):
    """Executes the program: `args[0]` is looked up in the PATH of `env` (`["PATH=/bin", …]`) as execvp(3) does.

    Signals that Python ignores are no longer ignored, and none is blocked.
    """

    args: list[str]
    env: list[str]
    manual = "execve(2)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        _reset_signals()
        denied = 0
        for path in self._candidates():
            try:
                os.execve(path, self.args, self._environment)
            except (FileNotFoundError, NotADirectoryError):
                if os.path.isfile(path):
                    reason = f"{path} is there, but not the interpreter or loader it names: no such file or directory"
                    raise CommandNotFound(errno.ENOENT, self.args[0], reason) from None
            except OSError as error:
                denied = denied or error.errno or 0
                if error.errno != errno.EACCES:
                    break
        raise self._refused(denied)

    def find(self) -> None:
        """Raises the `ExecError` that would come of executing it, as far as one can tell beforehand."""
        denied = 0
        for path in self._candidates():
            if os.path.isfile(path) and os.access(path, os.X_OK, effective_ids=True):
                return
            denied = denied or (errno.EACCES if os.path.exists(path) else 0)
        raise self._refused(denied)

    @property
    def _environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.env if "=" in entry)

    def _candidates(self) -> list[str]:
        program = self.args[0]
        if "/" in program or not program:
            return [program] if program else []
        return [f"{directory or '.'}/{program}" for directory in self._environment.get("PATH", DEFAULT_PATH).split(":")]

    def _refused(self, denied: int) -> ExecError:
        if denied:
            return CannotInvoke(denied, self.args[0], os.strerror(denied).lower())
        return CommandNotFound(errno.ENOENT, self.args[0], _not_found(self.args[0]))

    def shell(self) -> str:
        words = " ".join(map(_quote, [*self.env, *self.args]))
        return f'exec setpriv "$@" env -i {words}'

    def why(self) -> str:
        return (
            f"Becomes the container's program, {self.args[0]}: the same process, with nothing of the engine left in it."
        )


def _not_found(program: str) -> str:
    return f"stat {program}: no such file or directory" if "/" in program else "executable file not found in $PATH"


def _reset_signals() -> None:
    """As a program expects them; a second time, under a filter, what can be done still."""
    for number in _signal.valid_signals():
        if _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    except OSError:  # refused by the filter, before which it was done
        pass


def _write_proc(context: Context, path: str, value: str) -> None:
    """Writes to a file of what is verified to be the kernel's own /proc, the host's where it can be reached.

    An image can have anything at `/proc`, and mounts over its files can be raced (CVE-2019-19921, CVE-2025-52881): a
    write meant for `/proc/sys/…` or an LSM label would then go where the attacker wants.
    """
    proc = _procfs(context)
    try:
        _write_below(proc, path, value)
    finally:
        os.close(proc)


def _write_below(proc: int, path: str, value: str) -> None:
    try:
        file = openat2(proc, path, os.O_WRONLY, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
        with open(file, "wb", buffering=0) as opened:
            opened.write(value.encode())
    except OSError as error:
        raise KernelError(error.errno or 0, "write", f"/proc/{path}, {value}") from None


def own_pid(context: Context) -> int:
    """What the host calls this process, whatever PID namespace it is in."""
    proc = _procfs(context)
    try:
        return int(os.readlink("self", dir_fd=proc))
    finally:
        os.close(proc)


def _procfs(context: Context) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    proc = os.open("/proc", flags) if context.host < 0 else os.open("proc", flags, dir_fd=context.host)
    if filesystem_type(proc) == PROC_SUPER_MAGIC and os.fstat(proc).st_ino == _PROC_ROOT_INO:
        return proc
    os.close(proc)
    raise KernelError(errno.EXDEV, "open", "/proc, which is not the kernel's procfs")


def _connected(path: str) -> int:
    import _socket

    endpoint = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | os.O_CLOEXEC)
    try:
        endpoint.connect(path)
        return endpoint.detach()
    except OSError as error:
        raise KernelError(error.errno or 0, "connect", path) from None
    finally:
        endpoint.close()


def _send_descriptor(socket: int, descriptor: int, message: bytes) -> None:
    """Sends a descriptor over a unix socket, `SCM_RIGHTS` of unix(7), with the message that must go with it."""
    import _socket

    connection = _socket.socket(fileno=socket)
    try:
        connection.sendmsg([message], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", descriptor))])
    finally:
        connection.detach()


def _named(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a wrapper of the standard library, whose errors say neither the call nor on what."""
    try:
        return function(*arguments)
    except OSError as error:
        raise KernelError(error.errno or 0, function.__name__, ", ".join(map(str, arguments))) from None


def _quote(word: str) -> str:
    from shlex import quote  # imports `re`; only a script needs it

    return quote(word)
