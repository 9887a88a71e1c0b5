"""Archives that want out of the directory they are unpacked in, and what must survive of honest ones."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutaway.image import trees
from cutaway.image.errors import BrokenArchive, ImageError
from cutaway.image.tarstream import Reader, Stream
from cutaway.image.unpack import Unpacker
from tests.image.trees import archive, directory, hard_link, link, member, seen

Member = tuple[tarfile.TarInfo, bytes]
Members = list[Member]
Unpack = Callable[..., Path]
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # `getcap`: cap_net_raw=ep


def xattr(name: str, value: bytes) -> dict[str, str]:
    """The PAX header by which archives carry an extended attribute."""
    return {"SCHILY.xattr." + name: value.decode(errors="surrogateescape")}


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """What no archive may touch, beside the directory it is unpacked in; looked at when the test is over.

    It is what hostile archives aim at, so that code which fails these tests does no harm.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    before = seen(tmp_path)
    yield outside
    assert {path: what for path, what in seen(tmp_path).items() if not path.startswith("root")} == before
    assert os.listxattr(outside) == []


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    """Unpacks members into the directory `root`, which it returns."""

    def unpack(*members: Member, layer: bool = True) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        descriptor = os.open(root, os.O_RDONLY)
        try:
            with Unpacker(descriptor, layer=layer) as unpacker:
                unpacker.unpack(Reader(Stream([archive(members)])))
        finally:
            os.close(descriptor)
        return root

    return unpack


LEADS_OUT: dict[str, Members] = {
    "dots": [member("../outside/new", b"evil")],
    "dots inside": [directory("a"), member("a/../../outside/new", b"evil")],
    "dots in a directory": [directory("../outside")],
    "dots in a link": [link("../outside/link", "x")],
    "dots in a whiteout": [member("../outside/.wh.secret")],
    "hard link by dots": [hard_link("x", "../outside/secret")],
    "hard link by an absolute name": [hard_link("x", "/etc/hostname")],
    "hard link through a link": [link("up", "../outside"), hard_link("x", "up/secret")],
    "hard link to the root": [hard_link("x", "/")],
    "file under a file": [member("a"), member("a/b")],
    "whiteout of nothing": [member(".wh.")],
    "whiteout of itself": [member("a/.wh..")],
    "whiteout of the parent": [member("a/.wh...")],
    "long name": [member("n" * 300)],
    "very long path": [member("/".join(["n" * 100] * 50))],
    "owner out of range": [member("a", pax_headers={"uid": str(2**32 - 1)})],
    "kind unknown": [member("a", kind=b"Z")],
    "NUL in a name": [member("a", pax_headers={"path": "a\0b"})],
    "NUL in a link": [member("a", kind=tarfile.SYMTYPE, linkname="x", pax_headers={"linkpath": "a\0b"})],
    "empty link": [link("a", "")],
}


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("name", LEADS_OUT)
def test_what_is_refused(name: str, unpack: Unpack) -> None:
    with pytest.raises(ImageError):
        unpack(*LEADS_OUT[name])


STAYS_INSIDE: dict[str, Callable[[str], Members]] = {
    "absolute name": lambda out: [member(f"{out}/evil", b"evil")],
    "many slashes": lambda out: [member(f"//{out}///evil", b"evil")],
    "through an absolute link": lambda out: [directory(out), link("x", out), member("x/evil", b"evil")],
    "over a file through an absolute link": lambda out: [directory(out), link("x", out), member("x/secret", b"evil")],
    "over an absolute link": lambda out: [link("x", f"{out}/secret"), member("x", b"evil")],
    "through a link to a link": lambda out: [
        directory(out),
        link("a", out),
        link("b", "/a"),
        member("b/evil", b"evil"),
    ],
    "directory replaced by an absolute link": lambda out: [
        *(directory(out), directory("x"), member("x/a"), link("x", out), member("x/evil", b"evil"))
    ],
    "through a climbing link": lambda _: [directory("outside"), link("x", "../outside"), member("x/evil", b"evil")],
    "through a high climbing link": lambda out: [
        *(directory(out), link("x", f"{'../' * 30}{out[1:]}"), member("x/evil", b"evil"))
    ],
    "over a climbing link": lambda _: [link("x", "../outside/secret"), member("x", b"evil")],
    "parents made through a link to nowhere": lambda out: [
        *(directory(out), link("x", f"{out}/new/er"), member("x/y/z", b"evil"))
    ],
    "parents made through a link": lambda _: [directory("outside"), link("x", "../outside"), member("x/y/z", b"evil")],
}


