"""Everything that is written is what the OCI says it is: its own schemas accept it."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cutaway.image.images import Images
from tests.engines import Engine
from tests.image.archives import COMPRESSIONS, digest
from tests.image.features import NAME, everything
from tests.image.schemas import valid
from tests.image.stores import import_file, load_file, save_file
from tests.image.trees import archive, member
from tests.registry import Registry


def check_layout(path: Path) -> None:
    """An archive, from its index down to the configurations."""
    with tarfile.open(path) as tar:
        files = {entry.name: (tar.extractfile(entry) or pytest.fail()).read() for entry in tar if entry.isfile()}
    assert valid("image-layout", files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    listed = valid("image-index", files["index.json"])["manifests"]
    assert listed
    for descriptor in listed:
        check_manifest(files[blob(descriptor["digest"])], lambda name: files[blob(name)])


def blob(name: str) -> str:
    return f"blobs/sha256/{name.removeprefix('sha256:')}"


def check_manifest(content: bytes, fetched: Callable[[str], bytes]) -> None:
    """And every blob it names has the digest and the size that it says."""
    manifest = valid("image-manifest", content)
    assert manifest.get("mediaType") in (None, "application/vnd.oci.image.manifest.v1+json")
    for descriptor in (manifest["config"], *manifest["layers"]):
        found = fetched(descriptor["digest"])
        assert (digest(found), len(found)) == (descriptor["digest"], descriptor["size"])
    valid("config", fetched(manifest["config"]["digest"]))


def check_pushed(registry: Registry, repository: str, tag: str) -> None:
    content = registry.get(f"{repository}/manifests/{tag}")
    check_manifest(content, lambda name: registry.get(f"{repository}/blobs/{name}"))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_of_an_image_that_was_loaded(compression: str, images: Images, registry: Registry, tmp_path: Path) -> None:
    load_file(images, everything(tmp_path / "made", compression)[1])
    check_layout(save_file(images, tmp_path / "saved.tar", NAME))
    images.tag(NAME, f"{registry.name}/schemas:{compression}")
    asyncio.run(images.push(f"{registry.name}/schemas:{compression}"))
    check_pushed(registry, "schemas", compression)


def test_of_an_image_that_was_imported(images: Images, registry: Registry, tmp_path: Path) -> None:
    root = tmp_path / "root.tar"
    root.write_bytes(archive([member("file", b"content")]))
    name = f"{registry.name}/schemas:imported"
    import_file(images, root, name, changes=["ENV a=b", "EXPOSE 80", 'HEALTHCHECK CMD ["true"]'], message="made here")
    images.tag(name, "another:name")
    check_layout(save_file(images, tmp_path / "saved.tar", name, "another:name"))
    asyncio.run(images.push(name))
    check_pushed(registry, "schemas", "imported")


def test_of_an_image_that_was_committed(cutaway: Engine, busybox: str, registry: Registry, tmp_path: Path) -> None:
    name, saved = f"{registry.name}/schemas:committed", tmp_path / "saved.tar"
    cutaway("run", "--name", "changed", busybox, "sh", "-c", "echo new > /new; rm /bin/vi")
    try:
        cutaway("commit", "-m", "changed", "-a", "Someone", "-c", 'CMD ["cat", "/new"]', "changed", name)
        cutaway("save", "-o", saved, name)
        check_layout(saved)
        cutaway("push", "-q", name)
        check_pushed(registry, "schemas", "committed")
    finally:
        cutaway("rm", "changed")
        cutaway("rmi", name)
