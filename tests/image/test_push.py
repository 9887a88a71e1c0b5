"""Pushing to a real registry: what goes over the wire, and what does not need to."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cutaway.image.errors import ImageConflict, InvalidReference, NoSuchImage, NotInRegistry, RegistryError
from cutaway.image.images import Images
from cutaway.image.manifest import Document
from cutaway.image.registry.access import Access, Credentials
from tests.image.archives import Layout, digest
from tests.image.stores import import_file, kept, load_file, new_store, save_file
from tests.image.trees import archive, member
from tests.image.unreliable import Fault, Handler, Unreliable
from tests.registry import PASSWORD, USER, Registry

ANYBODY, KNOWN = Access(), Access(Credentials(USER, PASSWORD))
GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.fixture
def repository(registry: Registry, tmp_path: Path) -> str:
    """A repository that nothing was ever pushed to."""
    return f"{registry.name}/{tmp_path.name.lower().replace('_', '-').strip('-')}"


def layer(name: str) -> bytes:
    """A layer that no other test has."""
    return archive([member(name, os.urandom(500).hex().encode())])


def imported(images: Images, tmp_path: Path, name: str) -> str:
    """The ID of an image whose one layer the store keeps uncompressed."""
    path = tmp_path / "root.tar"
    path.write_bytes(layer("file"))
    return import_file(images, path, name).id


def loaded(images: Images, tmp_path: Path, name: str, layers: list[bytes], compression: str = "gzip") -> Path:
    layout = Layout(layers, compression, name).write(tmp_path / f"{name.rpartition(':')[2]}.layout")
    load_file(images, layout)
    return layout


def pushed(images: Images, name: str, access: Access = ANYBODY) -> tuple[Document, list[str]]:
    """The manifest, and what was said of each layer in the end."""
    said: dict[str, str] = {}

    def progress(report: Mapping[str, Any]) -> None:
        said[report["layer"]] = report.get("status", "Pushing")

    return asyncio.run(images.push(name, access, progress)), list(said.values())


def pulled(directory: Path, name: str, access: Access = ANYBODY) -> str:
    """The ID of the image that another store gets."""
    with new_store(directory) as store:
        return asyncio.run(store.pull(name, access=access)).id


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layers_go_as_they_came(
    compression: str, images: Images, registry: Registry, repository: str, tmp_path: Path
) -> None:
    layout = loaded(images, tmp_path, f"{repository}:v1", [layer("a"), layer("b")], compression)
    manifest, said = pushed(images, f"{repository}:v1")
    assert said == ["Pushed", "Pushed"]
    path = repository.partition("/")[2]
    for blob in json.loads(manifest.content)["layers"]:
        assert (
            registry.get(f"{path}/blobs/{blob['digest']}")
            == (layout / "blobs/sha256" / blob["digest"][7:]).read_bytes()
        )
        assert blob["mediaType"].endswith(compression)
    assert pulled(tmp_path / "other", f"{repository}:v1") == pulled(
        tmp_path / "more", f"{repository}@{manifest.digest}"
    )


@pytest.mark.parametrize("number", [0, 3])
def test_no_layer_and_the_same_one_again(number: int, images: Images, repository: str, tmp_path: Path) -> None:
    layers = [layer("a"), layer("b")]
    layout = Layout([*layers, layers[0]][:number], tag=f"{repository}:v1")
    load_file(images, layout.write(tmp_path / "layout"))
    pushed(images, f"{repository}:v1")
    assert pulled(tmp_path / "other", f"{repository}:v1") == layout.image_id
    with new_store(tmp_path / "more") as more:
        (found,) = load_file(more, save_file(images, tmp_path / "saved.tar", f"{repository}:v1"))
        assert found.id == layout.image_id


def test_an_uncompressed_layer_is_compressed_to_the_same_bytes_anywhere(
    images: Images, repository: str, tmp_path: Path
) -> None:
    identifier = imported(images, tmp_path, f"{repository}:v1")
    manifest, said = pushed(images, f"{repository}:v1")
    (blob,) = json.loads(manifest.content)["layers"]
    assert (said, blob["mediaType"]) == (["Pushed"], GZIP_LAYER)
    assert pulled(tmp_path / "pulled", f"{repository}:v1") == identifier
    with new_store(tmp_path / "other") as other:
        load_file(other, save_file(images, tmp_path / "saved.tar", f"{repository}:v1"))
        assert pushed(other, f"{repository}:v1") == (manifest, ["Layer already exists"])


def test_what_came_uncompressed_in_an_archive_is_compressed(images: Images, repository: str, tmp_path: Path) -> None:
    loaded(images, tmp_path, f"{repository}:v1", [layer("a"), layer("b")], "plain")
    manifest, _ = pushed(images, f"{repository}:v1")
    assert [blob["mediaType"] for blob in json.loads(manifest.content)["layers"]] == [GZIP_LAYER] * 2
    assert pulled(tmp_path / "other", f"{repository}:v1") == images.resolve(f"{repository}:v1").id


def test_what_is_there_is_not_sent_again(images: Images, registry: Registry, repository: str, tmp_path: Path) -> None:
    common = layer("common")
    loaded(images, tmp_path, f"{repository}:v1", [common, layer("one")])
    loaded(images, tmp_path, f"{repository}:v2", [common, layer("two")])
    first, _ = pushed(images, f"{repository}:v1")
    assert pushed(images, f"{repository}:v2")[1] == ["Layer already exists", "Pushed"]
    before = uploads(registry)
    assert pushed(images, f"{repository}:v1") == (first, ["Layer already exists"] * 2)
    assert uploads(registry) == before


def uploads(registry: Registry) -> int:
    return registry.log.count('"POST /v2/')


def test_what_another_repository_has_is_mounted(images: Images, repository: str, tmp_path: Path) -> None:
    imported(images, tmp_path, f"{repository}/first:v1")
    images.tag(f"{repository}/first:v1", f"{repository}/second:v1")
    first, _ = pushed(images, f"{repository}/first:v1")
    path = repository.partition("/")[2]
    assert pushed(images, f"{repository}/second:v1") == (first, [f"Mounted from {path}/first"])
    assert pulled(tmp_path / "other", f"{repository}/second:v1") == images.resolve(f"{repository}/first:v1").id


def test_what_only_was_in_another_repository_is_sent(
    images: Images, registry: Registry, repository: str, tmp_path: Path
) -> None:
    imported(images, tmp_path, f"{repository}/first:v1")
    images.tag(f"{repository}/first:v1", f"{repository}/second:v1")
    first, _ = pushed(images, f"{repository}/first:v1")
    path = repository.partition("/")[2]
    for link in (registry.storage / f"docker/registry/v2/repositories/{path}/first").rglob("link"):
        link.unlink()
    assert pushed(images, f"{repository}/second:v1") == (first, ["Pushed"])
    assert pulled(tmp_path / "other", f"{repository}/second:v1") == images.resolve(f"{repository}/first:v1").id


DOCKERS = {
    "oci.image.manifest.v1+json": "docker.distribution.manifest.v2+json",
    "oci.image.config.v1+json": "docker.container.image.v1+json",
    "oci.image.layer.v1.tar+gzip": "docker.image.rootfs.diff.tar.gzip",
    "oci.image.layer.v1.tar": "docker.image.rootfs.diff.tar",
}
"""What Docker calls what the OCI calls otherwise."""


@pytest.mark.parametrize("is_dockers", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "plain"])
def test_what_was_pulled_is_pushed_under_its_own_manifest(
    compression: str, is_dockers: bool, registry: Registry, repository: str, tmp_path: Path
) -> None:
    """Byte for byte, whoever wrote it, and whatever it has that ours have not."""
    layout, kind = Layout([layer("a"), layer("b")], compression), "application/vnd.oci.image.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": layout.config, "layers": layout.layers}
    text = json.dumps(manifest | {"annotations": {"made": "elsewhere"}}, indent=3)
    for theirs, dockers in DOCKERS.items() if is_dockers else ():
        text, kind = text.replace(theirs, dockers), kind.replace(theirs, dockers)
    put(registry, repository, layout, text.encode(), kind)
    copy = f"{repository}/copy"
    with new_store(tmp_path / "between") as between:
        asyncio.run(between.pull(f"{repository}:theirs"))
        between.tag(f"{repository}:theirs", f"{copy}:v1")
        pushed_manifest, _ = pushed(between, f"{copy}:v1")
        name = digest(text.encode())
        assert pushed_manifest == Document(text.encode(), kind, name)
        assert set(between.inspect(f"{copy}:v1")["RepoDigests"]) == {f"{repository}@{name}", f"{copy}@{name}"}
    assert registry.get(f"{copy.partition('/')[2]}/manifests/v1", kind) == text.encode()


def put(registry: Registry, repository: str, layout: Layout, manifest: bytes, kind: str) -> None:
    """Brings an image into a registry by hand, as the tag `theirs`."""
    path = repository.partition("/")[2]
    for name, blob in layout.blobs.items():
        where = registry.ask("POST", f"{path}/blobs/uploads/").headers["Location"]
        registry.ask("PUT", f"{where}&digest={name}", blob, "application/octet-stream")
    registry.ask("PUT", f"{path}/manifests/theirs", manifest, kind)


class TestUnreliable:
    """A registry, or the line to it, that fails."""

    @pytest.fixture
    def line(self, registry: Registry) -> Iterator[Unreliable]:
        with Unreliable(registry) as unreliable:
            yield unreliable

    @pytest.mark.parametrize(
        ("method", "path"),
        [("HEAD", "/blobs/"), ("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")],
    )
    def test_once_is_tried_again(
        self, method: str, path: str, images: Images, line: Unreliable, repository: str, tmp_path: Path
    ) -> None:
        name = f"{line.name}/{repository.partition('/')[2]}:v1"
        identifier = imported(images, tmp_path, name)
        line.faults = [
            (method, path, Handler.cut),
            (method, path, lambda handler: handler.status(503, Retry_After="0")),
        ]
        pushed(images, name)
        assert line.faults == []
        assert pulled(tmp_path / "other", f"{repository}:v1") == identifier

    @pytest.mark.parametrize(
        ("path", "answer", "reason"),
        [
            ("/uploads/", lambda handler: handler.status(403), "push access denied for .*/x: .*status 403"),
            ("/uploads/", lambda handler: handler.status(400), "cannot push .*/x:v1 to registry .*status 400"),
            ("/manifests/", lambda handler: handler.status(413), "cannot push .*/x:v1 to registry .*status 413"),
            (
                "/manifests/",
                lambda handler: handler.status(201, Docker_Content_Digest=f"sha256:{'0' * 64}"),
                "it has stored the manifest under another digest",
            ),
        ],
    )
    def test_for_good_is_told(
        self, path: str, answer: Fault, reason: str, images: Images, line: Unreliable, tmp_path: Path, root: Path
    ) -> None:
        name = f"{line.name}/x:v1"
        imported(images, tmp_path, name)
        before = kept(root)
        line.faults = [("PUT", path, answer)]
        with pytest.raises(RegistryError, match=reason):
            pushed(images, name)
        assert kept(root) == before
        assert images.inspect(name)["RepoDigests"] == []


class TestRefused:
    def test_whoever_the_registry_does_not_know(
        self, images: Images, protected_registry: Registry, tmp_path: Path
    ) -> None:
        name = f"{protected_registry.name}/denied:v1"
        identifier = imported(images, tmp_path, name)
        for nobody in (ANYBODY, Access(Credentials(USER, "wrong"))):
            with pytest.raises(
                NotInRegistry, match=f"push access denied for .*/denied: .*'cutaway login {name[:9]}"
            ) as problem:
                pushed(images, name, nobody)
            assert protected_registry.name in str(problem.value)
        assert images.inspect(name)["RepoDigests"] == []
        assert pushed(images, name, KNOWN)[1] == ["Pushed"]
        assert pulled(tmp_path / "other", name, KNOWN) == identifier

    def test_a_registry_that_is_not_there(self, images: Images, tmp_path: Path) -> None:
        imported(images, tmp_path, "127.0.0.1:1/x:v1")
        with pytest.raises(
            RegistryError, match=r"cannot push 127\.0\.0\.1:1/x:v1 to registry 127\.0\.0\.1:1: no connection"
        ):
            pushed(images, "127.0.0.1:1/x:v1")

    def test_what_has_no_place_in_a_registry(self, images: Images) -> None:
        with pytest.raises(NoSuchImage):
            pushed(images, "127.0.0.1:1/nosuch:v1")
        with pytest.raises(ImageConflict, match="this machine's own"):
            pushed(images, "host")
        with pytest.raises(InvalidReference, match="cannot push a digest reference"):
            pushed(images, f"busybox@sha256:{'0' * 64}")


class TestTLS:
    def test_a_certificate_that_nobody_vouches_for(
        self, images: Images, secure_registry: Registry, tmp_path: Path
    ) -> None:
        name = f"{secure_registry.name}/x:v1"
        imported(images, tmp_path, name)
        with pytest.raises(RegistryError, match=r"cannot push .*certificate verify failed"):
            pushed(images, name, KNOWN)

    def test_a_certificate_that_is_trusted(
        self, images: Images, secure_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"{secure_registry.name}/trusted:v1"
        identifier = imported(images, tmp_path, name)
        certificates = tmp_path / "certs.d" / secure_registry.name
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_bytes(secure_registry.authority.read_bytes())
        monkeypatch.setenv("CUTAWAY_CONFIG_DIR", str(tmp_path))
        manifest, said = pushed(images, name, KNOWN)
        assert said == ["Pushed"]
        assert pulled(tmp_path / "by-tag", name, KNOWN) == identifier
        assert pulled(tmp_path / "by-digest", f"{name.removesuffix(':v1')}@{manifest.digest}", KNOWN) == identifier