@pytest.mark.parametrize("name", STAYS_INSIDE)
def test_what_stays_inside(name: str, unpack: Unpack, outside: Path) -> None:
    root = unpack(*STAYS_INSIDE[name](str(outside)))
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert b"evil" in [path.read_bytes() for path in files]


def test_a_directory_that_became_a_link_gives_what_it_was_to_nobody(unpack: Unpack) -> None:
    root = unpack(directory("x", mode=0o700, uid=12), directory("d", uid=7), link("x", "d"))
    assert os.readlink(root / "x") == "d"
    assert (root / "d").stat().st_uid == 7


def test_a_whiteout_through_a_link_stays_inside(unpack: Unpack, outside: Path) -> None:
    inside = str(outside)
    root = unpack(directory(inside), link("x", inside), member("x/.wh.secret"), member("x/.wh..wh..opq"))
    assert (root / inside[1:] / "secret").is_char_device()
    assert os.getxattr(root / inside[1:], "trusted.overlay.opaque") == b"y"


def test_of_two_entries_the_later_counts(unpack: Unpack) -> None:
    root = unpack(
        member("a", b"one", mode=0o600),
        hard_link("same", "a"),
        member("a", b"two"),
        directory("d"),
        member("d/x"),
        directory("d", mode=0o711),
        member("e"),
        directory("e"),
        link("f", "a"),
        directory("f"),
        member("f/x"),
        directory("g"),
        member("g/h/i"),
        member("g", b"a file"),
    )
    assert ((root / "a").read_bytes(), (root / "same").read_bytes()) == (b"two", b"one")
    assert (root / "d/x").exists() and stat.S_IMODE((root / "d").stat().st_mode) == 0o711
    assert (root / "e").is_dir() and not (root / "f").is_symlink() and (root / "f/x").exists()
    assert (root / "g").read_bytes() == b"a file"


def test_owners_modes_and_times_survive(unpack: Unpack) -> None:
    root = unpack(
        directory(".", mode=0o711, mtime=1_000_000_000),
        directory("closed", mode=0, uid=1000, gid=100),
        member("closed/file", b"x", mode=0o6755, uid=3_000_000, gid=50),
        directory("group", mode=0o2777, gid=50),
        member("group/file", gid=7),
        directory("group/below"),
        member("old", mtime=-5),
        link("link", "old"),
    )
    closed, inside = (root / "closed").stat(), (root / "closed/file").stat()
    assert (stat.S_IMODE(closed.st_mode), closed.st_uid, closed.st_gid) == (0, 1000, 100)
    assert (stat.S_IMODE(inside.st_mode), inside.st_uid, inside.st_gid) == (0o6755, 3_000_000, 50)
    assert (root / "group/file").stat().st_gid == 7
    assert (stat.S_IMODE((root / "group/below").stat().st_mode), (root / "group/below").stat().st_gid) == (0o755, 0)
    assert stat.S_IMODE((root / "group").stat().st_mode) == 0o2777
    assert {path.lstat().st_mtime for path in root.rglob("*") if path.name != "old"} == {1_600_000_000}
    assert (root / "old").stat().st_mtime == 0
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_mtime) == (0o711, 1_000_000_000)


def test_nodes_survive(unpack: Unpack) -> None:
    root = unpack(
        member("char", kind=tarfile.CHRTYPE, devmajor=5, devminor=1, mode=0o620, gid=5),
        member("block", kind=tarfile.BLKTYPE, devmajor=259, devminor=300, mode=0o660),
        member("fifo", kind=tarfile.FIFOTYPE, mode=0o622, uid=9),
    )
    char, block, fifo = ((root / name).stat() for name in ("char", "block", "fifo"))
    assert (stat.filemode(char.st_mode), char.st_rdev, char.st_gid) == ("crw--w----", os.makedev(5, 1), 5)
    assert (stat.filemode(block.st_mode), block.st_rdev) == ("brw-rw----", os.makedev(259, 300))
    assert (stat.filemode(fifo.st_mode), fifo.st_uid) == ("prw--w--w-", 9)


