"""Whether a `config.json` makes sense: what its fields say together, and to this host. `check` is asked after
`specification.check` and before anything is made; it names the field, and what is wrong with it.

What the specification says a runtime must refuse is refused here, unless the kernel is who knows.
"""

from __future__ import annotations

import os

from cutaway.runtime.compile import is_bind
from cutaway.runtime.specification import InvalidConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OTHER_PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")
_NS_GET_NSTYPE = 0xB703
_FLAGS = {"network": "net", "mount": "mnt"}
_IPC_SYSCTLS = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
                "kernel.shmmni", "kernel.shm_rmid_forced")  # fmt: skip


def check(spec: dict[str, Any], bundle: str) -> None:
    """Raises `InvalidConfig` where a document of the right form cannot be a container in the directory `bundle`."""
    _check_version(spec["ociVersion"])
    for platform in _OTHER_PLATFORMS:
        _refuse(platform in spec, platform, "is for another platform than Linux")
    _check_root(spec, bundle)
    _refuse("process" not in spec, "process", "is required, and missing")
    check_process(spec["process"])
    _refuse("" in spec.get("annotations", {}), "annotations", "a key is empty")
    _check_hooks(spec.get("hooks", {}))
    linux = spec.get("linux", {})
    kinds = _check_namespaces(linux.get("namespaces", []))
    _check_uts(spec, kinds)
    _check_users(linux, kinds)
    _check_mounts(spec, linux, kinds)
    _check_sysctl(linux.get("sysctl", {}), spec, kinds)
    _check_devices(linux)
    _check_rest(linux, kinds)
    path = linux.get("cgroupsPath", "box")
    _refuse(not os.path.normpath(f"/{path}").strip("/"), "linux.cgroupsPath", f"{path!r} is the root, the host's own")
    _refuse("\0" in path, "linux.cgroupsPath", f"{path!r} is no path")


def check_process(process: dict[str, Any], where: str = "process") -> None:
    """The same for a process by itself, as `exec` starts one."""
    _refuse(not process.get("args"), f"{where}.args", "is required, with at least the program")
    _refuse(not process["cwd"].startswith("/"), f"{where}.cwd", f"expected an absolute path, not {process['cwd']!r}")
    _check_rlimits(process.get("rlimits", []), where)
    label = process.get("selinuxLabel")
    _refuse(bool(label) and not _has_selinux(), f"{where}.selinuxLabel", "this host has no SELinux")
    profile = process.get("apparmorProfile", "unconfined")
    _refuse(
        profile not in ("", "unconfined") and not _has_apparmor(),
        f"{where}.apparmorProfile",
        "this host has no AppArmor",
    )
    for moment, cpus in process.get("execCPUAffinity", {}).items():
        _check_numbers(cpus, f"{where}.execCPUAffinity.{moment}")


def _refuse(wrong: bool, field: str, problem: str) -> None:
    if wrong:
        raise InvalidConfig(field, problem)


def _check_version(version: str) -> None:
    """Of the same major version, which later ones are compatible with."""
    core, *_ = version.partition("+")[0].partition("-")
    numbers = core.split(".")
    right = len(numbers) == 3 and all(part.isascii() and part.isdigit() for part in numbers)
    _refuse(not right, "ociVersion", f"expected a version as 1.3.0, not {version!r}")
    _refuse(numbers[0] != "1", "ociVersion", f"version {version} is not supported, of which 1.3.0 is")


def _check_root(spec: dict[str, Any], bundle: str) -> None:
    _refuse("root" not in spec, "root", "is required, and missing")
    path = os.path.join(bundle, spec["root"]["path"])
    _refuse(not os.path.isdir(path), "root.path", f"{path} is no directory")


def _check_rlimits(limits: list[dict[str, Any]], where: str) -> None:
    from cutaway.kernel.rlimits import NUMBERS

    seen: set[str] = set()
    for number, limit in enumerate(limits):
        field = f"{where}.rlimits[{number}].type"
        _refuse(limit["type"] not in NUMBERS, field, f"{limit['type']} is not a limit that the kernel knows")
        _refuse(limit["type"] in seen, field, f"{limit['type']} is there twice")
        seen.add(limit["type"])


def _check_hooks(hooks: dict[str, Any]) -> None:
    for moment, entries in hooks.items():
        for number, hook in enumerate(entries if isinstance(entries, list) else ()):
            field = f"hooks.{moment}[{number}].path"
            _refuse(not hook["path"].startswith("/"), field, f"expected an absolute path, not {hook['path']!r}")


