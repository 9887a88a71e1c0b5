"""Which hosts answer for a registry, and how much they are trusted.

`registries.toml` in `/etc/cutaway`, or in the directory that `CUTAWAY_CONFIG_DIR` names, says what is not the default:

    [registry."docker.io"]
    mirrors = ["https://mirror.example"]        # asked first, in this order

    [registry."registry.example:5000"]
    insecure = true                             # any certificate will do, and plain HTTP where there is no TLS

Certificates are where Docker has them: in `certs.d/HOST:PORT` of that directory, or of `/etc/docker`, `*.crt` are
authorities, and `*.cert` with its `*.key` is who we are.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tomllib
from collections.abc import Iterator
from glob import escape, glob
from urllib.parse import urlsplit

import msgspec

from cutaway.image.errors import RegistryError
from cutaway.image.references import DEFAULT_DOMAIN

_HUB = "registry-1.docker.io"


class _Registry(msgspec.Struct, forbid_unknown_fields=True):
    insecure: bool = False
    mirrors: list[str] = []


class _Settings(msgspec.Struct, forbid_unknown_fields=True):
    registry: dict[str, _Registry] = {}


class Endpoint(msgspec.Struct, frozen=True):
    """A host that answers for a registry. `urls`: where, the best first; `verified`: its certificate has to be right;
    `is_mirror`: it is another's, and gets no credentials."""

    host: str
    urls: tuple[str, ...]
    verified: bool = True
    is_mirror: bool = False

    def tls(self) -> ssl.SSLContext:
        """How its certificate is checked, and which of ours it is shown. Raises `RegistryError`."""
        context = ssl.create_default_context()
        if not self.verified:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for directory in _certificate_directories(self.host):
            _add_certificates(context, directory)
        return context


def endpoints(domain: str) -> Iterator[Endpoint]:
    """Those that answer for the registry `domain`, in the order to ask them. Raises `RegistryError`."""
    settings = _read().registry
    own = settings.get(domain, _Registry())
    for url in own.mirrors:
        host = urlsplit(url).netloc
        if not host or urlsplit(url).scheme not in ("http", "https"):
            raise RegistryError(f"{_path()}: the mirror {url!r} of {domain} is no URL of http or https")
        yield Endpoint(host, (url.rstrip("/"),), not settings.get(host, _Registry()).insecure, is_mirror=True)
    host = _HUB if domain == DEFAULT_DOMAIN else domain
    if own.insecure or is_loopback(host):
        yield Endpoint(host, (f"https://{host}", f"http://{host}"), verified=False)
    else:
        yield Endpoint(host, (f"https://{host}",))


def is_loopback(host: str) -> bool:
    """Whether `host` (with or without a port) is this machine: then, as for Docker, TLS is not insisted on."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _directory() -> str:
    return os.environ.get("CUTAWAY_CONFIG_DIR") or "/etc/cutaway"


def _path() -> str:
    return os.path.join(_directory(), "registries.toml")


def _read() -> _Settings:
    try:
        with open(_path(), "rb") as file:
            return msgspec.convert(tomllib.load(file), _Settings)
    except FileNotFoundError:
        return _Settings()
    except OSError as error:
        raise RegistryError(f"{_path()}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, or of what msgspec finds in it
        raise RegistryError(f"{_path()}: {error}") from None


def _certificate_directories(host: str) -> list[str]:
    return [os.path.join(above, "certs.d", host) for above in (_directory(), "/etc/docker")]


def _add_certificates(context: ssl.SSLContext, directory: str) -> None:
    for path in sorted(glob(f"{escape(directory)}/*")):
        stem, kind = os.path.splitext(path)
        try:
            if kind == ".crt":
                context.load_verify_locations(path)
            elif kind == ".cert":
                context.load_cert_chain(path, f"{stem}.key")
        except OSError as error:  # of the file, or of what OpenSSL finds in it
            raise RegistryError(f"{path}: {error.strerror or error}") from None