def test_attributes_survive_and_cannot_steer_the_overlay(unpack: Unpack) -> None:
    root = unpack(
        member("ping", b"x", uid=5, mode=0o4755, pax_headers=xattr("security.capability", NET_RAW)),
        directory("d", pax_headers=xattr("user.note", b"\xff\0\xfe")),
        directory("r", pax_headers=xattr("trusted.overlay.redirect", b"/etc")),
        directory("o", pax_headers=xattr("trusted.overlay.opaque", b"y")),
        link("l", "ping", pax_headers=xattr("user.no", b"x")),
    )
    assert os.getxattr(root / "ping", "security.capability") == NET_RAW
    assert stat.S_IMODE((root / "ping").stat().st_mode) == 0o4755
    assert os.getxattr(root / "d", "user.note") == b"\xff\0\xfe"
    assert os.listxattr(root / "r") == ["trusted.overlay.overlay.redirect"]
    assert os.listxattr(root / "o") == ["trusted.overlay.overlay.opaque"]
    assert os.listxattr(root / "l", follow_symlinks=False) == []


def test_whiteouts_leave_alone_what_is_in_their_own_layer(unpack: Unpack) -> None:
    """OCI image-spec, `layer.md`: a whiteout means the layers below, wherever in the archive it stands."""
    root = unpack(
        directory("before"),
        member("before/x"),
        member(".wh.before"),
        member(".wh.after"),
        directory("after"),
        member("file", b"x"),
        member(".wh.file"),
        member(".wh.replaced"),
        member("replaced", b"x"),
        member(".wh.gone"),
        member(".wh..wh.plnk"),
        directory("opaque"),
        member("opaque/x"),
        member("opaque/.wh..wh..opq"),
    )
    assert {path.relative_to(root).as_posix() for path in root.rglob("*")} == {
        *("before", "before/x", "after", "file", "replaced", "gone", "opaque", "opaque/x")
    }
    assert all(os.getxattr(root / name, "trusted.overlay.opaque") == b"y" for name in ("before", "after", "opaque"))
    assert (root / "file").is_file() and (root / "replaced").is_file()
    assert (root / "gone").is_char_device() and (root / "gone").stat().st_rdev == 0


def test_whiteouts_are_files_where_no_layer_is_unpacked(unpack: Unpack) -> None:
    assert (unpack(member(".wh.file", b"x"), layer=False) / ".wh.file").read_bytes() == b"x"


def test_more_directories_than_descriptors_may_be_kept_open(unpack: Unpack) -> None:
    names = [f"d{number}" for number in range(600)]
    root = unpack(
        *[member(f"{name}/file", name.encode()) for name in names], *[hard_link(f"{n}/l", f"{n}/file") for n in names]
    )
    assert all((root / name / "l").read_text() == name for name in names)


def test_a_tree_deeper_than_any_path_can_be_removed(unpack: Unpack, tmp_path: Path) -> None:
    """Each link shortens the way to what the next entries make."""
    many, long = "d/" * 700, f"{'d' * 200}/" * 10
    root = unpack(
        member(f"{many}x"), link("a", many), member(f"a/{many}x"), link("b", f"a/{many}"), member(f"b/{long}x")
    )
    assert (root / "b").is_symlink()
    parent = os.open(tmp_path, os.O_RDONLY)
    trees.remove(parent, "root")
    trees.remove(parent, "not there")
    os.close(parent)
    assert list(tmp_path.iterdir()) == []


def test_removal_follows_no_link(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "root/below").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to(outside)
    (tmp_path / "root/below/link").symlink_to("../../outside/secret")
    parent = os.open(tmp_path, os.O_RDONLY)
    trees.remove(parent, "root")
    os.close(parent)
    assert not (tmp_path / "root").exists()


def test_errors_name_the_entry(unpack: Unpack) -> None:
    with pytest.raises(BrokenArchive, match=r"^\.\./x\\n leads out of the archive with '\.\.'$"):
        unpack(member("../x\n"))
    with pytest.raises(ImageError, match=r"^cannot unpack n{200}.*: File name too long$"):
        unpack(member("n" * 5000))
