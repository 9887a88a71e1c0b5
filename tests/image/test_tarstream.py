"""Tar archives as others write them, and as nobody should."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.image.errors import BrokenArchive
from cutaway.image.tarstream import BLOCK, SPECIAL_LARGEST, Entry, Reader, Stream
from cutaway.image.tarwriter import END, header, padding
from cutaway.image.unpack import Unpacker
from tests.image.trees import archive, member, seen

SPARSE = ["--format=gnu -S", "--format=pax -S --sparse-version=0.0", "--format=pax -S --sparse-version=0.1"]


def chunked(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def unpack(content: bytes, target: Path, size: int = 1 << 20) -> None:
    target.mkdir()
    root = os.open(target, os.O_RDONLY)
    try:
        with Unpacker(root) as unpacker:
            unpacker.unpack(Reader(Stream(chunked(content, size))))
    finally:
        os.close(root)


def tarred(tree: Path, options: str) -> bytes:
    return subprocess.run(
        ["tar", *options.split(), "-C", tree, "-cf", "-", "."], check=True, capture_output=True
    ).stdout


def entries(content: bytes) -> list[Entry]:
    return list(Reader(Stream([content])))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with one of everything that all formats can say."""
    top = tmp_path / "tree"
    (top / "a/b").mkdir(parents=True)
    (top / "a/file").write_bytes(os.urandom(100_000))
    (top / "a/empty").touch()
    (top / "a/b/link").symlink_to("../file")
    os.link(top / "a/file", top / "a/b/same")
    os.mkfifo(top / "a/fifo", 0o600)
    os.mknod(top / "a/null", 0o666 | 0o020000, os.makedev(1, 3))
    (top / "a/setuid").write_text("x")
    os.chown(top / "a/setuid", 1000, 50)
    os.chmod(top / "a/setuid", 0o6755)
    os.chmod(top / "a/b", 0o1777)
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, (1_500_000_000 + number,) * 2, follow_symlinks=False)
    os.utime(top, (1_400_000_000,) * 2)
    return top


@pytest.mark.parametrize("format", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_formats(tree: Path, tmp_path: Path, format: str, size: int) -> None:
    if format in ("v7",):
        (tree / "a/null").unlink()
        (tree / "a/fifo").unlink()
        os.utime(tree / "a", (1_500_000_000,) * 2)
    unpack(tarred(tree, f"--format={format}"), tmp_path / "unpacked", size)
    assert seen(tmp_path / "unpacked") == seen(tree)


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_what_does_not_fit_into_an_old_header(tmp_path: Path, format: str) -> None:
    tree = tmp_path / "tree"
    deep = tree / ("d" * 200) / ("e" * 100)
    deep.mkdir(parents=True)
    (deep / "ünï\udcff").write_text("x")  # a name that is no UTF-8
    (deep / "link").symlink_to("t" * 150 + "/" + "t" * 150)
    os.chown(deep / "link", 3_000_000, 4_000_000, follow_symlinks=False)
    times = "--mtime=@2000000000.123456789" if format == "posix" else "--mtime=@2000000000"
    unpack(tarred(tree, f"--format={format} {times}"), tmp_path / "unpacked")
    assert seen(tmp_path / "unpacked", times=False) == seen(tree, times=False)
    expected = 2_000_000_000_123_456_789 if format == "posix" else 2_000_000_000_000_000_000
    assert all(path.lstat().st_mtime_ns == expected for path in (tmp_path / "unpacked").rglob("*"))


@pytest.mark.parametrize("options", [*SPARSE, "--format=pax -S --sparse-version=1.0"])
def test_sparse_files(tmp_path: Path, options: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        for at in range(0, 1 << 26, 1 << 20):
            file.seek(at)
            file.write(os.urandom(5000))
        file.truncate(1 << 26)
    (tree / "after").write_text("what follows")
    unpack(tarred(tree, options), tmp_path / "unpacked")
    written = tmp_path / "unpacked/sparse"
    assert subprocess.run(["cmp", tree / "sparse", written]).returncode == 0
    assert written.stat().st_blocks * 512 < 1 << 22
    assert (tmp_path / "unpacked/after").read_text() == "what follows"


def test_global_records_hold_until_overruled(tmp_path: Path) -> None:
    path = tmp_path / "global.tar"
    with tarfile.open(
        path, "w", format=tarfile.PAX_FORMAT, pax_headers={"mtime": "1000000000.5", "comment": "x"}
    ) as tar:
        tar.addfile(tarfile.TarInfo("first"))
        second = tarfile.TarInfo("second")
        second.pax_headers = {"mtime": "7"}
        tar.addfile(second)
    assert [entry.mtime for entry in entries(path.read_bytes())] == [1_000_000_000_500_000_000, 7_000_000_000]


def test_what_is_written_is_read_again_and_by_gnu_tar(tmp_path: Path) -> None:
    entry = Entry(b"n" * 300)
    entry.mode, entry.uid, entry.gid, entry.size = 0o4755, 5_000_000, 7, 3
    entry.mtime, entry.xattrs = 1_700_000_000_000_000_001, {b"user.binary": bytes(range(256))}
    content = header(entry) + b"abc" + padding(3) + END
    (again,) = entries(content)
    assert all(getattr(again, name) == getattr(entry, name) for name in Entry.__slots__)
    (tmp_path / "x.tar").write_bytes(content)
    listed = subprocess.run(["tar", "-tvf", tmp_path / "x.tar"], check=True, capture_output=True, text=True)
    assert listed.stdout.startswith("-rwsr-xr-x 5000000/7")
    assert listed.stderr == ""


GOOD = archive([member("file", b"x" * 700)])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"not a tar archive" * 100, "not a tar archive"),
        (b"\x7fELF" + bytes(5000), "not a tar archive"),
        (GOOD[:300], "in the middle of a header"),
        (GOOD[:900], "in the middle of a file"),
        (GOOD[:124] + b"-0000000001" + GOOD[135:], "checksum"),
        (archive([member("x", pax_headers={"size": "-1"})]), "is no number"),
        (archive([member("x", pax_headers={"size": "9" * 30})]), "is no number"),
        (archive([member("x", pax_headers={"size": "9" * 19})]), "impossible size"),
        (archive([member("x", pax_headers={"mtime": "soon"})]), "is no number"),
        (archive([member("x", pax_headers={"comment": "x" * SPECIAL_LARGEST})]), "are not accepted"),
        (archive([member("x", b"8 a=b", kind=b"x")]), "PAX header"),
        (archive([member("x", b"999 a=b\n", kind=b"x")])[:BLOCK] + b"5 a=b" + bytes(507), "PAX header"),
        (archive([member("x", b"name", kind=b"L")]), "does not follow"),
        (archive([member("x", b"abc", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"})]), "does not fit"),
        (archive([member("x", b"abc", pax_headers={"GNU.sparse.map": "7,3", "GNU.sparse.size": "9"})]), "does not fit"),
        (archive([member("x", b"abc", pax_headers={"GNU.sparse.map": "0", "GNU.sparse.size": "9"})]), "does not fit"),
        (archive([member("x", b"9999\n", pax_headers={"GNU.sparse.major": "1"})]), "does not fit"),
    ],
)
def test_what_is_refused(broken: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenArchive, match=reason):
        unpack(broken, tmp_path / "unpacked")
