"""`--cidfile`: a file that gets a container's ID when the container is created."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from cutaway.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from cutaway.engine.interface import Engine
    from cutaway.engine.model import Created, CreateRequest


async def create(engine: Engine, request: CreateRequest, *, owned: bool = False, provisional: bool = False) -> Created:
    """Creates a container, and writes its ID to the file if one is asked for.

    Raises `InvalidArgument` where the file is there already, or cannot be written; then there is no container either.
    """
    path = request.host_config.ContainerIDFile
    if path and os.path.exists(path):
        raise InvalidArgument(f"container ID file found, make sure the other container isn't running or delete {path}")
    created = await engine.create(request, owned=owned, provisional=provisional)
    if path:
        await _write(engine, path, created.Id)
    return created


def remove(request: CreateRequest) -> None:
    """Removes the file of a container that was removed because it could not be started."""
    if request.host_config.ContainerIDFile:
        with suppress(FileNotFoundError):
            os.unlink(request.host_config.ContainerIDFile)


async def _write(engine: Engine, path: str, container_id: str) -> None:
    try:
        with open(path, "x") as file:
            file.write(container_id)
    except OSError as problem:
        await engine.remove(container_id, volumes=True)
        raise InvalidArgument(f"failed to create the container ID file: {path}: {problem.strerror}") from None
