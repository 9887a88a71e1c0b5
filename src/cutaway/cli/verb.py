"""What a verb of the command line is: its names, its usage, its options, and the function that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cutaway.cli.parser import WrongNumber

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.options import Option

UNLIMITED = 1 << 30


class Verb(NamedTuple):
    """`paths`: the words that name it, the first one being what help calls it. `arguments`: how many it takes, at least
    and at most. `do` returns the exit code, None for 0. `completes`: what its arguments are, as `Option.completes`."""

    paths: tuple[str, ...]
    usage: str
    summary: str
    do: Callable[[Session, Parsed], Awaitable[int | None]]
    options: Sequence[Option] = ()
    arguments: tuple[int, int] = (0, UNLIMITED)
    completes: str = ""
    interspersed: bool = True
    failure_code: int = 1
    """The exit code where the engine refuses; 125 for those whose other codes are a container's."""
    here: Callable[[Parsed], int] | None = None
    """Does a verb that runs in the caller's own process (`cli/local.py`) in the place of `do`."""

    @property
    def name(self) -> str:
        return self.paths[0]

    def check_arguments(self, count: int) -> None:
        """Raises `WrongNumber` for too few or too many, in Docker's words."""
        least, most = self.arguments
        if least <= count <= most:
            return
        wanted = f"exactly {least}" if least == most else f"at least {least}" if count < least else f"at most {most}"
        name = f"'cutaway {self.name}'"
        if most == 0:
            raise WrongNumber(f"{name} accepts no arguments")
        number = least if count < least else most
        raise WrongNumber(f"{name} requires {wanted} argument{'s' if number != 1 else ''}")


def verb(
    *paths: str,
    usage: str,
    summary: str,
    options: Sequence[Option] = (),
    arguments: tuple[int, int] = (0, UNLIMITED),
    completes: str = "",
    interspersed: bool = True,
    failure_code: int = 1,
) -> Callable[[Callable[[Session, Parsed], Awaitable[int | None]]], Verb]:
    """Makes a verb of the function that does it."""

    def make(do: Callable[[Session, Parsed], Awaitable[int | None]]) -> Verb:
        return Verb(paths, usage, summary, do, options, arguments, completes, interspersed, failure_code)

    return make


def local_verb(
    *paths: str,
    usage: str,
    summary: str,
    options: Sequence[Option] = (),
    arguments: tuple[int, int] = (0, UNLIMITED),
    completes: str = "",
    interspersed: bool = True,
) -> Callable[[Callable[[Parsed], int]], Verb]:
    """Makes a verb that runs in the caller's own process, without an engine, of the function that does it. Its name
    stands in `client.command.LOCAL` too."""

    def make(here: Callable[[Parsed], int]) -> Verb:
        return Verb(paths, usage, summary, _refuse, options, arguments, completes, interspersed, here=here)

    return make


async def _refuse(session: Session, _: Parsed) -> int:
    await session.complain(f"cutaway: {session.command.arguments[0]} does not run in the engine's process")
    return 1
