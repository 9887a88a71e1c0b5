"""Logging in: asking a registry whether it knows who claims to be whom (distribution-spec, *Determining Support*)."""

from __future__ import annotations

from cutaway.image.errors import RegistryError
from cutaway.image.registry.access import Access
from cutaway.image.registry.session import Session
from cutaway.image.registry.settings import endpoints
from cutaway.image.registry.transport import use_proxies


def identity_token(domain: str, access: Access) -> str:
    """What the registry `domain` gives to be shown in the place of the password, or nothing where it gives none.

    Raises `RegistryError` where it does not accept the credentials, or does not answer.
    """
    use_proxies(access.proxies)
    (endpoint,) = (each for each in endpoints(domain) if not each.is_mirror)
    session = Session(endpoint, access.credentials)
    try:
        session.request("GET", "v2/").close()
        return session.authenticator().identity_token()
    except RegistryError as error:
        raise RegistryError(f"cannot log in to {domain}: {error}", error.status) from None
