"""`push`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli import credentials
from cutaway.cli.progress import shown
from cutaway.cli.verb import verb
from cutaway.engine.errors import InvalidArgument, NotFound
from cutaway.engine.images import explained
from cutaway.engine.options.option import BOOL, Option
from cutaway.image import references

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.image.references import Reference
    from cutaway.image.registry.access import Access


@verb(
    "push",
    "image push",
    usage="[OPTIONS] NAME[:TAG]",
    summary="Bring an image to a registry",
    options=[
        Option("all-tags", BOOL, "All tags of the repository", short="a"),
        Option("disable-content-trust", BOOL, "Do not sign, which is not supported", default="true"),
        Option("quiet", BOOL, "Print the image's name only", short="q"),
    ],
    arguments=(1, 1),
    completes="image",
)
async def push(session: Session, parsed: Parsed) -> None:
    options, (name,) = parsed
    if not options.get("disable-content-trust", True):
        raise InvalidArgument("content trust (Notary's signatures) is not supported")
    with explained():
        reference = references.parse(name)
    quiet, all_tags = options.get("quiet", False), options.get("all-tags", False)
    wanted = await _all_tags(session, reference) if all_tags else [reference.tagged()]
    access = await credentials.access(session, reference.domain)
    if quiet:
        for each in wanted:
            await session.while_here(session.engine.image_push(str(each), access))
        return await session.print(str(reference if all_tags else wanted[0]))
    if not (reference.tag or all_tags):
        await session.print(f"Using default tag: {wanted[0].tag}")
    await session.print(f"The push refers to repository [{reference.name}]")
    for each in wanted:
        await _push(session, each, access)
    return None


async def _push(session: Session, reference: Reference, access: Access) -> None:
    async with shown(session, 1) as progress:
        pushed = await session.while_here(session.engine.image_push(str(reference), access, progress))
    await session.print(f"{reference.tag}: digest: {pushed.digest} size: {pushed.size}")


async def _all_tags(session: Session, repository: Reference) -> list[Reference]:
    if repository.tag or repository.digest:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    tags = [references.parse(tag) for image in await session.engine.images() for tag in image.RepoTags]
    found = sorted((tag for tag in tags if tag.name == repository.name), key=str)
    if not found:
        raise NotFound(f"An image does not exist locally with the tag: {repository.familiar_name}")
    return found
