"""An image pulled while the caller looks on: a line for each layer, or a bar with rate and time left on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli import credentials
from cutaway.cli.progress import shown
from cutaway.engine.images import explained
from cutaway.image import references

if TYPE_CHECKING:
    from cutaway.cli.session import Session
    from cutaway.image.references import Reference
    from cutaway.image.registry.access import Access


async def pull(session: Session, reference: Reference, platform: str, access: Access, output: int = 1) -> bool:
    """Pulls an image, and says so on the caller's descriptor `output` (1 or 2) as Docker does. Returns whether there
    was anything new."""
    async with shown(session, output) as progress:
        pulled = await session.while_here(session.engine.image_pull(str(reference), platform, access, progress))
    await (session.print if output == 1 else session.complain)(f"Digest: {pulled.digest}")
    return pulled.is_new


async def pull_for_container(session: Session, name: str, platform: str) -> None:
    """Pulls the image of a container that is about to be made. All that is said of it goes to standard error."""
    with explained():
        reference = references.parse(name).tagged().exact()
    access = await credentials.access(session, reference.domain)
    is_new = await pull(session, reference, platform, access, output=2)
    await session.complain(status(reference, is_new=is_new))


def status(reference: Reference, *, is_new: bool) -> str:
    """What Docker says at the end."""
    return f"Status: {'Downloaded newer image' if is_new else 'Image is up to date'} for {reference.familiar}"


def familiar(name: str) -> str:
    """An image's name as Docker says it: with its tag."""
    with explained():
        return references.parse(name).tagged().familiar
