"""Who a container's program is: the user and groups that `--user` names, and which of root's powers it has.

Names are looked up in the *image's* `/etc/passwd` and `/etc/group`. The image wrote them: they are opened inside its
root, whatever links lead out of it, read up to a bound, and lines that are none are passed over.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from cutaway.kernel import capabilities
from cutaway.kernel.openat2 import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN",  # package managers and installers give files to others
    "CAP_DAC_OVERRIDE",  # root reads and writes what belongs to other users of the container
    "CAP_FSETID",  # keeps setuid and setgid bits while files are changed
    "CAP_FOWNER",  # chmod and the like of other users' files
    "CAP_MKNOD",  # device nodes; the device cgroup decides whether they can be opened
    "CAP_NET_RAW",  # ping
    "CAP_SETGID",  # servers start as root and become another user,
    "CAP_SETUID",  # as do su and login
    "CAP_SETFCAP",  # packages with file capabilities can be installed
    "CAP_SETPCAP",  # giving up capabilities of one's own
    "CAP_NET_BIND_SERVICE",  # ports below 1024
    "CAP_SYS_CHROOT",  # sshd, postfix and others lock themselves in
    "CAP_KILL",  # root ends other users' processes
    "CAP_AUDIT_WRITE",  # sshd and su write to the audit log
)
"""What root in a container keeps: Docker's fourteen, each harmless to the host and needed by common programs."""

MAXIMUM_ID = (1 << 31) - 1
"""Docker's bound. The kernel's is higher, but to it 4294967295 means "leave it as it is": root would stay root."""
_LONGEST_FILE = 16 << 20


class IdentityError(ValueError):
    """A user, group or capability that there is not; its text is for the user, in Docker's words."""


class Identity:
    """`uid`, `gid`, `additional_gids`: what `SetUser` sets. `home`: the user's directory, for HOME."""

    __slots__ = ("additional_gids", "gid", "home", "uid")

    def __init__(self, uid: int, gid: int, additional_gids: list[int], home: str) -> None:
        self.uid, self.gid, self.additional_gids, self.home = uid, gid, additional_gids, home


def identify(root: int, user: str, group_add: Iterable[str] = ()) -> Identity:
    """Who `user` (`name`, `uid`, `name:group`, `uid:gid`; empty: root) is in the image.

    `root`: a descriptor of the container's root directory. `group_add`: more groups, by name or number. As in Docker
    the groups that the image puts the user in count only where `user` names no group. Raises `IdentityError`.
    """
    wanted, _, group = user.partition(":")
    name, uid, gid, home = _find_user(root, wanted or "0")
    groups = list(_groups(root))
    if group:
        gid = _find_group(groups, group)
    member_of = [] if group or not name else [number for _, number, members in groups if name in members]
    added = [_find_group(groups, each) for each in group_add]
    # The user's own group is among the additional ones, or a program could leave it and lose what it forbids
    # (CVE-2022-36109).
    return Identity(uid, gid, list(dict.fromkeys([gid, *member_of, *added])), home)


def home(root: int, uid: int) -> str:
    """The home of a user; `/` of one that the image does not know."""
    try:
        return _find_user(root, str(uid))[3]
    except (IdentityError, OSError):
        return "/"


def _find_user(root: int, wanted: str) -> tuple[str, int, int, str]:
    """Name, uid, gid and home. A number need not be in the file; then it has no name, root's group, and `/`."""
    number = _number(wanted)
    for name, uid, gid, home in _users(root):
        if uid == number or (number is None and name == wanted):
            return name, uid, gid, home
    if number is None:
        raise IdentityError(f"unable to find user {wanted}: no matching entries in passwd file")
    return "", _in_range(number), 0, "/"


def _find_group(groups: list[tuple[str, int, list[str]]], wanted: str) -> int:
    number = _number(wanted)
    if number is not None:
        return _in_range(number)
    for name, gid, _ in groups:
        if name == wanted:
            return gid
    raise IdentityError(f"unable to find group {wanted}: no matching entries in group file")


