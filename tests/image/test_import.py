"""`import`: a root file system, however it comes, becomes an image of one layer."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import lzma
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from cutaway.image.errors import BrokenArchive, ImageError, InvalidChange, InvalidReference
from cutaway.image.images import Images
from tests.image.stores import import_file, kept
from tests.image.trees import archive, directory, link, member, seen

SKIPPABLE_FRAME = b"\x50\x2a\x4d\x18\x04\0\0\0mark"
TAR = archive([directory("d", mode=0o700), member("d/file", os.urandom(300_000)), link("link", "d/file")])
COMPRESSED = {
    "plain": TAR,
    "gzip": gzip.compress(TAR),
    "gzip in parts": gzip.compress(TAR[:1000]) + gzip.compress(TAR[1000:]) + bytes(512),
    "bzip2": bz2.compress(TAR),
    "bzip2 in parts": bz2.compress(TAR[:1000]) + bz2.compress(TAR[1000:]),
    "xz": lzma.compress(TAR),
    "zstd": zstandard.compress(TAR),
    "zstd in parts": SKIPPABLE_FRAME + zstandard.compress(TAR[:1000]) + zstandard.compress(TAR[1000:]),
}
DIFF_ID = "sha256:" + hashlib.sha256(TAR).hexdigest()


@pytest.mark.parametrize("compression", COMPRESSED)
def test_any_compression_makes_the_same_layer(compression: str, images: Images, tmp_path: Path, root: Path) -> None:
    (tmp_path / "x.tar").write_bytes(COMPRESSED[compression])
    image = import_file(images, tmp_path / "x.tar")
    assert image.config.diff_ids == [DIFF_ID]
    (layer,) = image.lower_dirs
    assert Path(layer, "link").read_bytes() == Path(layer, "d/file").read_bytes()
    stored = hashlib.sha256(next(root.glob("blobs/sha256/*")).read_bytes()).hexdigest()
    assert kept(root) == [f"layers/{DIFF_ID[7:]}", f"sha256/{stored}"]


def test_an_archive_from_a_pipe(images: Images, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(COMPRESSED["gzip"])
    with subprocess.Popen(["cat", tmp_path / "x.tar"], stdout=subprocess.PIPE) as source:
        assert source.stdout
        image = asyncio.run(images.import_(source.stdout.fileno(), "piped"))
    assert images.resolve("piped") == image
    assert image.config.diff_ids == [DIFF_ID]


def test_a_directory(images: Images, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "deep/file").write_bytes(os.urandom(2_500_000))
    os.link(tree / "deep/file", tree / "same")
    (tree / "deep/er/link").symlink_to("/nowhere")
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.setxattr(tree / "deep", "user.note", b"x")
    os.chown(tree / "deep/er", 1000, 50)
    expected = seen(tree)
    with socket.socket(socket.AF_UNIX) as listener:  # no archive can hold a socket
        listener.bind(str(tree / "socket"))
    os.utime(tree, ns=(0, 0))
    image = import_file(images, tree)
    assert seen(Path(image.lower_dirs[0])) == expected


def test_what_the_image_says(images: Images, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(TAR)
    changes = ['CMD ["sh"]', "ENV A=1", "EXPOSE 80", "WORKDIR /d", "LABEL a=b", "USER 5", "VOLUME /v", "STOPSIGNAL 3"]
    import_file(images, tmp_path / "x.tar", "app:v1", changes=changes, message="made by hand")
    told = images.inspect("app:v1")
    assert told["RepoTags"] == ["app:v1"]
    assert (told["Os"], told["Comment"], told["Size"]) == ("linux", "made by hand", 300_000 + len("d/file"))
    assert told["RootFS"] == {"Type": "layers", "Layers": [DIFF_ID]}
    expected = {
        **{"Cmd": ["sh"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}, "WorkingDir": "/d", "Labels": {"a": "b"}},
        **{"User": "5", "Volumes": {"/v": {}}, "StopSignal": "3", "Entrypoint": None, "Tty": False},
    }
    assert told["Config"].items() >= expected.items()


BROKEN = {
    "nothing": (b"", "holds no files"),
    "no archive": (b"<html>not found</html>" * 100, "not a tar archive"),
    "cut": (TAR[:200_000], "ends in the middle of a file"),
    "cut gzip": (COMPRESSED["gzip"][:-10], "the gzip stream ends early"),
    "cut zstd": (COMPRESSED["zstd"][:-10], "the zstd stream ends early"),
    "cut xz": (COMPRESSED["xz"][:-10], "the xz stream ends early"),
    "damaged gzip": (COMPRESSED["gzip"][:-8] + bytes(8), "the gzip stream is damaged"),
    "damaged bzip2": (COMPRESSED["bzip2"][:4] + bytes(6) + COMPRESSED["bzip2"][10:], "bzip2 stream is damaged"),
    "hostile at the end": (archive([member("big", bytes(5_000_000)), member("../x")]), "leads out of the archive"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_leaves_nothing(name: str, images: Images, tmp_path: Path, root: Path) -> None:
    content, reason = BROKEN[name]
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(BrokenArchive, match=reason):
        import_file(images, tmp_path / "x.tar", "app")
    assert kept(root) == []
    assert images.listing() == []


def test_a_wrong_request_is_refused_before_anything_is_read(images: Images) -> None:
    with pytest.raises(InvalidChange):
        asyncio.run(images.import_(-1, "app", ["RUN make"]))
    with pytest.raises(InvalidReference):
        asyncio.run(images.import_(-1, "App"))
    with pytest.raises(InvalidReference, match="belongs to the machine"):
        asyncio.run(images.import_(-1, "host"))


@pytest.mark.parametrize("compressor", ["gzip", "zstd", "xz"])
def test_a_bomb_is_never_held_in_memory(compressor: str, images: Images, tmp_path: Path) -> None:
    """A few kilobytes that become 256 MiB, with 200 MiB of memory for whoever unpacks them."""
    if not shutil.which(compressor):
        pytest.skip(f"{compressor} is not installed")
    with open(tmp_path / "zeros", "wb") as zeros:
        zeros.truncate(256 << 20)
    subprocess.run(f"tar -C {tmp_path} -c zeros | {compressor} -1 > {tmp_path}/bomb", shell=True, check=True)
    with memory_limited(200 << 20):
        image = import_file(images, tmp_path / "bomb")
    assert image.size == 256 << 20


@contextmanager
def memory_limited(size: int) -> Iterator[None]:
    """Gives this process, and those it starts, so many bytes of memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)


def test_a_full_disk(small_disk: Path, database: sqlite3.Connection, tmp_path: Path) -> None:
    images = Images(str(small_disk / "images"), database)
    (tmp_path / "small.tar").write_bytes(TAR)
    (tmp_path / "large.tar").write_bytes(archive([member("x", os.urandom(6_000_000))]))
    kept_before = import_file(images, tmp_path / "small.tar", "small")
    free = os.statvfs(small_disk).f_bfree
    with pytest.raises(ImageError, match="No space left on device"):
        import_file(images, tmp_path / "large.tar", "large")
    assert os.statvfs(small_disk).f_bfree == free
    assert images.resolve("small") == kept_before
    assert [image.id for image in images.listing()] == [kept_before.id]
