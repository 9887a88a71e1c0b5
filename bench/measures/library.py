"""A container through the Python client and a running engine, beside tools that only run one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter

from bench import clock
from bench.arena import Arena
from bench.contest import OURS, Contest, Figure
from bench.engines import IMAGE


def contests(arena: Arena) -> Iterator[Contest]:
    tools = _tools(arena.rootfs)
    for network, times in (("none", 2), ("bridge", 3)):
        what = f"create, start, wait, remove from Python, network `{network}`"
        yield Contest(
            (Figure(what, "ms", goals={"bwrap --unshare-all": times}),),
            {OURS: partial(_run, network), **tools},
            rounds=40,
        )


def _run(network: str) -> tuple[float]:
    import cutaway

    begin = perf_counter()
    cutaway.run(IMAGE, ["true"], network=network)
    return (1e3 * (perf_counter() - begin),)


def _tools(rootfs: Path) -> dict[str, Callable[[], tuple[float]]]:
    """bubblewrap, and the OCI runtimes on a bundle that is ready; all without a network."""
    bundle = _bundle(rootfs)
    commands = {
        "bwrap --unshare-all": (
            "bwrap", "--unshare-all", "--ro-bind", str(rootfs), "/", "--proc", "/proc", "--dev", "/dev", "true",
        ),
        "crun run": ("crun", "run", "--bundle", str(bundle), "cutaway-bench"),
        "runc run": ("runc", "run", "--bundle", str(bundle), "cutaway-bench"),
    }  # fmt: skip
    return {name: partial(_tool, *command) for name, command in commands.items() if shutil.which(command[0])}


def _tool(*command: str) -> tuple[float]:
    return (1e3 * clock.alone(command, os.environ),)


def _bundle(rootfs: Path) -> Path:
    bundle = rootfs.parent
    if shutil.which("runc"):
        (bundle / "config.json").unlink(missing_ok=True)
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"] |= {"args": ["true"], "terminal": False}
        del config["process"]["rlimits"]  # raising them is not granted everywhere
        (bundle / "config.json").write_text(json.dumps(config))
    return bundle
