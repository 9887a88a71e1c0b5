"""Operations that make a container's tree: its root, what is mounted in it, and what is hidden. `mount_namespaces(7)`

Targets are resolved inside the container's root, link by link, by the kernel (`openat2(RESOLVE_IN_ROOT)`), and
mounted on through the descriptor that was found: a link that another container changes meanwhile leads nowhere else.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import count

from cutaway.kernel import mounts, procfs
from cutaway.kernel.descriptors import is_null
from cutaway.kernel.errors import KernelError
from cutaway.kernel.mounts import MOUNT_ATTR_IDMAP, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SHARED, MS_SLAVE, Options
from cutaway.kernel.namespaces import user_namespace
from cutaway.kernel.openat2 import make_directories, make_file, open_directly, open_in_root
from cutaway.kernel.overlay import forget_volatile, mount_overlay, single_layers
from cutaway.plan.operation import Context, Operation, import_no_more

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cutaway.kernel.procfs import MountPoint

_REVEALING = ("proc", "sysfs")
"""File systems of which the kernel makes another only where one is seen whole, and that hold what is to be hidden."""
SUBDIRECTORY = "X-mount.subdir="
"""An option of `mount(8)`: only this part of what is mounted."""


class MountOverlay(Operation):
    """The root file system: image layers (`lower_dirs`, the top one first) under the container's own layer."""

    target: str
    lower_dirs: list[str]
    upper_dir: str
    work_dir: str
    options: list[str] = []
    manual = "mount(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        forget_volatile(self.work_dir)
        mount_overlay(self.target, self.lower_dirs, self.upper_dir, self.work_dir, self.options)

    def undo(self, context: Context) -> None:  # noqa: ARG002
        unmount_all(self.target)

    def shell(self) -> str:
        lowers = ":".join(self.lower_dirs)
        options = ",".join(
            [f"lowerdir={lowers}", f"upperdir={self.upper_dir}", f"workdir={self.work_dir}", *self.options]
        )
        return f"mount -t overlay overlay -o {_quote(options)} {_quote(self.target)}"

    def shell_undo(self) -> str:
        return f"umount {_quote(self.target)}"

    def why(self) -> str:
        return (
            "The image's layers, read-only and shared, under a layer of the container's own that takes what it writes."
        )


class MountTmpfs(Operation):
    """A tmpfs on a directory of the host, which is made for it: shared memory that several containers see."""

    target: str
    options: list[str] = []
    manual = "tmpfs(5)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        os.makedirs(self.target, exist_ok=True)
        options = Options(self.options)
        made = mounts.new_mount("tmpfs", "tmpfs", options.filesystem, options.set)
        try:
            mounts.attach_at(made, self.target)
        finally:
            os.close(made)

    def undo(self, context: Context) -> None:  # noqa: ARG002
        unmount_all(self.target)

    def shell(self) -> str:
        target = _quote(self.target)
        return f"mkdir -p {target}\nmount -t tmpfs -o {_quote(','.join(self.options))} tmpfs {target}"

    def shell_undo(self) -> str:
        return f"umount {_quote(self.target)}"

    def why(self) -> str:
        return "Memory that can be shared with other containers, which mount the same."


class MountVolume(Operation):
    """The file system of a volume, on the volume's own directory: a tmpfs, a disk, a share of another machine.

    With `bind` among the options it is the file or directory `source` of the host.
    """

    target: str
    filesystem: str
    source: str
    options: list[str] = []
    manual = "mount(8)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        options = Options(self.options)
        if options.bind:
            made = mounts.clone_tree(self.source, recursive=options.recursive)
        else:
            made = mounts.new_mount(self.filesystem, self.source, options.filesystem, options.set)
        try:
            _set_attributes(made, options)
            mounts.attach_at(made, self.target)
        finally:
            os.close(made)

    def undo(self, context: Context) -> None:  # noqa: ARG002
        unmount_all(self.target)

    def shell(self) -> str:
        options = f" -o {_quote(','.join(self.options))}" if self.options else ""
        kind = "" if Options(self.options).bind else f" -t {_quote(self.filesystem)}"
        return f"mount{kind}{options} {_quote(self.source)} {_quote(self.target)}"

    def shell_undo(self) -> str:
        return f"umount {_quote(self.target)}"

    def why(self) -> str:
        return "What the volume holds is kept elsewhere, and mounted for as long as a container uses it."


