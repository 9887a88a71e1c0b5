"""Bringing blobs and manifests to a repository (distribution-spec, *Push*).

A blob goes in one request after the one that opens the upload, which every registry takes. One that another repository
of the same registry has is *mounted* from there: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import urlencode

from cutaway.image.errors import RegistryError
from cutaway.image.manifest import Document
from cutaway.image.registry.repository import Repository, read
from cutaway.image.registry.session import TRIES
from cutaway.image.registry.transport import Response

Contents = Callable[[], Iterable[bytes]]
"""What a blob holds; called anew at each try."""

_ANSWER_LARGEST = 1 << 16
_WORTH_ANOTHER_TRY = (0, 408, 429, 500, 502, 503, 504)


def has_blob(repository: Repository, digest: str) -> bool:
    """Whether the repository has a blob."""
    return _ask(repository, "HEAD", f"v2/{repository.path}/blobs/{digest}", ok=(200, 404)).status == 200


def mount_blob(repository: Repository, digest: str, path: str) -> bool:
    """Has the registry take a blob from its repository `path`; false where it does not find it there."""
    location = _open_upload(repository, {"mount": digest, "from": path}, [f"repository:{path}:pull"])
    if location:
        _ask(repository, "DELETE", location, ok=range(200, 500))
    return not location


def upload_blob(repository: Repository, digest: str, size: int, contents: Contents) -> None:
    """Sends a blob of `size` bytes, anew from its beginning where it breaks off. Raises `RegistryError`."""
    for failures in range(1, TRIES + 1):
        try:
            return _upload(repository, digest, size, contents)
        except RegistryError as error:
            if failures == TRIES or error.status not in _WORTH_ANOTHER_TRY:
                raise
            repository.session.pause(failures)
    return None


def put_manifest(repository: Repository, tag: str, manifest: Document) -> None:
    """Makes `tag` name a manifest whose blobs are all there. Raises `RegistryError`."""
    url, headers = f"v2/{repository.path}/manifests/{tag}", {"Content-Type": manifest.media_type}
    response = _ask(repository, "PUT", url, headers=headers, body=manifest.content, ok=(200, 201, 202))
    told = response.headers.get("Docker-Content-Digest", manifest.digest)
    if told != manifest.digest:
        raise RegistryError(f"it has stored the manifest under another digest, {told[:80]}, than {manifest.digest}")


def _upload(repository: Repository, digest: str, size: int, contents: Contents) -> None:
    location = _open_upload(repository, {}, [])
    url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': digest})}"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    _ask(repository, "PUT", url, headers=headers, body=contents, ok=(201, 204), tries=1)


def _open_upload(repository: Repository, query: dict[str, str], scopes: list[str]) -> str:
    """Where to send a blob; empty where there is no need to, since it was mounted."""
    url = f"v2/{repository.path}/blobs/uploads/{'?' if query else ''}{urlencode(query)}"
    response = _ask(repository, "POST", url, more_scopes=scopes, ok=(201, 202))
    location = response.headers.get("Location", "")
    if response.status == 202 and not location:
        raise RegistryError("it does not say where to upload to")
    return location if response.status == 202 else ""


def _ask(
    repository: Repository, method: str, url: str, *, ok: Collection[int], more_scopes: Iterable[str] = (), **more: Any
) -> Response:
    """A response whose body, a short one, has been read, so that its connection can serve again."""
    scopes = [*repository.scopes, *more_scopes]
    with repository.session.request(method, url, scopes=scopes, ok=ok, **more) as response:
        read(response, _ANSWER_LARGEST, f"the answer to {method}")
    return response
