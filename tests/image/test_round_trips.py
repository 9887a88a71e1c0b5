"""An image goes to other people's tools and comes back, as an archive and through a registry: always the same image ID,
and the same files, as each tool unpacks them and as we do.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cutaway.image.images import Images
from tests.dockerd import Docker
from tests.image.archives import tarred
from tests.image.features import NAME, everything
from tests.image.overlays import mounted
from tests.image.stores import load_file, new_store, save_file
from tests.image.trees import seen
from tests.registry import Registry

Tree = dict[str, tuple[object, ...]]


class Exchange:
    """An image in our store, and what to compare with what comes back of it."""

    def __init__(self, images: Images, directory: Path) -> None:
        self.images, self.directory = images, directory
        self.id, self._made = everything(directory / "made")
        load_file(images, self._made)
        self.tree = tree_of(images, self.id, directory / "ours")

    def saved(self) -> Path:
        return save_file(self.images, self.directory / "saved.tar", NAME)

    def check_archive(self, path: Path) -> None:
        """Another store, which unpacks all of it anew, gets the same from an archive of theirs."""
        with new_store(self.directory / "returned") as returned:
            (loaded,) = load_file(returned, path)
            assert loaded.id == self.id
            assert tree_of(returned, self.id, self.directory / "back") == self.tree

    def check_registry(self, reference: str) -> None:
        """And from what they have pushed."""
        with new_store(self.directory / "pulled") as returned:
            assert asyncio.run(returned.pull(reference)).id == self.id
            assert tree_of(returned, self.id, self.directory / "back") == self.tree

    def pushed(self, registry: Registry) -> str:
        reference = f"{registry.name}/{self.directory.name.lower()}/ours:v1"
        self.images.tag(NAME, reference)
        asyncio.run(self.images.push(reference))
        return reference


@pytest.fixture
def exchange(images: Images, tmp_path: Path) -> Exchange:
    return Exchange(images, tmp_path)


def tree_of(images: Images, name: str, where: Path) -> Tree:
    where.mkdir()
    with mounted(images.resolve(name).lower_dirs, where) as merged:
        return seen(merged)


def run(*command: str | Path) -> str:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout.strip()


def differences(ours: Tree, theirs: Tree) -> dict[str, object]:
    """What is not the same, which reads better than two trees."""
    return {
        path: (ours.get(path), theirs.get(path))
        for path in ours.keys() | theirs.keys()
        if ours.get(path) != theirs.get(path)
    }


@pytest.mark.docker
class TestDocker:
    @contextmanager
    def unpacked(self, docker: Docker, name: str, where: Path) -> Iterator[Tree]:
        """An image as Docker has it: its own layers, and its ID."""
        layers = json.loads(docker("image", "inspect", "--format", "{{json .GraphDriver.Data}}", name))
        where.mkdir()
        with mounted([layers["UpperDir"], *layers.get("LowerDir", "").split(":")], where) as merged:
            yield seen(merged)

    def test_loads_what_we_save_and_saves_what_we_load(
        self, docker: Docker, exchange: Exchange, tmp_path: Path
    ) -> None:
        docker("load", "--input", str(exchange.saved()))
        try:
            assert docker("image", "inspect", "--format", "{{.Id}}", NAME) == exchange.id
            with self.unpacked(docker, NAME, tmp_path / "docker") as theirs:
                assert differences(exchange.tree, theirs) == {}
            docker("save", "--output", str(tmp_path / "theirs.tar"), NAME)
        finally:
            docker("rmi", NAME)
        exchange.check_archive(tmp_path / "theirs.tar")

    def test_pulls_what_we_push_and_pushes_what_we_pull(
        self, docker: Docker, exchange: Exchange, registry: Registry, tmp_path: Path
    ) -> None:
        ours = exchange.pushed(registry)
        theirs = f"{registry.name}/docker/theirs:v1"
        docker("pull", ours)
        try:
            assert docker("image", "inspect", "--format", "{{.Id}}", ours) == exchange.id
            with self.unpacked(docker, ours, tmp_path / "docker") as tree:
                assert differences(exchange.tree, tree) == {}
            docker("tag", ours, theirs)
            docker("push", theirs)
        finally:
            docker("rmi", ours, theirs)
        exchange.check_registry(theirs)


class TestSkopeo:
    @pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
    def test_reads_and_writes_archives(self, transport: str, exchange: Exchange, tmp_path: Path) -> None:
        """It finds the image by the name that Docker's list has, and by the tag that the OCI's has."""
        source = f"{transport}:{exchange.saved()}:{NAME if transport == 'docker-archive' else 'v1'}"
        run("skopeo", "copy", "--quiet", source, f"{transport}:{tmp_path}/theirs.tar:{NAME}")
        exchange.check_archive(tmp_path / "theirs.tar")

    @pytest.mark.parametrize("compression", ["gzip", "zstd"])
    def test_copies_from_our_push_to_our_pull(self, compression: str, exchange: Exchange, registry: Registry) -> None:
        ours, theirs = exchange.pushed(registry), f"{registry.name}/skopeo/{compression}:v1"
        run(
            "skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=oci",
            f"--dest-compress-format={compression}", f"docker://{ours}", f"docker://{theirs}",
        )  # fmt: skip
        exchange.check_registry(theirs)


class TestUmoci:
    def test_unpacks_what_we_save_and_we_load_what_it_makes_of_it(self, exchange: Exchange, tmp_path: Path) -> None:
        layout, bundle = tmp_path / "layout", tmp_path / "bundle"
        layout.mkdir()
        shutil.unpack_archive(exchange.saved(), layout)
        run("umoci", "unpack", "--image", f"{layout}:v1", bundle)
        assert differences(exchange.tree, seen(bundle / "rootfs")) == {}
        (layout / "manifest.json").unlink()  # umoci does not know of it
        (bundle / "rootfs/new").write_bytes(b"made by umoci")
        os.setxattr(bundle / "rootfs/new", "user.colour", b"green")
        os.utime(bundle / "rootfs/new", (1e9, 1e9))  # of fractions of a second umoci keeps nothing
        shutil.rmtree(bundle / "rootfs/home")
        run("umoci", "repack", "--image", f"{layout}:v2", bundle)
        run("umoci", "rm", "--image", f"{layout}:v1")
        with new_store(tmp_path / "returned") as returned:
            (loaded,) = load_file(returned, tarred(layout, tmp_path / "theirs.tar"))
            assert differences(tree_of(returned, loaded.id, tmp_path / "back"), seen(bundle / "rootfs")) == {}


class Storage:
    """podman or buildah, which keep images in the same way, in a place of a test's own. Called, it runs the command."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program, self._root, self.builds = program, directory / "storage", program == "buildah"
        self._options = ("--root", self._root, "--runroot", directory / "run", "--storage-driver", "overlay")

    def __call__(self, *arguments: str | Path) -> str:
        return run(self._program, *self._options, *arguments)

    def unpacked(self, image: str, where: Path) -> Tree:
        """An image as they have it: its layers are overlayfs's, too."""
        parents = {layer["id"]: layer.get("parent", "") for layer in self._list("layers")}
        layer = next(each["layer"] for each in self._list("images") if each["id"] == image.removeprefix("sha256:"))
        lower_dirs = []
        while layer:
            lower_dirs.append(f"{self._root}/overlay/{layer}/diff")
            layer = parents[layer]
        where.mkdir()
        with mounted(lower_dirs, where) as merged:
            return seen(merged)

    def _list(self, kind: str) -> Any:
        return json.loads((self._root / f"overlay-{kind}/{kind}.json").read_text())

    def let_go(self) -> None:
        """It mounts its directory of layers onto itself."""
        subprocess.run(["umount", self._root / "overlay"], capture_output=True)


