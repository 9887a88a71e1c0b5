"""Who started a container, and what they call it, as far as the kernel knows.

An engine leaves its mark in up to three places: the path of the cgroup, the command line of the process that waits for
the container's end (a shim, a monitor), and the environment of its first process (`container=`,
<https://systemd.io/CONTAINER_INTERFACE>). A name that is in none of them, such as Docker's `--name`, only its engine
knows.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from cutaway.kernel import procfs
from cutaway.kernel.cgroups import host_layout
from cutaway.plan.cgroups import NAME_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "unknown"
_HEX = "[0-9a-f]{64}"
_PATHS = (
    ("cutaway", re.compile(rf"/cutaway(?:-[0-9a-f]{{6}})?/({_HEX})(?=/|$)")),
    ("podman", re.compile(rf"/libpod-({_HEX})(?:\.scope)?(?=/|$)")),
    ("Docker", re.compile(rf"/docker(?:-|/)({_HEX})(?:\.scope)?(?=/|$)")),
    ("Kubernetes", re.compile(rf"/cri-containerd-({_HEX})\.scope(?=/|$)")),
    ("CRI-O", re.compile(rf"/crio-({_HEX})(?:\.scope)?(?=/|$)")),
    ("Kubernetes", re.compile(rf"/kubepods[^/]*(?:/[^/]+)*/({_HEX})(?=/|$)")),
    ("LXC", re.compile(r"/lxc(?:\.payload)?[./]([^/]+)(?=/|$)")),
    ("systemd-nspawn", re.compile(r"/machine-([^/]+)\.scope(?=/|$)")),
    ("", re.compile(rf"/({_HEX})(?=/|$)")),  # `--cgroup-parent`, of whichever engine
)
_OF_ENVIRONMENT = {"podman": "podman", "lxc": "LXC", "systemd-nspawn": "systemd-nspawn", "docker": "Docker"}
_SHIMS = {"moby": "Docker", "k8s.io": "Kubernetes"}
"""Engines by the namespace they use in containerd."""
NAMELESS = frozenset({"Docker", "Kubernetes", "CRI-O", "containerd"})
"""Engines that keep the names of containers to themselves."""
SHORT_ID = 12


class Mark(NamedTuple):
    """What one place says. `path`: the part of the cgroup's path that is the container's."""

    engine: str = ""
    id: str = ""
    name: str = ""
    path: str = ""


@cache
def of_cgroup(path: str) -> Mark:
    """What a cgroup's path says; of containers in containers, the innermost."""
    best = Mark()
    for engine, pattern in _PATHS:
        for found in pattern.finditer(path):
            if found.end() > len(best.path) or (found.end() == len(best.path) and not best.engine):
                name = "" if re.fullmatch(_HEX, found[1]) else _unescaped(found[1])
                best = Mark(engine, "" if name else found[1], name, path[: found.end()])
    return best


def of_attribute(path: str) -> str:
    """The name that cutaway has written on the cgroup, which root may read; "" where there is none."""
    try:
        hierarchies = host_layout().hierarchies
    except OSError:
        return ""
    for hierarchy in hierarchies:
        try:
            return os.fsdecode(os.getxattr(hierarchy.directory(path.lstrip("/")), NAME_ATTRIBUTE))
        except OSError:
            continue
    return ""


def of_keeper(words: Sequence[str]) -> Mark:
    """What the command line of a container's parent says."""
    if words and words[0].startswith("[lxc monitor] "):
        return Mark("LXC", name=words[0].split(" ")[-1])
    program = os.path.basename(words[0]) if words else ""
    if program.startswith("containerd-shim"):
        namespace, identity = _value(words, "-namespace"), _value(words, "-id")
        engine = _SHIMS.get(namespace, "containerd")
        return Mark(engine, identity, "" if re.fullmatch(_HEX, identity) else identity)
    if program == "conmon":
        return Mark("podman", _value(words, "-c", "--cid"), _value(words, "-n", "--name"))
    if program == "systemd-nspawn":
        directory = _value(words, "-D", "--directory", "-i", "--image")
        return Mark("systemd-nspawn", name=_value(words, "-M", "--machine") or os.path.basename(directory.rstrip("/")))
    if program in ("bwrap", "bubblewrap"):
        return Mark("bubblewrap")
    if program == "unshare":
        return Mark("unshare")
    if any("cutaway.spawner" in word for word in words):
        return Mark("cutaway")
    return Mark()


def of_environment(pid: int) -> Mark:
    """What the environment of its first process says."""
    try:
        variables = procfs.environment(pid)
    except (ProcessLookupError, PermissionError):
        return Mark()
    return Mark(_OF_ENVIRONMENT.get(variables.get("container", ""), ""))


def _value(words: Sequence[str], *options: str) -> str:
    """The value of the first of these options that is there, as `-x VALUE`, `-xVALUE` or `--long=VALUE`."""
    for position, word in enumerate(words[1:], 1):
        for option in options:
            if word == option:
                return words[position + 1] if position + 1 < len(words) else ""
            if word.startswith(f"{option}=") and option.startswith("--"):
                return word[len(option) + 1 :]
            if not option.startswith("--") and len(option) == 2 and word.startswith(option) and len(word) > 2:
                return word[2:]
    return ""


def _unescaped(name: str) -> str:
    r"""A name as systemd has it in unit names: `a\x2db` is `a-b`."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name)