def _check_namespaces(namespaces: list[dict[str, str]]) -> dict[str, str]:
    """Their paths by type, empty for new ones."""
    kinds: dict[str, str] = {}
    for number, each in enumerate(namespaces):
        field, kind, path = f"linux.namespaces[{number}]", each["type"], each.get("path", "")
        _refuse(kind in kinds, f"{field}.type", f"{kind} is there twice")
        kinds[kind] = path
        if path:
            _check_namespace(path, kind, f"{field}.path")
        else:
            _refuse(not os.path.exists(f"/proc/self/ns/{_FLAGS.get(kind, kind)}"), field, f"this kernel has no {kind}")
    return kinds


def _check_namespace(path: str, kind: str, field: str) -> None:
    from fcntl import ioctl

    from cutaway.kernel.namespaces import FLAGS

    _refuse(not path.startswith("/"), field, f"expected an absolute path, not {path!r}")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidConfig(field, f"{path}: {error.strerror}") from None
    try:
        found = ioctl(descriptor, _NS_GET_NSTYPE)
    except OSError:
        found = 0
    finally:
        os.close(descriptor)
    _refuse(found != FLAGS[_FLAGS.get(kind, kind)], field, f"{path} is not a {kind} namespace")


def _check_uts(spec: dict[str, Any], kinds: dict[str, str]) -> None:
    for field in ("hostname", "domainname"):
        _refuse(
            bool(spec.get(field)) and "uts" not in kinds, field, "needs a uts namespace, or the host's would change"
        )


def _check_users(linux: dict[str, Any], kinds: dict[str, str]) -> None:
    mapped = [field for field in ("uidMappings", "gidMappings") if linux.get(field)]
    for field in mapped:
        _refuse("user" not in kinds, f"linux.{field}", "needs a user namespace")
    if kinds.get("user") == "":
        for field in ("uidMappings", "gidMappings"):
            _refuse(field not in mapped, f"linux.{field}", "is required for a new user namespace")
    _refuse(
        bool(linux.get("timeOffsets")) and kinds.get("time", "joined") != "",
        "linux.timeOffsets",
        "needs a new time namespace",
    )


def _check_mounts(spec: dict[str, Any], linux: dict[str, Any], kinds: dict[str, str]) -> None:
    own = "mount" in kinds
    for field in ("maskedPaths", "readonlyPaths"):
        for number, path in enumerate(linux.get(field, ())):
            where = f"linux.{field}[{number}]"
            _refuse(not path.startswith("/"), where, f"expected an absolute path, not {path!r}")
            _refuse(not own, where, "needs a mount namespace, or it would change for the host")
    _refuse(bool(spec["root"].get("readonly")) and not own, "root.readonly", "needs a mount namespace")
    _refuse(bool(spec["process"].get("terminal")) and not own, "process.terminal", "needs a mount namespace")
    for number, mount in enumerate(spec.get("mounts", ())):
        field = f"mounts[{number}]"
        _refuse(not own, field, "needs a mount namespace, or it would be mounted on the host")
        _check_mount(mount, field, kinds)


def _check_mount(mount: dict[str, Any], field: str, kinds: dict[str, str]) -> None:
    from cutaway.kernel.mounts import SUPERBLOCK_FLAGS, Options

    options = Options(mount.get("options", []))
    _refuse("\0" in mount["destination"] or not mount["destination"], f"{field}.destination", "expected a path")
    _refuse(mount["destination"].strip("/.") == "", f"{field}.destination", "is the root, which is there already")
    mapped = ["uidMappings" in mount, "gidMappings" in mount]
    _refuse(mapped[0] != mapped[1], field, "uidMappings and gidMappings go together")
    _refuse(
        options.idmap and not mapped[0] and kinds.get("user") != "",
        f"{field}.options",
        "idmap has no mappings to take: of a user namespace that is joined they are not known",
    )
    if options.remount:
        return
    if is_bind(mount):
        _refuse(not mount.get("source"), f"{field}.source", "is required for a bind mount")
        own = [option for option in options.filesystem if option not in SUPERBLOCK_FLAGS]
        _refuse(bool(own), f"{field}.options", f"a bind mount takes no option of a file system: {', '.join(own)}")
    else:
        _refuse(not mount.get("type"), f"{field}.type", "is required, except for a bind mount")
        _refuse(mapped[0] or options.idmap, field, "only a bind mount can have its owners mapped")
        _refuse(options.copy_up and mount["type"] != "tmpfs", f"{field}.options", "tmpcopyup is for a tmpfs")


def _check_sysctl(sysctl: dict[str, str], spec: dict[str, Any], kinds: dict[str, str]) -> None:
    """Only what a namespace of the container's own confines; the others would change the host."""
    for key in sysctl:
        field = f"linux.sysctl.{key}"
        parts = key.replace("/", ".").split(".")
        _refuse("" in parts, field, "is no name of a kernel parameter")
        name = ".".join(parts)
        kind = (
            "network" if name.startswith("net.")
            else "ipc" if name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")
            else "uts" if name in ("kernel.domainname", "kernel.hostname")
            else ""
        )  # fmt: skip
        _refuse(not kind, field, "is not confined to a namespace")
        _refuse(_is_hosts(kind, kinds), field, f"not allowed in host {kind} namespace, which would change")
        own = {"kernel.hostname": "hostname", "kernel.domainname": "domainname"}.get(name, "")
        _refuse(bool(own and spec.get(own, "") not in ("", sysctl[key])), field, f"is at odds with {own}")


