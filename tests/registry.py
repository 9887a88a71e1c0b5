"""A real registry (distribution's `docker-registry`) on the host of the tests, all of whose state is its own."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

USER, PASSWORD = "me", "kept-from-everyone"
_HTPASSWD = "me:$2y$05$pc7ORBGTTEckerd9dbBCyuOWjKpv8hmWkfFglF71bmmxfKPC2lCNm\n"  # bcrypt, which it insists on


class Answer(NamedTuple):
    headers: Mapping[str, str]
    content: bytes


class Registry:
    """A context manager, as long as which it serves at `name` (HOST:PORT).

    `directory` keeps its state. `protected`: only `USER` may do anything, with `PASSWORD`. `secure`: over TLS, with a
    certificate that `authority` (a file) vouches for.
    """

    def __init__(
        self, directory: Path, address: str = "127.0.0.1", *, protected: bool = False, secure: bool = False
    ) -> None:
        self.name = f"{address}:{_free_port(address)}"
        self.storage, self.authority = directory / "storage", directory / "registry.crt"
        self._directory, self._secure = directory, secure
        configuration: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}, "delete": {"enabled": True}},
            "http": {"addr": self.name},
        }
        if protected:
            (directory / "htpasswd").write_text(_HTPASSWD)
            configuration["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
        if secure:
            key = directory / "registry.key"
            _make_certificate(address, key, self.authority)
            configuration["http"]["tls"] = {"certificate": str(self.authority), "key": str(key)}
        (directory / "config.json").write_text(json.dumps(configuration))  # which is YAML too

    def __enter__(self) -> Registry:
        with open(self._directory / "log", "wb") as log:
            command = ["docker-registry", "serve", str(self._directory / "config.json")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def log(self) -> str:
        """What was asked of it, a line a request, and what it complained of."""
        return (self._directory / "log").read_text()

    def get(self, path: str, accept: str = "application/vnd.oci.image.manifest.v1+json") -> bytes:
        """What it has for anyone at `/v2/PATH`. Raises `urllib.error.HTTPError`."""
        return self.ask("GET", path, headers={"Accept": accept}).content

    def ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        kind: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """What it answers to anyone at `/v2/PATH`, or at a whole URL. Raises `urllib.error.HTTPError`."""
        context = ssl.create_default_context(cafile=str(self.authority)) if self._secure else None
        url = path if "://" in path else f"http{'s' if self._secure else ''}://{self.name}/v2/{path}"
        sent = (headers or {}) | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(url, content, sent, method=method)
        with urllib.request.urlopen(request, context=context) as answer:
            return Answer(answer.headers, answer.read())

    def _wait_until_ready(self) -> None:
        host, port = self.name.split(":")
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection((host, int(port))).close()
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"docker-registry does not start:\n{self.log}") from None
                time.sleep(0.02)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _make_certificate(address: str, key: Path, certificate: Path) -> None:
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{address}",
        "-keyout", str(key), "-out", str(certificate),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
