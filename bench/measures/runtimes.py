"""OCI runtimes, one invocation each: `cutaway-oci`, as `make install` sets it up, beside runc and crun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import clock
from bench.arena import Arena
from bench.contest import OURS, Contest, Figure

COMMAND = Path(sys.executable).with_name("cutaway-oci")
PACKAGING = Path(__file__).parent.parent.parent / "packaging"
FREEZE, PROTECT = PACKAGING / "freeze.py", PACKAGING / "protect-interpreter"
_PEAK = """
import posix, sys
pid = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ)
print(posix.wait4(pid, 0)[2].ru_maxrss)
"""
"""Peak memory of a command, in kilobytes. What starts it must be small: it counts, too."""
_LIFE = ("create", "start", "state", "exec", "kill", "delete")


def contests(arena: Arena) -> Iterator[Contest]:
    with tempfile.TemporaryDirectory(prefix="cutaway-bench-") as name, _installed(Path(name)) as command:
        directory = Path(name)
        runtimes = {OURS: str(command)} | {tool: path for tool in ("runc", "crun") if (path := shutil.which(tool))}
        quick, lasting = (_bundle(directory / args[0], arena.rootfs, *args) for args in (("true",), ("sleep", "1000")))
        goals = {"runc": 1.0, "crun": 2.5}
        yield Contest(
            (Figure("`run` of a ready bundle", "ms", goals=goals),),
            {tool: partial(_run, path, directory, quick) for tool, path in runtimes.items()},
        )
        yield Contest(
            tuple(Figure(f"`{verb}`", "ms", goals={"runc": 1.0}) for verb in _LIFE),
            {tool: partial(_life, path, directory, lasting) for tool, path in runtimes.items()},
        )
        yield Contest(
            (Figure("peak memory of one `run`", "MB", goals={"runc": 1.0}),),
            {tool: partial(_peak, path, directory, quick) for tool, path in runtimes.items()},
        )


@contextmanager
def _installed(directory: Path) -> Iterator[Path]:
    """The command, its modules in one file, with an interpreter that nobody can write to."""
    place = directory / "bin"
    place.mkdir()
    (place / "python").symlink_to(os.path.realpath(sys.executable))
    subprocess.run([sys.executable, FREEZE, place], check=True)
    subprocess.run([PROTECT, place], check=True)
    try:
        yield place / "cutaway-oci"
    finally:
        subprocess.run([PROTECT, "-u", place], check=True)


def _bundle(directory: Path, rootfs: Path, *args: str) -> Path:
    directory.mkdir()
    subprocess.run([COMMAND, "spec", "--bundle", directory], check=True)
    file = directory / "config.json"
    config = json.loads(file.read_text())
    config["root"]["path"] = str(rootfs)
    config["process"] |= {"terminal": False, "args": list(args)}
    config["ociVersion"] = "1.0.2"  # which all of them know
    file.write_text(json.dumps(config))
    return directory


def _run(runtime: str, directory: Path, bundle: Path) -> tuple[float]:
    return (_time(runtime, directory, "run", "--bundle", str(bundle), "bench"),)


def _life(runtime: str, directory: Path, bundle: Path) -> tuple[float, ...]:
    time = partial(_time, runtime, directory)
    taken = [time("create", "--bundle", str(bundle), "bench"), time("start", "bench"), time("state", "bench")]
    taken += [time("exec", "bench", "true"), time("kill", "bench", "KILL")]
    while json.loads(_said(runtime, directory, "state", "bench"))["status"] != "stopped":
        pass
    return (*taken, time("delete", "bench"))


def _peak(runtime: str, directory: Path, bundle: Path) -> tuple[float]:
    command = _command(runtime, directory, "run", "--bundle", str(bundle), "bench")
    measured = subprocess.run([sys.executable, "-IS", "-c", _PEAK, *command], check=True, capture_output=True)
    return (int(measured.stdout) * 1024 / 1e6,)


def _time(runtime: str, directory: Path, *words: str) -> float:
    return 1e3 * clock.alone(_command(runtime, directory, *words), os.environ)


def _said(runtime: str, directory: Path, *words: str) -> str:
    return subprocess.run(_command(runtime, directory, *words), check=True, capture_output=True, text=True).stdout


def _command(runtime: str, directory: Path, *words: str) -> list[str]:
    return [runtime, "--root", str(directory / f"state-{Path(runtime).name}"), *words]
