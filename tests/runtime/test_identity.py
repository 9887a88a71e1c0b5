"""Who `--user` means is what the image says, but never more than a number; what root keeps is what Docker's keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutaway.kernel import capabilities
from cutaway.runtime.identity import DEFAULT_CAPABILITIES, IdentityError, capability_sets, identify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cutaway.runtime.identity import Identity

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
+::::::
# a comment:x:7:7::/:
nonsense
bad:x:zero:0::/bad:
huge:x:4294967295:0::/:
minus:x:-1:0::/:
arabic:x:٣:0::/:
1234:x:5:6::/named-like-a-number:
www:x:33:34::/var/www:/usr/sbin/nologin
homeless:x:40:41
nothing:x:50:51::/no\0thing:
again:x:33:99::/other:
"""
GROUP = "root:x:0:\nwheel:x:10:root,www\nwww:x:34:\nvideo:x:44:www,other\ntorn:x\nbad:x:x:www\nminus:x:-1:www\n"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    descriptor = os.open(tmp_path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def shown(identity: Identity) -> tuple[int, int, list[int], str]:
    return identity.uid, identity.gid, identity.additional_gids, identity.home


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, [0, 10], "/root")),
        ("root", (0, 0, [0, 10], "/root")),
        ("www", (33, 34, [34, 10, 44], "/var/www")),
        ("33", (33, 34, [34, 10, 44], "/var/www")),
        ("www:video", (33, 44, [44], "/var/www")),
        ("www:7", (33, 7, [7], "/var/www")),
        ("1000", (1000, 0, [0], "/")),
        ("1000:1001", (1000, 1001, [1001], "/")),
        ("1234", (1234, 0, [0], "/")),
        ("homeless", (40, 41, [41], "/")),
    ],
)
def test_users(root: int, user: str, expected: tuple[int, int, list[int], str]) -> None:
    assert shown(identify(root, user)) == expected


def test_added_groups(root: int) -> None:
    assert identify(root, "www:www", ["video", "77", "www"]).additional_gids == [34, 44, 77]


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("www:nobody", "unable to find group nobody: no matching entries in group file"),
        ("bad", "unable to find user bad"),
        ("huge", "unable to find user huge"),
        ("minus", "unable to find user minus"),
        ("arabic", "unable to find user arabic"),
        ("nothing", "unable to find user nothing"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("4294967295", "uids and gids must be in range 0-2147483647"),
        ("0:4294967295", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_users_there_are_not(root: int, user: str, complaint: str) -> None:
    with pytest.raises(IdentityError, match=complaint):
        identify(root, user)


def test_image_without_files(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        assert shown(identify(descriptor, "")) == (0, 0, [0], "/")
        with pytest.raises(IdentityError, match="unable to find user www"):
            identify(descriptor, "www")
    finally:
        os.close(descriptor)


def test_links_stay_inside_the_image(tmp_path: Path) -> None:
    """A link to the host's /etc/passwd means the image's."""
    (tmp_path / "outside").write_text("www:x:0:0::/:\n")
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/passwd").symlink_to(tmp_path / "outside")
    (image / "etc/group").symlink_to("../../../../../etc/group")
    descriptor = os.open(image, os.O_PATH)
    try:
        with pytest.raises(IdentityError, match="unable to find user www"):
            identify(descriptor, "www")
        with pytest.raises(IdentityError, match="unable to find group root"):
            identify(descriptor, "0:root")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "loop"])
def test_what_is_not_a_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    (tmp_path / "etc").mkdir()
    passwd = tmp_path / "etc/passwd"
    if kind == "pipe":
        os.mkfifo(passwd)
    elif kind == "directory":
        passwd.mkdir()
    elif kind == "device":
        os.mknod(passwd, 0o020666, os.makedev(1, 5))  # /dev/zero, which never ends
    else:
        passwd.symlink_to("passwd")
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        assert shown(identify(descriptor, "5")) == (5, 0, [0], "/")
    finally:
        os.close(descriptor)


def test_default_capabilities() -> None:
    sets = capability_sets()
    assert len(DEFAULT_CAPABILITIES) == 14
    assert set(sets["bounding"]) == set(DEFAULT_CAPABILITIES)
    assert sets["effective"] == sets["permitted"] == sets["bounding"]
    assert sets["inheritable"] == sets["ambient"] == []


def test_only_the_bounding_set_concerns_other_users() -> None:
    sets = capability_sets(uid=1000)
    assert set(sets["bounding"]) == set(DEFAULT_CAPABILITIES)
    assert sets["effective"] == sets["permitted"] == []


def test_adding_and_dropping() -> None:
    host = set(capabilities.names(capabilities.bounding()))
    assert capability_sets(["net_admin"])["bounding"] == capability_sets(["CAP_NET_ADMIN"])["bounding"]
    assert "CAP_NET_ADMIN" in capability_sets(["NET_ADMIN"])["bounding"]
    assert set(capability_sets(drop=["CHOWN"])["bounding"]) == {*DEFAULT_CAPABILITIES} - {"CAP_CHOWN"}
    assert capability_sets(drop=["all"])["bounding"] == []
    assert capability_sets(["KILL"], ["ALL"])["bounding"] == ["CAP_KILL"]
    assert set(capability_sets(["ALL"])["bounding"]) == host
    assert set(capability_sets(["ALL"], ["MKNOD"])["bounding"]) == host - {"CAP_MKNOD"}
    assert set(capability_sets(drop=["MKNOD"], privileged=True)["bounding"]) == host


def test_unknown_capabilities() -> None:
    with pytest.raises(IdentityError, match='invalid CapAdd: unknown capability: "CAP_FLY"'):
        capability_sets(["fly"])
    with pytest.raises(IdentityError, match='invalid CapDrop: unknown capability: "CAP_FLY"'):
        capability_sets(drop=["CAP_FLY"])


def test_a_container_gets_no_more_than_the_engine_has() -> None:
    lacking = set(capabilities.NAMES[: capabilities.last() + 1]) - set(capabilities.names(capabilities.bounding()))
    if not lacking:
        pytest.skip("this machine lacks no capability")
    name = lacking.pop()
    assert name not in capability_sets(privileged=True)["bounding"]
    with pytest.raises(IdentityError, match=f"{name} cannot be given: the engine does not have it itself"):
        capability_sets([name])
