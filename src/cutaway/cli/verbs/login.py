"""`login` and `logout`: who the caller is to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.cli.credentials import CredentialStore
from cutaway.cli.verb import verb
from cutaway.engine.beside import beside
from cutaway.engine.errors import EngineError, InvalidArgument
from cutaway.engine.options.option import BOOL, STRING, Option
from cutaway.image.references import DEFAULT_DOMAIN
from cutaway.image.registry.access import Access, Credentials, proxies_of

if TYPE_CHECKING:
    from cutaway.cli.parser import Parsed
    from cutaway.cli.session import Session


@verb(
    "login",
    usage="[OPTIONS] [SERVER]",
    summary="Log in to a registry, Docker Hub where none is named",
    options=[
        Option("username", STRING, "Who to log in as", short="u"),
        Option("password", STRING, "Password or access token; others on this host can see it", short="p"),
        Option("password-stdin", BOOL, "Take the password from standard input"),
    ],
    arguments=(0, 1),
)
async def login(session: Session, parsed: Parsed) -> None:
    domain = _domain(parsed.arguments)
    store = CredentialStore(session)
    username = parsed.options.get("username", "")
    password = await _password_given(session, parsed)
    known = None if username or password else await beside(lambda _: store.get(domain))
    if not known or not await _still_accepted(session, domain, known):
        await _log_in(session, store, domain, await _asked(session, domain, username, password))
    await session.print("Login Succeeded")


async def _password_given(session: Session, parsed: Parsed) -> str:
    password = str(parsed.options.get("password", ""))
    if password:
        await session.complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
    if not parsed.options.get("password-stdin"):
        return password
    if password:
        raise InvalidArgument("--password and --password-stdin are mutually exclusive")
    if not parsed.options.get("username"):
        raise InvalidArgument("Must provide --username with --password-stdin")
    return (await beside(lambda _: session.caller.read("/dev/stdin"))).rstrip("\r\n")


async def _still_accepted(session: Session, domain: str, known: Credentials) -> bool:
    """Whether what is kept from an earlier login is as good as ever."""
    await session.print("Authenticating with existing credentials...")
    try:
        await _check(session, domain, known)
    except EngineError as problem:
        await session.complain(f"Login did not succeed, error: {problem}")
        return False
    return True


async def _asked(session: Session, domain: str, username: str, password: str) -> Credentials:
    """Credentials, of which the caller is asked for what was not given."""
    if not (username and password) and not session.is_terminal(0):
        raise InvalidArgument("Cannot perform an interactive login from a non TTY device")
    if not username:
        username = await session.answer(f"Username for {domain}: ")
    if not username:
        raise InvalidArgument("Non-null Username Required")
    if not password:
        password = await session.answer("Password: ", secret=True)
    if not password:
        raise InvalidArgument("Password Required")
    return Credentials(username, password)


async def _log_in(session: Session, store: CredentialStore, domain: str, credentials: Credentials) -> None:
    token = await _check(session, domain, credentials)
    if token:
        credentials = Credentials(credentials.username, identity_token=token)
    readable = await beside(lambda _: store.store(domain, credentials))
    if readable:
        await session.complain(
            f"WARNING! The password is kept in {readable}, where you and root can read it. A credential helper\n"
            "keeps it better: name one there as credsStore."
        )


async def _check(session: Session, domain: str, credentials: Credentials) -> str:
    access = Access(credentials, proxies_of(session.caller.environment))
    return await session.while_here(session.engine.login(domain, access))


@verb(
    "logout",
    usage="[SERVER]",
    summary="Forget how to log in to a registry, Docker Hub where none is named",
    arguments=(0, 1),
)
async def logout(session: Session, parsed: Parsed) -> None:
    domain = _domain(parsed.arguments)
    there = await beside(lambda _: CredentialStore(session).erase(domain))
    await session.print(f"Removing login credentials for {domain}" if there else f"Not logged in to {domain}")


def _domain(arguments: list[str]) -> str:
    """The registry that is meant, which may be given as a URL."""
    given = arguments[0] if arguments else DEFAULT_DOMAIN
    host = given.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_DOMAIN if host in ("index.docker.io", "registry-1.docker.io") else host
