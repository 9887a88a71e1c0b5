"""`spec`, `features`, `--help`, `--version`: what this command is, can do, and a description to start from."""

from __future__ import annotations

import os

from cutaway.kernel import mounts, namespaces, seccomp
from cutaway.kernel.capabilities import NAMES
from cutaway.plan.hooks import STATUS
from cutaway.runtime.command import document
from cutaway.runtime.command.arguments import FLAG, Syntax
from cutaway.runtime.command.container import SPECIFICATION
from cutaway.runtime.command.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cutaway.runtime.command.main import Invocation

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
           "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_NAMESPACES = {"net": "network", "mnt": "mount"}


def spec(invocation: Invocation) -> int:
    """`spec`: writes a `config.json` to begin with; never over one that is there."""
    directory = invocation.options["bundle"] or "."
    try:
        with open(f"{directory}/config.json", "x", encoding="utf-8") as file:
            file.write(document.indented(_example(rootless=invocation.options["rootless"]), "\t") + "\n")
    except FileExistsError:
        raise Failure("File config.json exists. Remove it first") from None
    return 0


def features(_: Invocation) -> int:
    """`features`: what this runtime understands. <https://github.com/opencontainers/runtime-spec/blob/main/features.md>"""
    print(document.indented(_features(), "    "))
    return 0


def version() -> str:
    """What `--version` prints."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        number = installed("cutaway")
    except PackageNotFoundError:
        number = "unknown"
    return f"cutaway-oci version {number}\nspec: {SPECIFICATION}"


def usage(verbs: Mapping[str, tuple[str, str, Syntax]]) -> str:
    """What `--help` prints."""
    return "\n".join(
        [
            "cutaway-oci: an OCI runtime with runc's command line",
            "",
            "Usage: cutaway-oci [--root DIRECTORY] [--log FILE] [--log-format text|json] [--debug] VERB ...",
            "",
            *(f"  {usage_of(verb, syntax)}" for verb, (_, _, syntax) in verbs.items()),
        ]
    )


def usage_of(verb: str, syntax: Syntax) -> str:
    """The one line that says what a verb takes."""
    shown = (f"[--{name}]" if kind == FLAG else f"[--{name} {kind.upper()}]" for name, kind in syntax.options.items())
    return " ".join(filter(None, ["cutaway-oci", verb, *shown, syntax.operands]))


def _mount(destination: str, kind: str, source: str, options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options.split()}


_TTY = 5  # the group that terminals belong to, on every Linux


def _example(*, rootless: bool) -> dict[str, Any]:
    sets = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
    kinds = ["pid", "network", "ipc", "uts", "mount", "cgroup", *(["user"] if rootless else [])]
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "maskedPaths": _MASKED,
        "readonlyPaths": _READONLY,
    }
    group = "" if rootless else f" gid={_TTY}"
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return {
        "ociVersion": SPECIFICATION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": sets,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "cutaway",
        "mounts": [
            _mount("/proc", "proc", "proc", ""),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", f"nosuid noexec newinstance ptmxmode=0666 mode=0620{group}"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
        ],
        "linux": linux,
    }


def _features() -> dict[str, Any]:
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": list(STATUS),
        "mountOptions": mounts.OPTION_NAMES,
        "linux": {
            "namespaces": sorted(_NAMESPACES.get(kind, kind) for kind in namespaces.FLAGS),
            "capabilities": list(NAMES),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": list(seccomp.ACTIONS),
                "operators": list(seccomp.OPERATORS),
                "archs": [f"SCMP_ARCH_{name.upper()}" for name in seccomp.ARCHITECTURES],
                "knownFlags": list(seccomp.FLAGS),
                "supportedFlags": list(seccomp.FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {},
        "potentiallyUnsafeConfigAnnotations": [],
    }
