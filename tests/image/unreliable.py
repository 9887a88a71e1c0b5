"""A real registry behind a line that is cut and a server that stumbles, when and where a test says so."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from tests.image import server
from tests.registry import Registry

Fault = Callable[["Handler"], None]


class Unreliable(server.Server):
    """Passes requests on to `registry`. `faults` are what happens instead, each once, to requests of a method (`"PUT"`)
    whose path has a certain part."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(Handler)
        self.registry = registry
        self.faults: list[tuple[str, str, Fault]] = []

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault[0] == method and fault[1] in path:
                self.faults.remove(fault)
                return fault[2]
        return None


class Handler(server.Handler):
    def answer(self) -> None:
        unreliable: Unreliable = self.owner
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
