"""The archive that `save` writes: an OCI image layout and a Docker archive in one, which any tool can read.

    blobs/sha256/HEX    layers, configurations and manifests, each once
    index.json          the images by manifest and name (OCI image-spec, `image-layout.md`)
    manifest.json       the images by configuration, layers and tags, as `docker save` writes it
    oci-layout          says that this is one

Blobs are copied as the store has them, but for layers in zstd, which Docker 20.10 cannot load: those are inflated. No
time, owner or order in the archive comes from anything but the images, so the same images make the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from cutaway.image import config, manifest, references
from cutaway.image.compression import NONE, PIECE, ZSTD, inflated
from cutaway.image.errors import ImageError
from cutaway.image.intake import MEDIA_TYPES
from cutaway.image.manifest import Descriptor, Document
from cutaway.image.references import Reference
from cutaway.image.tarstream import DIRECTORY, REGULAR, Entry
from cutaway.image.tarwriter import END, header, padding

_BLOBS = "blobs/sha256/"
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_REF_NAME, _FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"


class StoredLayer(msgspec.Struct, frozen=True):
    """A layer as the store has it: `blob` is the digest of its archive, `size` the bytes of that."""

    diff_id: str
    blob: str
    size: int
    media_type: str


class Saved(msgspec.Struct, frozen=True):
    """An image to save: its configuration, its normalised tags, its layers from the lowest, and the manifests that it
    is known by, the best first."""

    document: bytes
    tags: list[str]
    layers: list[StoredLayer]
    manifests: list[Document] = []


class _File(msgspec.Struct, frozen=True):
    size: int
    chunks: Callable[[], Iterable[bytes]]


def archive(images: Sequence[Saved], blobs: str) -> Iterator[bytes]:
    """The archive of these images, whose layers' blobs are in the directory `blobs`.

    Raises `OSError`, and `ImageError` where a blob is not what it was.
    """
    files = _files(images, blobs)
    for directory in ("blobs/", _BLOBS):
        yield header(_entry(directory, 0o755, DIRECTORY))
    for name in sorted(files):
        size, chunks = files[name].size, files[name].chunks()
        yield header(_entry(name, 0o644, REGULAR, size))
        yield from _exactly(size, chunks, name)
        yield padding(size)
    yield END


def _entry(name: str, mode: int, kind: bytes, size: int = 0) -> Entry:
    entry = Entry(name.encode(), kind)
    entry.mode, entry.size = mode, size
    return entry


def _exactly(size: int, chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    for chunk in chunks:
        size -= len(chunk)
        yield chunk
    if size:
        raise ImageError(f"{name} has changed in the store: remove the image and take it in again")


def _files(images: Sequence[Saved], blobs: str) -> dict[str, _File]:
    layers = {layer.diff_id: _layer(layer, blobs) for image in images for layer in image.layers}
    files = {_path(descriptor.digest): file for descriptor, file in layers.values()}
    index: list[Descriptor] = []
    docker: list[dict[str, Any]] = []
    for image in images:
        descriptors = [layers[layer.diff_id][0] for layer in image.layers]
        document = _manifest(image, descriptors)
        files |= {_path(config.digest(blob)): _in_memory(blob) for blob in (image.document, document)}
        index += _index_entries(document, image.tags)
        docker.append(_docker_entry(image, descriptors))
    lists = {"index.json": manifest.index(index), "manifest.json": msgspec.json.encode(docker), "oci-layout": _VERSION}
    return files | {name: _in_memory(content) for name, content in lists.items()}


def _path(digest: str) -> str:
    return _BLOBS + digest.removeprefix("sha256:")


def _in_memory(content: bytes) -> _File:
    return _File(len(content), lambda: [content])


def _layer(layer: StoredLayer, blobs: str) -> tuple[Descriptor, _File]:
    path = os.path.join(blobs, layer.blob.removeprefix("sha256:"))
    if layer.media_type != MEDIA_TYPES[ZSTD]:
        return Descriptor(layer.blob, layer.media_type, layer.size), _File(layer.size, lambda: _read(path))
    size = sum(map(len, inflated(_read(path), ZSTD)))
    return Descriptor(layer.diff_id, MEDIA_TYPES[NONE], size), _File(size, lambda: inflated(_read(path), ZSTD))


def _read(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(PIECE):
            yield chunk


def _manifest(image: Saved, layers: Sequence[Descriptor]) -> bytes:
    """The first of the OCI's kind that names these very layers, or else one of our own."""
    digests = [layer.digest for layer in layers]
    for known in image.manifests:
        if known.media_type == manifest.OCI_MANIFEST and known.layer_digests() == digests:
            return known.content
    return manifest.of_image(image.document, layers)


def _index_entries(document: bytes, tags: Iterable[str]) -> list[Descriptor]:
    """The image once under each of its names, or once without any."""
    described = manifest.described(document, manifest.OCI_MANIFEST)
    named = [msgspec.structs.replace(described, annotations=_annotations(references.parse(tag))) for tag in tags]
    return named or [described]


def _annotations(tag: Reference) -> dict[str, str]:
    """As containerd writes them: others look for the bare tag."""
    return {_FULL_NAME: str(tag), _REF_NAME: tag.tag}


def _docker_entry(image: Saved, layers: Iterable[Descriptor]) -> dict[str, Any]:
    return {
        "Config": _path(config.digest(image.document)),
        "RepoTags": [references.parse(tag).familiar for tag in image.tags] or None,
        "Layers": [_path(layer.digest) for layer in layers],
    }
