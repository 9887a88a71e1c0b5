"""The command `cutaway-oci`: global options, the verb, and what comes of it. runc(8)"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

from cutaway.runtime.command.arguments import ANY, FLAG, LIST, NUMBER, VALUE, Syntax, parse, truth
from cutaway.runtime.command.failure import Failure, Misuse, said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from cutaway.runtime.command.log import Log

ROOT = "/run/cutaway-oci"
_GLOBAL = Syntax(
    {"root": VALUE, "log": VALUE, "log-format": VALUE, "debug": FLAG, "systemd-cgroup": FLAG,
     "rootless": VALUE, "version": FLAG, "help": FLAG}, "command [arguments...]",
    0, ANY, {"v": "version", "h": "help"},
)  # fmt: skip
_CREATE = {"bundle": VALUE, "console-socket": VALUE, "pid-file": VALUE, "no-pivot": FLAG, "no-new-keyring": FLAG,
           "preserve-fds": NUMBER}  # fmt: skip
_RUN = _CREATE | {"detach": FLAG, "keep": FLAG, "no-subreaper": FLAG}
_EXEC = {"console-socket": VALUE, "cwd": VALUE, "env": LIST, "tty": FLAG, "user": VALUE, "additional-gids": LIST,
         "process": VALUE, "detach": FLAG, "pid-file": VALUE, "process-label": VALUE, "apparmor": VALUE,
         "no-new-privs": FLAG, "cap": LIST, "preserve-fds": NUMBER, "cgroup": LIST, "ignore-paused": FLAG}  # fmt: skip
_EXEC_SHORT = {"e": "env", "t": "tty", "u": "user", "g": "additional-gids", "p": "process", "d": "detach", "c": "cap"}
_UPDATE = {"resources": VALUE, "blkio-weight": NUMBER, "cpu-period": NUMBER, "cpu-quota": NUMBER, "cpu-share": NUMBER,
           "cpu-rt-period": NUMBER, "cpu-rt-runtime": NUMBER, "cpuset-cpus": VALUE, "cpuset-mems": VALUE,
           "memory": VALUE, "memory-reservation": VALUE, "memory-swap": VALUE, "pids-limit": NUMBER,
           "cpu-burst": NUMBER, "cpu-idle": NUMBER}  # fmt: skip

VERBS = {
    "create": ("creating", "create", Syntax(_CREATE, "<container-id>", 1, 1, {"b": "bundle"})),
    "start": ("starting", "start", Syntax({}, "<container-id>", 1, 1)),
    "run": ("creating", "run", Syntax(_RUN, "<container-id>", 1, 1, {"b": "bundle", "d": "detach"})),
    "exec": ("entering", "execute", Syntax(_EXEC, "<container-id> <command> [arguments...]", 1, ANY, _EXEC_SHORT)),
    "kill": ("undoing", "kill", Syntax({"all": FLAG}, "<container-id> [signal]", 1, 2, {"a": "all"})),
    "delete": ("undoing", "delete", Syntax({"force": FLAG}, "<container-id>", 1, 1, {"f": "force"})),
    "state": ("looking", "state", Syntax({}, "<container-id>", 1, 1)),
    "list": ("looking", "list_all", Syntax({"format": VALUE, "quiet": FLAG}, "", 0, 0, {"f": "format", "q": "quiet"})),
    "ps": ("looking", "ps", Syntax({"format": VALUE}, "<container-id> [ps options]", 1, ANY, {"f": "format"})),
    "events": ("events", "events", Syntax({"interval": VALUE, "stats": FLAG}, "<container-id>", 1, 1)),
    "pause": ("limiting", "pause", Syntax({}, "<container-id>", 1, 1)),
    "resume": ("limiting", "resume", Syntax({}, "<container-id>", 1, 1)),
    "update": ("limiting", "update", Syntax(_UPDATE, "<container-id>", 1, 1, {"r": "resources"})),
    "spec": ("describing", "spec", Syntax({"bundle": VALUE, "rootless": FLAG}, "", 0, 0, {"b": "bundle"})),
    "features": ("describing", "features", Syntax({}, "", 0, 0)),
}
"""Each verb's module and function there, and what it takes."""
_ENTERING = ("create", "run", "exec")
_PREFIX = {"create": "cutaway-oci create failed: ", "run": "cutaway-oci run failed: ", "exec": "exec failed: "}
_STANDARD = 3
_EXEC_FAILED = 255
_NO_SUCH_VERB = 3
_INTERRUPTED = 130


class Invocation:
    """What a verb is called with. `root`: where containers are kept; `systemd`: whether it is to make their cgroups;
    `rootless`: whether a container that needs no cgroup goes without; None: where this is not the host's root."""

    __slots__ = ("log", "operands", "options", "root", "rootless", "systemd")

    def __init__(
        self,
        root: str,
        log: Log,
        options: dict[str, Any],
        operands: list[str],
        *,
        systemd: bool = False,
        rootless: bool | None = None,
    ) -> None:
        self.root, self.log, self.options, self.operands = root, log, options, operands
        self.systemd, self.rootless = systemd, rootless

    def filters(self, spec: dict[str, Any]) -> str:
        """The directory in which compiled seccomp filters are kept, made if the container is to have one."""
        from cutaway.runtime.command.container import NO_CONTAINER

        directory = f"{self.root}/{NO_CONTAINER}seccomp"
        if (spec.get("linux") or {}).get("seccomp"):
            os.makedirs(directory, 0o700, exist_ok=True)
        return directory


