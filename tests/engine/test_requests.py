"""The engine's end of programs' requests: whatever a client sends, the engine stands, and says what is wrong."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cutaway.client import wire
from tests.engines import Engine

CREATION = {"image": "busybox", "command": ["true"], "options": {"network": "none"}, "surroundings": {"cwd": "/"}}


@pytest.fixture
def connection(engine: Engine, busybox: str) -> Iterator[socket.socket]:  # noqa: ARG001
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(engine.runtime_dir / "engine.sock"))
        yield connection


def ask(connection: socket.socket, request: Any, *descriptors: int) -> tuple[bytes, Any]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    wire.send(connection, wire.REQUEST, body, descriptors)
    kind, answer, _ = wire.receive(connection)
    return kind, json.loads(answer)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"[" * 100_000,
        {"method": "nosuch"},
        {"method": "request", "container": "x"},
        {"method": "kill"},
        {"method": "kill", "container": "x", "signal": 9},
        {"method": "kill", "container": "x", "signal": "KILL", "more": 1},
        {"method": "run", "container": {**CREATION, "options": {"env": [["A"]]}}},
        {"method": "run", "container": CREATION, "timeout": -1},
        {"method": "wait", "container": "x", "timeout": 1e300},
        {"method": "logs", "container": "x", "stdout": True, "stderr": True, "since": 0, "until": 0, "tail": -1},
        {"method": "run", "container": CREATION, "streams": "oe"},
        {"method": "put", "container": "x", "directory": "/"},
    ],
    ids=str,
)
def test_what_is_no_request_is_refused(connection: socket.socket, request_: Any) -> None:
    for _ in range(2):  # and the connection can be used on
        kind, answer = ask(connection, request_)
        assert (kind, answer["error"]) == (wire.FAILURE, "InvalidArgument")


@pytest.mark.parametrize("streams", ["o", "oo", "ox", "oei", "t"])
def test_descriptors_have_to_be_what_the_request_says(connection: socket.socket, streams: str) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    try:
        kind, answer = ask(connection, {"method": "run", "container": CREATION, "streams": streams}, null, null)
    finally:
        os.close(null)
    assert (kind, answer["error"]) == (wire.FAILURE, "InvalidArgument")


def test_descriptors_do_not_stay_in_the_engine(engine: Engine, connection: socket.socket) -> None:
    reading, writing = os.pipe()
    assert ask(connection, {"method": "find", "container": "nosuch"}, writing)[1]["error"] == "NotFound"
    os.close(writing)
    assert os.read(reading, 1) == b""  # nobody has the other end
    os.close(reading)
    assert engine("ps", "-q").stdout == ""


def test_a_second_request_before_the_answer_ends_the_connection(engine: Engine, connection: socket.socket) -> None:
    creation = {**CREATION, "command": ["sleep", "1000"]}
    body = json.dumps({"method": "run", "container": creation}).encode()
    connection.sendall(wire.frame(wire.REQUEST, body) * 2)
    with pytest.raises((wire.ProtocolError, ConnectionResetError)):
        while True:
            wire.receive(connection)
    assert engine("ps", "-aq").stdout == ""


def test_half_a_request_does_nothing(engine: Engine, connection: socket.socket) -> None:
    body = json.dumps({"method": "run", "container": CREATION}).encode()
    connection.sendall(wire.frame(wire.REQUEST, body)[:-1])
    connection.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.ProtocolError, match="ended"):
        while True:
            assert wire.receive(connection)[0] != wire.REPLY
    assert engine("ps", "-aq").stdout == ""


def test_hanging_up_ends_what_was_begun(engine: Engine, connection: socket.socket) -> None:
    reading, writing = os.pipe()
    creation = {**CREATION, "command": ["sh", "-c", "echo begun; sleep 1000"]}
    body = json.dumps({"method": "run", "container": creation, "streams": "o"}).encode()
    wire.send(connection, wire.REQUEST, body, [writing])
    os.close(writing)
    assert os.read(reading, 100) == b"begun\n"
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""  # the engine hangs up once it has taken everything back
    assert engine("ps", "-aq").stdout == ""
    assert os.read(reading, 100) == b""
    os.close(reading)
