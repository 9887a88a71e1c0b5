"""`inspect`: all there is to know of a container, an image, a network or a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cutaway.cli import gotemplate
from cutaway.cli.explanation import known_names
from cutaway.cli.gotemplate import TemplateError
from cutaway.cli.verb import UNLIMITED, verb
from cutaway.cli.verbs.common import INSPECT_FORMAT
from cutaway.engine.errors import EngineError, InvalidArgument, NotFound
from cutaway.engine.options.option import BOOL, STRING, Option, suggestion

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.cli.verb import Verb

KINDS = ("container", "image", "network", "volume")
SIZE = Option("size", BOOL, "How much a container has written too", short="s")


@verb(
    "inspect",
    usage="[OPTIONS] NAME|ID [NAME|ID...]",
    summary="Print all there is to know of containers, images, networks or volumes",
    options=[
        INSPECT_FORMAT,
        SIZE,
        Option("type", STRING, "What the names are: " + ", ".join(KINDS), completes="|".join(KINDS)),
    ],
    arguments=(1, UNLIMITED),
    completes="object",
)
async def inspect(session: Session, parsed: Parsed) -> int:
    kind = parsed.options.get("type", "")
    if kind and kind not in KINDS:
        raise InvalidArgument(f'unknown type: "{kind}": must be one of ' + ", ".join(f'"{each}"' for each in KINDS))
    return await _inspect(session, parsed, (kind,) if kind else KINDS)


def _of_kind(kind: str) -> Verb:
    """`container inspect`, `image inspect` and so on."""

    @verb(
        f"{kind} inspect",
        usage=f"[OPTIONS] {kind.upper()} [{kind.upper()}...]",
        summary=f"Print all there is to know of one or more {kind}s",
        options=[INSPECT_FORMAT, *([SIZE] if kind == "container" else [])],
        arguments=(1, UNLIMITED),
        completes=kind,
    )
    async def made(session: Session, parsed: Parsed) -> int:
        return await _inspect(session, parsed, (kind,))

    return made


container_inspect, image_inspect, network_inspect, volume_inspect = map(_of_kind, KINDS)


async def _inspect(session: Session, parsed: Parsed, kinds: Sequence[str]) -> int:
    format = parsed.options.get("format", "")
    template = _parsed(format) if format not in ("", "json") else None
    found, complaints = [], []
    for name in parsed.arguments:
        try:
            found.append(await _find(session, name, kinds, size=parsed.options.get("size", False)))
        except EngineError as problem:
            complaints.append(str(problem))
    if template:
        await session.out("".join(_rendered(template, each) + "\n" for each in found))
    elif format == "json":
        await session.out("".join(msgspec.json.encode(each).decode() + "\n" for each in found))
    else:
        await session.print(msgspec.json.format(msgspec.json.encode(found), indent=4).decode())
    for complaint in complaints:
        await session.complain(f"cutaway: {complaint}")
    return int(bool(complaints))


async def _find(session: Session, name: str, kinds: Sequence[str], *, size: bool) -> Any:
    """The first object of these kinds that has this name."""
    engine = session.engine
    ask: dict[str, Callable[[str], Awaitable[Any]]] = {
        "container": lambda name: engine.inspect(name, size=size),
        "image": engine.image_inspect,
        "network": engine.network_inspect,
        "volume": engine.volume_inspect,
    }
    for kind in kinds:
        try:
            return await ask[kind](name)
        except NotFound as problem:
            refusal = problem
    near = suggestion(name, [known for kind in kinds for known in await known_names(engine, kind)])
    raise NotFound(f"{refusal if len(kinds) == 1 else f'No such object: {name}'}{near}")


def _parsed(format: str) -> gotemplate.Template:
    try:
        return gotemplate.parse(format)
    except TemplateError as problem:
        raise InvalidArgument(f"template parsing error: {problem}") from None


def _rendered(template: gotemplate.Template, value: Any) -> str:
    try:
        return gotemplate.render(template, value)
    except TemplateError as problem:
        raise InvalidArgument(f"template parsing error: {problem}") from None
