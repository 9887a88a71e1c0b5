"""Compiles a container's description, an OCI runtime-spec `config.json` in memory, to a plan. Changes nothing.

The order of the operations is what makes a container one: namespaces before mounts, mounts before the root changes, the
root before the identity, and privileges last, when nothing needs them any more.
"""

from __future__ import annotations

from cutaway.plan.mounts import (
    AttachRoot,
    BindMount,
    MakeDevice,
    MakeLink,
    MakeReadonly,
    MaskPaths,
    Mount,
    MountCgroups,
    PivotRoot,
)
from cutaway.plan.namespaces import JoinNamespace, JoinProcess, NewNamespaces
from cutaway.plan.process import (
    BecomeInit,
    ChangeDirectory,
    CloseDescriptors,
    DropCapabilities,
    Exec,
    Idle,
    LoadSeccomp,
    NewKeyring,
    NewSession,
    OpenTerminal,
    SetDomainname,
    SetHostname,
    SetNoNewPrivileges,
    SetOomScore,
    SetRlimits,
    SetSysctl,
    SetUser,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from typing import Any

    from cutaway.plan.operation import Operation

_KERNEL_NAMES = {"network": "net", "mount": "mnt"}  # the others are called alike
_DEFAULT_DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
_LINKS = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
          "/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx", "/dev/core": "/proc/kcore"}  # fmt: skip


class Given:
    """What the host gives a container, beside its description.

    `namespaces`: kind → name of the descriptor that holds a namespace made beforehand; `join_cgroup`: the operations by
    which the first process joins its cgroup; `hierarchies`, `links`: what `MountCgroups` shows of them; `seccomp`: the
    operation that loads the compiled filter, if there is one; `keyring`: the name of its session keyring, if it gets
    one; `init`: whether PID 1 is an init of ours.
    """

    __slots__ = ("hierarchies", "init", "join_cgroup", "keyring", "links", "namespaces", "seccomp")

    def __init__(
        self,
        namespaces: dict[str, str],
        join_cgroup: list[Operation],
        hierarchies: dict[str, str],
        links: dict[str, str],
        seccomp: LoadSeccomp | None,
        keyring: str = "",
        init: bool = False,
    ) -> None:
        self.init = init
        self.namespaces, self.join_cgroup, self.seccomp, self.keyring = namespaces, join_cgroup, seccomp, keyring
        self.hierarchies, self.links = hierarchies, links


def inside(spec: dict[str, Any], given: Given) -> list[Operation]:
    """What the container's first process does, from its birth in new namespaces to the program."""
    return [
        *_namespaces(spec["linux"]["namespaces"], given),
        *_session(given),
        *_tree(spec, given),
        *_machine(spec),
        *_process(spec["process"], given),
    ]


def entering(
    process: dict[str, Any], join_cgroup: list[Operation], namespaces: list[str], seccomp: LoadSeccomp | None
) -> list[Operation]:
    """What a further process does to get into a container: `process` is as in the OCI runtime-spec, `namespaces` are
    the kinds that the container has of its own, and the descriptor `process` is a pidfd of its first process."""
    given = Given({}, join_cgroup, {}, {}, seccomp, keyring="_ses")
    terminal = [OpenTerminal(uid=process["user"]["uid"], console=False)] if process.get("terminal") else []
    return [
        *join_cgroup,
        JoinProcess("process", namespaces),
        *_session(given),
        *terminal,
        *_process(process, given, first=False),
    ]


def _namespaces(wanted: list[dict[str, str]], given: Given) -> Iterator[Operation]:
    """The cgroup namespace comes after the cgroup is joined: it shows as its root where its maker then is."""
    kinds = _kinds(wanted)
    yield new_namespaces(wanted, given.namespaces)
    for kind, path in kinds.items():
        if path or kind in given.namespaces:
            yield JoinNamespace(kind, path, given.namespaces.get(kind, ""))
    yield from given.join_cgroup
    if kinds.get("cgroup") == "":
        yield NewNamespaces(["cgroup"])


