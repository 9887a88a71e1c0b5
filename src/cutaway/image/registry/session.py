"""Requests to one endpoint of a registry: signed as it wants, repeated where that may help, refused in one sentence."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping, Sequence
from email.utils import parsedate_to_datetime

import msgspec
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from cutaway import __version__
from cutaway.image.errors import RegistryError
from cutaway.image.registry.access import Credentials
from cutaway.image.registry.authentication import Authenticator
from cutaway.image.registry.settings import Endpoint
from cutaway.image.registry.transport import Body, HTTPError, Response, Transport

TRIES = 5
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_FIRST_DELAY = 0.1  # seconds, twice as many each time
_LONGEST_DELAY = 60.0
_COMPLAINT_LARGEST = 1 << 16

urllib3.disable_warnings()  # of registries that are insecure because their owner says so


class _Complaint(msgspec.Struct):
    code: str | None = ""
    message: str | None = ""


class _Complaints(msgspec.Struct):
    errors: list[_Complaint] = []


class Session:
    """Speaks to `endpoint` on behalf of whoever has these credentials, which a mirror does not get to see."""

    def __init__(self, endpoint: Endpoint, credentials: Credentials | None) -> None:
        self.endpoint = endpoint
        self._credentials = None if endpoint.is_mirror else credentials
        self._connected: tuple[Transport, Authenticator] | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        scopes: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        ok: Collection[int] = (200,),
        tries: int = TRIES,
    ) -> Response:
        """The response, its body not yet read; it is the caller's to close (`with`).

        `url` is absolute, or relative to the endpoint: `v2/…`. Raises `RegistryError` for a status not among `ok`, and
        where the registry does not answer.
        """
        for left in reversed(range(tries)):
            try:
                response = self._signed(method, url, scopes, headers or {}, body)
            except (ProtocolError, ReadTimeoutError) as error:
                if not left:
                    raise RegistryError(reason(error)) from None
                self.pause(tries - left)
                continue
            except HTTPError as error:
                raise RegistryError(reason(error)) from None
            if response.status in ok:
                return response
            with response:
                refusal = _refusal(method, response)
                if response.status not in _TRANSIENT or not left:
                    raise refusal
                self.pause(tries - left, _retry_after(response, refusal))
        raise AssertionError("it is tried at least once")

    @staticmethod
    def pause(failures: int, least: float = 0) -> None:
        """Waits before another try: the longer, the more have failed."""
        time.sleep(max(least, random.uniform(0.5, 1) * _FIRST_DELAY * 2**failures))

    def forget_connections(self) -> None:
        """For a child process, which is not to use those of its parent."""
        if self._connected:
            self._connected[0].forget_connections()

    def authenticator(self) -> Authenticator:
        """Knows whom the registry wants to speak to, once it has been asked for something."""
        return self._connect()[1]

    def _signed(
        self, method: str, url: str, scopes: Sequence[str], headers: Mapping[str, str], body: Body | None
    ) -> Response:
        transport, authenticator = self._connect()
        headers = {"User-Agent": f"cutaway/{__version__}", "Accept-Encoding": "identity", **headers}
        response = transport.send(method, url, headers, body, authenticator.authorization(scopes))
        if response.status != 401 or not authenticator.learn(response, scopes):
            return response
        response.close()
        return transport.send(method, url, headers, body, authenticator.authorization(scopes))

    def _connect(self) -> tuple[Transport, Authenticator]:
        if self._connected is None:
            transport = self._reached()
            self._connected = transport, Authenticator(transport, self._credentials)
        return self._connected

    def _reached(self) -> Transport:
        """Of several URLs the first that anything answers at: of an insecure registry TLS, or else plain HTTP."""
        *first, last = self.endpoint.urls
        for base in first:
            transport = Transport(self.endpoint, base)
            try:
                transport.send("GET", "v2/", {}, None, "").close()
            except HTTPError:
                continue
            return transport
        return Transport(self.endpoint, last)


def reason(error: HTTPError) -> str:
    """Why nothing came of a request, in a few words."""
    if isinstance(error, ProxyError):
        inner = error.original_error
        return f"the proxy does not answer: {reason(inner) if isinstance(inner, HTTPError) else inner}"
    if isinstance(error, NameResolutionError):
        return "its name cannot be resolved"
    if isinstance(error, NewConnectionError):
        cause = error.__cause__
        return f"no connection: {getattr(cause, 'strerror', None) or cause or error}"
    if isinstance(error, ConnectTimeoutError):
        return "no connection: it does not answer"
    if isinstance(error, ReadTimeoutError):
        return "it has fallen silent"
    if isinstance(error, SSLError):
        return f"TLS: {error}"
    if isinstance(error, IncompleteRead):
        return f"it stopped {error.expected} bytes before the end" if error.expected else "it stopped before the end"
    return f"it broke off: {error.args[-1] if error.args else error}"


def _refusal(method: str, response: Response) -> RegistryError:
    """What a registry says against a request (distribution-spec, *Error Codes*)."""
    try:
        content = response.read(_COMPLAINT_LARGEST)
        errors = msgspec.json.decode(content, type=_Complaints).errors
    except (HTTPError, msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        errors = []
    words = "; ".join(_printable(f"{each.code or ''}: {each.message or ''}") for each in errors[:3])
    return RegistryError(words or f"it answers {method} with status {response.status}", response.status)


def _printable(text: str) -> str:
    """Of strangers' words, what fits a line."""
    return "".join(each if each.isprintable() else " " for each in text[:300]).strip(": ")


def _retry_after(response: Response, refusal: RegistryError) -> float:
    """Seconds that the registry wants to be left alone; more than we have raises the refusal."""
    asked = response.headers.get("Retry-After", "").strip()
    if not asked:
        return 0
    try:
        seconds = float(asked) if asked.isdecimal() else parsedate_to_datetime(asked).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0
    if seconds > _LONGEST_DELAY:
        raise RegistryError(f"{refusal}; it wants to be asked again in {seconds:.0f} seconds", refusal.status)
    return max(seconds, 0)
