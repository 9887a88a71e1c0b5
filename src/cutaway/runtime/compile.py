"""Compiles a container's description, an OCI runtime-spec `config.json` in memory, to a plan. Changes nothing.

The order of the operations is what makes a container one: namespaces before mounts, mounts before the root changes, the
root before the identity, and privileges last, when nothing needs them any more.
"""

from __future__ import annotations

import os
import stat

from cutaway.kernel.mounts import MOUNT_ATTR_RDONLY, Options
from cutaway.kernel.procfs import is_host_root
from cutaway.plan.mounts import (
    AttachRoot,
    BindDevice,
    BindMount,
    MakeDevice,
    MakeLink,
    MakeReadonly,
    MakeWorkingDirectory,
    MaskPaths,
    Mount,
    MountCgroups,
    PivotRoot,
    Remount,
)
from cutaway.plan.namespaces import BecomeRoot, JoinNamespace, JoinProcess, NewNamespaces
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
    ReopenNull,
    SetDomainname,
    SetExecLabel,
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

    from cutaway.kernel.cgroups import Layout
    from cutaway.plan.operation import Operation

KERNEL_NAMES = {"network": "net", "mount": "mnt"}  # the others are called alike
_DEFAULT_DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
_LINKS = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
          "/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx", "/dev/core": "/proc/kcore"}  # fmt: skip


class Given:
    """What the host gives a container, beside its description.

    `namespaces`: kind → name of the descriptor that holds a namespace made beforehand; `join_cgroup`: the operations by
    which the first process joins its cgroup; `hierarchies`, `links`: what `MountCgroups` shows of them; `seccomp`: the
    operation that loads the compiled filter, if there is one; `keyring`: the name of its session keyring, if it gets
    one; `init`: whether PID 1 is an init of ours.

    `cgroups`: its cgroup's directories by the name of the hierarchy, "" for version 2 alone, where it has no cgroup
    namespace; `borrows`: whether its devices are bound, as it can make none; `owners`: its mappings of users and of
    groups; `preserved`: how many descriptors from 3 on stay open for the program.
    """

    __slots__ = (
        "borrows", "cgroups", "hierarchies", "init", "join_cgroup", "keyring", "links", "namespaces", "owners",
        "preserved", "seccomp",
    )  # fmt: skip

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
        self.cgroups: dict[str, str] = {}
        self.borrows, self.preserved = False, 0
        self.owners: tuple[list[dict[str, int]], list[dict[str, int]]] = [], []


def inside(spec: dict[str, Any], given: Given) -> list[Operation]:
    """What the container's first process does, from its birth in new namespaces to the program."""
    return [
        *_namespaces(spec["linux"]["namespaces"], given),
        *session(given),
        AttachRoot(spec["root"]["path"]),
        *tree(spec, given),
        PivotRoot(),
        *machine(spec),
        *program(spec["process"], given),
    ]


def entering(
    process: dict[str, Any],
    join_cgroup: list[Operation],
    namespaces: list[str],
    seccomp: LoadSeccomp | None,
    preserved: int = 0,
    linux: dict[str, Any] | None = None,
) -> list[Operation]:
    """What a further process does to get into a container: `process` is as in the OCI runtime-spec, `namespaces` are
    the kinds that the container has of its own, and the descriptor `process` is a pidfd of its first process. Limits
    are set while it has the powers of the host's user namespace. `preserved`: as in `Given`; `linux`: the container's
    own, of which each of its processes has something."""
    given = Given({}, join_cgroup, {}, {}, seccomp, keyring="_ses")
    given.preserved = preserved
    limited = {key: value for key, value in process.items() if key not in ("oomScoreAdj", "rlimits")}
    terminal = [_terminal(process, console=False)] if process.get("terminal") else []
    affinity = process.get("execCPUAffinity", {})
    return [
        *_affinity(affinity.get("initial")),
        *join_cgroup,
        *_affinity(affinity.get("final")),
        *limits(process),
        *scheduling(process),
        *label(process),
        JoinProcess("process", namespaces),
        *([BecomeRoot()] if terminal and "user" in namespaces else []),
        *session(given),
        *terminal,
        *memory(linux or {}),
        *program(limited, given, first=False),
    ]