def _users(root: int) -> Iterator[tuple[str, int, int, str]]:
    """`passwd(5)`: name, uid, gid and home of each entry that has proper ones."""
    for fields in _lines(root, "/etc/passwd"):
        name, _, uid, gid, _, home, *_ = [*fields, "", "", "", "", ""]
        if _is_id(uid) and _is_id(gid):
            yield name, int(uid), int(gid), home or "/"


def _groups(root: int) -> Iterator[tuple[str, int, list[str]]]:
    """`group(5)`: name, gid and members of each entry that has a proper number."""
    for fields in _lines(root, "/etc/group"):
        name, _, gid, members, *_ = [*fields, "", ""]
        if _is_id(gid):
            yield name, int(gid), members.split(",")


def _number(text: str) -> int | None:
    """A number as it can stand for an id; None where it is a name. (`isdigit` alone takes digits of other scripts.)"""
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 20 else None


def _is_id(text: str) -> bool:
    number = _number(text)
    return number is not None and 0 <= number <= MAXIMUM_ID


def _in_range(number: int) -> int:
    if 0 <= number <= MAXIMUM_ID:
        return number
    raise IdentityError(f"uids and gids must be in range 0-{MAXIMUM_ID}")


def _lines(root: int, path: str) -> Iterator[list[str]]:
    """The fields of each line; none where the image has no such file, or something else in its place."""
    for line in _read(root, path).split(b"\n"):
        fields = os.fsdecode(line.strip()).split(":")
        if len(fields) > 1 and not fields[0].startswith("#") and b"\0" not in line:
            yield fields


def _read(root: int, path: str) -> bytes:
    """A regular file inside `root`. It is looked at before it is opened: opening a device can do harm, a pipe waits."""
    try:
        found = open_in_root(root, path, os.O_PATH)
    except OSError:
        return b""
    try:
        if not S_ISREG(os.fstat(found).st_mode):
            return b""
        with open(f"/proc/self/fd/{found}", "rb") as file:
            return file.read(_LONGEST_FILE)
    finally:
        os.close(found)


def capability_sets(
    add: Iterable[str] = (), drop: Iterable[str] = (), *, privileged: bool = False, uid: int = 0
) -> dict[str, list[str]]:
    """The sets of `DropCapabilities` for `--cap-add`, `--cap-drop` (names with or without `CAP_`, or `ALL`) and
    `--privileged`. A container gets at most what this process has. Raises `IdentityError`.

    Only the bounding set concerns a user who is not root: he gets capabilities from files alone, as in Docker. Nothing
    is inheritable (CVE-2022-24769).
    """
    kept = capabilities.names(_all() if privileged else _chosen(_normal(add, "CapAdd"), _normal(drop, "CapDrop")))
    held = kept if uid == 0 else []
    return {"bounding": kept, "effective": held, "permitted": held, "inheritable": [], "ambient": []}


_held: list[int] = []


def _all() -> int:
    """What this process has; asked once, as it takes the kernel 41 answers."""
    if not _held:
        _held.append(capabilities.bounding() & capabilities.capget()[1])
    return _held[0]


def _chosen(add: set[str], drop: set[str]) -> int:
    if "ALL" in add:
        return _all() & ~capabilities.mask(drop - {"ALL"})
    missing = capabilities.names(capabilities.mask(add) & ~_all())
    if missing:
        raise IdentityError(f"invalid CapAdd: {', '.join(missing)} cannot be given: the engine does not have it itself")
    basis = set() if "ALL" in drop else {*DEFAULT_CAPABILITIES} - drop
    return capabilities.mask(basis | add) & _all()


def _normal(names: Iterable[str], option: str) -> set[str]:
    normal = {name.upper() if name.upper() == "ALL" else "CAP_" + name.upper().removeprefix("CAP_") for name in names}
    for name in sorted(normal - {"ALL", *capabilities.NAMES}):
        raise IdentityError(f'invalid {option}: unknown capability: "{name}"')
    return normal
