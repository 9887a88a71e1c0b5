"""What an image archive says it holds: the Docker archive (`docker save`) and the OCI image layout.

Docker's has `manifest.json`, a list of images with the names of their files. The OCI layout (image-spec,
`image-layout.md`) has `index.json`, which leads by digests to manifests. Docker 25 and later, and `layout` here, write
both into one archive; then Docker's is read, because it has the tags in full, and of the other only the manifests.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from cutaway.image import config, platforms, references, sources
from cutaway.image.errors import BrokenArchive, InvalidReference
from cutaway.image.manifest import OCI_MANIFEST, Descriptor, Document, Manifest, of_image
from cutaway.image.sources import Source

_DOCKER, _OCI, _INDEX = "manifest.json", "oci-layout", "index.json"
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_DEEPEST = 4  # indexes within indexes

Decoded = TypeVar("Decoded")


class Layer(msgspec.Struct, frozen=True):
    """A layer in an archive: `file` names it there; `digest` is that of the file, empty where the archive is silent."""

    file: str
    digest: str
    diff_id: str


class Described(msgspec.Struct, frozen=True):
    """An image in an archive: its configuration, layers from the lowest, and normalised names; and its manifest, unless
    it would be made again just so."""

    document: bytes
    layers: list[Layer]
    tags: list[str]
    manifest: Document | None = None


class _DockerManifest(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def described(source: Source) -> list[Described]:
    """The images in an archive; raises `BrokenArchive` where it holds none that can be read."""
    if _DOCKER in source:
        images = list(_docker(source))
    elif _OCI in source:
        images = list(_oci(source))
    else:
        raise BrokenArchive(
            f"this is no image archive: it has neither {_DOCKER} nor {_OCI}; a root file system is taken in by `import`"
        )
    if not images:
        raise BrokenArchive("the archive holds no images")
    return images


def _docker(source: Source) -> Iterator[Described]:
    manifests = _manifests(source)
    content = sources.read(source, _DOCKER, config.LARGEST)
    for manifest in _decoded(content, list[_DockerManifest], _DOCKER):
        document = sources.read(source, manifest.config, config.LARGEST)
        named_by = _digest_of_name(manifest.config)
        if named_by and config.digest(document) != named_by:
            raise BrokenArchive(f"{manifest.config!a} does not have the digest it is named by")
        files = [(file, _digest_of_name(file)) for file in manifest.layers]
        layers, tags = _layers(document, files), [_tag(tag) for tag in manifest.repo_tags or []]
        yield Described(document, layers, tags, _kept(document, layers, manifests.get(config.digest(document))))


def _manifests(source: Source) -> dict[str, Document]:
    """The OCI's manifests in an archive of Docker's, by the digests of their configurations."""
    if _INDEX not in source:
        return {}
    listed = _decoded(sources.read(source, _INDEX, config.LARGEST), Manifest, _INDEX).manifests or []
    there = (each for each in listed if references.is_digest(each.digest) and _file(each.digest) in source)
    documents = [_document(source, descriptor) for descriptor in there]
    named = ((document.parsed().config, document) for document in documents)
    return {descriptor.digest: document for descriptor, document in named if descriptor}


def _kept(document: bytes, layers: Sequence[Layer], manifest: Document | None) -> Document | None:
    """The manifest, if it is of these layers, and not of our own making."""
    descriptors = manifest.parsed().layers if manifest else None
    if not manifest or not descriptors or [layer.digest for layer in layers] != [each.digest for each in descriptors]:
        return None
    return manifest if manifest.content != of_image(document, descriptors) else None


def _digest_of_name(file: str) -> str:
    """A file may be named by its digest: `HEX.json`, `blobs/sha256/HEX`."""
    return references.digest_in(posixpath.basename(file).removesuffix(".json"))


def _tag(tag: str) -> str:
    try:
        return str(references.parse(tag).tagged())
    except InvalidReference as error:
        raise BrokenArchive(f"the archive names an image {tag!a}: {error}") from None


def _oci(source: Source) -> Iterator[Described]:
    content = sources.read(source, _INDEX, config.LARGEST)
    for descriptor in _decoded(content, Manifest, _INDEX).manifests or []:
        found = _manifest(source, descriptor)
        manifest = found.parsed()
        assert manifest.config
        document = _blob(source, manifest.config)
        layers = _layers(document, [(_file(layer.digest), layer.digest) for layer in manifest.layers or []])
        yield Described(document, layers, _annotated_tags(descriptor), _kept(document, layers, found))


def _manifest(source: Source, descriptor: Descriptor) -> Document:
    """The image manifest that a descriptor leads to: of an index, the one for this machine."""
    for _ in range(_DEEPEST):
        document = _document(source, descriptor)
        listed = document.parsed().manifests
        if listed is None:
            return document
        descriptor = platforms.choose(listed, platforms.HERE)
    raise BrokenArchive(f"more than {_DEEPEST} indexes within each other")


def _document(source: Source, descriptor: Descriptor) -> Document:
    return Document(_blob(source, descriptor), descriptor.media_type or OCI_MANIFEST, descriptor.digest)


def _annotated_tags(descriptor: Descriptor) -> list[str]:
    """The name an annotation gives; a bare tag such as `latest`, which some write there, names no image."""
    for annotation in _NAME_ANNOTATIONS:
        name = (descriptor.annotations or {}).get(annotation, "")
        if ":" in name or "/" in name:
            return [_tag(name)]
    return []


def _blob(source: Source, descriptor: Descriptor) -> bytes:
    content = sources.read(source, _file(descriptor.digest), config.LARGEST)
    if config.digest(content) != descriptor.digest:
        raise BrokenArchive(f"blob {descriptor.digest} does not have that digest, but {config.digest(content)}")
    return content


def _file(digest: str) -> str:
    if not references.is_digest(digest):
        raise BrokenArchive(f"the archive names a blob {digest[:80]!a}, which is no sha256 digest")
    return "blobs/sha256/" + digest.removeprefix("sha256:")


def _layers(document: bytes, files: list[tuple[str, str]]) -> list[Layer]:
    diff_ids = config.parse(document).diff_ids
    if len(diff_ids) != len(files):
        raise BrokenArchive(f"the image configuration names {len(diff_ids)} layers, the archive holds {len(files)}")
    return [Layer(file, digest, diff_id) for (file, digest), diff_id in zip(files, diff_ids, strict=True)]


def _decoded(content: bytes, kind: type[Decoded], name: str) -> Decoded:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BrokenArchive(f"{name} cannot be read: {error}") from None
