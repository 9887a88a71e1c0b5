"""Images on a disk that is full: what does not fit is refused in one sentence, and leaves nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import Engine
from tests.image.archives import docker_archive
from tests.image.trees import archive, member

SMALL = archive([member("small", b"small")])
LARGE = archive([member("some", b"some"), member("large", os.urandom(20_000_000))])


@pytest.fixture
def cramped(new_engine: Callable[[], Engine], busybox_tar: Path) -> Iterator[Engine]:
    """An engine with busybox whose state root is a file system of 30 MB."""
    engine = new_engine()
    engine("engine", "stop")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "cramped", engine.root], check=True)
    try:
        engine("import", busybox_tar, "busybox")
        yield engine
        if containers := engine("ps", "-aq").stdout.split():
            engine("rm", *containers)
        engine("engine", "stop")
    finally:
        subprocess.run(["umount", engine.root], check=True)


def free(engine: Engine) -> int:
    return os.statvfs(engine.root).f_bfree


def fill(engine: Engine) -> Path:
    """Leaves not one block free; returns the file that took them."""
    filler = engine.root / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(1 << 16))
    with open(filler, "ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(512))
    return filler


def images(engine: Engine) -> list[str]:
    return engine("images", "--format", "{{.Repository}}").stdout.split()


@pytest.mark.parametrize("how", ["load", "import", "commit"])
def test_what_does_not_fit_leaves_nothing(cramped: Engine, tmp_path: Path, how: str) -> None:
    if how == "load":
        docker_archive(tmp_path / "large.tar", [([SMALL, LARGE], ["large"])])
        command: tuple[str | Path, ...] = ("load", "-i", tmp_path / "large.tar")
    elif how == "import":
        (tmp_path / "large.tar").write_bytes(LARGE)
        command = ("import", tmp_path / "large.tar", "large")
    else:
        cramped("run", "--name", "box", "busybox", "sh", "-c", "head -c 10000000 /dev/urandom > /large")
        command = ("commit", "box", "large")
    before = free(cramped)
    done = cramped(*command, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cutaway: ") and done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr
    assert before - free(cramped) < 64  # blocks: the database may have grown
    assert images(cramped) == ["busybox", "host"]
    assert cramped("run", "--rm", "--network", "none", "busybox", "echo", "works").stdout == "works\n"


def test_not_one_block_is_left(cramped: Engine, tmp_path: Path) -> None:
    """Even then everything that adds says so, and what removes works."""
    docker_archive(tmp_path / "small.tar", [([SMALL], ["small"])])
    cramped("load", "-i", tmp_path / "small.tar")
    (tmp_path / "other.tar").write_bytes(archive([member("other", b"other")]))
    filler = fill(cramped)
    for command in (("import", tmp_path / "other.tar", "other"), ("load", "-i", tmp_path / "small.tar")):
        done = cramped(*command, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "No space left on device" in done.stderr or "disk is full" in done.stderr
    assert images(cramped) == ["small", "busybox", "host"] or images(cramped) == ["busybox", "small", "host"]
    assert cramped("rmi", "busybox").stdout.startswith("Untagged: busybox:latest\nDeleted: ")
    assert cramped("image", "prune", "-af").stdout.startswith("Deleted Images:\nuntagged: small:latest\n")
    assert images(cramped) == ["host"]
    filler.unlink()
    cramped("load", "-i", tmp_path / "small.tar")
    cramped("engine", "stop")
    assert images(cramped) == ["small", "host"]
