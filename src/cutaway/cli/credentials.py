"""What the caller is known as to registries: Docker's `config.json`, and the credential helpers that it names.

The file is `~/.docker/config.json`, or in the directory that `DOCKER_CONFIG` names. `auths` has a name and a password
for each registry, in base64. `credsStore`, and `credHelpers` for single registries, name programs to keep them in
instead: `docker-credential-NAME get | store | erase`, which are spoken to in JSON over their standard input and output
(docker/docker-credential-helpers, *Development*), and run as the caller, in its directory and environment.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import subprocess
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from cutaway.engine.beside import beside
from cutaway.engine.errors import EngineError, InvalidArgument
from cutaway.image.references import DEFAULT_DOMAIN
from cutaway.image.registry.access import Access, Credentials, proxies_of

if TYPE_CHECKING:
    from cutaway.cli.session import Session

_HUB = "https://index.docker.io/v1/"
"""What Docker keeps the credentials for Docker Hub under."""
_NOT_FOUND = "credentials not found"
_TOKEN = "<token>"
"""The name under which helpers keep identity tokens."""
_HELPER_TIMEOUT = 120  # seconds; it may ask its user something


class _Entry(msgspec.Struct):
    """Of `auths`: `auth` is base64 of `name:password`."""

    auth: str = ""
    identitytoken: str = ""

    def credentials(self) -> Credentials | None:
        username, _, password = b64decode(self.auth).decode(errors="replace").rstrip("\0").partition(":")
        return Credentials(username, password, self.identitytoken) if username or self.identitytoken else None


class _Settings(msgspec.Struct):
    auths: dict[str, _Entry] | None = None
    credsStore: str = ""
    credHelpers: dict[str, str] | None = None


class _Secret(msgspec.Struct, rename="pascal"):
    """What a helper keeps for one registry."""

    server: str = msgspec.field(name="ServerURL", default="")
    username: str = ""
    secret: str = ""

    def credentials(self) -> Credentials:
        token = self.username == _TOKEN
        return Credentials(identity_token=self.secret) if token else Credentials(self.username, self.secret)


class CredentialStore:
    """The credentials of whoever calls; reading them blocks where a helper asks its user.

    Every method raises `EngineError` where the file or a helper cannot be used.
    """

    def __init__(self, session: Session) -> None:
        self._caller, peer = session.caller, session.connection.credentials
        self._uid, self._gid = peer.uid, peer.gid
        self.path = os.path.join(self._directory(), "config.json")

    def _directory(self) -> str:
        environment = self._caller.environment
        named = environment.get("DOCKER_CONFIG") or os.path.join(environment.get("HOME") or self._home(), ".docker")
        return self._caller.path(named)

    def _home(self) -> str:
        try:
            return pwd.getpwuid(self._uid).pw_dir
        except KeyError:
            raise InvalidArgument(f"user {self._uid} has no home directory: set HOME or DOCKER_CONFIG") from None

    def get(self, domain: str) -> Credentials | None:
        """Those for the registry `domain`, if there are any."""
        settings = self._settings()
        if helper := _helper(settings, domain):
            return self._from_helper(helper, domain)
        entries = settings.auths or {}
        found = entries.get(_key(domain)) or next((entries[key] for key in entries if _domain(key) == domain), None)
        try:
            return found.credentials() if found else None
        except ValueError:
            raise InvalidArgument(
                f"{self.path}: what it has for {domain} is no base64 of a name and a password"
            ) from None

    def store(self, domain: str, credentials: Credentials) -> str:
        """Keeps them; returns the path of the file that now has a password to be read, if so."""
        helper = _helper(self._settings(), domain)
        if helper:
            self._run(helper, "store", msgspec.json.encode(_secret(domain, credentials)))
        self._change(domain, {} if helper else _entry(credentials))
        return "" if helper or credentials.identity_token else self.path

    def erase(self, domain: str) -> bool:
        """Forgets them; returns whether there were any."""
        there = self.get(domain) is not None
        if there and (helper := _helper(self._settings(), domain)):
            self._run(helper, "erase", _key(domain).encode())
        self._change(domain, None)
        return there

    def _settings(self) -> _Settings:
        try:
            return msgspec.convert(self._read(), _Settings)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"{self.path}: {error}") from None

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                return msgspec.json.decode(file.read() or b"{}", type=dict[str, Any])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InvalidArgument(f"{self.path}: {error.strerror}") from None
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{self.path}: {error}") from None

    def _change(self, domain: str, entry: dict[str, str] | None) -> None:
        """Puts what `auths` is to have for a registry into the file; all else there stays as it is."""
        settings = self._read()
        auths: dict[str, Any] = settings.get("auths") or {}
        kept = {key: value for key, value in auths.items() if _domain(key) != domain}
        if entry is None and kept == auths:
            return
        settings["auths"] = kept | ({} if entry is None else {_key(domain): entry})
        try:
            self._write(json.dumps(settings, indent="\t", ensure_ascii=False).encode())
        except OSError as error:
            raise InvalidArgument(f"cannot write {self.path}: {error.strerror}") from None

    def _write(self, content: bytes) -> None:
        """Replaces the file, at the end of a link if it is one, by one that only its owner can read."""
        path = os.path.realpath(self.path)
        directory = os.path.dirname(path)
        if not os.path.isdir(directory):
            os.makedirs(directory, 0o700)
            os.chown(directory, self._uid, self._gid)
        unfinished = f"{path}.{secrets.token_hex(4)}"
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                os.fchown(descriptor, self._uid, self._gid)
                file.write(content)
            os.rename(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise

    def _from_helper(self, helper: str, domain: str) -> Credentials | None:
        answer = self._run(helper, "get", _key(domain).encode())
        try:
            return msgspec.json.decode(answer, type=_Secret).credentials() if answer else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise EngineError(f"docker-credential-{helper} get: {error}") from None

    def _run(self, helper: str, action: str, request: bytes) -> bytes:
        """What a helper answers; nothing where it has nothing."""
        program = f"docker-credential-{helper}"
        other = self._uid != os.geteuid()
        try:
            done = subprocess.run(
                [program, action],
                input=request,
                capture_output=True,
                timeout=_HELPER_TIMEOUT,
                cwd=self._caller.cwd,
                env=dict(self._caller.environment),
                user=self._uid if other else None,
                group=self._gid if other else None,
                extra_groups=[] if other else None,
            )
        except OSError as error:
            raise EngineError(f"cannot run {program}, which {self.path} names: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise EngineError(f"{program} {action} has not ended after {_HELPER_TIMEOUT} seconds") from None
        if done.returncode == 0:
            return done.stdout
        complaint = (done.stdout + done.stderr).decode(errors="replace").strip()
        if action != "store" and _NOT_FOUND in complaint:
            return b""
        raise EngineError(f"{program} {action}: {complaint or f'exit code {done.returncode}'}")


async def access(session: Session, domain: str) -> Access:
    """How a registry is to be spoken to for the caller. What stands in the way of its credentials is told, and does
    without: most of what is pulled needs none."""
    credentials = None
    try:
        credentials = await beside(lambda _: CredentialStore(session).get(domain))
    except EngineError as problem:
        await session.complain(f"WARNING: going on without credentials for {domain}: {problem}")
    return Access(credentials, proxies_of(session.caller.environment))


def _helper(settings: _Settings, domain: str) -> str:
    """The name of the program that keeps the credentials for a registry; empty where the file itself does."""
    own = next((name for key, name in (settings.credHelpers or {}).items() if _domain(key) == domain), "")
    return own or settings.credsStore


def _key(domain: str) -> str:
    return _HUB if domain == DEFAULT_DOMAIN else domain


def _domain(key: str) -> str:
    """The registry that a key stands for, which may be a URL."""
    host = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_DOMAIN if host == "index.docker.io" else host


def _entry(credentials: Credentials) -> dict[str, str]:
    auth = b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    return {"auth": auth} | ({"identitytoken": credentials.identity_token} if credentials.identity_token else {})


def _secret(domain: str, credentials: Credentials) -> _Secret:
    if credentials.identity_token:
        return _Secret(_key(domain), _TOKEN, credentials.identity_token)
    return _Secret(_key(domain), credentials.username, credentials.password)
