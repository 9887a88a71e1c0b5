"""Paths inside a root stay inside it, whatever its links say."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutaway.kernel.errors import KernelError
from cutaway.kernel.openat2 import make_directories, make_file, open_in_root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("outside")
    descriptor = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def read(root: int, path: str) -> str:
    with open(open_in_root(root, path, os.O_RDONLY), encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("target", ["/secret", "../secret", "../../../../secret"])
def test_a_link_that_leads_out_ends_inside(root: int, tmp_path: Path, target: str) -> None:
    os.symlink(target, tmp_path / "root/link")
    with pytest.raises(FileNotFoundError):
        read(root, "/link")
    (tmp_path / "root/secret").write_text("inside")
    assert read(root, "/link") == "inside"


def test_dots_do_not_lead_out(root: int) -> None:
    with pytest.raises(FileNotFoundError):
        read(root, "../secret")


def test_a_magic_link_is_not_followed(root: int, tmp_path: Path) -> None:
    os.symlink(f"/proc/{os.getpid()}/root/{tmp_path}/secret", tmp_path / "root/link")
    with pytest.raises(FileNotFoundError):
        read(root, "/link")
    here = os.open("/", os.O_PATH)
    try:
        with pytest.raises(KernelError) as refused:
            open_in_root(here, f"/proc/{os.getpid()}/root/", os.O_PATH)
        assert refused.value.errno == errno.ELOOP
    finally:
        os.close(here)


def test_directories_are_made_where_links_lead(root: int, tmp_path: Path) -> None:
    os.symlink("/var/deep", tmp_path / "root/data")
    os.close(make_directories(root, "/data/x/y"))
    assert (tmp_path / "root/var/deep/x/y").is_dir()


def test_a_file_is_made_where_a_dangling_link_leads(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir()
    os.symlink("../../../run/resolv.conf", tmp_path / "root/etc/resolv.conf")
    os.close(make_file(root, "/etc/resolv.conf"))
    assert (tmp_path / "root/run/resolv.conf").is_file()
    assert not (tmp_path / "run").exists()


def test_what_is_there_already_is_kept(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/file").write_text("kept")
    os.close(make_file(root, "/file"))
    assert read(root, "/file") == "kept"


def test_links_in_a_circle_are_an_error_that_names_the_path(root: int, tmp_path: Path) -> None:
    os.symlink("b", tmp_path / "root/a")
    os.symlink("a", tmp_path / "root/b")
    with pytest.raises(KernelError, match=r"openat2\(/a\): ELOOP"):
        make_file(root, "/a")
