"""HTTP to one endpoint: connections kept open, proxies, TLS, redirects. Built on `urllib3`.

What is meant for the endpoint (credentials, certificates) goes to no other host, wherever it may redirect to.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, ProxySchemeUnknown

from cutaway.image.errors import RegistryError
from cutaway.image.registry.settings import Endpoint, is_loopback

__all__ = ["Body", "HTTPError", "Response", "Transport"]

Response = urllib3.BaseHTTPResponse
Body = bytes | Callable[[], Iterable[bytes]]
"""What is sent; where it is much, something that can be called for it anew at each try."""

_TIMEOUT = urllib3.Timeout(connect=15, read=60)
_REDIRECTS_MOST = 10
_REDIRECTS = (301, 302, 303, 307, 308)


class Transport:
    """Connections to an endpoint at the URL `base`, and to where it redirects."""

    def __init__(self, endpoint: Endpoint, base: str) -> None:
        self.endpoint, self.base = endpoint, base
        self._pools: dict[tuple[bool, str], urllib3.PoolManager] = {}

    def is_own(self, url: str) -> bool:
        """Whether a URL leads to the endpoint itself."""
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body | None, authorization: str
    ) -> Response:
        """The response to one request, redirects followed, its body not yet read.

        `url` is absolute or relative to the endpoint. Raises `HTTPError` where the host does not answer as HTTP has it,
        `RegistryError` where it redirects to where nobody should follow.
        """
        url = urljoin(f"{self.base}/", url)
        for _ in range(_REDIRECTS_MOST):
            sent = dict(headers) | ({"Authorization": authorization} if authorization and self.is_own(url) else {})
            response = self._pool(url).request(
                method,
                url,
                body=body() if callable(body) else body,
                headers=sent,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=_TIMEOUT,
            )
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return self._own_or_content(response, url)
            response.close()
            url = self._redirected(url, location)
        raise RegistryError(f"more than {_REDIRECTS_MOST} redirects, the last one to {url[:200]}")

    def forget_connections(self) -> None:
        """Has the next request make a connection of its own; for a child process, which shares those of its parent."""
        self._pools.clear()

    def _own_or_content(self, response: Response, url: str) -> Response:
        """What another host asks of us (credentials, say) is not for the endpoint to answer."""
        if response.status == 401 and not self.is_own(url):
            response.close()
            raise RegistryError(f"a redirect to {urlsplit(url).netloc}, which wants to know who asks: status 401")
        return response

    def _redirected(self, url: str, location: str) -> str:
        target = urljoin(url, location)
        if urlsplit(target).scheme not in ("http", "https"):
            raise RegistryError(f"a redirect to {location[:200]!r}, which is no URL of http or https")
        if self.base.startswith("https:") and self.endpoint.verified and not target.startswith("https:"):
            raise RegistryError(f"a redirect from TLS to {target[:200]}, which has none")
        return target

    def _pool(self, url: str) -> urllib3.PoolManager:
        key = own, proxy = self.is_own(url), _proxy(url)
        if key not in self._pools:
            tls = self._tls if own and url.startswith("https:") else None
            self._pools[key] = _through(proxy, tls) if proxy else urllib3.PoolManager(ssl_context=tls)
        return self._pools[key]

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once: reading the machine's authorities takes 30 ms."""
        return self.endpoint.tls()


def _through(proxy: str, tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    parts = urlsplit(proxy)
    known = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    try:
        return urllib3.ProxyManager(proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=known), ssl_context=tls)
    except (ProxySchemeUnknown, LocationValueError):
        raise RegistryError(f"the proxy {parts.hostname or proxy!r} is no URL of http or https") from None


def _proxy(url: str) -> str:
    """The proxy that the environment names for a URL; this machine itself is never reached through one."""
    parts = urlsplit(url)
    proxies = getproxies()
    if is_loopback(parts.netloc) or proxy_bypass(parts.netloc, proxies):
        return ""
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def use_proxies(proxies: Mapping[str, str]) -> None:
    """Has this process use these (`Access.proxies`), whatever its environment says of the same."""
    for name, value in proxies.items():
        os.environ.pop(name.upper(), None)
        os.environ[name] = value
