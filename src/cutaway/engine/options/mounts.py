"""`--mount`, `-v` and `--tmpfs`: three ways to write down what is to be mounted in a container."""

from __future__ import annotations

import csv
import os.path
import re

from cutaway.engine.model import BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions
from cutaway.engine.options import values

PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_FLAGS = frozenset({"readonly", "bind-nonrecursive", "bind-create-src", "volume-nocopy"})
_BIND_RECURSIVE = {
    "enabled": "",
    "disabled": "NonRecursive",
    "writable": "ReadOnlyNonRecursive",
    "readonly": "ReadOnlyForceRecursive",
}


def mount(text: str) -> Mount:
    """One `--mount`: `type=bind,src=/a,dst=/b,readonly`. Raises `ValueError`."""
    return _Fields(text).mount()


class _Fields:
    """The fields of one `--mount`, in CSV, as Docker reads them."""

    def __init__(self, text: str) -> None:
        self._single: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._driver_options: dict[str, str] = {}
        try:
            fields = next(csv.reader([text], strict=True), [])
        except csv.Error as problem:
            raise ValueError(f"{text!r} is not CSV: {problem}") from None
        for written in fields:
            self._add(written)

    def _add(self, written: str) -> None:
        key, separator, value = written.partition("=")
        name = _ALIASES.get(key.lower(), key.lower())
        if name not in _KNOWN:
            raise ValueError(f"unexpected key '{key}' in '{written}'")
        if not separator and name not in _FLAGS:
            raise ValueError(f"invalid field '{written}' must be a key=value pair")
        if name == "volume-label":
            _set(self._labels, value)
        elif name == "volume-opt":
            _set(self._driver_options, value)
        else:
            self._single[name] = value if separator else "true"

    def mount(self) -> Mount:
        kind = self._single.get("type", "volume").lower()
        if kind not in ("bind", "volume", "tmpfs"):
            raise ValueError(f"mount type '{kind}' is unknown: it is bind, volume or tmpfs")
        if not self._single.get("target"):
            raise ValueError("target is required")
        self._refuse_options_of_other_types(kind)
        result = Mount(
            Type=kind,  # type: ignore[arg-type]  # one of the three
            Source=self._single.get("source", ""),
            Target=self._single["target"],
            ReadOnly=self._flag("readonly"),
        )
        result.BindOptions = self._bind_options() if kind == "bind" else None
        result.VolumeOptions = self._volume_options() if kind == "volume" else None
        result.TmpfsOptions = self._tmpfs_options() if kind == "tmpfs" else None
        return result

    def _refuse_options_of_other_types(self, kind: str) -> None:
        used = set(self._single) | ({"volume-label"} if self._labels else set())
        used |= {"volume-opt"} if self._driver_options else set()
        for name in sorted(used):
            group = name.partition("-")[0]
            if group in ("bind", "volume", "tmpfs") and group != kind:
                raise ValueError(f"cannot mix '{group}-*' options with mount type '{kind}'")

    def _flag(self, name: str) -> bool:
        try:
            return values.boolean(self._single.get(name, "false"))
        except ValueError:
            raise ValueError(f"invalid value for {name}: {self._single[name]}") from None

    def _bind_options(self) -> BindOptions | None:
        names = {"bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src"}
        if not names & set(self._single):
            return None
        propagation = self._single.get("bind-propagation", "").lower()
        if propagation and propagation not in PROPAGATIONS:
            raise ValueError(f"invalid propagation '{propagation}': it is one of {', '.join(sorted(PROPAGATIONS))}")
        options = BindOptions(
            Propagation=propagation,
            NonRecursive=self._flag("bind-nonrecursive"),
            CreateMountpoint=self._flag("bind-create-src"),
        )
        self._set_recursion(options)
        return options

    def _set_recursion(self, options: BindOptions) -> None:
        recursive = self._single.get("bind-recursive", "enabled")
        if recursive not in _BIND_RECURSIVE:
            raise ValueError(f"invalid value for bind-recursive: {recursive}")
        if recursive in ("writable", "readonly") and not self._flag("readonly"):
            raise ValueError(f"option 'bind-recursive={recursive}' requires 'readonly' to be specified in conjunction")
        if recursive == "readonly" and options.Propagation != "rprivate":
            raise ValueError(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
            )
        if flag := _BIND_RECURSIVE[recursive]:
            setattr(options, flag, True)

    def _volume_options(self) -> VolumeOptions | None:
        driver = self._single.get("volume-driver", "")
        options = VolumeOptions(
            NoCopy=self._flag("volume-nocopy"),
            Labels=self._labels,
            Subpath=self._single.get("volume-subpath", ""),
        )
        if driver or self._driver_options:
            options.DriverConfig = DriverConfig(Name=driver, Options=self._driver_options)
        return options if options != VolumeOptions() else None

    def _tmpfs_options(self) -> TmpfsOptions | None:
        options = TmpfsOptions()
        if "tmpfs-size" in self._single:
            options.SizeBytes = values.size(self._single["tmpfs-size"])
        if "tmpfs-mode" in self._single:
            options.Mode = _mode(self._single["tmpfs-mode"])
        return options if options != TmpfsOptions() else None


