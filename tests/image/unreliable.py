"""A real registry behind a line that is cut and a server that stumbles, when and where a test says so."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.registry import Registry

Fault = Callable[["Handler"], None]


class Unreliable:
    """A context manager, as long as which it passes requests on to `registry`, at `name`.

    `faults` are what happens instead, each once, to requests of a method (`"PUT"`) whose path has a certain part.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.faults: list[tuple[str, str, Fault]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.unreliable = self  # type: ignore[attr-defined]
        self.name = f"127.0.0.1:{self._server.server_port}"

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault[0] == method and fault[1] in path:
                self.faults.remove(fault)
                return fault[2]
        return None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        unreliable: Unreliable = self.server.unreliable  # type: ignore[attr-defined]
        fault = unreliable.fault(self.command, self.path)
        fault(self) if fault else self.pass_on(unreliable.registry)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def pass_on(self, registry: Registry) -> None:
        """As it came, so that the registry takes our name for its own."""
        connection = http.client.HTTPConnection(registry.name)
        connection.request(self.command, self.path, self.body(), dict(self.headers))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("date", "server", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def status(self, code: int, **headers: str) -> None:
        """Refuses what it has read; of header names `_` stands for `-`."""
        self.body()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def cut(self) -> None:
        """Hangs up in the middle of what is sent."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
