"""What a test may not leave behind, in the kernel and on disk, seen from outside.

Every kind of thing is listed before and after as text; what is there more often afterwards has leaked, and of what a
host owns (mounts, links, tables) nothing may be missing either. The kernel takes some things down in its own time
(network namespaces, cgroups), so a difference counts once it has lasted for `PATIENCE` seconds.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 5.0
OF_THE_HOST = re.compile(r"mount|link|nftables")
OF_AN_ENGINE = re.compile(r'link (ct|cutaway)|.*("cutaway|/cutaway-|/run/netns/)')
FOREIGN_CGROUPS = re.compile(rf"docker|libpod|machine\.slice|cutaway(-[0-9a-f]{{6}})?$|cutaway-test-(?!{os.getpid()}-)")
"""Of Docker, podman, and engines and tests of ours that are not this session's: they come and go as they like."""


class Difference(NamedTuple):
    """A line for each thing that is new, and for each mount, link or rule that is gone and was no engine's of ours."""

    left_behind: list[str]
    taken_away: list[str]


class Watch:
    """Remembers what there is, to say later what has come and gone since.

    `directories`: state roots and runtime directories to look into; the list is read anew each time.
    """

    def __init__(self, directories: list[Path]) -> None:
        self._directories = directories
        self._before = self._look()

    def compare(self) -> Difference:
        """Returns at once where nothing is new, and what is still there after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while (new := (after := self._look()) - self._before) and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.02)
        gone = (self._before - after).elements()
        taken = (thing for thing in gone if OF_THE_HOST.match(thing) and not OF_AN_ENGINE.match(thing))
        return Difference(sorted(new.elements()), sorted(taken))

    def left_behind(self) -> list[str]:
        return self.compare().left_behind

    def _look(self) -> Counter[str]:
        everywhere = Counter(thing for things in LISTS for thing in things())
        return everywhere + Counter(_cgroups(self._directories)) + Counter(_files(self._directories))


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        yield f"mount {fields[4]} ({fields[fields.index('-') + 1]})"


def _links() -> Iterator[str]:
    return (f"link {name}" for _, name in socket.if_nameindex())


def _named_network_namespaces() -> Iterator[str]:
    return (f"network namespace /run/netns/{name}" for name in _names("/run/netns"))


def cgroup_hierarchies() -> list[Path]:
    """Where the host has its cgroup hierarchies mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount_point) for _, mount_point, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


CGROUPS_THERE_BEFORE = {name for hierarchy in cgroup_hierarchies() for name in os.listdir(hierarchy)}


def _cgroups(directories: Iterable[Path]) -> Iterator[str]:
    ours = {f"cutaway-{hashlib.sha256(bytes(directory)).hexdigest()[:6]}" for directory in directories}
    for hierarchy in cgroup_hierarchies():
        names = {top.name for top in os.scandir(hierarchy) if top.is_dir()}
        foreign = {name for name in names if name in CGROUPS_THERE_BEFORE or FOREIGN_CGROUPS.match(name)}
        for name in names - (foreign - ours):
            yield from (f"cgroup {directory}" for directory, _, _ in os.walk(hierarchy / name))


def _rules() -> Iterator[str]:
    if not shutil.which("nft"):
        return
    listed = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    for entry in json.loads(listed)["nftables"]:
        yield f"nftables {json.dumps(_without_counts(entry))}"


def _without_counts(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name not in ("handle", "packets", "bytes", "expires")}
        return {name: _without_counts(inner) for name, inner in kept.items()}
    return [_without_counts(inner) for inner in value] if isinstance(value, list) else value


def _processes() -> Iterator[str]:
    """The processes that this session started: its children, and all that are in its network namespace."""
    network = os.readlink("/proc/self/ns/net")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (process / "stat").read_text().partition(" (")[2].rpartition(") ")
            parent, started = fields.split()[1], fields.split()[19]
            if int(parent) == os.getpid() or os.readlink(process / "ns/net") == network:
                yield f"process {process.name} ({name}) started at {started}"
                if b"cutaway." in (process / "cmdline").read_bytes():
                    yield from (f"held by {name} {process.name}: {kind}" for kind in _kinds_of_descriptors(process))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or more privileged than the tests
            continue


def _kinds_of_descriptors(process: Path) -> Iterator[str]:
    """What an engine or a spawner has open, without the numbers that change from one command to the next."""
    for descriptor in (process / "fd").iterdir():
        if (target := os.readlink(descriptor)) != "/memfd:seccomp (deleted)":  # a cache
            yield re.sub(r"[0-9a-f]{4,}|\d+", "…", target)


def _descriptors() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        try:
            yield f"descriptor {number} → {os.readlink(f'/proc/self/fd/{number}')}"
        except FileNotFoundError:  # the one that listed them
            continue


def _files(directories: Iterable[Path]) -> Iterator[str]:
    for top in directories:
        for directory, children, names in os.walk(top):
            depth = len(Path(directory).relative_to(top).parts)
            if depth > 0:  # the topmost directories are made when they are first needed, and stay
                names += children
            elif "seccomp" in children:  # a cache
                children.remove("seccomp")
            if depth == 2:  # deeper down are the files of images and containers
                children.clear()
            yield from (f"file {directory}/{name}" for name in names)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


LISTS = (_mounts, _links, _named_network_namespaces, _rules, _processes, _descriptors)