class SetPropagation(Operation):
    """How mounts that are made from now on reach other mount namespaces and come from there, for the root of the one
    that the process is in: `option` is a word of `mount(8)`, as `rslave` (they come, and none go) or `rprivate`."""

    option: str
    manual = "mount_namespaces(7)"

    def apply(self, context: Context) -> None:  # noqa: ARG002
        options = Options([self.option])
        mounts.propagate("/", options.propagation, recursive=options.propagate_all)

    def shell(self) -> str:
        return f"mount --make-{self.option} /"

    def why(self) -> str:
        return f"Whether what is mounted here is seen elsewhere, and what is mounted there here: {self.option}."


class AttachRoot(Operation):
    """Brings the directory `source` of the host in as the mount that becomes the container's root, on the directory
    `target` of the mount namespace.

    With `follows_host`, what is mounted below `source` on the host from now on appears inside, too.
    """

    source: str
    target: str = "/root"
    follows_host: bool = False
    manual = "open_tree(2)"

    def prepare(self, context: Context) -> None:
        context.descriptors["root"] = root = mounts.clone_tree(self.source, recursive=True)
        mounts.set_attributes(root, 0, propagation=MS_SLAVE if self.follows_host else MS_PRIVATE, recursive=True)

    def apply(self, context: Context) -> None:
        context.root = context.descriptors["root"]
        mounts.attach_at(context.root, self.target)

    def shell(self) -> str:
        kind = "rslave" if self.follows_host else "rprivate"
        return f'ROOT={_quote(self.source)}\nmount --make-{kind} /\nmount --rbind "$ROOT" "$ROOT"'

    def why(self) -> str:
        return "A mount of its own for the root, cut off from the host: what is mounted in it is seen nowhere else."


