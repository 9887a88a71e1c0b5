"""Pushing an image, in the worker: its configuration, then its layers beside each other, then its manifest.

A registry knows a layer by the digest of a compressed archive, of which there can be many for one layer. What it may
know this layer by is asked for first; what it has, in this repository or another, is not sent. A layer that is kept
uncompressed is compressed with gzip, always to the same bytes. An image whose layers all go as they came goes under the
manifest that it came with, byte for byte; any other gets one of the OCI's kind.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec

from cutaway.image import config, manifest, references
from cutaway.image.compression import GZIP, NONE, PIECE, ZSTD, gzipped
from cutaway.image.errors import NotInRegistry, RegistryError
from cutaway.image.intake import MEDIA_TYPES
from cutaway.image.manifest import Descriptor, Document
from cutaway.image.origins import Origin
from cutaway.image.processes import report, reporter
from cutaway.image.references import Reference
from cutaway.image.registry.access import Access
from cutaway.image.registry.repository import Repository, repositories
from cutaway.image.registry.upload import has_blob, mount_blob, put_manifest, upload_blob

_AT_ONCE = 5
_MOUNTS_TRIED = 3


class Work(msgspec.Struct, frozen=True):
    """An image to push. `reference` is normalised, `document` its configuration, `manifests` those it is known by, the
    best first. `blobs` is the directory with the layers' blobs, `staging` one for what is made on the way."""

    reference: str
    document: bytes
    layers: list[Origin]
    manifests: list[Document]
    access: Access
    blobs: str
    staging: str


class Pushed(msgspec.Struct, frozen=True):
    """The manifest that a tag means now: a file in the staging directory, and what there is to know of it."""

    manifest: str
    media_type: str
    digest: str


def push(work: Work) -> Pushed:
    """Brings an image to its repository and makes the tag mean it.

    Raises `RegistryError`, with the image, the registry and the reason, and `OSError`.
    """
    wanted = references.parse(work.reference)
    *_, repository = repositories(wanted, work.access, "pull,push")
    for layer in work.layers:
        _tell(layer, "Preparing")
    with _concerning(wanted, repository):
        _bring_configuration(repository, work.document)
        pushed = _manifest(work, _bring_all(repository, work))
        put_manifest(repository, wanted.tag, pushed)
    path = os.path.join(work.staging, "manifest")
    with open(path, "xb") as file:
        file.write(pushed.content)
    return Pushed(path, pushed.media_type, pushed.digest)


@contextmanager
def _concerning(wanted: Reference, repository: Repository) -> Iterator[None]:
    """Says of what goes wrong which image it was, and which registry."""
    name, domain, host = wanted.familiar_name, wanted.domain, repository.host
    try:
        yield
    except RegistryError as error:
        if error.status in (401, 403, 404):
            raise NotInRegistry(
                f"push access denied for {name}: repository does not exist or may require 'cutaway login {domain}': "
                f"registry {host}: {error}"
            ) from None
        raise RegistryError(f"cannot push {wanted.familiar} to registry {host}: {error}", error.status) from None


def _bring_configuration(repository: Repository, document: bytes) -> None:
    """First of all, since it is small and shows who may push."""
    digest = config.digest(document)
    if not has_blob(repository, digest):
        upload_blob(repository, digest, len(document), lambda: [document])


def _bring_all(repository: Repository, work: Work) -> list[Descriptor]:
    """What each layer went as. The first that fails ends the others with this process."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        different = {layer.stored.diff_id: layer for layer in work.layers}
        found = pool.map(lambda layer: _bring(repository, layer, work), different.values())
        went_as = dict(zip(different, found, strict=True))
        return [went_as[layer.stored.diff_id] for layer in work.layers]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _bring(repository: Repository, layer: Origin, work: Work) -> Descriptor:
    for known in layer.known:
        if _is_there(repository, layer, known.digest):
            return known
        if known.digest == layer.stored.blob:
            return _send(repository, layer, known, _blob(work.blobs, layer.stored.blob))
    path = os.path.join(work.staging, layer.stored.diff_id.removeprefix("sha256:"))
    made = _compressed(_blob(work.blobs, layer.stored.blob), path)
    return made if _is_there(repository, layer, made.digest) else _send(repository, layer, made, path)


def _is_there(repository: Repository, layer: Origin, digest: str) -> bool:
    """Whether the repository has a blob, if need be by taking it from another."""
    if has_blob(repository, digest):
        _tell(layer, "Layer already exists")
        return True
    for path in layer.elsewhere[:_MOUNTS_TRIED]:
        if mount_blob(repository, digest, path):
            _tell(layer, f"Mounted from {path}")
            return True
    return False


def _send(repository: Repository, layer: Origin, descriptor: Descriptor, path: str) -> Descriptor:
    def contents() -> Iterator[bytes]:
        done, progress = 0, reporter(layer.stored.diff_id, descriptor.size)
        for chunk in _read(path):
            done += len(chunk)
            progress(done)
            yield chunk

    upload_blob(repository, descriptor.digest, descriptor.size, contents)
    _tell(layer, "Pushed", descriptor.size)
    return descriptor


def _compressed(path: str, target: str) -> Descriptor:
    """Writes a file compressed to another."""
    digest, size = hashlib.sha256(), 0
    with open(target, "xb") as file:
        for chunk in gzipped(_read(path)):
            digest.update(chunk)
            size += file.write(chunk)
    return Descriptor("sha256:" + digest.hexdigest(), MEDIA_TYPES[GZIP], size)


def _blob(directory: str, digest: str) -> str:
    return os.path.join(directory, digest.removeprefix("sha256:"))


def _read(path: str) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(PIECE):
            yield chunk


def _manifest(work: Work, layers: Sequence[Descriptor]) -> Document:
    """The one that the image is known by and that names these layers, or one of our own."""
    digests = [layer.digest for layer in layers]
    for known in work.manifests:
        if known.layer_digests() == digests:
            return known
    content = manifest.of_image(work.document, [_of_oci(layer) for layer in layers])
    return Document(content, manifest.OCI_MANIFEST, config.digest(content))


def _of_oci(layer: Descriptor) -> Descriptor:
    """The same layer in the OCI's words."""
    kind = next((kind for kind in (GZIP, ZSTD) if kind in layer.media_type), NONE)
    return Descriptor(layer.digest, MEDIA_TYPES[kind], layer.size)


def _tell(layer: Origin, status: str, total: int = 0) -> None:
    report({"progress": {"layer": layer.stored.diff_id, "status": status, "total": total or layer.stored.size}})
