"""`pull`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli import credentials, pulling
from cutaway.cli.verb import verb
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.images import explained
from cutaway.engine.options.option import BOOL, STRING, Option
from cutaway.image import references

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.image.references import Reference
    from cutaway.image.registry.access import Access


@verb(
    "pull",
    "image pull",
    usage="[OPTIONS] NAME[:TAG|@DIGEST]",
    summary="Take in an image from a registry",
    options=[
        Option("all-tags", BOOL, "All tags that the repository has", short="a"),
        Option("disable-content-trust", BOOL, "Do not verify signatures, which is not supported", default="true"),
        Option("platform", STRING, "Platform the image is to be for: OS/ARCHITECTURE[/VARIANT]"),
        Option("quiet", BOOL, "Print the image's ID only", short="q"),
    ],
    arguments=(1, 1),
    completes="image",
)
async def pull(session: Session, parsed: Parsed) -> None:
    options, (name,) = parsed
    if not options.get("disable-content-trust", True):
        raise InvalidArgument("content trust (Notary's signatures) is not supported; pull by digest to be sure")
    with explained():
        reference = references.parse(name)
    access = await credentials.access(session, reference.domain)
    wanted = await _wanted(session, reference, access, all_tags=options.get("all-tags", False))
    platform, quiet = options.get("platform", ""), options.get("quiet", False)
    if quiet:
        for each in wanted:
            pulled = await session.while_here(session.engine.image_pull(str(each), platform, access))
            await session.print(pulled.id)
        return
    if wanted != [reference] and not options.get("all-tags"):
        await session.print(f"Using default tag: {wanted[0].tag}")
    is_new = [await pulling.pull(session, each, platform, access) for each in wanted]
    what = reference if options.get("all-tags") else wanted[0]
    await session.print(f"{pulling.status(what, is_new=any(is_new))}\n{what}")


async def _wanted(session: Session, reference: Reference, access: Access, *, all_tags: bool) -> list[Reference]:
    """The images that are asked for, each with its tag or digest."""
    if not all_tags:
        return [reference.tagged().exact()]
    if reference.tag or reference.digest:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    tags = await session.while_here(session.engine.remote_tags(str(reference), access))
    return [references.parse(f"{reference}:{tag}") for tag in tags]
