"""Pulling an image, in the worker: manifest and configuration first, then the layers beside each other.

Each layer has a process of its own, in which it is downloaded, checked, inflated and unpacked in one pass (`intake`).
What the store has is not asked for; what has come of a blob before is not asked for again (`registry.partial`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from secrets import token_hex
from typing import Any, NamedTuple

import msgspec

from cutaway.image import config, intake, platforms, references
from cutaway.image.config import ImageConfig
from cutaway.image.errors import BrokenArchive, ImageError, NotInRegistry, RegistryError
from cutaway.image.intake import StagedLayer
from cutaway.image.manifest import OCI_CONFIG, Descriptor, Document, Platform
from cutaway.image.processes import each, report, reporter
from cutaway.image.references import Reference
from cutaway.image.registry import partial as partials
from cutaway.image.registry.access import Access
from cutaway.image.registry.partial import Partial
from cutaway.image.registry.repository import Repository, repositories

_AT_ONCE = 4
_DEEPEST = 4  # indexes within indexes
_CONFIGS = ("", OCI_CONFIG, "application/vnd.docker.container.image.v1+json", "application/octet-stream")
_NOT_DISTRIBUTED = ("foreign", "nondistributable")


class Found(msgspec.Struct):
    """What was pulled. `digest`: what the registry knows the name by (of an index, say); `blobs`: all that its layers
    came in; `config`, `manifest`: paths of files in the staging directory."""

    digest: str
    config: str
    manifest: str
    manifest_digest: str
    media_type: str
    blobs: list[str]
    layers: list[StagedLayer]


class Places(NamedTuple):
    """Directories: of what is being taken in, of the layers that the store has, of unfinished blobs."""

    staging: str
    layers: str
    partial: str


def pull(reference: str, platform: str, access: Mapping[str, Any], places: Mapping[str, str]) -> Found:
    """Takes in the image that `reference` (normalised) names, for this platform: documents and layers, in `staging`.

    Each endpoint is asked until one has it all. Raises `ImageError`, with the image, the registry and the reason: that
    of the last one, the registry itself.
    """
    wanted, fitting = references.parse(reference), platforms.parse(platform)
    endpoints = list(repositories(wanted, msgspec.convert(access, Access)))
    for repository in endpoints:
        try:
            with _concerning(wanted, repository):
                return _pulled(repository, wanted, fitting, Places(**places), insist=bool(platform))
        except ImageError:
            if repository is endpoints[-1]:
                raise
    raise AssertionError("every registry has an endpoint")


def tags(reference: str, access: Mapping[str, Any]) -> list[str]:
    """The tags that a repository has. Raises `RegistryError`."""
    wanted = references.parse(reference)
    *_, repository = repositories(wanted, msgspec.convert(access, Access))
    with _concerning(wanted, repository):
        return repository.tags()


def _pulled(repository: Repository, wanted: Reference, platform: Platform, places: Places, *, insist: bool) -> Found:
    named = repository.manifest(wanted.digest or wanted.tag)
    document = _of_platform(repository, named, platform)
    manifest = document.parsed()
    assert manifest.config and manifest.layers is not None
    encoded = _configuration(repository, manifest.config)
    image = config.parse(encoded)
    if insist:
        _check_platform(image, platform)
    what = str(wanted) if wanted.digest else wanted.tag
    report({"progress": {"layer": what, "status": f"Pulling from {wanted.path}"}})
    paired = _paired(manifest.layers, image)
    try:
        staged = list(_take_in_all(repository, paired, places))
    except RegistryError:  # what has come stays for another time
        raise
    except Exception:  # it is not what it should be, or the disk is full
        partials.forget(places.partial, [layer.digest for layer in paired.values()])
        raise
    return Found(
        named.digest,
        _written(places.staging, "config", encoded),
        _written(places.staging, "manifest", document.content),
        document.digest,
        document.media_type,
        [layer.digest for layer in manifest.layers],
        staged,
    )


@contextmanager
def _concerning(wanted: Reference, repository: Repository) -> Iterator[None]:
    """Says of what goes wrong which image it was, and which registry."""
    name, host = wanted.familiar, repository.host
    try:
        yield
    except RegistryError as error:
        if error.status == 404:
            raise NotInRegistry(f"manifest for {name} not found: registry {host}: {error}", 404) from None
        if error.status in (401, 403):
            raise NotInRegistry(
                f"pull access denied for {wanted.familiar_name}, repository does not exist or may require "
                f"'cutaway login': registry {host}: {error}"
            ) from None
        raise RegistryError(f"cannot pull {name} from registry {host}: {error}") from None
    except ImageError as error:
        raise type(error)(f"cannot pull {name} from registry {host}: {error}") from None


def _of_platform(repository: Repository, document: Document, wanted: Platform) -> Document:
    """The manifest of an image: of an index, of the one for this platform."""
    for _ in range(_DEEPEST):
        listed = document.parsed().manifests
        if listed is None:
            return document
        document = repository.manifest(platforms.choose(listed, wanted).digest)
    raise BrokenArchive(f"more than {_DEEPEST} indexes within each other")


def _configuration(repository: Repository, descriptor: Descriptor) -> bytes:
    if descriptor.media_type not in _CONFIGS:
        raise BrokenArchive(f"this is no image for containers, but {descriptor.media_type[:100]!a}")
    return repository.small_blob(descriptor.digest, descriptor.size)


def _check_platform(image: ImageConfig, wanted: Platform) -> None:
    offered = Platform(image.architecture, image.os, image.variant)
    if not platforms.runs_on(offered, wanted):
        raise BrokenArchive(f"the image is for {offered}, not for {wanted}, and there is no other by this name")


def _paired(descriptors: Sequence[Descriptor], image: ImageConfig) -> dict[str, Descriptor]:
    """The blob of each layer, by its diff ID."""
    if len(descriptors) != len(image.diff_ids):
        raise BrokenArchive(f"the manifest names {len(descriptors)} layers, the configuration {len(image.diff_ids)}")
    for layer in descriptors:
        if any(word in layer.media_type for word in _NOT_DISTRIBUTED):
            raise BrokenArchive(
                f"layer {layer.digest} is one that registries may not distribute ({layer.media_type}); to take it from "
                "where else its manifest says is refused"
            )
        if layer.size < 0 or not references.is_digest(layer.digest):
            raise BrokenArchive(f"the manifest names a layer {layer.digest[:80]!a} of {layer.size} bytes")
    return dict(zip(image.diff_ids, descriptors, strict=True))


def _take_in_all(repository: Repository, found: Mapping[str, Descriptor], places: Places) -> Iterator[StagedLayer]:
    """The layers that the store does not have, the largest first."""
    missing = [diff_id for diff_id in found if not _is_in(places.layers, diff_id)]
    for diff_id, layer in found.items():
        _tell(layer, "Pulling fs layer" if diff_id in missing else "Already exists")
    missing.sort(key=lambda diff_id: found[diff_id].size, reverse=True)
    work = {diff_id: partial(_take_in, repository, found[diff_id], diff_id, places) for diff_id in missing}
    for diff_id, staged in each(work, _AT_ONCE):
        _tell(found[diff_id], "Pull complete")
        if staged:
            yield msgspec.convert(staged, StagedLayer)


def _is_in(layers: str, diff_id: str) -> bool:
    return os.path.isdir(os.path.join(layers, diff_id.removeprefix("sha256:")))


def _tell(layer: Descriptor, status: str) -> None:
    report({"progress": {"layer": layer.digest, "status": status, "total": layer.size}})


def _take_in(repository: Repository, layer: Descriptor, diff_id: str, places: Places) -> StagedLayer | None:
    """In a process of its own. None where another pull has brought the layer meanwhile."""
    repository.session.forget_connections()
    with partials.opened(places.partial, layer.digest, layer.size) as begun:
        if _is_in(places.layers, diff_id):
            return None
        if begun.size:
            try:
                return _unpacked(repository, layer, diff_id, places, begun)
            except BrokenArchive:  # it may be what was there before that is broken
                begun.discard()
        return _unpacked(repository, layer, diff_id, places, begun)


def _unpacked(repository: Repository, layer: Descriptor, diff_id: str, places: Places, begun: Partial) -> StagedLayer:
    now_and_then = reporter(layer.digest, layer.size)

    def progress(done: int) -> None:
        _tell(layer, "Download complete") if done == layer.size else now_and_then(done)

    name = f"{diff_id.removeprefix('sha256:')}.{token_hex(4)}"
    chunks = begun.chunks(repository, progress)
    return intake.take_in(chunks, places.staging, name, (layer.digest, diff_id), stored=begun.path)


def _written(staging: str, name: str, content: bytes) -> str:
    path = os.path.join(staging, name)
    with open(path, "xb") as file:
        file.write(content)
    return path
