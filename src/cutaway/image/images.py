"""What the engine asks of images: take in, find, list, name, remove. One object, `Images`, per engine.

Finding is quick and cached; what reads or writes much runs in a child process (`offload`) and is awaited.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from cutaway.image import config, host, instructions, offload, references
from cutaway.image.errors import AmbiguousImage, ImageConflict, InvalidReference, NoSuchImage
from cutaway.image.inspect import inspected
from cutaway.image.intake import StagedLayer
from cutaway.image.references import Reference, digest_in
from cutaway.image.store import Image, Listed, Store

Users = Callable[[str], Iterable[tuple[str, bool]]]
"""Of an image ID: the containers made from it, each as (container ID, whether it runs)."""


class Images:
    """The images below the directory `root`, recorded in `database`; `users` tells which containers need an image."""

    def __init__(self, root: str, database: sqlite3.Connection, users: Users = lambda _: ()) -> None:
        self._store, self._users = Store(root, database), users
        self._leftovers = self._store.leftovers()
        self._found: dict[str, Image] = {}

    async def sweep(self) -> None:
        """Removes what a crash left behind; to be awaited once, at leisure, after the start."""
        await self._remove_files(self._leftovers)

    def resolve(self, name: str) -> Image:
        """The image that a reference, an ID or the beginning of an ID means, as Docker decides it.

        Raises `InvalidReference`, `NoSuchImage` or `AmbiguousImage`.
        """
        if name not in self._found:
            self._found[name] = self._resolved(name)
        return self._found[name]

    def by_id(self, identifier: str) -> Image:
        """The image with this full ID, also one that was removed while containers stand on it."""
        if identifier == host.image().id:
            return host.image()
        image = self._store.find(identifier, removed=True)
        if image is None:
            raise NoSuchImage(identifier)
        return image

    def _resolved(self, name: str) -> Image:
        if full := digest_in(name):
            return self._present(full, name)
        reference = references.parse(name).tagged()
        if str(reference) == host.NAME:
            return host.image()
        if tagged := self._store.tagged(str(reference)):
            return self._present(tagged, name)
        candidates = self._store.beginning("sha256:" + name.removeprefix("sha256:"))
        if len(candidates) > 1:
            raise AmbiguousImage(name, candidates)
        return self._present(candidates[0] if candidates else "", reference.familiar)

    def _present(self, identifier: str, name: str) -> Image:
        image = host.image() if identifier == host.image().id else self._store.find(identifier)
        if image is None:
            raise NoSuchImage(name)
        return image

    def tags(self, image: Image) -> list[Reference]:
        """The references that name an image."""
        if image.id == host.image().id:
            return [references.parse(host.NAME)]
        return [references.parse(tag) for tag in self._store.tags(image.id)]

    def listing(self) -> list[Listed]:
        """All images in the store, the newest first; `host`, which is not in the store, is not among them."""
        return self._store.listing()

    def inspect(self, name: str) -> dict[str, Any]:
        """An image as `docker image inspect` prints it."""
        image = self.resolve(name)
        tagged_at = 0 if image.id == host.image().id else self._store.tagged_at(image.id)
        return inspected(image, self.tags(image), tagged_at)

    def tag(self, source: str, target: str) -> None:
        """Makes the reference `target` name the image that `source` means."""
        self._store.set_tag(_tag(target), self._in_store(source).id)
        self._found.clear()

    def _in_store(self, name: str) -> Image:
        image = self.resolve(name)
        if image.id == host.image().id:
            raise ImageConflict("the image host is this machine's own root file system: it has one name and stays")
        return image

    async def import_(
        self,
        source: int,
        reference: str = "",
        changes: Sequence[str] = (),
        message: str = "",
        progress: offload.Progress = lambda _: None,
    ) -> Image:
        """Makes an image of the tar archive, however compressed, that the descriptor `source` gives.

        `changes` are Dockerfile instructions. Raises `ImageError`; then the store is as it was.
        """
        tags = [_tag(reference)] if reference else []
        run = instructions.applied(changes)
        async with self._staging() as staging:
            answer = await offload.run({"do": "import", "staging": staging}, source, progress=progress)
            layer = msgspec.convert(answer, StagedLayer)
            document = config.encode(config.imported(run, layer.diff_id, message))
            return self._added(self._store.add(document, staging, [layer], tags))

    def _added(self, identifier: str) -> Image:
        self._found.clear()
        return self.by_id(identifier)

    @asynccontextmanager
    async def _staging(self) -> AsyncIterator[str]:
        """A directory for what is not yet the store's; whatever is still in it at the end is removed."""
        name = self._store.staging_name()
        path = os.path.join(self._store.staging, name)
        os.mkdir(path, 0o700)
        try:
            yield path
        finally:
            try:
                os.rmdir(path)
            except OSError:
                await self._remove_files([name])

    async def _remove_files(self, names: Sequence[str]) -> None:
        if names:
            await offload.run({"do": "remove", "directory": self._store.staging, "names": names})


def _tag(reference: str) -> str:
    """The normalised form of a reference that is to name an image."""
    parsed = references.parse(reference).tagged()
    if parsed.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if str(parsed) == host.NAME:
        raise InvalidReference("the name host belongs to the machine's own root file system; choose another")
    return str(parsed)
