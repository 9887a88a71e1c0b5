"""`update`: limits, restart policy and published ports of containers, running or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.verb import UNLIMITED, verb
from cutaway.engine.errors import InvalidArgument
from cutaway.engine.model import UpdateRequest
from cutaway.engine.options import RESOURCES, ports
from cutaway.engine.options.option import LIST, Option
from cutaway.engine.options.request import resources, restart_policy

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


@verb(
    "update",
    "container update",
    usage="[OPTIONS] CONTAINER [CONTAINER...]",
    summary="Change limits, restart policy or published ports of one or more containers",
    options=sorted(
        [
            *RESOURCES,
            Option("publish-add", LIST, "Publish another port: [[ADDRESS:]HOST_PORT:]PORT[/udp]"),
            Option("publish-rm", LIST, "Withdraw a port: PORT[/udp], or as it was published"),
        ],
        key=lambda option: option.name,
    ),
    arguments=(1, UNLIMITED),
    completes="container",
)
async def update(session: Session, parsed: Parsed) -> int:
    if not parsed.options:
        raise InvalidArgument("you must provide one or more flags when using this command")
    request = _request(parsed)

    async def change(name: str) -> None:
        for warning in await session.engine.update(name, request):
            await session.complain(f"WARNING: {warning}")

    return await session.for_each(parsed.arguments, change)


def _request(parsed: Parsed) -> UpdateRequest:
    options = parsed.options
    try:
        return UpdateRequest(
            **resources(options),
            RestartPolicy=restart_policy(options["restart"]) if "restart" in options else None,
            PublishAdd=ports.bindings(options.get("publish-add", [])),
            PublishRemove=ports.bindings(options.get("publish-rm", [])),
        )
    except ValueError as problem:
        raise InvalidArgument(str(problem)) from None
