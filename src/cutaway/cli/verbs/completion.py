"""`completion`: scripts for bash, zsh and fish; `__complete`: what they ask while someone types."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from cutaway.cli import completion as scripts
from cutaway.cli.completing import candidates
from cutaway.cli.verb import verb
from cutaway.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session

SHELLS = ("bash", "zsh", "fish")


@verb(
    "completion",
    usage="bash|zsh|fish",
    summary="Print the script that completes command lines in a shell",
    arguments=(1, 1),
    completes="|".join(SHELLS),
)
async def completion(session: Session, parsed: Parsed) -> None:
    shell = parsed.arguments[0]
    if shell not in SHELLS:
        raise InvalidArgument(f"no completion for {shell}: there is one for {', '.join(SHELLS)}")
    await session.out(resources.files(scripts).joinpath(f"cutaway.{shell}").read_text())


@verb("__complete", usage="WORD...", summary="Print what may come next", interspersed=False)
async def complete(session: Session, parsed: Parsed) -> None:
    await session.out("".join(f"{each}\n" for each in await candidates(session, parsed.arguments)))
