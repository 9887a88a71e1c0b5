"""Who asks, as registries want to know it: HTTP's Basic, and Bearer with tokens from a server that the registry names.

A registry says what it wants in `WWW-Authenticate`. Of a Bearer challenge the token server (`realm`) is asked for a
token good for certain *scopes* (`repository:library/busybox:pull`), anonymously or by the caller's credentials
(distribution project, `docs/spec/auth/token.md`, `oauth.md`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

import msgspec

from cutaway.image.errors import RegistryError
from cutaway.image.registry.access import Credentials
from cutaway.image.registry.settings import Endpoint
from cutaway.image.registry.transport import HTTPError, Response, Transport

_SCHEME = re.compile(r"(?:^|,)\s*([A-Za-z]+)\s+(?=[A-Za-z_]+\s*=)|^\s*([A-Za-z]+)\s*$")
_PARAMETER = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_ANSWER_LARGEST = 1 << 20
_CLIENT = "cutaway"


class Token(msgspec.Struct):
    """What a token server grants; `refresh_token` is an identity token, where one was asked for."""

    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None


class Authenticator:
    """Says who asks, for one endpoint, in the way that its challenges want."""

    def __init__(self, transport: Transport, credentials: Credentials | None) -> None:
        self._transport, self._credentials = transport, credentials
        self._is_basic = False
        self._bearer: dict[str, str] = {}
        self._tokens: dict[tuple[str, ...], str] = {}

    def authorization(self, scopes: Sequence[str]) -> str:
        """The header `Authorization` for a request that needs `scopes`; empty where none is wanted, so far."""
        if self._bearer:
            if tuple(scopes) not in self._tokens:
                granted = self.token(scopes)
                self._tokens[tuple(scopes)] = granted.token or granted.access_token or ""
            return f"Bearer {self._tokens[tuple(scopes)]}"
        return self._basic() if self._is_basic else ""

    def learn(self, response: Response, scopes: Sequence[str]) -> bool:
        """Whether, after this refusal (401), the same request has better prospects."""
        wanted = challenges(response.headers.getlist("WWW-Authenticate"))
        stale = self._tokens.pop(tuple(scopes), None) is not None
        if "realm" in wanted.get("bearer", {}):
            self._bearer = wanted["bearer"]
            return True
        tried, self._is_basic = self._is_basic, "basic" in wanted and bool(self._basic())
        return stale or (self._is_basic and not tried)

    def token(self, scopes: Sequence[str], *, lasting: bool = False) -> Token:
        """What the token server grants; with `lasting` an identity token too. Raises `RegistryError`."""
        realm, service = self._bearer["realm"], self._bearer.get("service", "")
        server, url = self._token_server(realm)
        asked = [*([("service", service)] if service else []), *(("scope", scope) for scope in scopes)]
        try:
            if self._credentials and self._credentials.identity_token:
                return _granted(server, self._by_identity_token(server, url, asked))
            asked += [("client_id", _CLIENT), ("offline_token", "true")] if lasting else []
            query = f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"
            return _granted(server, server.send("GET", query, {}, None, self._basic()))
        except HTTPError as error:
            raise RegistryError(f"the token server {server.endpoint.host} does not answer: {error}") from None

    def identity_token(self) -> str:
        """What the token server gives to be shown in the place of the password, where there is one that does."""
        return (self.token((), lasting=True).refresh_token or "") if self._bearer else ""

    def _by_identity_token(self, server: Transport, url: str, asked: list[tuple[str, str]]) -> Response:
        assert self._credentials
        form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", self._credentials.identity_token),
            ("client_id", _CLIENT),
            *((name, value) for name, value in asked if name != "scope"),
            ("scope", " ".join(value for name, value in asked if name == "scope")),
        ]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return server.send("POST", url, headers, urlencode(form).encode(), "")

    def _token_server(self, realm: str) -> tuple[Transport, str]:
        """Its transport and URL. Credentials do not go to one without TLS unless the registry has none either."""
        parts, own = urlsplit(realm), self._transport
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RegistryError(f"it names a token server {realm[:200]!r}, which is no URL of http or https")
        if own.is_own(realm):
            return own, realm
        if parts.scheme == "http" and own.endpoint.verified:
            raise RegistryError(f"it names a token server without TLS, {realm[:200]}, which is not to be trusted")
        origin = f"{parts.scheme}://{parts.netloc}"
        return Transport(Endpoint(parts.netloc, (origin,), verified=own.endpoint.verified), origin), realm

    def _basic(self) -> str:
        if not self._credentials or not self._credentials.username:
            return ""
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {b64encode(pair.encode()).decode()}"


def challenges(headers: Sequence[str]) -> dict[str, dict[str, str]]:
    """The parameters of each challenge by its scheme in lower case (RFC 9110, section 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    for header in headers:
        marks = list(_SCHEME.finditer(header))
        for mark, after in zip(marks, [*marks[1:], None], strict=True):
            text = header[mark.end() : after.start() if after else None]
            parameters = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(text)}
            found.setdefault((mark[1] or mark[2]).lower(), parameters)
    return found


def _granted(server: Transport, response: Response) -> Token:
    with response:
        content = response.read(_ANSWER_LARGEST)
    if response.status != 200:
        refused = "refuses the credentials" if response.status in (400, 401, 403) else "answers"
        raise RegistryError(f"the token server {server.endpoint.host} {refused}: status {response.status}", 401)
    try:
        granted = msgspec.json.decode(content, type=Token)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise RegistryError(f"the token server {server.endpoint.host} grants what is no token: {error}") from None
    token = granted.token or granted.access_token or ""
    if not token or not (token.isascii() and token.isprintable()):
        raise RegistryError(f"the token server {server.endpoint.host} grants no token")
    return granted
