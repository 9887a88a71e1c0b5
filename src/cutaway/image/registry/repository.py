"""What one repository of a registry holds: manifests by tag or digest, tags, blobs (distribution-spec, *Pull*)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from cutaway.image import config, manifest
from cutaway.image.compression import PIECE
from cutaway.image.errors import RegistryError
from cutaway.image.manifest import Document
from cutaway.image.references import Reference, is_digest
from cutaway.image.registry.access import Access
from cutaway.image.registry.session import TRIES, Session, reason
from cutaway.image.registry.settings import endpoints
from cutaway.image.registry.transport import HTTPError, Response, use_proxies

_ACCEPTED = ", ".join(manifest.MEDIA_TYPES)
_TAGS_LARGEST = 4 << 20
_PAGES_MOST = 1000
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Repository:
    """The repository `path` as one endpoint has it. `actions`: what is going to be asked of it."""

    def __init__(self, session: Session, path: str, actions: str = "pull") -> None:
        self.session, self.path = session, path
        self.scopes = [f"repository:{path}:{actions}"]

    @property
    def host(self) -> str:
        return self.session.endpoint.host

    def manifest(self, reference: str) -> Document:
        """The manifest or index that a tag or digest names. Raises `RegistryError`, also for one of another digest."""
        url = f"v2/{self.path}/manifests/{reference}"
        with self.session.request("GET", url, scopes=self.scopes, headers={"Accept": _ACCEPTED}) as response:
            content = read(response, config.LARGEST, f"the manifest {reference}")
        told = reference if ":" in reference else response.headers.get("Docker-Content-Digest", "")
        found = config.digest(content)
        if told.startswith("sha256:") and told != found:
            raise RegistryError(
                f"the manifest {reference} does not have the digest it is named by, {told}, but {found}"
            )
        return Document(content, response.headers.get("Content-Type", ""), found)

    def tags(self) -> list[str]:
        """All tags, as the registry orders them."""
        found: list[str] = []
        url = f"v2/{self.path}/tags/list?n=1000"
        for _ in range(_PAGES_MOST):
            with self.session.request("GET", url, scopes=self.scopes) as response:
                content = read(response, _TAGS_LARGEST, "the list of tags")
            try:
                found += msgspec.json.decode(content, type=_Tags).tags or []
            except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
                raise RegistryError(f"the list of tags cannot be read: {error}") from None
            link = _NEXT.search(response.headers.get("Link", ""))
            if not link:
                return found
            url = link[1]
        raise RegistryError(f"the list of tags has more than {_PAGES_MOST} pages")

    def small_blob(self, digest: str, size: int) -> bytes:
        """A blob of at most a few megabytes, whole: a configuration."""
        if size > config.LARGEST:
            raise RegistryError(f"blob {digest} has {size} bytes; more than {config.LARGEST} are not accepted here")
        with self._blob(digest, 0) as response:
            content = read(response, size, f"blob {digest}")
        if config.digest(content) != digest:
            raise RegistryError(f"blob {digest} does not have that digest, but {config.digest(content)}")
        return content

    def blob(self, digest: str, size: int, begin: int = 0) -> Iterator[bytes]:
        """The bytes of a blob from `begin` on, of a registry that can only send it whole too. What breaks off is taken
        up again where it broke off; who closes this in the middle loses nothing. Raises `RegistryError`."""
        failures = 0
        while begin < size:
            before = begin
            try:
                with self._blob(digest, begin) as response:
                    for piece in _from(response, begin, size):
                        begin += len(piece)
                        yield piece
                    if begin < size:
                        raise RegistryError(f"blob {digest} ends after {begin} bytes; its manifest says {size}")
            except HTTPError as error:
                failures = failures + 1 if begin - before < PIECE else 1
                if failures == TRIES:
                    raise RegistryError(
                        f"blob {digest} broke off after {begin} of {size} bytes: {reason(error)}"
                    ) from None
                self.session.pause(failures)

    def _blob(self, digest: str, begin: int) -> Response:
        if not is_digest(digest):
            raise RegistryError(f"a manifest names a blob {digest[:80]!a}, which is no sha256 digest")
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        url = f"v2/{self.path}/blobs/{digest}"
        return self.session.request("GET", url, scopes=self.scopes, headers=headers, ok=(200, 206) if begin else (200,))


def repositories(reference: Reference, access: Access, actions: str = "pull") -> Iterator[Repository]:
    """The repository of an image, at each endpoint that may have it: mirrors first, unless it is to be changed."""
    use_proxies(access.proxies)
    for endpoint in endpoints(reference.domain):
        if actions == "pull" or not endpoint.is_mirror:
            yield Repository(Session(endpoint, access.credentials), reference.path, actions)


def read(response: Response, largest: int, what: str) -> bytes:
    """The whole of a small body. Raises `RegistryError` for one larger than `largest` bytes."""
    content = b""
    try:
        while len(content) <= largest and (piece := response.read(largest + 1 - len(content))):
            content += piece
    except HTTPError as error:
        raise RegistryError(f"{what}: {reason(error)}") from None
    if len(content) > largest:
        raise RegistryError(f"{what} has more than {largest} bytes, which is not accepted")
    return content


def _from(response: Response, begin: int, size: int) -> Iterator[bytes]:
    """The pieces from `begin` on; those before it are skipped where the registry sends them all the same."""
    at = begin if response.status == 206 else 0
    if at and not response.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
        raise RegistryError(f"it was asked for the bytes from {begin} on and sends others")
    while piece := response.read(PIECE):
        at += len(piece)
        if at > size:
            raise RegistryError(f"a blob has more than the {size} bytes that its manifest says")
        if at > begin:
            yield piece[max(0, len(piece) - (at - begin)) :]
