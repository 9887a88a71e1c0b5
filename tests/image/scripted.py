"""A registry that does as it is told: it holds images made by hand, and answers otherwise where a test says so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.image import server
from tests.image.archives import Layout

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Request(NamedTuple):
    """`begin`: the first byte that was asked for; `authorization` as it came; `query` and what a form says, as text."""

    path: str
    begin: int
    authorization: str
    query: str = ""
    form: str = ""


Answer = Callable[["Handler"], None]


class Registry(server.Server):
    """`answers`: what answers in the place of the registry, by the path below `/v2/REPOSITORY`.
    `requests`: all that was asked."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []

    def hold(self, layout: Layout, tag: str = "latest") -> str:
        """Has an image; returns the digest of its manifest."""
        digest: str = layout.manifest()["digest"]
        self.blobs |= layout.blobs
        self.manifests[tag] = self.manifests[digest] = layout.blobs[digest], MANIFEST
        return digest

    def asked_for(self, path: str) -> list[Request]:
        """The requests whose path ends so."""
        return [request for request in self.requests if request.path.endswith(path)]


class Handler(server.Handler):
    @property
    def registry(self) -> Registry:
        registry: Registry = self.owner
        return registry

    def do_GET(self) -> None:
        path, query = urlsplit(self.path)[2:4]
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        form = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.registry.requests.append(Request(path, begin, self.headers.get("Authorization", ""), query, form))
        below = "/" + "/".join(path.split("/")[-2:])
        with suppress(ConnectionError):  # whoever asked has heard enough
            self.registry.answers.get(below, Handler.regular)(self)

    do_POST = do_GET

    def regular(self) -> None:
        """What an honest registry answers."""
        kind, _, name = urlsplit(self.path).path.rpartition("/")
        if kind.endswith("/manifests") and name in self.registry.manifests:
            content, media_type = self.registry.manifests[name]
            self.whole(content, media_type)
        elif kind.endswith("/blobs") and name in self.registry.blobs:
            self.part(self.registry.blobs[name])
        elif kind == "/v2" and not name:
            self.whole(b"{}")
        else:
            self.status(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

    def part(self, content: bytes) -> None:
        """A blob from where it was asked for."""
        begin = self.registry.requests[-1].begin
        if not begin:
            return self.whole(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin:])
        return None

    def whole(self, content: bytes, media_type: str = "application/octet-stream", *, short: int = 0) -> None:
        """All of it, but the last `short` bytes, after which the connection ends."""
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - short])
        self.close_connection = bool(short)

    def status(self, code: int, content: bytes = b"", **headers: str) -> None:
        """Something else than 200; of header names `_` stands for `-`."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def endless(self) -> None:
        """Zeros, for as long as anyone takes them."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(bytes(1 << 16))
