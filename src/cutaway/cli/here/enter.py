"""`enter`: a program of the host in namespaces of a container of any engine, in the caller's own process:
`xray/entering.py`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cutaway.cli.verb import UNLIMITED, local_verb
from cutaway.engine.errors import EngineError
from cutaway.engine.options.option import BOOL, STRING, Option
from cutaway.plan.process import ExecError
from cutaway.xray import NotFound, View
from cutaway.xray.entering import DEFAULT_KINDS, Visit
from cutaway.xray.entering import enter as run

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed

_KINDS = {
    "net": "net", "mount": "mnt", "pid": "pid", "uts": "uts", "ipc": "ipc", "cgroup": "cgroup", "user": "user",
    "time": "time",
}  # fmt: skip
"""Options of `enter`, and the names the kernel has for the same namespaces."""


@local_verb(
    "enter",
    usage="[OPTIONS] CONTAINER|PID [OPTIONS] -- COMMAND [ARG...]",
    summary="Run a program of the host inside namespaces of a container of any engine; needs no engine",
    options=[
        *(Option(name, BOOL, f"Join its {name} namespace") for name in _KINDS),
        Option("all", BOOL, "Join all its namespaces, and have its files and its root user", short="a"),
        Option("root", BOOL, "Have its root directory, without its mount namespace"),
        Option("workdir", STRING, "Start in this directory", short="w"),
    ],
    arguments=(1, UNLIMITED),
    completes="xrayed",
)
def enter(parsed: Parsed) -> int:
    name, *command = parsed.arguments
    given = parsed.options
    kinds = [kind for option, kind in _KINDS.items() if given.get(option)]
    if given.get("all"):
        kinds = list(_KINDS.values())
    elif not kinds and not given.get("root"):
        kinds = list(DEFAULT_KINDS)
    visit = Visit(kinds, given.get("root", False), given.get("workdir", ""), command or ["/bin/sh"])
    try:
        return run(View().find(name).pid, visit)
    except NotFound as problem:
        raise EngineError(str(problem)) from None
    except ExecError as problem:
        print(f"cutaway: {problem}", file=sys.stderr)
        return problem.exit_code
    except PermissionError as problem:
        advice = "" if os.geteuid() == 0 else ": it needs root rights: run it as root (sudo cutaway …)"
        print(f"cutaway: cannot enter {name}: {problem}{advice}", file=sys.stderr)
        return 1
