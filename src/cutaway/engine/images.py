"""Images in the API's words: what the image room knows, as `model` says it, and its errors as the engine's."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from cutaway.engine import model
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument, NotFound
from cutaway.engine.interface import Pulled, Pushed, Step
from cutaway.image import config, errors, host
from cutaway.image.references import familiar, is_digest, short_id
from cutaway.kernel.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cutaway.image.history import Step as Made
    from cutaway.image.images import Images
    from cutaway.image.registry.access import Access
    from cutaway.image.store import Image, Listed

_KINDS: dict[type[errors.ImageError], type[EngineError]] = {
    errors.ImageConflict: Conflict,
    errors.InvalidReference: InvalidArgument,
    errors.InvalidChange: InvalidArgument,
    errors.BrokenArchive: InvalidArgument,
    errors.NotInRegistry: NotFound,
}


class Catalogue:
    """The images that there are, and those that come and go."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def resolve(self, name: str) -> Image:
        """The image that a name or ID means. Raises `NotFound`, `InvalidArgument`."""
        with explained():
            return self._images.resolve(name)

    def all(self) -> list[model.ImageSummary]:
        """All of them, the newest first. `host` is the oldest: it was there before any other."""
        machine = host.image()
        names = [reference.familiar for reference in self._images.tags(machine)]
        return [
            *map(summary, self._images.listing()),
            model.ImageSummary(Id=machine.id, RepoTags=names, Created=0, Size=0),
        ]

    def descendants(self, name: str) -> set[str]:
        """The IDs of an image and of all that stand on its layers; none where there is no such image."""
        try:
            return self._images.descendants(name)
        except errors.ImageError:
            return set()

    def history(self, name: str) -> list[model.HistoryStep]:
        """How an image was made, the last step first. Raises `NotFound`."""
        with explained():
            return list(map(self._step, self._images.history(name)))

    def inspect(self, name: str) -> model.Image:
        """Raises `NotFound`."""
        with explained():
            return self._seen(name)

    async def import_(self, descriptor: int, reference: str, changes: Sequence[str], message: str) -> str:
        """Makes an image of a root file system; returns its ID."""
        with explained():
            return (await self._images.import_(descriptor, reference, changes, message)).id

    async def load(self, descriptor: int) -> list[str]:
        """Takes in an archive of images; returns their names, or IDs of those that have none."""
        with explained():
            loaded = await self._images.load(descriptor)
        return [name for image in loaded for name in image.tags or [image.id]]

    async def pull(self, reference: str, platform: str, access: Access, progress: Callable[[Step], None]) -> Pulled:
        """Takes in an image from its registry. Raises `NotFound`, `InvalidArgument`, `EngineError`."""
        with explained():
            pulled = await self._images.pull(reference, platform, access, lambda report: progress(_step(report)))
        return Pulled(pulled.id, str(pulled.reference), pulled.digest, pulled.is_new)

    async def push(self, reference: str, access: Access, progress: Callable[[Step], None]) -> Pushed:
        """Brings an image to its registry. Raises `NotFound`, `InvalidArgument`, `EngineError`."""
        with explained():
            manifest = await self._images.push(reference, access, lambda report: progress(_step(report, "Pushing")))
        return Pushed(manifest.digest, len(manifest.content))

    async def remote_tags(self, repository: str, access: Access) -> list[str]:
        """The tags of a repository in its registry. Raises `NotFound`, `EngineError`."""
        with explained():
            return await self._images.remote_tags(repository, access)

    async def save(self, names: Sequence[str], descriptor: int) -> None:
        """Raises `NotFound`, `InvalidArgument`."""
        with explained():
            await self._images.save(names, descriptor)

    async def login(self, domain: str, access: Access) -> str:
        """The identity token that a registry gives for credentials, empty where it gives none."""
        with explained():
            return await self._images.login(domain, access)

    def tag(self, name: str, reference: str) -> None:
        """Raises `NotFound`, `InvalidArgument`."""
        with explained():
            self._images.tag(name, reference)

    async def remove(self, name: str, *, force: bool) -> list[model.ImageDelete]:
        """Raises `NotFound`, `Conflict`."""
        with explained():
            return msgspec.convert(await self._images.remove(name, force=force), list[model.ImageDelete])

    def _step(self, step: Made) -> model.HistoryStep:
        tags = (
            [reference.familiar for reference in self._images.tags(self._images.by_id(step.image))]
            if step.image
            else []
        )
        return model.HistoryStep(
            Id=step.image or "<missing>",
            Created=int(config.seconds_of(step.made.created)),
            CreatedBy=step.made.created_by,
            Tags=tags or None,
            Size=step.size,
            Comment=step.made.comment,
        )

    def _seen(self, name: str) -> model.Image:
        return msgspec.convert(_without_none(self._images.inspect(name)), model.Image)


def summary(listed: Listed) -> model.ImageSummary:
    """An image as lists show it."""
    return model.ImageSummary(
        Id=listed.id,
        RepoTags=list(map(familiar, listed.tags)),
        RepoDigests=list(map(familiar, listed.digests)),
        Created=int(listed.created),
        Size=listed.size,
        Labels=listed.labels,
    )


def _step(report: Mapping[str, Any], doing: str = "Downloading") -> Step:
    """What `Images.pull` and `push` say of a layer, or of the image."""
    what = report["layer"]
    short = short_id(what) if is_digest(what) else what
    return Step(report.get("status", doing), short, report.get("done", 0), report.get("total", 0))


@contextmanager
def explained() -> Iterator[None]:
    """Raises what goes wrong with images as errors of the engine."""
    try:
        yield
    except errors.NoSuchImage as error:
        raise NotFound(str(error), "image", error.reference) from None
    except errors.AmbiguousImage as error:
        raise NotFound(str(error), "image") from None
    except errors.ImageError as error:
        kind = next((kind for of, kind in _KINDS.items() if isinstance(error, of)), EngineError)
        raise kind(str(error)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # others mean a path in a container
            raise
        raise EngineError(f"cannot keep the image: {sentence(error)}") from None


def _without_none(value: Any) -> Any:
    """What an image leaves open is left to the defaults of `model`."""
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value
