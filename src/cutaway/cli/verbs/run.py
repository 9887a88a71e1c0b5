"""`run` and `create`."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING

from cutaway.cli import foreground
from cutaway.cli.parser import WrongNumber
from cutaway.cli.steps import EXPLAIN, explained
from cutaway.cli.verb import verb
from cutaway.engine import cidfile, provision
from cutaway.engine.beside import beside
from cutaway.engine.errors import NotFound
from cutaway.engine.options import CREATE, RUN, create_request, reads_files
from cutaway.engine.options.option import Kind, Option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session
    from cutaway.engine.model import CreateRequest


def _only_sh(text: str) -> str:
    if text != "sh":
        raise ValueError("the script is for sh")
    return text


DRY_RUN = Option(
    "dry-run",
    Kind("[=sh]", _only_sh, alone="sh"),
    "Change nothing; print a shell script that makes the same container with stock tools",
)
USAGE = "[OPTIONS] IMAGE [COMMAND] [ARG...]"


def _with(table: Sequence[Option], *more: Option) -> list[Option]:
    return sorted([*table, *more], key=lambda option: option.name)


@verb(
    "run",
    "container run",
    usage=USAGE,
    summary="Create and start a new container from an image",
    options=_with(RUN, DRY_RUN, EXPLAIN),
    completes="image",
    interspersed=False,
    failure_code=125,
)
async def run(session: Session, parsed: Parsed) -> int:
    if parsed.options.get("dry-run"):
        return await _print_script(session, parsed)
    async with explained(session, parsed):
        return await _run(session, parsed)


async def _run(session: Session, parsed: Parsed) -> int:
    options = parsed.options
    request = await _request(session, parsed)
    if not options.get("detach"):
        foreground.check_terminal(session, stdin=request.config.AttachStdin, tty=request.config.Tty)
    container_id = await _create(session, request, options, provisional=True)
    try:
        return await _start(session, container_id, request, options)
    except BaseException:
        await _remove_unless_started(session, container_id, request)
        raise


@verb(
    "create",
    "container create",
    usage=USAGE,
    summary="Create a new container from an image, without starting it",
    options=_with(CREATE, DRY_RUN, EXPLAIN),
    completes="image",
    interspersed=False,
)
async def create(session: Session, parsed: Parsed) -> int:
    if parsed.options.get("dry-run"):
        return await _print_script(session, parsed)
    async with explained(session, parsed):
        container_id = await _create(session, await _request(session, parsed), parsed.options)
    await session.print(container_id)
    return 0


async def _print_script(session: Session, parsed: Parsed) -> int:
    """The container as a shell script; what is left out of it is said there, and here."""
    title = shlex.join(["cutaway", *session.command.arguments])
    replay = await session.engine.replay(await _request(session, parsed), title)
    await session.out(replay.script)
    for phrase in replay.left_out:
        await session.complain(f"left out: {phrase}")
    return 0


async def _request(session: Session, parsed: Parsed) -> CreateRequest:
    options, arguments = parsed
    if "rootfs" in options:
        image, command = "", arguments
    elif arguments:
        image, command = arguments[0], arguments[1:]
    else:
        raise WrongNumber("an image is needed, or a directory (--rootfs)")
    if reads_files(options):
        return await beside(lambda _: create_request(options, image, command, session.caller))
    return create_request(options, image, command, session.caller)


async def _create(
    session: Session, request: CreateRequest, options: dict[str, Any], *, provisional: bool = False
) -> str:
    request.host_config.ConsoleSize = session.window()

    async def pull(image: str, platform: str) -> None:
        from cutaway.cli import pulling

        if options.get("pull") != "always":
            await session.complain(f"Unable to find image '{pulling.familiar(image)}' locally")
        await pulling.pull_for_container(session, image, platform)

    created = await provision.create(session.engine, request, options, pull, provisional=provisional)
    for warning in created.Warnings:
        await session.complain(f"WARNING: {warning}")
    return created.Id


async def _start(session: Session, container_id: str, request: CreateRequest, options: dict[str, Any]) -> int:
    if options.get("detach"):
        await session.engine.start(container_id)
        await session.print(container_id)
        return 0
    sig_proxy = options.get("sig-proxy", True)
    if request.host_config.AutoRemove and not request.config.Tty:
        return await _run_on_descriptors(session, container_id, request, sig_proxy=sig_proxy)
    return await foreground.start_attached(
        session,
        await session.engine.inspect(container_id),
        stdin=request.config.AttachStdin,
        stdout=request.config.AttachStdout,
        stderr=request.config.AttachStderr,
        detach_keys=options.get("detach-keys", ""),
        sig_proxy=sig_proxy,
    )


async def _remove_unless_started(session: Session, container_id: str, request: CreateRequest) -> None:
    """Who wants a container run has no use for one that could not be started."""
    try:
        if (await session.engine.inspect(container_id)).State.Status != "created":
            return
        await session.engine.remove(container_id, volumes=True)
    except NotFound:  # --rm: it is gone already
        pass
    cidfile.remove(request)


async def _run_on_descriptors(session: Session, container_id: str, request: CreateRequest, *, sig_proxy: bool) -> int:
    """In the foreground on the caller's own descriptors: output moves at the speed of a pipe and is in no log."""
    config = request.config
    ended = asyncio.ensure_future(session.engine.wait(container_id, "removed"))
    try:
        with foreground.Shared(
            session, stdin=config.AttachStdin, stdout=config.AttachStdout, stderr=config.AttachStderr
        ) as shared:
            await session.attach(shared.attachment(sig_proxy=sig_proxy))
            await session.engine.start(container_id, shared.stdio)
        return await foreground.until_container_ends(session, container_id, ended)
    finally:
        foreground.abandon(ended)
