"""What a container has become, kept: as an image (`commit`), or as an archive of its whole root (`export`)."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from cutaway.engine.archives import MADE_FOR_MOUNTS
from cutaway.engine.beside import beside
from cutaway.engine.errors import Conflict, EngineError, InvalidArgument
from cutaway.engine.images import explained
from cutaway.engine.roots import assembled
from cutaway.image import config, host, instructions
from cutaway.image.config import History, ImageConfig, RunConfig
from cutaway.kernel.errors import sentence
from cutaway.kernel.mounts import clone_tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cutaway.engine.containers import Container
    from cutaway.engine.interface import Commit
    from cutaway.engine.limits import Limits
    from cutaway.image.images import Images

_OF_IMAGES = (
    *("User", "ExposedPorts", "Env", "Cmd", "Healthcheck", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels"),
    *("StopSignal", "StopTimeout", "Shell"),
)
"""What an image says of the containers made of it; the rest of a container's configuration is its own."""


class Snapshots:
    """Makes images and archives of containers."""

    def __init__(self, images: Images, limits: Limits) -> None:
        self._images, self._limits = images, limits

    async def commit(self, container: Container, asked: Commit) -> str:
        """Makes an image of a container's image and its own layer; returns the new image's ID."""
        parent_id, layers = container.seen.Image, container.seen.GraphDriver.Data
        if parent_id in ("", host.image().id):
            raise InvalidArgument(
                f"container {container.name} stands on no layers that an image could have; make one of all its files: "
                f"cutaway export {container.name} | cutaway import - {asked.reference or 'NAME'}"
            )
        with explained():
            parent = self._images.by_id(parent_id)
            run = instructions.applied(asked.changes, _run_config(container))
            step = History(
                created=config.now(),
                created_by=" ".join(container.seen.Config.Cmd or ()),
                author=asked.author,
                comment=asked.message,
            )

            def describe(diff_id: str) -> ImageConfig:
                if container.removed:
                    raise Conflict(f"container {container.name} was removed while it was read; there is no image of it")
                step.empty_layer = not diff_id
                return config.committed(parent.config, run, step, diff_id, container.id)

            async with self._at_rest(container, pause=asked.pause):
                made = [path.strip("/") for path in MADE_FOR_MOUNTS]
                return (await self._images.commit(parent, layers["UpperDir"], made, describe, asked.reference)).id

    async def export(self, container: Container, descriptor: int) -> None:
        """Writes the container's root file system as a tar archive; not what is mounted in it."""
        async with self._at_rest(container, pause=False):
            try:
                root = await self._root(container)
            except OSError as error:
                raise EngineError(f"cannot read the files of container {container.name}: {sentence(error)}") from None
            try:
                with explained():
                    await self._images.pack(root, "/", "", descriptor)
            finally:
                os.close(root)

    @asynccontextmanager
    async def _at_rest(self, container: Container, *, pause: bool) -> AsyncIterator[None]:
        """While this lasts, a container that does not run is neither started nor removed; one that runs is paused."""
        async with container.lock:
            if container.removed:
                raise Conflict(f"container {container.name} is being removed")
            if not container.process:
                yield
                return
        if pause and not container.state.Paused:
            async with self._limits.paused(container):
                yield
        else:
            yield

    async def _root(self, container: Container) -> int:
        """A descriptor of the root file system alone, detached from everything."""
        merged = container.seen.GraphDriver.Data["MergedDir"]
        if container.process:
            return clone_tree(merged)

        def work(_: int) -> int:
            with assembled(container, []):
                return clone_tree(merged)

        return await beside(work, own_mounts=True)


def _run_config(container: Container) -> RunConfig:
    whole = msgspec.to_builtins(container.seen.Config)
    return msgspec.convert({name: whole[name] for name in _OF_IMAGES if whole[name]}, RunConfig)