class OpenRoot(Operation):
    """The directory `source` of the host as the container's root, where it has no mount namespace to attach it in."""

    source: str
    manual = "chroot(2)"

    def prepare(self, context: Context) -> None:
        context.descriptors["root"] = os.open(self.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def apply(self, context: Context) -> None:
        context.root = context.descriptors["root"]

    def shell(self) -> str:
        return f"ROOT={_quote(self.source)}"

    def why(self) -> str:
        return "The container sees the host's mounts below this directory, as it was asked to share them."


class Mount(Operation):
    """A file system mounted inside: /proc, a tmpfs, devpts, … `options` as in the OCI runtime-spec.

    A tmpfs whose options give no mode gets that of the directory which it covers, and its contents with `tmpcopyup`.
    """

    filesystem: str
    target: str
    source: str = ""
    options: list[str] = []
    manual = "mount(8)"

    def apply(self, context: Context) -> None:
        options = Options(self.options)
        own = [*self._covered_mode(context.root), *options.filesystem]
        own = single_layers(own) if self.filesystem == "overlay" else own
        made = mounts.new_mount(self.filesystem, self.source, own, options.set)
        try:
            if options.copy_up:
                from cutaway.plan.copyup import copy_tree

                _on(context.root, self.target, lambda covered: copy_tree(covered, made))
            _attach(made, context.root, self.target, options, directly=self.filesystem in _REVEALING)
        finally:
            os.close(made)

    def _covered_mode(self, root: int) -> list[str]:
        modes: list[str] = []
        if self.filesystem == "tmpfs" and not any(option.startswith("mode=") for option in self.options):
            _on(root, self.target, lambda covered: modes.append(f"mode={stat.S_IMODE(os.fstat(covered).st_mode):o}"))
        return modes

    def subject(self) -> str:
        return self.target

    def shell(self) -> str:
        target = _in_root(self.target)
        covers = self.filesystem == "tmpfs" and not any(option.startswith("mode=") for option in self.options)
        look = f"if [ -d {target} ]; then mode=$(stat -c %a {target}); else mode=1777; fi\n" if covers else ""
        more = 'mode="$mode"' if covers else ""
        return f"{look}mkdir -p {target}\n" + _shell_mount(self.filesystem, self.source, target, self.options, more)

    def why(self) -> str:
        return _REASONS.get(self.target, f"A {self.filesystem} of the container's own at {self.target}.")


class BindMount(Operation):
    """A file or directory of the host, seen inside at `target`.

    With the option `X-mount.subdir=PATH` it is what is at that path in `source`, whose links cannot lead out of it.
    With mappings, as in the OCI runtime-spec, the files of owner `containerID` are shown as those of `hostID`; with
    `ridmap` in the mounts below, too.
    """

    source: str
    target: str
    options: list[str] = []
    uid_mappings: list[dict[str, int]] = []
    gid_mappings: list[dict[str, int]] = []
    manual = "mount(8)"

    def prepare(self, context: Context) -> None:
        recursive, below = Options(self.options).recursive, _subdirectory(self.options)
        held = (
            _clone_below(self.source, below, recursive)
            if below
            else mounts.clone_tree(self.source, recursive=recursive)
        )
        names = (f"{self._held_as}{number}" for number in count())
        context.descriptors[next(name for name in names if name not in context.descriptors)] = held
        if self.uid_mappings:
            self._map_owners(held)

    def _map_owners(self, held: int) -> None:
        users = user_namespace(self.uid_mappings, self.gid_mappings)
        try:
            mounts.set_attributes(held, MOUNT_ATTR_IDMAP, recursive=Options(self.options).idmap_all, users=users)
        finally:
            os.close(users)

    @property
    def _held_as(self) -> str:
        """Followed by a number: one mount may cover another at the same place. No path has a NUL in it."""
        return f"mount:{self.target}\0"

    def apply(self, context: Context) -> None:
        held = context.descriptors.pop(next(name for name in context.descriptors if name.startswith(self._held_as)))
        _attach(held, context.root, self.target, Options(self.options))
        os.close(held)

    def subject(self) -> str:
        return self.target

    def shell(self) -> str:
        options = Options(self.options)
        source = _quote(f"{self.source}/{_subdirectory(self.options)}".rstrip("/") or "/")
        bind = "--rbind" if options.recursive else "--bind"
        target, above = _in_root(self.target), _in_root(os.path.dirname(self.target))
        make = f"if [ -d {source} ]; then mkdir -p {target}; else mkdir -p {above}; [ -e {target} ] || : > {target}; fi"
        lines = [make, f"mount {bind} {source} {target}", *(_shell_flag(flag, target) for flag in self.options)]
        return "\n".join(filter(None, lines))

    def why(self) -> str:
        return f"{self.source} of the host is seen inside as {self.target}."


def _subdirectory(options: list[str]) -> str:
    return next((option.removeprefix(SUBDIRECTORY) for option in options if option.startswith(SUBDIRECTORY)), "")


def _clone_below(source: str, subdirectory: str, recursive: bool) -> int:
    above = os.open(source, os.O_PATH)
    try:
        place = open_in_root(above, subdirectory, os.O_PATH)
    finally:
        os.close(above)
    try:
        return mounts.clone_tree("", directory=place, recursive=recursive)
    finally:
        os.close(place)


def _shell_flag(flag: str, target: str) -> str:
    if flag in ("bind", "rbind", "rw") or flag.startswith(SUBDIRECTORY):
        return ""
    if flag == "rro":
        return f'findmnt -Rnlo TARGET {target} | while read -r each; do mount -o remount,bind,ro "$each"; done'
    return f"mount --make-{flag} {target}" if Options([flag]).propagation else f"mount -o remount,bind,{flag} {target}"


class Remount(Operation):
    """Changes a mount that is there already: `options` as in the OCI runtime-spec, of which those of a mount count."""

    target: str
    options: list[str]
    manual = "mount_setattr(2)"

    def apply(self, context: Context) -> None:
        target = open_in_root(context.root, self.target, os.O_PATH)
        try:
            _set_attributes(target, Options(self.options), propagation=0)
        finally:
            os.close(target)

    def shell(self) -> str:
        return f"mount -o remount,bind,{_quote(','.join(self.options))} $ROOT{_quote(self.target)}"

    def why(self) -> str:
        return (
            f"What is mounted at {self.target} becomes {', '.join(self.options)}, once nothing needs to be made in it."
        )


class MountCgroups(Operation):
    """The cgroup file systems inside: one (v2), or a tmpfs with one directory a hierarchy (v1).

    `hierarchies`: directory name → mount options (`memory`; `none,name=systemd`; empty: cgroup2). `links`: name →
    directory. In a new cgroup namespace each shows the container's own cgroup as its root.
    """

    target: str
    hierarchies: dict[str, str]
    links: dict[str, str] = {}
    options: list[str] = []
    manual = "cgroup_namespaces(7)"

    def apply(self, context: Context) -> None:
        options = Options(self.options)
        if not self.hierarchies:
            made = self._new_mount("", options)
            _attach(made, context.root, self.target, options)
            os.close(made)
            return
        above = mounts.new_mount("tmpfs", "tmpfs", ["mode=755"], options.set & ~MOUNT_ATTR_RDONLY)
        try:
            for name, directory in self.links.items():
                os.symlink(directory, name, dir_fd=above)
            _attach(above, context.root, self.target, Options([]))
            for name, controllers in self.hierarchies.items():
                os.mkdir(name, dir_fd=above)
                made = self._new_mount(controllers, options)
                mounts.attach(made, above, name)
                os.close(made)
            mounts.set_attributes(above, options.set & MOUNT_ATTR_RDONLY)
        finally:
            os.close(above)

    def _new_mount(self, controllers: str, options: Options) -> int:
        named = controllers.split(",") if controllers else []
        return mounts.new_mount("cgroup" if named else "cgroup2", "cgroup", named, options.set)

    def shell(self) -> str:
        target = _in_root(self.target)
        if not self.hierarchies:
            return f"mkdir -p {target}\n" + _shell_mount("cgroup2", "cgroup", target, self.options)
        flags = [option for option in self.options if option != "ro"]
        lines = [f"mkdir -p {target}", _shell_mount("tmpfs", "tmpfs", target, ["mode=755", *flags])]
        lines += [f"ln -s {_quote(directory)} {target}/{_quote(name)}" for name, directory in self.links.items()]
        for name, controllers in self.hierarchies.items():
            kind, own = ("cgroup", controllers.split(",")) if controllers else ("cgroup2", [])
            place = f"{target}/{_quote(name)}"
            lines += [f"mkdir {place}", _shell_mount(kind, "cgroup", place, [*own, *self.options])]
        return "\n".join([*lines, *([f"mount -o remount,bind,ro {target}"] if "ro" in self.options else [])])

    def why(self) -> str:
        return "Programs inside read their own limits here; read-only, as limits are the host's to set."


class MakeDevice(Operation):
    """A device node: `kind` is `c`, `b` or `p` (a named pipe)."""

    path: str
    kind: str
    major: int = 0
    minor: int = 0
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    manual = "mknod(2)"

    def apply(self, context: Context) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = make_directories(context.root, parent)
        try:
            self._make(directory, name)
        finally:
            os.close(directory)

    def _make(self, directory: int, name: str) -> None:
        kind = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[self.kind]
        number = os.makedev(self.major, self.minor)
        try:
            os.mknod(name, kind | self.mode, number, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) != kind or (self.kind != "p" and found.st_rdev != number):
                reason = f"{self.path}: something else than the device is there"
                raise KernelError(errno.EEXIST, "mknod", reason) from None
            return
        os.chmod(name, self.mode, dir_fd=directory)  # mknod's mode went through the umask
        os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)

    def shell(self) -> str:
        path, above = _in_root(self.path), _in_root(os.path.dirname(self.path))
        numbers = "" if self.kind == "p" else f" {self.major} {self.minor}"
        owner = f"\nchown -h {self.uid}:{self.gid} {path}" if self.uid or self.gid else ""
        return f"mkdir -p {above}\n[ -e {path} ] || mknod -m {self.mode:o} {path} {self.kind}{numbers}{owner}"

    def why(self) -> str:
        return f"The device {self.path}: a container has only those that it was given."