def new_namespaces(wanted: list[dict[str, str]], held: Container[str]) -> NewNamespaces:
    """Those that the process is born into; `held`: the kinds that were made beforehand."""
    kinds = _kinds(wanted)
    return NewNamespaces([kind for kind, path in kinds.items() if not path and kind not in held and kind != "cgroup"])


def _kinds(wanted: list[dict[str, str]]) -> dict[str, str]:
    return {_KERNEL_NAMES.get(entry["type"], entry["type"]): entry.get("path", "") for entry in wanted}


def _session(given: Given) -> Iterator[Operation]:
    yield NewSession()
    if given.keyring:
        yield NewKeyring(given.keyring)


def _tree(spec: dict[str, Any], given: Given) -> Iterator[Operation]:
    linux = spec["linux"]
    yield AttachRoot(spec["root"]["path"])
    for mount in spec.get("mounts", ()):
        yield _mount(mount, given)
    yield from _devices(linux.get("devices", ()))
    if spec["process"].get("terminal"):
        yield OpenTerminal(uid=spec["process"]["user"]["uid"])
    for key, value in linux.get("sysctl", {}).items():
        yield SetSysctl(key, value)
    if linux.get("readonlyPaths"):
        yield MakeReadonly(linux["readonlyPaths"])
    if linux.get("maskedPaths"):
        yield MaskPaths(linux["maskedPaths"])
    if spec["root"].get("readonly"):
        yield MakeReadonly(["/"])
    yield PivotRoot()


def _mount(mount: dict[str, Any], given: Given) -> Operation:
    kind, target, options = mount.get("type", "bind"), mount["destination"], mount.get("options", [])
    if kind == "cgroup":
        return MountCgroups(target, given.hierarchies, given.links, options)
    if kind == "bind" or "bind" in options or "rbind" in options:
        return BindMount(mount["source"], target, options)
    return Mount(kind, target, mount.get("source", ""), options)


_STANDARD_DEVICES = [
    *(MakeDevice(f"/dev/{name}", "c", 1, minor) for name, minor in _DEFAULT_DEVICES.items()),
    MakeDevice("/dev/tty", "c", 5, 0),
]
_STANDARD_LINKS = [MakeLink(path, target) for path, target in _LINKS.items()]


def _devices(devices: list[dict[str, Any]]) -> Iterator[Operation]:
    yield from _STANDARD_DEVICES
    for device in devices:
        numbers = device.get("major", 0), device.get("minor", 0)
        owner = device.get("uid", 0), device.get("gid", 0)
        yield MakeDevice(device["path"], device["type"], *numbers, device.get("fileMode", 0o666), *owner)
    yield from _STANDARD_LINKS


def _machine(spec: dict[str, Any]) -> Iterator[Operation]:
    if spec.get("hostname"):
        yield SetHostname(spec["hostname"])
    if spec.get("domainname"):
        yield SetDomainname(spec["domainname"])


def _process(process: dict[str, Any], given: Given, *, first: bool = True) -> Iterator[Operation]:
    """Who the program is and what it may do.

    A filter is loaded by a process that has CAP_SYS_ADMIN or cannot gain privileges any more: hence its two places. The
    working directory is entered, and made for the container's `first` process, while the process may go anywhere.
    """
    if "oomScoreAdj" in process:
        yield SetOomScore(process["oomScoreAdj"])
    if process.get("rlimits"):
        yield SetRlimits(process["rlimits"])
    unprivileged = process.get("noNewPrivileges", False)
    if given.seccomp and not unprivileged:
        yield given.seccomp
    yield ChangeDirectory(process["cwd"], make=first)
    user = process["user"]
    yield SetUser(user["uid"], user["gid"], user.get("additionalGids", []), user.get("umask", -1))
    yield DropCapabilities(**process.get("capabilities", {}))
    if unprivileged:
        yield SetNoNewPrivileges()
        if given.seccomp:
            yield given.seccomp
    if given.init and not process["args"]:
        yield Idle()
        return
    if given.init:
        yield BecomeInit()
    yield CloseDescriptors()
    yield Exec(process["args"], process.get("env", []))