def _is_hosts(kind: str, kinds: dict[str, str]) -> bool:
    """Whether the container is in this process's namespace of a kind: it has none, or joins that by a path."""
    if kinds.get(kind) == "":
        return False
    own = f"/proc/self/ns/{_FLAGS.get(kind, kind)}"
    return kind not in kinds or os.path.samefile(kinds[kind], own)


def _check_devices(linux: dict[str, Any]) -> None:
    for number, device in enumerate(linux.get("devices", ())):
        field = f"linux.devices[{number}]"
        _refuse(
            not device["path"].startswith("/"), f"{field}.path", f"expected an absolute path, not {device['path']!r}"
        )
        for name in ("major", "minor"):
            _refuse(device["type"] != "p" and name not in device, f"{field}.{name}", "is required, and missing")
    for number, entry in enumerate(linux.get("resources", {}).get("blockIO", {}).get("weightDevice", ())):
        field = f"linux.resources.blockIO.weightDevice[{number}]"
        _refuse("weight" not in entry and "leafWeight" not in entry, field, "expected weight or leafWeight")


def _check_rest(linux: dict[str, Any], kinds: dict[str, str]) -> None:
    _refuse(bool(linux.get("mountLabel")) and not _has_selinux(), "linux.mountLabel", "this host has no SELinux")
    _refuse(
        "intelRdt" in linux and not _has_resctrl(), "linux.intelRdt", "this host has no resctrl file system mounted"
    )
    group = linux.get("intelRdt", {}).get("closID", "")
    _refuse("/" in group or group in (".", ".."), "linux.intelRdt.closID", f"{group!r} cannot be a directory's name")
    personality = linux.get("personality", {})
    _refuse(bool(personality) and "domain" not in personality, "linux.personality.domain", "is required, and missing")
    _refuse(bool(personality.get("flags")), "linux.personality.flags", "no flags are supported")
    policy = linux.get("memoryPolicy", {})
    _refuse("memoryPolicy" in linux and "mode" not in policy, "linux.memoryPolicy.mode", "is required, and missing")
    _check_numbers(policy.get("nodes", ""), "linux.memoryPolicy.nodes")
    _check_net_devices(linux.get("netDevices", {}), kinds)
    _check_seccomp(linux.get("seccomp", {}))


def _check_net_devices(devices: dict[str, Any], kinds: dict[str, str]) -> None:
    _refuse(bool(devices) and "network" not in kinds, "linux.netDevices", "needs a network namespace")
    names = [device.get("name") or name for name, device in devices.items()]
    for name, inside in zip(devices, names, strict=True):
        for each in (name, inside):
            valid = each not in ("", ".", "..") and len(each.encode()) < 16 and not set(each) & set("/: \t\n")
            _refuse(not valid, f"linux.netDevices.{name}", f"{each!r} cannot be a network device's name")
        _refuse(names.count(inside) > 1, f"linux.netDevices.{name}.name", f"{inside} is there twice")
        _refuse(not _is_interface(name), f"linux.netDevices.{name}", "there is no such device")


def _is_interface(name: str) -> bool:
    import _socket

    try:
        return bool(_socket.if_nametoindex(name))
    except OSError:
        return False


def _check_seccomp(profile: dict[str, Any]) -> None:
    notifies = any(entry["action"] == "SCMP_ACT_NOTIFY" for entry in profile.get("syscalls", ()))
    _refuse(
        notifies and not profile.get("listenerPath"), "linux.seccomp.listenerPath", "is required with SCMP_ACT_NOTIFY"
    )
    _refuse(
        "listenerMetadata" in profile and "listenerPath" not in profile,
        "linux.seccomp.listenerMetadata",
        "needs a listenerPath",
    )


def _check_numbers(text: str, field: str) -> None:
    if not text:
        return
    from cutaway.kernel.scheduling import numbers_in

    try:
        numbers_in(text)
    except ValueError:
        raise InvalidConfig(field, f"expected a list as 0-3,7, not {text!r}") from None


def _has_selinux() -> bool:
    return os.path.exists("/sys/fs/selinux/enforce")


def _has_apparmor() -> bool:
    return os.path.exists("/sys/kernel/security/apparmor/profiles")


def _has_resctrl() -> bool:
    return os.path.exists("/sys/fs/resctrl/schemata")