class BindDevice(MakeDevice):
    """A device node where there is a user namespace, in which the kernel lets nobody make one: made on the host, in a
    tmpfs of its own that is attached nowhere, and bound at `path`. `uid` and `gid` are the host's."""

    def prepare(self, context: Context) -> None:
        held = mounts.new_mount("tmpfs", "tmpfs", ["mode=755"], mounts.MOUNT_ATTR_NOSUID)
        context.descriptors[self._held_as] = held
        self._make(held, _NODE)

    @property
    def _held_as(self) -> str:
        return f"device:{self.path}"

    def apply(self, context: Context) -> None:
        held = context.descriptors.pop(self._held_as)
        mounts.attach(held, context.root)  # for a moment: before Linux 6.15, only what is attached is cloned
        node = mounts.clone_tree(_NODE, directory=held)
        os.fchdir(held)
        mounts.unmount(".", mounts.MNT_DETACH)
        os.chdir("/")
        os.close(held)
        _attach(node, context.root, self.path, Options([]))
        os.close(node)

    def shell(self) -> str:
        path, above = _in_root(self.path), _in_root(os.path.dirname(self.path))
        return f"""\
held=$(mktemp -d)
mount -t tmpfs -o nosuid tmpfs $held
mknod -m {self.mode:o} $held/{_NODE} {self.kind} {self.major} {self.minor}
chown {self.uid}:{self.gid} $held/{_NODE}
mkdir -p {above}
[ -e {path} ] || : > {path}
mount --bind $held/{_NODE} {path}
umount -l $held"""