_KNOWN = _FLAGS | {
    "type", "source", "target", "bind-propagation", "bind-recursive", "volume-label", "volume-driver", "volume-opt",
    "volume-subpath", "tmpfs-size", "tmpfs-mode",
}  # fmt: skip


def _set(pairs: dict[str, str], text: str) -> None:
    name, _, value = text.partition("=")
    pairs[name] = value


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError(f"invalid value for tmpfs-mode: {text}") from None


def volume(text: str, cwd: str) -> tuple[str, str]:
    """One `-v` as a bind (`"/a:/b:ro"`) and nothing, or as nothing and the place of an anonymous volume.

    A source that begins with `.` is relative to the caller's directory `cwd`, as in Docker.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return "", text
    if parts[0].startswith("."):
        parts[0] = os.path.normpath(os.path.join(cwd, parts[0]))
    return ":".join(parts), ""


def parse_bind(text: str) -> Mount:
    """What a bind of `HostConfig.Binds` means: a bind mount where its source is a path, else a named volume.

    Of the options that have no place in a `Mount`, `z` and `Z` (SELinux labels) are known and change nothing, as on any
    host without SELinux. Raises `ValueError`.
    """
    source, target, *rest = text.split(":")
    options = rest[0].split(",") if rest else []
    if unknown := [option for option in options if option not in _BIND_MODES | PROPAGATIONS]:
        raise ValueError(f"invalid mode: {','.join(unknown)}")
    if {"ro", "rw"} <= set(options):
        raise ValueError(f"invalid mode: {rest[0]}")
    propagation = next((option for option in options if option in PROPAGATIONS), "")
    if source.startswith("/"):
        bind = BindOptions(Propagation=propagation, CreateMountpoint=True)
        return Mount(Type="bind", Source=source, Target=target, ReadOnly="ro" in options, BindOptions=bind)
    if propagation:
        raise ValueError(f"invalid mode: {propagation} is for bind mounts; '{source}' is a volume")
    named = VolumeOptions(NoCopy="nocopy" in options)
    return Mount(Type="volume", Source=source, Target=target, ReadOnly="ro" in options, VolumeOptions=named)


_BIND_MODES = frozenset({"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"})


def check(mount: Mount) -> None:
    """Raises `ValueError` where a mount cannot be: no absolute target, or a source that its type does not allow."""
    where = f'invalid mount config for type "{mount.Type}"'
    if not mount.Target.startswith("/"):
        raise ValueError(f"{where}: invalid mount path: '{mount.Target}' mount path must be absolute")
    if os.path.normpath(mount.Target) in ("/", "//"):
        raise ValueError(f"{where}: invalid specification: destination can't be '/'")
    if mount.Type == "tmpfs" and mount.Source:
        raise ValueError(f"{where}: field Source must not be specified")
    if mount.Type == "bind":
        _check_bind(mount, where)
    if mount.Type == "volume" and mount.Source and not VOLUME_NAME.fullmatch(mount.Source):
        raise ValueError(
            f'create {mount.Source}: "{mount.Source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _check_bind(mount: Mount, where: str) -> None:
    if not mount.Source:
        raise ValueError(f"{where}: field Source must not be empty")
    if not mount.Source.startswith("/"):
        raise ValueError(f"{where}: invalid mount path: '{mount.Source}' mount path must be absolute")
    made = mount.BindOptions is not None and mount.BindOptions.CreateMountpoint
    if not made and not os.path.lexists(mount.Source):
        raise ValueError(f"{where}: bind source path does not exist: {mount.Source}")


_TMPFS_FLAGS = frozenset(
    {
        "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "atime", "noatime",
        "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
    }
)  # fmt: skip
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"})


def tmpfs(text: str) -> tuple[str, str]:
    """One `--tmpfs`: its place and its mount options (`tmpfs(5)`). Raises `ValueError`."""
    target, _, options = text.partition(":")
    for option in filter(None, options.split(",")):
        name, separator, _ = option.partition("=")
        if name not in (_TMPFS_VALUES if separator else _TMPFS_FLAGS | PROPAGATIONS):
            raise ValueError(f'invalid tmpfs option ["{option}"]')
    return target, options
