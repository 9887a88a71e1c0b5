"""Mounts by the new calls and the old: seen from a mount namespace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from cutaway.kernel import mounts, procfs
from cutaway.kernel.errors import KernelError
from cutaway.kernel.mounts import MOUNT_ATTR_RDONLY, MS_PRIVATE, Options
from cutaway.kernel.namespaces import CLONE_NEWNS, unshare
from cutaway.kernel.overlay import OPAQUE, is_whiteout, mount_overlay
from tests.children import in_child

T = TypeVar("T")


def alone(act: Callable[[], T]) -> T:
    """What `act` returns in a mount namespace that ends with it."""

    def inside() -> T:
        unshare(CLONE_NEWNS)
        root = os.open("/", os.O_PATH)
        mounts.set_attributes(root, 0, propagation=MS_PRIVATE, recursive=True)
        return act()

    return in_child(inside)


def mounted(path: Path) -> list[str]:
    return [mount.filesystem for mount in procfs.mounts() if mount.target == str(path)]


def test_a_new_file_system_is_nowhere_until_it_is_attached(tmp_path: Path) -> None:
    def act() -> tuple[list[str], list[str]]:
        made = mounts.new_mount("tmpfs", "tmpfs", ["size=1m", "mode=700"])
        before = mounted(tmp_path)
        mounts.attach_at(made, str(tmp_path))
        return before, mounted(tmp_path)

    assert alone(act) == ([], ["tmpfs"])


def test_what_a_file_system_refuses_is_said_in_its_words() -> None:
    with pytest.raises(OSError, match=r"tmpfs, sise=1m.*sise"):
        alone(lambda: mounts.new_mount("tmpfs", "tmpfs", ["sise=1m"]))
    with pytest.raises(KernelError, match=r"fsopen\(nosuchfs\): ENODEV"):
        mounts.new_mount("nosuchfs")


def test_a_copied_tree_can_be_read_only_where_the_original_is_not(tmp_path: Path) -> None:
    (tmp_path / "original").mkdir()
    (tmp_path / "copy").mkdir()

    def act() -> bool:
        copy = mounts.clone_tree(str(tmp_path / "original"))
        mounts.set_attributes(copy, MOUNT_ATTR_RDONLY)
        mounts.attach_at(copy, str(tmp_path / "copy"))
        (tmp_path / "original/file").touch()
        return (tmp_path / "copy/file").exists() and os.access(tmp_path / "copy/file", os.W_OK)

    assert alone(act) is False
    assert (tmp_path / "original/file").exists()


def test_an_overlay_keeps_changes_in_its_upper_directory(tmp_path: Path) -> None:
    for name in ("first", "second", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "first/a").write_text("first")
    (tmp_path / "second/a").write_text("second")
    (tmp_path / "second/b").write_text("second")
    (tmp_path / "second/dir").mkdir()
    paths = {name: str(tmp_path / name) for name in ("first", "second", "upper", "work", "merged")}

    def act() -> list[str]:
        mount_overlay(paths["merged"], [paths["first"], paths["second"]], paths["upper"], paths["work"])
        seen = [(tmp_path / "merged" / name).read_text() for name in ("a", "b")]
        (tmp_path / "merged/new").touch()
        (tmp_path / "merged/b").unlink()
        (tmp_path / "merged/dir").rmdir()
        (tmp_path / "merged/dir").mkdir()
        return seen

    assert alone(act) == ["first", "second"]
    assert (tmp_path / "upper/new").exists()
    assert is_whiteout((tmp_path / "upper/b").lstat())
    assert os.getxattr(tmp_path / "upper/dir", OPAQUE) == b"y"
    assert (tmp_path / "second/b").read_text() == "second"


def test_more_layers_than_a_page_of_options_holds(tmp_path: Path) -> None:
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 8):
        pytest.skip("the kernel takes lower directories in one page, before Linux 6.8")
    lowers = [tmp_path / f"layer-{number}-with-a-long-name-{'x' * 60}" for number in range(128)]
    for number, lower in enumerate(lowers):
        lower.mkdir()
        (lower / f"file-{number}").touch()
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()

    def act() -> int:
        mount_overlay(str(tmp_path / "merged"), list(map(str, lowers)), str(tmp_path / "upper"), str(tmp_path / "work"))
        return len(list((tmp_path / "merged").iterdir()))

    assert alone(act) == 128


def test_entering_a_root_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "here").touch()

    def act() -> tuple[list[str], bool]:
        root = mounts.clone_tree(str(tmp_path))
        mounts.attach_at(root, str(tmp_path))
        mounts.enter_root(root)
        return os.listdir("/"), os.path.exists("/proc/self")

    assert alone(act) == (["here"], False)


def test_options_are_taken_apart() -> None:
    taken = Options(["rbind", "ro", "nosuid", "rslave", "rro", "size=1m", "mode=755"])
    assert taken.bind and taken.recursive and taken.propagate_all
    assert taken.set == mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID
    assert taken.recursive_set == mounts.MOUNT_ATTR_RDONLY
    assert taken.propagation == mounts.MS_SLAVE
    assert taken.filesystem == ["size=1m", "mode=755"]
    last_wins = Options(["ro", "rw"])
    assert last_wins.set & mounts.MOUNT_ATTR_RDONLY == 0 and last_wins.clear & mounts.MOUNT_ATTR_RDONLY
