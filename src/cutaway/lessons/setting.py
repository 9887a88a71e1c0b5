"""Where a lesson plays: the words that its commands are filled in with here, and the tags by which steps are chosen."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from cutaway.client import dial
from cutaway.kernel.cgroups.layout import host_layout
from cutaway.lessons.lesson import Lesson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cutaway.lessons.lesson import Step

ENGINES = ("cutaway", "docker", "podman")
_PACKAGES = {
    "busybox": "busybox-static", "dpkg-deb": "dpkg", "find": "findutils", "free": "procps", "ip": "iproute2",
    "lsns": "util-linux", "nft": "nftables", "nsenter": "util-linux", "pgrep": "procps", "ps": "procps",
    "sysctl": "procps", "taskset": "util-linux", "top": "procps", "unshare": "util-linux",
}  # fmt: skip
"""In which of Debian's packages the programs are that lessons need."""
_OTHERS = {
    "ping": ("ping", "busybox ping"),
    "get": ("curl -s", "wget -qO-", "busybox wget -qO-"),
}
"""What serves as well, in order of preference."""
_TOLD_OTHERWISE = {"podman": {"remove": "podman rm -f -t 0", "top": "podman top learn hpid args"}}
"""What to tell an engine in words of its own; `rm` of podman would wait ten seconds first."""
_WORD = re.compile("‹([^›]+)›")


class CannotTeach(Exception):
    """Why a lesson cannot be given here, and what to do about it, in one sentence."""


class Setting(NamedTuple):
    """`words`: what ‹word› in a command stands for. `tags`: what `on=` of a step may name."""

    words: Mapping[str, str]
    tags: frozenset[str]
    environment: Mapping[str, str]

    def steps(self, lesson: Lesson) -> Iterator[Step]:
        """The lesson's steps that happen here, filled in."""
        for step in lesson.steps:
            if not step.on or step.on in self.tags:
                yield self._filled(step)

    def _filled(self, value: Any) -> Any:
        """A step, or what it consists of."""
        if isinstance(value, str):
            return _WORD.sub(lambda found: self.words[found[1]], value)
        if isinstance(value, tuple):
            parts = map(self._filled, value)
            return value._make(parts) if hasattr(value, "_make") else tuple(parts)
        return value


def find_setting(lesson: Lesson, engine: str) -> Setting:
    """The setting of a lesson on this machine. Raises `CannotTeach`."""
    environment = _environment()
    if os.geteuid() != 0:
        raise CannotTeach("lessons make namespaces, mounts and cgroups: run it as root (sudo cutaway learn)")
    if lesson.of_an_engine:
        _check_engine(engine, environment)
    _check_programs(lesson, engine, environment["PATH"])
    return Setting(_words(engine, environment["PATH"]), frozenset(_tags(engine, environment["PATH"])), environment)


def _check_programs(lesson: Lesson, engine: str, path: str) -> None:
    for_its_image = ["busybox"] if lesson.of_an_engine and engine != "cutaway" else []
    for program in (*lesson.needs, *for_its_image):
        if not shutil.which(program, path=path):
            raise CannotTeach(f"the lesson needs {program}: apt-get install {_PACKAGES.get(program, program)}")


def _words(engine: str, path: str) -> dict[str, str]:
    return {
        "engine": engine,
        "image": "host" if engine == "cutaway" else "cutaway-learn",
        "remove": f"{engine} rm -f",
        "top": f"{engine} top learn -o pid,args",
        "port": str(_free_port()),
        "cpu": str(min(os.sched_getaffinity(0))),
        **_TOLD_OTHERWISE.get(engine, {}),
        **_trees(),
        **{word: _first_there(others, path) for word, others in _OTHERS.items()},
    }


def _first_there(commands: Sequence[str], path: str) -> str:
    there = (command for command in commands if shutil.which(command.split()[0], path=path))
    return next(there, commands[0])


def _trees() -> dict[str, str]:
    """Where the cgroups of memory and CPU are."""
    layout = host_layout()
    return {f"{name} tree": found.mount_point for name in ("cpu", "memory") if (found := layout.find(name))}


def _tags(engine: str, path: str) -> Iterator[str]:
    layout = host_layout()
    yield engine
    if engine != "cutaway":
        yield "another engine"
    yield "v1" if layout.find("memory", 1) else "v2"
    yield "nginx" if shutil.which("nginx", path=path) else "no nginx"
    if engine == "cutaway" and shutil.which("lxcfs", path=path) and os.path.exists("/dev/fuse"):
        yield "lxcfs"
    if _drops_forwarded_packets(path):
        yield "forwarding dropped"


def _drops_forwarded_packets(path: str) -> bool:
    """Whether the host's firewall lets nothing pass that it has not been told of, as Docker sets it up."""
    nft = shutil.which("nft", path=path)
    if not nft or not shutil.which("iptables", path=path):
        return False
    listed = subprocess.run(
        [nft, "list", "chain", "ip", "filter", "FORWARD"], capture_output=True, text=True, check=False
    )
    return "policy drop" in listed.stdout


def _check_engine(engine: str, environment: Mapping[str, str]) -> None:
    if engine == "cutaway":
        return _start_engine()
    if not shutil.which(engine, path=environment["PATH"]):
        raise CannotTeach(f"{engine} is not installed here; without --engine the lesson runs on cutaway's containers")
    asked = subprocess.run([engine, "info"], env=environment, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        said = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise CannotTeach(f"{engine} does not answer: {said[-1]}")
    return None


def _start_engine() -> None:
    """Before the lesson adopts whatever its commands leave running, which an engine is not to be."""
    try:
        dial.connect(os.environb).close()
    except dial.Unreachable as problem:
        raise CannotTeach(str(problem)) from None


def _environment() -> dict[str, str]:
    """The reader's, with our own command and the programs of root in reach, in a language that can be taken apart, and
    without proxies, which know nothing of networks made here."""
    ours = os.path.dirname(sys.executable)
    path = f"{ours}:{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return kept | {"PATH": path, "LC_ALL": "C.UTF-8", "TERM": "dumb", "COLUMNS": "75"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
