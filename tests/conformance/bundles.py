"""Bundles for tests: a `config.json` of the least that a container needs, changed as a test wants, and the runtime
that makes containers of them."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

RUNTIME = str(Path(sys.executable).with_name("cutaway-oci"))
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"]
NOBODY = 65534
SUBORDINATE = 500000
_numbers = itertools.count(1)

LEAST: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "process": {
        "args": ["true"],
        "env": [PATH],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), DEFAULT_CAPABILITIES),
    },
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")]},
}


class Finished(subprocess.CompletedProcess[str]):
    """`said`: all its output."""

    @property
    def said(self) -> str:
        return self.stdout + self.stderr


class Runtime:
    """`cutaway-oci` with a state directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.root, self.command = directory / "state", RUNTIME
        self.containers: list[str] = []
        self.options: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """What every command line begins with."""
        return [self.command, "--root", str(self.root), *self.options]

    def __call__(self, *words: str, timeout: float = 30, **more: Any) -> Finished:
        """Runs one command to its end."""
        done = subprocess.run(
            [*self.words, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **more,
        )
        return Finished(done.args, done.returncode, done.stdout, done.stderr)

    def delete_all(self) -> None:
        for identifier in dict.fromkeys(self.containers):
            self("delete", "--force", identifier)


class Bundle:
    """A directory with a `config.json` and a root file system. `spec` is what will be written there."""

    def __init__(self, directory: Path, rootfs: Path, runtime: Runtime) -> None:
        self.directory, self.runtime = directory, runtime
        self.rootfs = directory / "rootfs"
        shutil.copytree(rootfs, self.rootfs, symlinks=True)
        self.rootfs.chmod(0o755)
        self.id = f"cutaway-test-{os.getpid()}-{next(_numbers)}"
        self.spec = copy.deepcopy(LEAST)
        self.process: dict[str, Any] = self.spec["process"]
        self.linux: dict[str, Any] = self.spec["linux"]
        self.linux["cgroupsPath"] = f"/{self.id}"

    def without_namespace(self, *kinds: str) -> None:
        self.linux["namespaces"] = [each for each in self.linux["namespaces"] if each["type"] not in kinds]

    def with_namespace(self, kind: str, **more: str) -> None:
        self.without_namespace(kind)
        self.linux["namespaces"].append({"type": kind, **more})

    def mount(self, destination: str, kind: str = "tmpfs", source: str = "tmpfs", *options: str, **more: Any) -> None:
        self.spec["mounts"].append(
            {"destination": destination, "type": kind, "source": source, "options": list(options), **more}
        )

    def bind(self, source: object, destination: str, *options: str, **more: Any) -> None:
        self.mount(destination, "none", str(source), *(options or ("bind",)), **more)

    def give_to_nobody(self, *, subordinate: bool = False) -> None:
        """Writes it as one of the user NOBODY's, with a container of that user alone, or of subordinate ones, too."""
        self.with_namespace("user")
        mapping = [{"containerID": 0, "hostID": NOBODY, "size": 1}]
        mapping += [{"containerID": 1, "hostID": SUBORDINATE, "size": 60000}] if subordinate else []
        self.linux |= {"uidMappings": mapping, "gidMappings": mapping}
        self.write()
        for path in (self.directory, *self.directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        for path in list(self.directory.parents)[:3]:
            path.chmod(0o755)

    def as_nobody(self, *words: str, within: Sequence[str] = (), **environment: str) -> Finished:
        """Runs a command of the runtime's as the user NOBODY, who has containers of their own. `within`: a command that
        runs it."""
        user = ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = [
            *within,
            *user,
            python_of_everybody(),
            "-IS",
            RUNTIME,
            "--root",
            str(self.directory / "state"),
            *words,
        ]
        with open(self.directory / "said", "w+") as said:  # a created container would keep a pipe open
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=30, check=False, cwd="/",
                env=os.environ | environment,
            ).returncode  # fmt: skip
            said.seek(0)
            return Finished(command, code, said.read(), "")

    def write(self) -> None:
        (self.directory / "config.json").write_text(json.dumps(self.spec))

    def runs(self, *args: str, **more: Any) -> Finished:
        """Runs a program as the container's, to its end."""
        if args:
            self.process["args"] = list(args)
        return self.does("run", **more)

    def says(self, *args: str) -> str:
        """The output of a program that succeeds."""
        done = self.runs(*args)
        assert done.returncode == 0, done.said
        return done.stdout.strip()

    def shell(self, script: str) -> str:
        """The output of a script of busybox's that succeeds."""
        return self.says("sh", "-ec", script)

    def refusal(self) -> str:
        """What the runtime says when it refuses the bundle: one sentence, and nothing is there afterwards."""
        done = self.does("create")
        assert done.returncode != 0, "it was accepted"
        assert "Traceback" not in done.said
        assert self.runtime("state", self.id).returncode != 0
        return done.said

    def does(self, verb: str, *words: str, **more: Any) -> Finished:
        """`create` or `run`."""
        self.write()
        self.runtime.containers.append(self.id)
        return self.runtime(verb, "--bundle", str(self.directory), *words, self.id, **more)

    def create(self, *args: str) -> None:
        """A container that waits to be started. Its output goes nowhere."""
        if args:
            self.process["args"] = list(args)
        assert self.is_created(), f"create failed: {self.does('create').said}"

    def is_created(self) -> bool:
        """Whether it could be."""
        self.write()
        self.runtime.containers.append(self.id)
        command = [*self.runtime.words, "create", "--bundle", str(self.directory), self.id]
        null = subprocess.DEVNULL
        return subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=30, check=False).returncode == 0

    def start(self) -> Finished:
        return self.runtime("start", self.id)

    def state(self) -> dict[str, Any]:
        """What `state` says."""
        state: dict[str, Any] = json.loads(self.runtime("state", self.id).stdout)
        return state


def with_subordinate_users(directory: Path, first: int = SUBORDINATE) -> list[str]:
    """A command that runs another where the user NOBODY has 65536 subordinate ones, which nobody else sees."""
    known = directory / "subordinate"
    known.write_text(f"nobody:{first}:65536\n")
    bind = f"mount --bind {known}"
    return ["unshare", "--mount", "sh", "-ec", f'{bind} /etc/subuid; {bind} /etc/subgid; exec "$@"', "sh"]


def python_of_everybody() -> str:
    """One that an ordinary user can execute, and our source with it."""
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [path, "-IS", RUNTIME, "--version"],
                user=NOBODY, group=NOBODY, extra_groups=[], check=True, capture_output=True, cwd="/",
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("an ordinary user can execute none of this machine's Pythons, or not read this checkout")