def main() -> NoReturn:
    """Runs the command line and ends the process, without taking the interpreter apart: that takes a millisecond."""
    gc.disable()
    _settle()
    code = _run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def _settle() -> None:
    """Whatever the caller's ways are: all standard streams are open, or what is opened next would become one of them;
    and processes that end wait to be reaped."""
    for number in range(_STANDARD):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = sys.stdout or open(1, "w"), sys.stderr or open(2, "w")  # noqa: SIM115, for good
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    os.umask(0o022)


def _run(words: list[str]) -> int:
    from cutaway.runtime.command.log import STYLES, Log

    try:
        options, operands = parse(words, _GLOBAL)
        if options["log-format"] not in ("", *STYLES):
            raise Misuse(f"unknown log-format {options['log-format']!r}")
        log = Log(_absolute(options["log"]), options["log-format"] or "text", debug=options["debug"])
    except Misuse as error:
        Log("", "text", debug=False).error(str(error))
        return 1
    if options["version"]:
        return _show_version()
    if options["help"] or not operands or operands[0] in ("help", "h"):
        return _show_usage()
    verb, *words = operands
    if verb not in VERBS:
        log.error(f"No help topic for '{verb}'")
        return _NO_SUCH_VERB
    if words[:1] in (["--help"], ["-h"]):
        return _show_usage_of(verb)
    return _call(verb, words, options, log)


def _call(verb: str, words: list[str], options: dict[str, Any], log: Log) -> int:
    try:
        return _carry_out(verb, words, options, log)
    except Misuse as error:
        print("Incorrect Usage.\n")
        _show_usage_of(verb)
        log.error(str(error))
        return 1
    except (Failure, OSError, ValueError) as error:
        log.error(f"{_PREFIX.get(verb, '')}{said(error)}")
        return _EXEC_FAILED if verb == "exec" else getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        log.error(f"{_PREFIX.get(verb, '')}interrupted")
        return _INTERRUPTED
    except Exception as error:  # a fault of ours, which the engine that called is to read, too
        log.error(f"{_PREFIX.get(verb, '')}{type(error).__name__}: {error}{_place_of(error)}")
        return _EXEC_FAILED if verb == "exec" else 1


def _carry_out(verb: str, words: list[str], options: dict[str, Any], log: Log) -> int:
    module, function, syntax = VERBS[verb]
    given, operands = parse(words, syntax)
    if not syntax.least <= len(operands) <= syntax.most:
        wanted = f"exactly {syntax.most}" if syntax.least == syntax.most else f"a minimum of {syntax.least}"
        raise Misuse(f'cutaway-oci: "{verb}" requires {wanted} argument(s)')
    for path in {"pid-file", "console-socket"} & given.keys():
        given[path] = _absolute(given[path])
    if options["systemd-cgroup"]:
        _need_systemd()
    if verb in _ENTERING:
        log.shares_stderr = True
        from cutaway.runtime.command.interpreter import protect

        protect()
    name = f"cutaway.runtime.command.{module}"
    __import__(name)
    root = os.path.abspath(options["root"] or _default_root())
    rootless = _truth_or_auto(options["rootless"])
    invocation = Invocation(root, log, given, operands, systemd=options["systemd-cgroup"], rootless=rootless)
    return int(getattr(sys.modules[name], function)(invocation))


def _absolute(path: str) -> str:
    """As the caller means it, wherever this process goes; empty for none."""
    return path and os.path.abspath(path)


def _truth_or_auto(said: str) -> bool | None:
    return None if said in ("", "auto") else truth("rootless", said)


def _default_root() -> str:
    """That of an ordinary user is with what ends with the session, and marked as not to be tidied away before."""
    from cutaway.kernel.procfs import is_host_root

    session = os.environ.get("XDG_RUNTIME_DIR")
    called_root = os.geteuid() == 0 and os.environ.get("USER") == "root"  # as runc has it
    if not session or called_root or is_host_root():
        return ROOT
    root = f"{session}/{os.path.basename(ROOT)}"
    os.makedirs(root, 0o1700, exist_ok=True)
    return root


def _need_systemd() -> None:
    """Raises `Failure` where the one that is to make cgroups does not run. `sd_booted(3)`"""
    from cutaway.kernel.procfs import is_host_root

    if not os.path.isdir("/run/systemd/system"):
        reason = "it is not running on this host"
    elif not is_host_root() and not os.path.exists(socket := _user_socket()):
        reason = f"the user's own does not listen at {socket}"
    else:
        return
    raise Failure(f"--systemd-cgroup asks for systemd, and {reason}: set the engine's cgroup driver to cgroupfs")


def _user_socket() -> str:
    from cutaway.plan.systemd import user_socket

    return user_socket()


def _place_of(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace else ""


def _show_version() -> int:
    from cutaway.runtime.command.describing import version

    print(version())
    return 0


def _show_usage() -> int:
    from cutaway.runtime.command.describing import usage

    print(usage(VERBS))
    return 0


def _show_usage_of(verb: str) -> int:
    from cutaway.runtime.command.describing import usage_of

    print(usage_of(verb, VERBS[verb][2]))
    return 0
