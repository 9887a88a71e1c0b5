"""Manifests and indexes: what an image is made of, and which of several is for which platform.

OCI image-spec, `manifest.md` and `image-index.md`; Docker's own, of which they were made, say the same in other media
types. They come from strangers: types are checked, and what could be read in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cutaway.image import config
from cutaway.image.errors import BrokenArchive

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPES = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)
_ATTESTATION = "vnd.docker.reference.type"
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on, in Go's words."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


HERE = Platform("linux", config.ARCHITECTURE, config.VARIANT)


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A blob by its digest (OCI image-spec, `descriptor.md`)."""

    media_type: str = ""
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Manifest(msgspec.Struct):
    """One image: its configuration and layers, the lowest first."""

    config: Descriptor
    layers: list[Descriptor]


class Index(msgspec.Struct):
    """Several images of one name."""

    manifests: list[Descriptor]


class _Any(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] | None = None
    manifests: list[Descriptor] | None = None


class Document(msgspec.Struct, frozen=True):
    """A manifest or index as it came, with the media type that it came as."""

    content: bytes
    media_type: str
    digest: str

    def parsed(self) -> Manifest | Index:
        """What it says. Raises `BrokenArchive`."""
        found = self._decoded()
        if found.schema_version == 1:
            raise BrokenArchive(
                f"manifest {self.digest} is of Docker's schema 1, without digests of what it unpacks to, and is not "
                "accepted; push the image anew with a Docker of this decade"
            )
        if found.manifests is not None and found.config is None and found.layers is None:
            return Index(found.manifests)
        if found.manifests is None and found.config is not None and found.layers is not None:
            return Manifest(found.config, found.layers)
        raise BrokenArchive(f"{self.digest} is neither the manifest of an image nor an index of several")

    def _decoded(self) -> _Any:
        try:
            return msgspec.json.decode(self.content, type=_Any)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise BrokenArchive(f"manifest {self.digest} cannot be read: {error}") from None


def platform(text: str) -> Platform:
    """The platform that `OS/ARCH[/VARIANT]`, or one of them alone, stands for; empty: this machine's.

    Raises `BrokenArchive`.
    """
    parts = [_ALIASES.get(part, part) for part in text.lower().split("/")] if text else []
    if len(parts) > 3 or not all(parts):
        raise BrokenArchive(f"platform {text!r} is not of the form OS/ARCHITECTURE[/VARIANT]")
    if parts == ["linux"]:
        return HERE
    if len(parts) == 1:
        parts.insert(0, "linux")
    return Platform(*parts) if parts else HERE


def choose(offered: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """Of the images in an index the one that fits best. Raises `BrokenArchive` where none does."""
    images = [each for each in offered if _ATTESTATION not in (each.annotations or {})]
    fitting = [each for each in images if _fit(each.platform or HERE, wanted) is not None]
    if fitting:
        return max(fitting, key=lambda each: _fit(each.platform or HERE, wanted) or 0)
    there = ", ".join(str(each.platform) for each in images if each.platform) or "nothing"
    raise BrokenArchive(f"there is no image for {wanted}, only for {there}")


def runs_on(offered: Platform, wanted: Platform) -> bool:
    """Whether an image made for `offered` is one for `wanted`."""
    return _fit(offered, wanted) is not None


def _fit(offered: Platform, wanted: Platform) -> int | None:
    """How well: a variant runs what was made for an older one (`v6` on `v7`), the newest of them best."""
    if (offered.os, offered.architecture) != (wanted.os, wanted.architecture):
        return None
    has, needs = _version(wanted), _version(offered)
    return needs if needs <= has else None


def _version(platform: Platform) -> int:
    variant = platform.variant or _DEFAULT_VARIANTS.get(platform.architecture, "")
    digits = variant.removeprefix("v")
    return int(digits[:2]) if digits[:2].isdecimal() else 0
