"""`--pull`: the image of a container that is to be made, pulled where it is missing, or always, or never."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.engine import cidfile
from cutaway.engine.errors import NotFound
from cutaway.engine.images import explained
from cutaway.image import platforms, references
from cutaway.image.manifest import Platform

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from cutaway.engine.interface import Engine
    from cutaway.engine.model import Created, CreateRequest


async def create(
    engine: Engine,
    request: CreateRequest,
    options: Mapping[str, Any],
    pull: Callable[[str, str], Awaitable[object]],
    *,
    owned: bool = False,
    provisional: bool = False,
) -> Created:
    """Creates a container as `cidfile.create` does, having had its image pulled by `pull(image, platform)` where the
    options `pull` and `platform` want that."""
    image, platform, policy = request.config.Image, options.get("platform", ""), options.get("pull", "missing")
    if image and (policy == "always" or (platform and not await _is_for(engine, image, platform))):
        if policy == "never":
            raise NotFound(f"image {image} is not here for {platform}, and is not to be pulled", "image", image)
        await pull(image, platform)
    try:
        return await cidfile.create(engine, request, owned=owned, provisional=provisional)
    except NotFound as error:
        is_name = error.kind == "image" and error.name and not references.digest_in(image)
        if policy != "missing" or not is_name:
            raise
    await pull(image, platform)
    return await cidfile.create(engine, request, owned=owned, provisional=provisional)


async def _is_for(engine: Engine, image: str, platform: str) -> bool:
    """Whether there is such an image and it is for this platform."""
    with explained():
        wanted = platforms.parse(platform)
    try:
        found = await engine.image_inspect(image)
    except NotFound:
        return False
    return platforms.runs_on(Platform(found.Architecture, found.Os, found.Variant), wanted)