_NODE = "device"


class MakeLink(Operation):
    """A symbolic link at `path` to `target`; what is there already stays."""

    path: str
    target: str
    manual = "symlink(7)"

    def apply(self, context: Context) -> None:
        parent, _, name = self.path.rpartition("/")
        directory = make_directories(context.root, parent)
        try:
            os.symlink(self.target, name, dir_fd=directory)
        except FileExistsError:
            pass
        finally:
            os.close(directory)

    def shell(self) -> str:
        path = _in_root(self.path)
        return f"[ -e {path} ] || [ -L {path} ] || ln -s {_quote(self.target)} {path}"

    def why(self) -> str:
        return f"{self.path} leads to {self.target}, as programs expect."


class MaskPaths(Operation):
    """Hides files behind /dev/null and directories behind an empty read-only tmpfs; what is absent needs no mask."""

    paths: list[str]
    manual = "proc(5)"

    def apply(self, context: Context) -> None:
        null = _checked_null(context.root)
        try:
            for path in self.paths:
                _on(context.root, path, lambda target: _mask(null, target))
        finally:
            os.close(null)

    def shell(self) -> str:
        return f"""\
for path in {" ".join(map(_quote, self.paths))}; do
    if [ -d "$ROOT$path" ]; then
        mount -t tmpfs -o nr_blocks=1,nr_inodes=1 tmpfs "$ROOT$path"
        mount -o remount,bind,ro "$ROOT$path"
    elif [ -e "$ROOT$path" ]; then
        mount --bind "$ROOT/dev/null" "$ROOT$path"
    fi
done"""

    def why(self) -> str:
        return "What /proc and /sys tell about the host, or let one do to it, is hidden."


class MakeReadonly(Operation):
    """Makes what is at each of `paths` read-only, the mounts below it as they were; what is absent stays so."""

    paths: list[str]
    manual = "mount_setattr(2)"

    def apply(self, context: Context) -> None:
        for path in self.paths:
            if path == "/":
                mounts.set_attributes(context.root, MOUNT_ATTR_RDONLY)
            else:
                _on(context.root, path, _make_readonly)

    def shell(self) -> str:
        if self.paths == ["/"]:
            return 'mount -o remount,bind,ro "$ROOT"'
        return f"""\
for path in {" ".join(map(_quote, self.paths))}; do
    [ -e "$ROOT$path" ] || continue
    mount --rbind "$ROOT$path" "$ROOT$path"
    mount -o remount,bind,ro "$ROOT$path"
done"""

    def why(self) -> str:
        return f"{', '.join(self.paths)}: to be read but not changed from inside."


class MakeWorkingDirectory(Operation):
    """The working directory, and those above it, where there is none, in a root that is to become read-only."""

    path: str
    manual = "mkdir(2)"

    def apply(self, context: Context) -> None:
        os.close(make_directories(context.root, self.path))

    def shell(self) -> str:
        return f"mkdir -p {_in_root(self.path)}"

    def why(self) -> str:
        return f"The program is to start in {self.path}, which cannot be made any more once the root is read-only."


