"""Image archives made by hand: Docker's old and new form, and the OCI layout, whole or broken on purpose."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from tests.image.trees import archive, link, member

Compress = Callable[[bytes], bytes]
COMPRESSIONS: dict[str, tuple[Compress, str]] = {
    "plain": (bytes, "application/vnd.oci.image.layer.v1.tar"),
    "gzip": (gzip.compress, "application/vnd.oci.image.layer.v1.tar+gzip"),
    "zstd": (zstandard.compress, "application/vnd.oci.image.layer.v1.tar+zstd"),
}
HERE = {"os": "linux", "architecture": "amd64"}


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def configuration(layers: Sequence[bytes], **members: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return json.dumps({**HERE, "config": {"Cmd": ["sh"]}, "rootfs": rootfs, **members}).encode()


def docker_archive(path: Path, images: Sequence[tuple[Sequence[bytes], Sequence[str]]]) -> list[str]:
    """What `docker save` of Docker 20 writes, each image given by its layers and tags; returns the image IDs."""
    files: dict[str, bytes] = {}
    manifests = []
    for layers, tags in images:
        document = configuration(layers)
        names = [f"{hashlib.sha256(layer).hexdigest()[::-1]}/layer.tar" for layer in layers]
        files |= dict(zip(names, layers, strict=True)) | {f"{digest(document)[7:]}.json": document}
        manifests.append({"Config": f"{digest(document)[7:]}.json", "RepoTags": list(tags), "Layers": names})
    files["manifest.json"] = json.dumps(manifests).encode()
    path.write_bytes(archive([member(name, content) for name, content in files.items()]))
    return [digest(configuration(layers)) for layers, _ in images]


class Layout:
    """An OCI image layout in a directory, in which the pieces of an image can be replaced before it is written."""

    def __init__(self, layers: Sequence[bytes], compression: str = "gzip", tag: str = "") -> None:
        self.blobs: dict[str, bytes] = {}
        compress, media_type = COMPRESSIONS[compression]
        self.layers = [self.add(compress(layer), media_type) for layer in layers]
        self.config = self.add(configuration(layers), "application/vnd.oci.image.config.v1+json")
        self.annotations = {"org.opencontainers.image.ref.name": tag} if tag else {}
        self.image_id = self.config["digest"]

    def add(self, content: bytes, media_type: str) -> dict[str, Any]:
        """Keeps a blob; returns its descriptor."""
        self.blobs[digest(content)] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}

    def manifest(self) -> dict[str, Any]:
        document = {"schemaVersion": 2, "config": self.config, "layers": self.layers}
        return self.add(json.dumps(document).encode(), "application/vnd.oci.image.manifest.v1+json")

    def index(self, manifests: Sequence[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "manifests": manifests}
        return self.add(json.dumps(document).encode(), "application/vnd.oci.image.index.v1+json")

    def write(self, directory: Path, manifests: Sequence[dict[str, Any]] | None = None) -> Path:
        """Writes the layout; `manifests` are the descriptors in `index.json`, the image's own where not given."""
        listed = [self.manifest() | {"annotations": self.annotations}] if manifests is None else manifests
        (directory / "blobs/sha256").mkdir(parents=True)
        for name, content in self.blobs.items():
            (directory / "blobs/sha256" / name[7:]).write_bytes(content)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": listed}))
        return directory

    def write_docker(self, path: Path, tags: Sequence[str]) -> Path:
        """What `docker save` of Docker 25 writes: the layout in a tar archive, and Docker's own list of it."""
        files = [member(f"blobs/sha256/{name[7:]}", content) for name, content in self.blobs.items()]
        names = [f"blobs/sha256/{layer['digest'][7:]}" for layer in self.layers]
        manifest = [{"Config": f"blobs/sha256/{self.image_id[7:]}", "RepoTags": list(tags), "Layers": names}]
        index = {"schemaVersion": 2, "manifests": [self.manifest()]}
        lists = {"manifest.json": manifest, "index.json": index, "oci-layout": {"imageLayoutVersion": "1.0.0"}}
        path.write_bytes(archive(files + [member(name, json.dumps(what).encode()) for name, what in lists.items()]))
        return path


def tarred(directory: Path, path: Path) -> Path:
    """A directory as a tar archive."""
    with tarfile.open(path, "w") as tar:
        tar.add(directory, ".")
    return path


__all__ = ["COMPRESSIONS", "HERE", "Layout", "configuration", "digest", "docker_archive", "link", "tarred"]
