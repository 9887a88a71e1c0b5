"""Image manifests and indexes: which blobs an image is made of, and which images there are for which platforms.

OCI image-spec, `manifest.md`, `image-index.md` and `descriptor.md`; Docker's "schema 2" has the same members and other
media types. A manifest's digest is what registries name an image by, so the bytes of one that came from elsewhere are
kept as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cutaway.image import config
from cutaway.image.errors import BrokenArchive

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPES = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on, in Go's words."""

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A blob as others refer to it; `size` in bytes, -1 where whoever refers to it does not say."""

    digest: str
    media_type: str = ""
    size: int = -1
    urls: list[str] | None = None
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """An image's manifest, which has `config` and `layers`, or an index, which has `manifests`."""

    schema_version: int = 0
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


class Document(msgspec.Struct, frozen=True):
    """A manifest or index as it came, byte for byte; `media_type` is what it came as."""

    content: bytes
    media_type: str
    digest: str

    def parsed(self) -> Manifest:
        """What it says. Raises `BrokenArchive`, also where it could be read as both (CVE-2021-41190)."""
        try:
            found = msgspec.json.decode(self.content, type=Manifest)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BrokenArchive(f"manifest {self.digest} cannot be read: {error}") from None
        if found.schema_version == 1:
            raise BrokenArchive(
                f"manifest {self.digest} is of Docker's schema 1, which is out of use and does not say what its layers "
                "unpack to; have it pushed anew by a Docker later than 1.9"
            )
        is_image = found.config is not None and found.layers is not None
        if is_image == (found.manifests is not None):
            raise BrokenArchive(f"manifest {self.digest} is neither an image's nor an index")
        return found

    def layer_digests(self) -> list[str]:
        """The digests of the blobs that the layers of an image are in, the lowest first. Raises `BrokenArchive`."""
        return [layer.digest for layer in self.parsed().layers or []]


def described(content: bytes, media_type: str) -> Descriptor:
    """The descriptor of `content`."""
    return Descriptor(config.digest(content), media_type, len(content))


def of_image(document: bytes, layers: Sequence[Descriptor]) -> bytes:
    """The manifest, of the OCI's kind, of the image with this configuration and these layers, the lowest first."""
    return msgspec.json.encode(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=described(document, OCI_CONFIG),
            layers=list(layers),
        )
    )


def index(manifests: Sequence[Descriptor]) -> bytes:
    """The index that lists these manifests."""
    return msgspec.json.encode(Manifest(schema_version=2, media_type=OCI_INDEX, manifests=list(manifests)))