class TestStorage:
    @pytest.fixture(params=["podman", "buildah"])
    def tool(self, request: pytest.FixtureRequest) -> Iterator[Storage]:
        with tempfile.TemporaryDirectory() as directory:  # podman wants it short
            storage = Storage(str(request.param), Path(directory))
            try:
                yield storage
            finally:
                storage.let_go()

    @pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
    def test_take_what_we_save_and_give_what_we_load(
        self, transport: str, tool: Storage, exchange: Exchange, tmp_path: Path
    ) -> None:
        source = f"{transport}:{exchange.saved()}:{NAME if transport == 'docker-archive' else 'v1'}"
        found = tool("pull", "--quiet", source)
        assert found == exchange.id.removeprefix("sha256:")
        assert differences(exchange.tree, tool.unpacked(exchange.id, tmp_path / "theirs")) == {}
        tool("push", "--quiet", found, f"{transport}:{tmp_path}/theirs.tar:{NAME}")
        exchange.check_archive(tmp_path / "theirs.tar")

    def test_pull_what_we_push_and_push_what_we_pull(
        self, tool: Storage, exchange: Exchange, registry: Registry
    ) -> None:
        ours, theirs = exchange.pushed(registry), f"{registry.name}/storage/theirs:v1"
        assert tool("pull", "--quiet", "--tls-verify=false", ours) == exchange.id.removeprefix("sha256:")
        tool("push", "--quiet", "--tls-verify=false", ours, theirs)
        exchange.check_registry(theirs)

    def test_we_pull_what_they_make(
        self, tool: Storage, exchange: Exchange, registry: Registry, tmp_path: Path
    ) -> None:
        """With layers in zstd."""
        if not tool.builds:
            pytest.skip("what podman builds, it builds by buildah")
        container = tool("from", "--quiet", "--tls-verify=false", exchange.pushed(registry))
        (tmp_path / "new").write_bytes(b"made by buildah")
        tool("copy", "--quiet", "--chmod", "4711", "--chown", "7:8", container, tmp_path / "new", "/srv/new")
        made, name = tool("commit", "--quiet", container), f"{registry.name}/storage/made:v1"
        tool("push", "--quiet", "--tls-verify=false", "--compression-format=zstd", "--format=oci", made, name)
        layers = json.loads(registry.get("storage/made/manifests/v1"))["layers"]
        assert layers[-1]["mediaType"].endswith("+zstd")
        with new_store(tmp_path / "pulled") as store:
            pulled = asyncio.run(store.pull(name))
            assert pulled.id == f"sha256:{made}"
            theirs = tool.unpacked(made, tmp_path / "theirs")
            assert differences(tree_of(store, pulled.id, tmp_path / "back"), theirs) == {}