class HideHost(Operation):
    """Takes away each whole /proc and /sys of the host's, where its tree stays in the mount namespace (`ChangeRoot`).
    While one is there, the kernel lets whoever makes namespaces inside mount another, with nothing hidden in it."""

    manual = "mount_namespaces(7)"

    def apply(self, context: Context) -> None:
        found = {each.identity: each for each in procfs.mounts()}
        own = procfs.mount_id(context.root)
        for each in reversed(found.values()):
            if each.filesystem in _REVEALING and each.root == "/" and not _is_below(each, own, found):
                _take_away(each.target)

    def subject(self) -> str:
        return ", ".join(_REVEALING)

    def shell(self) -> str:
        find = f"findmnt -rno TARGET -t {','.join(_REVEALING)}"
        return (
            f'{find} | grep -v "^$ROOT/" | while read -r each; do mount --make-rslave "$each"; umount -l "$each"; done'
        )

    def why(self) -> str:
        return "The host's tree stays below the container's. Its /proc and /sys must not: in them nothing is hidden."


def _is_below(mount: MountPoint, above: int, found: dict[int, MountPoint]) -> bool:
    while mount.identity != above and mount.parent in found and mount.parent != mount.identity:
        mount = found[mount.parent]
    return mount.identity == above


def _take_away(target: str) -> None:
    """Covered, where it was there before the user namespace and cannot be taken away in it."""
    try:
        mounts.propagate(target, MS_SLAVE, recursive=True)
        mounts.unmount(target, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        cover = _nothing()
        mounts.attach_at(cover, target)
        os.close(cover)


class ChangeRoot(Operation):
    """Makes the attached root the process's root by chroot, where pivot_root cannot work: on a root file system in
    memory that the machine was booted with. The host's tree stays in the mount namespace, below it.

    With `moves`, the root was not attached over that tree, and is moved there: else who breaks out of a chroot is on
    the host."""

    moves: bool = False
    manual = "chroot(2)"

    def apply(self, context: Context) -> None:
        import_no_more()
        if self.moves:
            mounts.attach_at(context.root, "/")
        os.fchdir(context.root)
        os.chroot(".")
        os.chdir("/")

    def shell(self) -> str:
        return 'cd "$ROOT"\nmount --move . /\nexec chroot .' if self.moves else "exec chroot $ROOT"

    def why(self) -> str:
        return "The container's root becomes /, by the weaker means of the two: it was asked for."


class PivotRoot(Operation):
    """Makes the attached root the root of the mount namespace; the host's tree is gone from it."""

    manual = "pivot_root(2)"

    def apply(self, context: Context) -> None:
        import_no_more()
        mounts.enter_root(context.root)

    def subject(self) -> str:
        return "/"

    def shell(self) -> str:
        return 'cd "$ROOT"\npivot_root . .\numount -l .'

    def why(self) -> str:
        return "The container's root becomes /, and nothing of the host's tree can be reached any more (unlike chroot)."


def _in_root(path: str) -> str:
    return '"$ROOT"' + _quote(path)


def _shell_mount(filesystem: str, source: str, target: str, options: list[str], more: str = "") -> str:
    """A new mount as lines of shell; `more`: an option in the shell's own words. Read-only is the mount, not the file
    system, which others may share."""
    flags = _quote(",".join(option for option in options if option != "ro"))
    words = ",".join(filter(None, [more, flags.replace("''", "")]))
    given = f" -o {words}" if words else ""
    line = f"mount -t {filesystem}{given} {_quote(source or filesystem)} {target}"
    return f"{line}\nmount -o remount,bind,ro {target}" if "ro" in options else line


_REASONS = {
    "/proc": "The processes of the new PID namespace; without a /proc of its own, ps would show the host's.",
    "/sys": "The kernel's devices, read-only; its network part shows the container's own interfaces.",
    "/dev": "An empty /dev in memory, to hold only the devices that the container may have.",
    "/dev/pts": "Terminals of its own, so that /dev/pts/0 inside is not one of the host's.",
    "/dev/shm": "POSIX shared memory of its own.",
    "/dev/mqueue": "POSIX message queues of its own.",
}


def _attach(mount: int, root: int, path: str, options: Options, *, directly: bool = False) -> None:
    if options.recursive and not options.propagate_all and options.propagation != MS_SHARED:
        _cut_off(mount, options)
    _set_attributes(mount, options)
    is_directory = stat.S_ISDIR(os.fstat(mount).st_mode)
    try:
        target = (make_directories if is_directory else make_file)(root, path)
    except NotADirectoryError:
        raise _unlike(path) from None
    except OSError as error:  # which names only the part of the path at which it failed
        raise KernelError(error.errno or 0, "mount", path) from None
    if directly:
        target = _without_links(root, path, target)
    try:
        mounts.attach(mount, target)
    except OSError:
        if is_directory == stat.S_ISDIR(os.fstat(target).st_mode):
            raise
        raise _unlike(path) from None
    finally:
        os.close(target)


def _without_links(root: int, path: str, found: int) -> int:
    """What was found at `path`, found again without a symbolic link on the way.

    A link of the image's can lead to where another mount covers it. What is to be hidden in /proc is then not found
    there, and whoever makes a mount namespace inside gets a /proc with nothing hidden (CVE-2023-27561).
    """
    os.close(found)
    try:
        return open_directly(root, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        raise KernelError(
            error.errno or 0, "mount", path, "it must be mounted on ordinary directory, not by a link"
        ) from None


def _unlike(path: str) -> KernelError:
    return KernelError(errno.ENOTDIR, "mount", path, "a directory is mounted on a directory, and a file on a file")


def _cut_off(mount: int, options: Options) -> None:
    """What is mounted below one of the host's came along as a peer of the host's own, and is none any more."""
    propagation = MS_SLAVE if options.propagation == MS_SLAVE else MS_PRIVATE
    mounts.set_attributes(mount, 0, propagation=propagation, recursive=True)


def _set_attributes(mount: int, options: Options, propagation: int = MS_PRIVATE) -> None:
    """`propagation`: what it is where the options do not say."""
    of_one, of_all = options.propagation or propagation, 0
    if options.propagate_all:
        of_one, of_all = of_all, of_one
    mounts.set_attributes(mount, options.set, options.clear, of_one)
    mounts.set_attributes(mount, options.recursive_set, options.recursive_clear, of_all, recursive=True)


def _on(root: int, path: str, change: Callable[[int], None]) -> None:
    """Calls `change` with an `O_PATH` descriptor of `path`, if that exists."""
    try:
        target = open_in_root(root, path, os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        change(target)
    finally:
        os.close(target)


def _nothing() -> int:
    """An empty directory that stays so, to cover another with."""
    return mounts.new_mount("tmpfs", "tmpfs", ["nr_blocks=1", "nr_inodes=1"], MOUNT_ATTR_RDONLY)


def _mask(null: int, target: int) -> None:
    is_directory = stat.S_ISDIR(os.fstat(target).st_mode)
    cover = _nothing() if is_directory else mounts.clone_tree("", directory=null)
    try:
        mounts.attach(cover, target)
    finally:
        os.close(cover)


def _make_readonly(target: int) -> None:
    copy = mounts.clone_tree("", directory=target, recursive=True)
    try:
        mounts.set_attributes(copy, MOUNT_ATTR_RDONLY)
        mounts.attach(copy, target)
    finally:
        os.close(copy)


def _checked_null(root: int) -> int:
    """A descriptor of /dev/null inside `root`, checked to be the null device (CVE-2025-31133)."""
    null = open_in_root(root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
    if is_null(null):
        return null
    os.close(null)
    raise PermissionError(1, "/dev/null inside the container is not the null device: nothing can be masked with it")


def unmount_all(target: str) -> None:
    """Unmounts everything that is stacked on `target`, though processes still use it."""
    try:
        while True:
            mounts.unmount(target, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (2, 22):  # ENOENT; EINVAL: nothing is mounted there
            raise


def _quote(word: str) -> str:
    from shlex import quote  # imports `re`; only a script needs it

    return quote(word)
