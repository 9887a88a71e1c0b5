"""`save`: one archive that is Docker's and an OCI layout, the same bytes from the same images, whoever has them."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cutaway.image.errors import ImageConflict, ImageError, NoSuchImage
from cutaway.image.images import Images
from tests.image.archives import COMPRESSIONS, Layout
from tests.image.features import LAYERS, NAME, everything
from tests.image.stores import import_file, load_file, new_store, save_file
from tests.image.trees import archive, member


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        files = [entry for entry in tar if entry.isfile()]
        return {entry.name: (tar.extractfile(entry) or pytest.fail(entry.name)).read() for entry in files}


def listed(path: Path, name: str) -> Any:
    return json.loads(members(path)[name])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_another_store_gets_the_same_image_and_saves_the_same_bytes(
    compression: str, images: Images, tmp_path: Path
) -> None:
    identifier, made = everything(tmp_path / "made", compression)
    load_file(images, made)
    first = save_file(images, tmp_path / "first.tar", NAME)
    assert first.read_bytes() == save_file(images, tmp_path / "again.tar", NAME).read_bytes()
    with new_store(tmp_path / "other") as other:
        (loaded,) = load_file(other, first)
        assert (loaded.id, loaded.tags) == (identifier, [NAME])
        assert first.read_bytes() == save_file(other, tmp_path / "second.tar", NAME).read_bytes()


def test_blobs_stay_as_they_came_but_zstd_is_inflated(images: Images, tmp_path: Path) -> None:
    for compression in COMPRESSIONS:
        layers = [archive([member(compression, os.urandom(1000).hex().encode())])]
        layout = Layout(layers, compression, f"{compression}:v1").write(tmp_path / compression)
        load_file(images, layout)
        saved = members(save_file(images, tmp_path / f"{compression}.tar", compression))
        blobs = {path.name for path in (layout / "blobs/sha256").iterdir()}
        kept = {name.rpartition("/")[2] for name in saved if name.startswith("blobs")}
        if compression == "zstd":
            assert layers[0] in saved.values()
        else:
            assert len(blobs & kept) >= 2  # the configuration and the layer


def test_the_manifest_an_image_came_with_is_saved_and_kept_by_whoever_loads_it(images: Images, tmp_path: Path) -> None:
    layout = Layout(LAYERS, tag=NAME)
    layout.annotations |= {"made": "elsewhere"}
    directory = layout.write(tmp_path / "layout")
    manifest = json.loads((directory / "index.json").read_text())["manifests"][0]["digest"]
    load_file(images, directory)
    saved = save_file(images, tmp_path / "saved.tar", NAME)
    assert listed(saved, "index.json")["manifests"][0]["digest"] == manifest
    with new_store(tmp_path / "other") as other:
        load_file(other, saved)
        again = save_file(other, tmp_path / "again.tar", NAME)
        assert listed(again, "index.json")["manifests"][0]["digest"] == manifest


class TestNames:
    @pytest.fixture
    def two(self, images: Images, tmp_path: Path) -> list[str]:
        """The IDs of two images, of which the first has two names in one repository and one in another."""
        found = []
        for number in range(2):
            file = tmp_path / f"{number}.tar"
            file.write_bytes(archive([member(f"file{number}", b"x")]))
            found.append(import_file(images, file, f"repo:{number}").id)
        images.tag(found[0], "repo:latest")
        images.tag(found[0], "another.example/repo:v1")
        return found

    def tags(self, images: Images, path: Path, *names: str) -> list[list[str] | None]:
        return [image["RepoTags"] for image in listed(save_file(images, path, *names), "manifest.json")]

    @pytest.mark.usefixtures("two")
    def test_of_a_name_only_that_one(self, images: Images, tmp_path: Path) -> None:
        assert self.tags(images, tmp_path / "a", "repo:0") == [["repo:0"]]
        assert self.tags(images, tmp_path / "b", "repo:1", "another.example/repo:v1") == [
            ["repo:1"],
            ["another.example/repo:v1"],
        ]

    @pytest.mark.usefixtures("two")
    def test_of_a_repository_all_its_tags(self, images: Images, tmp_path: Path) -> None:
        assert self.tags(images, tmp_path / "a", "repo") == [["repo:0", "repo:latest"], ["repo:1"]]

    @pytest.mark.parametrize("length", [12, 64])
    def test_of_an_id_none(self, length: int, images: Images, two: list[str], tmp_path: Path) -> None:
        saved = tmp_path / "saved.tar"
        assert self.tags(images, saved, two[0].removeprefix("sha256:")[:length]) == [None]
        assert "annotations" not in listed(saved, "index.json")["manifests"][0]
        with new_store(tmp_path / "other") as other:
            assert [(image.id, image.tags) for image in load_file(other, saved)] == [(two[0], [])]

    @pytest.mark.usefixtures("two")
    def test_several_images_share_what_they_share(self, images: Images, tmp_path: Path) -> None:
        images.tag("repo:1", "repo:2")
        saved = save_file(images, tmp_path / "a", "repo", "repo:2", "repo:1")
        assert [len(image["RepoTags"]) for image in listed(saved, "manifest.json")] == [2, 2]
        with tarfile.open(saved) as tar:
            names = tar.getnames()
        assert len(names) == len(set(names)) == 3 + 2 + 2 * 3  # lists, directories, and three blobs each

    def test_what_is_not_there(self, images: Images, tmp_path: Path) -> None:
        with pytest.raises(NoSuchImage, match="No such image: nosuch:latest"):
            save_file(images, tmp_path / "a", "nosuch")
        with pytest.raises(ImageConflict, match="this machine's own root file system"):
            save_file(images, tmp_path / "b", "host")


def test_a_blob_that_was_damaged_is_told(images: Images, tmp_path: Path, root: Path) -> None:
    _, made = everything(tmp_path / "made")
    load_file(images, made)
    max(root.glob("blobs/sha256/*"), key=lambda path: path.stat().st_size).write_bytes(b"short")
    with pytest.raises(ImageError, match="has changed in the store: remove the image and take it in again"):
        save_file(images, tmp_path / "saved.tar", NAME)
