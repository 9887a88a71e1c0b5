"""What is mounted where in a container: from `-v`, `--mount` and `--tmpfs` to what `inspect` shows and OCI mounts say.

Nothing here changes anything. Which volumes there are is the business of `volumes`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import BindOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions
from cutaway.engine.options.mounts import parse_bind
from cutaway.kernel import procfs
from cutaway.plan.mounts import SUBDIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cutaway.engine.model import Config, HostConfig, Volume

_TMPFS_DEFAULTS = ["nosuid", "nodev", "noexec"]
_PROPAGATION = "rprivate"
_NEEDED_OF_SOURCE = {"shared": ("shared:",), "slave": ("shared:", "master:")}


Asked = tuple[Mount, str]
"""A mount and the mode that `-v` gives it."""


def wanted(config: Config, host: HostConfig, inherited: Iterable[Asked] = ()) -> list[Asked]:
    """What is to be mounted: what is asked for, then `inherited`, then volumes of the image, each where no other is.

    `--tmpfs` keeps its place free and is not among them, as in `inspect`.
    """
    asked = [(parse_bind(bind), _mode(bind)) for bind in host.Binds or ()]
    asked += [(mount, "") for mount in host.Mounts or ()]
    volumes = [(Mount(Type="volume", Target=place), "") for place in config.Volumes or ()]
    by_place = {os.path.normpath(mount.Target): (mount, mode) for mount, mode in [*volumes, *inherited, *asked]}
    return [each for place, each in by_place.items() if place not in map(os.path.normpath, host.Tmpfs)]


def _mode(bind: str) -> str:
    _, _, *mode = bind.split(":")
    return mode[0] if mode else ""


def mount_point(mount: Mount, mode: str, volume: Volume | None = None) -> MountPoint:
    """A mount as `inspect` shows it. As in Docker a named volume has the mode `z` unless `-v` gives another."""
    point = MountPoint(
        Type=mount.Type,
        Source=mount.Source if mount.Type == "bind" else "",
        Destination=os.path.normpath(mount.Target),
        Mode=mode,
        RW=not mount.ReadOnly,
        Propagation=_propagation(mount) if mount.Type == "bind" else "",
    )
    if volume:
        point.Name, point.Source, point.Driver = volume.Name, volume.Mountpoint, volume.Driver
        point.Mode = mode or ("z" if mount.Source else "")
    return point


def oci_mounts(mounts: Iterable[Mount], points: Iterable[MountPoint], tmpfs: dict[str, str]) -> list[dict[str, Any]]:
    """As OCI's runtime-spec has them. Raises `InvalidArgument` for a propagation that the source does not have."""
    made = [_oci_mount(mount, point) for mount, point in zip(mounts, points, strict=True)]
    return made + [_tmpfs(place, options.split(",")) for place, options in tmpfs.items()]


def ordered(mounts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is mounted above others comes before them, and of two mounts at one place the later is the one."""
    by_place = {mount["destination"]: mount for mount in mounts}
    return sorted(by_place.values(), key=lambda mount: mount["destination"].rstrip("/").count("/"))


def _oci_mount(mount: Mount, point: MountPoint) -> dict[str, Any]:
    if mount.Type == "tmpfs":
        return _tmpfs(mount.Target, [*_tmpfs_options(mount.TmpfsOptions or TmpfsOptions()), *_writable(mount)])
    options = _volume_options(mount) if mount.Type == "volume" else _bind_options(mount)
    return {"destination": point.Destination, "type": "bind", "source": point.Source, "options": options}


def _tmpfs(place: str, options: list[str]) -> dict[str, Any]:
    options = [*_TMPFS_DEFAULTS, *filter(None, options)]
    return {"destination": os.path.normpath(place), "type": "tmpfs", "source": "tmpfs", "options": options}


def _tmpfs_options(options: TmpfsOptions) -> Iterator[str]:
    if options.SizeBytes:
        yield f"size={options.SizeBytes}"
    if options.Mode:
        yield f"mode={options.Mode:o}"


def _writable(mount: Mount) -> list[str]:
    return ["ro"] if mount.ReadOnly else []


def _volume_options(mount: Mount) -> list[str]:
    subpath = (mount.VolumeOptions or VolumeOptions()).Subpath
    return ["rbind", _PROPAGATION, *(["rro"] if mount.ReadOnly else []), *([SUBDIRECTORY + subpath] if subpath else [])]


def _bind_options(mount: Mount) -> list[str]:
    """Read-only goes for what is mounted below too, unless that is not wanted."""
    options = mount.BindOptions or BindOptions()
    bind = "bind" if options.NonRecursive else "rbind"
    read_only = "ro" if options.NonRecursive or options.ReadOnlyNonRecursive else "rro"
    propagation = _propagation(mount)
    _check_propagation(mount.Source, propagation)
    return [bind, propagation, *([read_only] if mount.ReadOnly else [])]


def _propagation(mount: Mount) -> str:
    return (mount.BindOptions and mount.BindOptions.Propagation) or _PROPAGATION


def _check_propagation(source: str, propagation: str) -> None:
    """What is mounted later can only come from a mount that passes it on (`mount_namespaces(7)`)."""
    kind = propagation.removeprefix("r")
    needed = _NEEDED_OF_SOURCE.get(kind)
    if needed is None:
        return
    mount = mount_of(os.path.realpath(source))
    if not any(tag.startswith(needed) for tag in mount.propagation):
        what = "a shared" if kind == "shared" else "a shared or slave"
        raise InvalidArgument(f"path {source} is mounted on {mount.target} but it is not {what} mount")


def mount_of(path: str) -> procfs.MountPoint:
    """The mount that a path is in; of several at one place the last is the one that is seen."""
    above = [mount for mount in procfs.mounts() if f"{path}/".startswith(f"{mount.target.rstrip('/')}/")]
    return max(reversed(above), key=lambda mount: len(mount.target))