def _affinity(cpus: str | None) -> Iterator[Operation]:
    if cpus:
        from cutaway.plan.scheduling import SetCpuAffinity

        yield SetCpuAffinity(cpus)


def scheduling(process: dict[str, Any]) -> list[Operation]:
    """How it gets at processors and disks, if that is said."""
    if "scheduler" not in process and "ioPriority" not in process:
        return []
    from cutaway.plan.scheduling import scheduling_operations

    return scheduling_operations(process)


def memory(linux: dict[str, Any]) -> list[Operation]:
    """From where its memory comes, and what machine it believes to be on, if that is said."""
    if "memoryPolicy" not in linux and "personality" not in linux:
        return []
    from cutaway.plan.scheduling import SetMemoryPolicy, SetPersonality

    operations: list[Operation] = []
    if policy := linux.get("memoryPolicy"):
        operations.append(SetMemoryPolicy(policy["mode"], policy.get("nodes", ""), policy.get("flags", [])))
    if personality := linux.get("personality"):
        operations.append(SetPersonality(personality["domain"]))
    return operations


def label(process: dict[str, Any]) -> Iterator[Operation]:
    """What the kernel's security modules know the program by; to be said as long as the host's /proc can be seen."""
    profile = process.get("apparmorProfile", "unconfined")
    if profile not in ("", "unconfined"):
        yield SetExecLabel(f"exec {profile}")
    if process.get("selinuxLabel"):
        yield SetExecLabel(process["selinuxLabel"])


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
    return {KERNEL_NAMES.get(entry["type"], entry["type"]): entry.get("path", "") for entry in wanted}


def session(given: Given) -> Iterator[Operation]:
    """Apart from who started it."""
    yield NewSession()
    if given.keyring:
        yield NewKeyring(given.keyring)


def tree(spec: dict[str, Any], given: Given) -> Iterator[Operation]:
    """What is mounted, made and hidden below the root."""
    linux = spec["linux"]
    sealed: list[Operation] = []
    for mount in spec.get("mounts", ()):
        yield from _mount(mount, given, sealed)
    if not _brings_devices(spec.get("mounts", ())):
        devices = linux.get("devices", ())
        yield from _borrowed_devices(devices, given) if given.borrows else _devices(devices)
    process = spec.get("process", {})
    if process.get("terminal"):
        yield _terminal(process)
    yield from sealed
    for key, value in linux.get("sysctl", {}).items():
        yield SetSysctl(key, value)
    if linux.get("readonlyPaths"):
        yield MakeReadonly(linux["readonlyPaths"])
    if linux.get("maskedPaths"):
        yield MaskPaths(linux["maskedPaths"])
    if spec["root"].get("readonly"):
        yield MakeWorkingDirectory(process["cwd"])
        yield MakeReadonly(["/"])


def _terminal(process: dict[str, Any], *, console: bool = True) -> OpenTerminal:
    size, uid = process.get("consoleSize", {}), process.get("user", {}).get("uid", 0)
    return OpenTerminal(size.get("width", 0), size.get("height", 0), uid, console)


def _mount(mount: dict[str, Any], given: Given, sealed: list[Operation]) -> Iterator[Operation]:
    """`sealed` takes what makes it read-only once all is in it that other mounts and devices need."""
    kind, target, options = mount.get("type", ""), mount["destination"].rstrip("/"), mount.get("options", [])
    if "remount" in options:
        yield Remount(target, options)
        return
    if is_bind(mount):
        yield BindMount(mount["source"], target, options, *_owners(mount, given))
        return
    if Options(options).set & MOUNT_ATTR_RDONLY and (kind == "tmpfs" or target == "/dev"):
        options = [option for option in options if option != "ro"]
        sealed.append(Remount(target, ["ro"]))
    if kind == "cgroup":
        yield from _cgroups(target, options, given, sealed)
    else:
        yield Mount(kind, target, mount.get("source", ""), options)


