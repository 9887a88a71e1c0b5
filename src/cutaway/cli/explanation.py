"""What an error says to a person, with the name that was perhaps meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.engine.errors import EngineError, NotFound
from cutaway.engine.options.option import suggestion

if TYPE_CHECKING:
    from cutaway.engine.interface import Engine


async def explain(engine: Engine, error: EngineError) -> str:
    """The error's sentence; where a name is unknown, also one that is near."""
    if not isinstance(error, NotFound) or not error.name:
        return str(error)
    return str(error) + suggestion(error.name.removesuffix(":latest"), await known_names(engine, error.kind))


async def known_names(engine: Engine, kind: str) -> list[str]:
    """The names of all containers, images, networks or volumes."""
    match kind:
        case "container":
            return [container.Name.removeprefix("/") for container in await engine.containers()]
        case "image":
            names = [name for image in await engine.images() for name in image.RepoTags]
            return sorted({name.removesuffix(":latest") for name in names})
        case "network":
            return [network.Name for network in await engine.networks()]
        case "volume":
            return [volume.Name for volume in await engine.volumes()]
    return []
