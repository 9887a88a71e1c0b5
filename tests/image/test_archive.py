"""Files out of a tree and into it as tar streams, without ever leaving its root."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutaway.image import archive as archives
from cutaway.image.errors import ImageError
from cutaway.image.images import Images
from tests.image.trees import archive, directory, hard_link, link, member, seen


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's root, beside which is a secret."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "d/below").mkdir(parents=True)
    (root / "d/file").write_bytes(os.urandom(1_500_000))
    os.link(root / "d/file", root / "d/below/same")
    (root / "d/link").symlink_to("../../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to("..")
    (root / "inside").symlink_to("/d/below")
    os.mkfifo(root / "d/fifo")
    os.mknod(root / "d/null", 0o020666, os.makedev(1, 3))
    os.setxattr(root / "d/file", "user.note", b"\0\xff")
    os.chown(root / "d/below", 7, 8)
    os.chmod(root / "d/below", 0o2750)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    return root


def pack(root: Path, path: str, name: str) -> bytes:
    with opened(root) as descriptor:
        return b"".join(archives.packed(descriptor, path, name))


def unpack(root: Path, path: str, content: bytes, **options: object) -> None:
    with opened(root) as descriptor:
        archives.unpack(descriptor, path, [content], **options)  # type: ignore[arg-type]


def test_there_and_back(root: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    unpack(tmp_path / "copy", "/", pack(root, "/d", "renamed"))
    assert seen(tmp_path / "copy/renamed") == seen(root / "d")
    assert (tmp_path / "copy/renamed").stat().st_mtime_ns == 1_234_567_890_123_456_789


def test_gnu_tar_reads_it(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(pack(root, "d", "d"))
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "gnu", "--xattrs", "-xpf", tmp_path / "x.tar"], check=True)
    assert seen(tmp_path / "gnu/d") == seen(root / "d")


def test_the_same_tree_makes_the_same_bytes(root: Path) -> None:
    assert pack(root, "/", ".") == pack(root, "", ".") == pack(root, "../d/..", ".")


def test_single_files_and_links(root: Path, tmp_path: Path) -> None:
    for number, (path, is_link) in enumerate({"d/file": False, "inside/same": False, "absolute": True}.items()):
        copy = tmp_path / str(number)
        copy.mkdir()
        unpack(copy, "/", pack(root, path, "x"))
        assert (copy / "x").is_symlink() == is_link
        if not is_link:
            assert (copy / "x").read_bytes() == (root / "d/file").read_bytes()


@pytest.mark.parametrize("path", ["up/secret", "../secret", "d/../../secret", "up/../secret", "nothing", "d/file/x"])
def test_what_is_not_inside_is_not_there(path: str, root: Path) -> None:
    with pytest.raises(OSError, match=r"ENOENT|ENOTDIR"):
        pack(root, path, "x")
    with opened(root) as descriptor, pytest.raises(OSError, match=r"ENOENT|ENOTDIR"):
        archives.status(descriptor, path)


def test_status(root: Path) -> None:
    with opened(root) as descriptor:
        file, folder, target, top = (archives.status(descriptor, path) for path in ("d/file", "/d/", "inside", "/"))
    assert (file.name, file.size, stat.S_ISREG(file.mode)) == ("file", 1_500_000, True)
    assert (folder.name, stat.S_ISDIR(folder.mode), folder.mtime) == ("d", True, 1_234_567_890_123_456_789)
    assert (target.name, stat.S_ISLNK(target.mode), target.target) == ("inside", True, "/d/below")
    assert (top.name, stat.S_ISDIR(top.mode)) == ("/", True)


def test_pipes_devices_and_sockets_are_never_opened(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "d/socket"))
        content = pack(root, "d", "d")  # would wait for ever on the pipe
    assert b"socket" not in content


def test_a_file_that_changes_while_it_is_read(root: Path) -> None:
    """The header has promised a size: a shorter file is filled up, of a longer one the rest is left."""
    for size in (10, 3_000_000):
        with opened(root) as descriptor:
            packing = archives.packed(descriptor, "d/file", "x")
            start = next(packing)
            os.truncate(root / "d/file", size)
            content = start + b"".join(packing)
        (root / "copy").mkdir(exist_ok=True)
        unpack(root, "copy", content)
        assert (root / "copy/x").stat().st_size == (1_500_000 if size == 10 else 10)


def test_unpacking_through_the_containers_own_links(root: Path) -> None:
    """What is in the way leads where it leads for the container: never out of its root."""
    unpack(root, "/inside", archive([member("new", b"x")]))
    assert (root / "d/below/new").read_bytes() == b"x"
    unpack(root, "/", archive([member("up/etc-of-the-container/x", b"x"), member("absolute", b"a file now")]))
    assert (root / "etc-of-the-container/x").read_bytes() == b"x"
    assert (root / "absolute").read_bytes() == b"a file now"
    assert sorted(path.name for path in root.parent.iterdir()) == ["root", "secret"]
    assert (root.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    "members",
    [
        [member("../x")],
        [hard_link("x", "../secret")],
        [hard_link("x", "up/secret")],
        [link("l", ".."), hard_link("x", "l/secret")],
    ],
)
def test_hostile_streams(members: list[object], root: Path) -> None:
    with pytest.raises(ImageError):
        unpack(root, "d", archive(members))  # type: ignore[arg-type]
    assert (root.parent / "secret").stat().st_nlink == 1
    assert sorted(path.name for path in root.parent.iterdir()) == ["root", "secret"]


def test_hard_links_count_from_the_directory(root: Path) -> None:
    unpack(root, "d", archive([member("new", b"x"), hard_link("other", "new")]))
    assert (root / "d/new").samefile(root / "d/other")


def test_owner_and_kind(root: Path) -> None:
    unpack(root, "/d", archive([directory("mine"), member("mine/x", uid=5)]), owner=(1000, 50))
    assert {((root / "d" / path).stat().st_uid, (root / "d" / path).stat().st_gid) for path in ("mine", "mine/x")} == {
        (1000, 50)
    }
    with pytest.raises(ImageError, match="cannot overwrite directory d/mine with non-directory"):
        unpack(root, "/d", archive([member("mine")]), keep_kind=True)
    with pytest.raises(ImageError, match="cannot overwrite non-directory d/file with directory"):
        unpack(root, "/d", archive([directory("file")]), keep_kind=True)
    with pytest.raises(OSError, match="ENOTDIR"):
        unpack(root, "/d/file", archive([member("x")]))


def test_an_existing_directory_keeps_what_it_holds(root: Path) -> None:
    unpack(root, "/", archive([directory("d", mode=0o700), member("d/file", b"new")]))
    assert (root / "d/below/same").exists()
    assert ((root / "d/file").read_bytes(), stat.S_IMODE((root / "d").stat().st_mode)) == (b"new", 0o700)


def test_beside_the_engine(root: Path, images: Images, tmp_path: Path) -> None:
    async def copied() -> None:
        with opened(root) as source, opened(tmp_path / "copy") as target:
            read_end, write_end = os.pipe()
            packing = asyncio.create_task(images.pack(source, "/d", "d", write_end))
            unpacking = asyncio.create_task(images.unpack(target, "/", read_end))
            await packing
            os.close(write_end)
            await unpacking
            os.close(read_end)
            with pytest.raises(ImageError, match="nothing"):
                await images.pack(source, "/nothing", "d", source)

    (tmp_path / "copy").mkdir()
    asyncio.run(copied())
    assert seen(tmp_path / "copy/d") == seen(root / "d")