def is_bind(mount: dict[str, Any]) -> bool:
    """Whether an entry of `mounts` is a bind mount: by its type, which is a dummy where its options say so."""
    options = mount.get("options", ())
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options


def _owners(mount: dict[str, Any], given: Given) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Whom the files of a bind mount are shown to belong to: by mappings of its own, or the container's (`idmap`)."""
    if "uidMappings" in mount:
        return mount["uidMappings"], mount["gidMappings"]
    return given.owners if Options(mount.get("options", [])).idmap else ([], [])


def _cgroups(target: str, options: list[str], given: Given, sealed: list[Operation]) -> Iterator[Operation]:
    """Without a cgroup namespace, mounting them would show the host's: then the container's own directories."""
    if not given.cgroups:
        yield MountCgroups(target, given.hierarchies, given.links, options)
    elif "" in given.cgroups:
        yield BindMount(given.cgroups[""], target, ["bind", *options])
    else:
        yield Mount("tmpfs", target, "tmpfs", ["mode=755", *(option for option in options if option != "ro")])
        for name, directory in given.cgroups.items():
            yield BindMount(directory, f"{target}/{name}", ["bind", *options])
        for name, directory in given.links.items():
            yield MakeLink(f"{target}/{name}", directory)
        if "ro" in options:
            sealed.append(Remount(target, ["ro"]))


def shown_hierarchies(layout: Layout) -> tuple[dict[str, str], dict[str, str]]:
    """The cgroup file systems as a container sees them: directory → mount options, and links beside them. On a hybrid
    host those of version 1 alone: a systemd inside that sees version 2 wants to write there."""
    if all(each.version == 2 for each in layout.hierarchies):
        return {}, {}
    shown: dict[str, str] = {}
    links: dict[str, str] = {}
    for each in layout.hierarchies:
        if each.version == 2:
            continue
        name = os.path.basename(each.mount_point)
        named = [controller for controller in each.controllers if controller.startswith("name=")]
        shown[name] = ",".join(["none", *named] if named else each.controllers)
        if len(each.controllers) > 1:
            links |= dict.fromkeys(each.controllers, name)
    return shown, links


def _brings_devices(mounts: list[dict[str, Any]]) -> bool:
    """Whether a directory of the host becomes /dev: what is in it is not ours to add to."""
    return any(is_bind(mount) and os.path.normpath(f"/./{mount['destination']}") == "/dev" for mount in mounts)


_STANDARD_DEVICES = [
    *(MakeDevice(f"/dev/{name}", "c", 1, minor) for name, minor in _DEFAULT_DEVICES.items()),
    MakeDevice("/dev/tty", "c", 5, 0),
]
_STANDARD_LINKS = [MakeLink(path, target) for path, target in _LINKS.items()]


_PERMISSIONS = 0o7777
"""Of a file mode: podman gives the kind of the file with it."""


def _devices(devices: list[dict[str, Any]]) -> Iterator[Operation]:
    given = {(each["path"], each["type"], each.get("major"), each.get("minor")) for each in devices}
    yield from (each for each in _STANDARD_DEVICES if (each.path, each.kind, each.major, each.minor) not in given)
    for device in devices:
        if device["path"] == "/dev/ptmx":  # the link to that of its own terminals
            continue
        yield _device(device)
    yield from _STANDARD_LINKS


def _device(device: dict[str, Any]) -> MakeDevice:
    numbers = device.get("major", 0), device.get("minor", 0)
    owner = device.get("uid", 0), device.get("gid", 0)
    mode = device.get("fileMode", 0o666) & _PERMISSIONS
    return MakeDevice(device["path"].rstrip("/"), device["type"], *numbers, mode, *owner)


