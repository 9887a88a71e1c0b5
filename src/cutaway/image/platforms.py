"""Which of several images is the one for a platform (OCI image-spec, `image-index.md`)."""

from __future__ import annotations

from collections.abc import Iterable

from cutaway.image import config
from cutaway.image.errors import BrokenArchive, InvalidReference
from cutaway.image.manifest import Descriptor, Platform

HERE = Platform(config.ARCHITECTURE, "linux", config.VARIANT)
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}
_ATTESTATION = "vnd.docker.reference.type"  # an annotation of what BuildKit lists beside images


def parse(text: str) -> Platform:
    """The platform that `OS/ARCHITECTURE[/VARIANT]`, or one of the first two alone, stands for; empty: this machine's.

    Raises `InvalidReference`.
    """
    parts = [_ALIASES.get(part, part) for part in text.lower().split("/")] if text else []
    if len(parts) > 3 or not all(parts):
        raise InvalidReference(f"platform {text!r} is not of the form OS/ARCHITECTURE[/VARIANT]")
    if not parts or parts == [HERE.os]:
        return HERE
    os, architecture, *variant = parts if len(parts) > 1 else (HERE.os, *parts)
    return Platform(architecture, os, *variant)


def choose(offered: Iterable[Descriptor], wanted: Platform) -> Descriptor:
    """Of the images in an index the one that fits best. Raises `BrokenArchive` where none does."""
    images = [(each.platform or HERE, each) for each in offered if _ATTESTATION not in (each.annotations or {})]
    fitting = [(platform, image) for platform, image in images if runs_on(platform, wanted)]
    if not fitting:
        there = ", ".join(str(platform) for platform, _ in images[:20]) or "nothing"
        raise BrokenArchive(f"there is no image for {wanted}, only for {there}")
    return max(fitting, key=lambda each: _version(each[0]))[1]


def runs_on(offered: Platform, wanted: Platform) -> bool:
    """Whether an image made for `offered` runs on `wanted`: a variant runs what was made for an older one."""
    same = (offered.os, offered.architecture) == (wanted.os, wanted.architecture)
    return same and _version(offered) <= _version(wanted)


def _version(platform: Platform) -> int:
    """The number in a variant: 7 of `v7`."""
    variant = platform.variant or _DEFAULT_VARIANTS.get(platform.architecture, "")
    number = variant.removeprefix("v")[:2]
    return int(number) if number.isdecimal() else 0
