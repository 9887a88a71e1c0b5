"""What can go wrong with images, drawn as a tree.

ImageError
├── InvalidReference    a name that Docker's grammar does not allow
├── InvalidChange       a `--change` instruction that cannot be understood
├── NoSuchImage         nothing in the store answers to the name
├── AmbiguousImage      the beginning of an ID that several images share
├── ImageConflict       something still uses what is to be removed
├── RegistryError       a registry that does not answer, refuses, or sends what it should not
│   └── NotInRegistry       it has no such image, or does not say so to this caller
└── BrokenArchive       an archive, layer or configuration that is not what it claims to be, or that does not fit
"""

from __future__ import annotations


class ImageError(Exception):
    """Base of everything this room raises on purpose; its text is one sentence for the person who asked."""


class InvalidReference(ImageError):
    """A reference outside Docker's grammar; nothing was done."""


class InvalidChange(ImageError):
    """A Dockerfile instruction that `--change` does not know or cannot parse; nothing was done."""


class NoSuchImage(ImageError):
    """No image by that name or ID. `reference` is the name as Docker's messages show it: `busybox:latest`."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such image: {reference}")
        self.reference = reference


class AmbiguousImage(ImageError):
    """Several images have an ID that begins so. `candidates` are their full IDs."""

    def __init__(self, prefix: str, candidates: list[str]) -> None:
        shown = ", ".join(candidate.removeprefix("sha256:")[:12] for candidate in candidates)
        super().__init__(f"No such image: {prefix}: {len(candidates)} image IDs begin so ({shown}); give more of it")
        self.candidates = candidates


class ImageConflict(ImageError):
    """An image that cannot be removed as asked: a container or another name needs it."""


class BrokenArchive(ImageError):
    """What was given cannot be taken in; the store is as it was before."""


class RegistryError(ImageError):
    """`status` is the HTTP status it answered with, 0 where it did not come to that: 404 where there is no such image,
    401 and 403 where the caller may not have it."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class NotInRegistry(RegistryError):
    """No such image there, as far as this caller may know."""


_BY_NAME = {kind.__name__: kind for kind in (InvalidReference, BrokenArchive, RegistryError, NotInRegistry)}


def by_name(kind: str, sentence: str) -> ImageError:
    """The error of the class called `kind`, which another process reports; an `ImageError` where it is none of ours."""
    return _BY_NAME.get(kind, ImageError)(sentence)
