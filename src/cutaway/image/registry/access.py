"""As whom, and through which proxies, a registry is spoken to: values that pass from the caller to the worker."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Credentials(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a registry knows the caller: a name and a password, or an identity token (OAuth2 refresh token)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """`proxies`: the caller's own `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`, by these names; what is not
    among them is taken from the environment of the engine."""

    credentials: Credentials | None = None
    proxies: dict[str, str] = {}


PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def proxies_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies that an environment names; of two spellings the one in lower case counts (`curl(1)`)."""
    given = {name: environment.get(name) or environment.get(name.upper(), "") for name in PROXY_VARIABLES}
    return {name: value for name, value in given.items() if value}