def _borrowed_devices(devices: list[dict[str, Any]], given: Given) -> Iterator[Operation]:
    """In a user namespace no device can be made: the host makes them, or where it may not, lends its own."""
    makes = is_host_root()
    asked = {each.path: each for each in map(_device, devices) if each.path != "/dev/ptmx"}
    for device in ({each.path: each for each in _STANDARD_DEVICES} | asked).values():
        if device.kind == "p":
            yield device
        elif makes and (device.path in asked or not _is_node(device.path, device)):
            yield _made_outside(device, given.owners)
        else:
            yield BindMount(_node_of_host(device), device.path, ["bind"])
    yield from _STANDARD_LINKS


def _made_outside(device: MakeDevice, owners: tuple[list[dict[str, int]], list[dict[str, int]]]) -> BindDevice:
    uid, gid = (_outside(inner, mappings) for inner, mappings in zip((device.uid, device.gid), owners, strict=True))
    return BindDevice(device.path, device.kind, device.major, device.minor, device.mode, uid, gid)


def _outside(inner: int, mappings: list[dict[str, int]]) -> int:
    """What the host calls a user or a group; one who is nobody inside is its root, who is nobody inside, too."""
    found = (each for each in mappings if 0 <= inner - each["containerID"] < each["size"])
    return next((each["hostID"] + inner - each["containerID"] for each in found), 0)


def _node_of_host(device: MakeDevice) -> str:
    """Where the host has it: mostly where it is to be."""
    kind = "block" if device.kind == "b" else "char"
    paths = [device.path]
    try:
        with open(f"/sys/dev/{kind}/{device.major}:{device.minor}/uevent") as lines:
            paths += [f"/dev/{line[8:].strip()}" for line in lines if line.startswith("DEVNAME=")]
    except OSError:
        pass
    for path in paths:
        if _is_node(path, device):
            return path
    numbers = f"{device.kind} {device.major}:{device.minor}"
    raise _invalid(f"{device.path}: this host has no device {numbers} to lend, and only its root can make one")


def _is_node(path: str, device: MakeDevice) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    is_kind = stat.S_ISBLK if device.kind == "b" else stat.S_ISCHR
    return is_kind(found.st_mode) and found.st_rdev == os.makedev(device.major, device.minor)


def _invalid(problem: str) -> Exception:
    from cutaway.runtime.specification import InvalidConfig

    return InvalidConfig("linux.devices", problem)


def machine(spec: dict[str, Any]) -> Iterator[Operation]:
    """What it is called."""
    if spec.get("hostname"):
        yield SetHostname(spec["hostname"])
    if spec.get("domainname"):
        yield SetDomainname(spec["domainname"])


def limits(process: dict[str, Any]) -> Iterator[Operation]:
    if "oomScoreAdj" in process:
        yield SetOomScore(process["oomScoreAdj"])
    if process.get("rlimits"):
        yield SetRlimits(process["rlimits"])


def program(process: dict[str, Any], given: Given, *, first: bool = True) -> Iterator[Operation]:
    """Who the program is and what it may do.

    A filter is loaded by a process that has CAP_SYS_ADMIN or cannot gain privileges any more: hence its two places. The
    working directory is entered, and made for the container's `first` process, while the process may go anywhere.
    """
    yield ReopenNull()
    yield CloseDescriptors(3 + given.preserved)
    yield from limits(process)
    unprivileged = process.get("noNewPrivileges", False)
    if given.seccomp and not unprivileged:
        yield given.seccomp
    yield ChangeDirectory(process["cwd"], make=first)
    user = process.get("user", {})
    yield SetUser(user.get("uid", 0), user.get("gid", 0), user.get("additionalGids", []), user.get("umask", -1))
    yield DropCapabilities(**process.get("capabilities", {}))
    if unprivileged:
        yield SetNoNewPrivileges()
    if given.seccomp and unprivileged:
        yield given.seccomp
    if given.init and not process["args"]:
        yield Idle()
        return
    if given.init:
        yield BecomeInit()
    yield Exec(process["args"], process.get("env", []))
