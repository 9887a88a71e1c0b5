"""The command on its own, against an engine of the test's: what it hands over, what it shows, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from cutaway.client import wire
from cutaway.client.pump import DetachKeys
from cutaway.engine.connection import Command, Connection, Disconnected, decode_command
from tests.engines import COMMAND

TIMEOUT = 20
Answer = Callable[[Connection, Command], Awaitable[None]]


class Scripted:
    """Listens as an engine would, and answers every command line with a coroutine of the test's."""

    def __init__(self, directory: Path) -> None:
        self.environment = os.environ | {"CUTAWAY_RUNTIME_DIR": str(directory)}
        self.answer: Answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "engine.sock"))
        self._listener.listen()
        self._listener.setblocking(False)
        self._runner = asyncio.Runner()
        self._accepting: asyncio.Future[None]
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._runner.run, args=(self._serve(),))

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.get_loop().call_soon_threadsafe(self._accepting.cancel)
        self._thread.join()
        self._runner.close()
        self._listener.close()
        if self._failure:
            raise self._failure

    async def _serve(self) -> None:
        self._accepting = asyncio.ensure_future(self._accept())
        await asyncio.wait([self._accepting])
        if not self._accepting.cancelled():
            self._failure = self._accepting.exception()

    async def _accept(self) -> None:
        while True:
            peer, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            async with Connection(peer) as connection:
                frame = await connection.receive()
                if frame:
                    await self.answer(connection, decode_command(frame))

    def run(self, answer: Answer, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """The command with these arguments, answered so."""
        self.answer = answer
        return subprocess.run(
            [COMMAND, *arguments], env=self.environment, input=input, capture_output=True, timeout=TIMEOUT
        )

    def spawn(self, answer: Answer, *arguments: str) -> pexpect.spawn[str]:
        """The same on a terminal of 24 rows and 80 columns."""
        self.answer = answer
        return pexpect.spawn(str(COMMAND), list(arguments), env=self.environment, timeout=TIMEOUT, encoding="utf-8")


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    with Scripted(tmp_path) as scripted:
        yield scripted


def test_the_engine_gets_arguments_directory_environment_and_descriptors(scripted: Scripted, tmp_path: Path) -> None:
    seen: list[Command] = []
    files: list[str] = []

    async def answer(connection: Connection, command: Command) -> None:
        seen.append(command)
        files.extend(os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in command.descriptors)
        assert connection.credentials.uid == 0
        await connection.exit(0)

    scripted.environment["GREETING"] = "a=b\nc"
    with open("/dev/null") as null, open(tmp_path / "out", "w") as out:
        scripted.answer = answer
        arguments = [str(COMMAND), "ps", "", "-f", "näme=\udc80"]
        subprocess.run(
            arguments, env=scripted.environment, cwd=tmp_path, stdin=null, stdout=out, stderr=out, check=True
        )
    (command,) = seen
    assert command.arguments == ["ps", "", "-f", "näme=\udc80"]
    assert command.cwd == str(tmp_path)
    assert command.environment["GREETING"] == "a=b\nc"
    assert files == ["/dev/null", str(tmp_path / "out"), str(tmp_path / "out")]


def test_a_closed_descriptor_is_dev_null(scripted: Scripted) -> None:
    files: list[str] = []

    async def answer(connection: Connection, command: Command) -> None:
        files.append(os.readlink(f"/proc/self/fd/{command.descriptors[0]}"))
        await connection.exit(0)

    scripted.answer = answer
    subprocess.run(["/bin/sh", "-c", f"exec {COMMAND} ps <&-"], env=scripted.environment, check=True, timeout=TIMEOUT)
    assert files == ["/dev/null"]


def test_output_errors_and_exit_code_come_through(scripted: Scripted) -> None:
    large = os.urandom(3 << 20)

    async def answer(connection: Connection, _: Command) -> None:
        await connection.out(large)
        await connection.err(b"careful\n")
        await connection.exit(42)

    done = scripted.run(answer)
    assert (done.stdout == large, done.stderr, done.returncode) == (True, b"careful\n", 42)


def test_an_engine_that_goes_away_is_an_error(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        await connection.out(b"half")

    done = scripted.run(answer)
    assert (done.stdout, done.returncode) == (b"half", 125)
    assert done.stderr == b"cutaway: the engine ended the connection\n"


def test_a_reader_that_goes_away_ends_the_command(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        try:
            while True:
                await connection.out(b"y\n" * 1000)
        except Disconnected:
            pass

    scripted.answer = answer
    line = f"{COMMAND} ps | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=scripted.environment, capture_output=True, timeout=TIMEOUT, check=True
    )
    assert done.stdout == b"y\n141\n"


@pytest.mark.parametrize("engine_runs", [False, True])
def test_without_root_rights_the_reason_is_said(tmp_path: Path, engine_runs: bool) -> None:
    """As nobody, who may still read every file, so that the test's Python is found wherever it lies."""
    nobody = (
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    )
    environment = os.environ | {"CUTAWAY_RUNTIME_DIR": str(tmp_path)}
    with socket.socket(socket.AF_UNIX) as listener:
        if engine_runs:
            listener.bind(str(tmp_path / "engine.sock"))
            (tmp_path / "engine.sock").chmod(0o660)
            listener.listen()
        done = subprocess.run([*nobody, COMMAND, "ps"], env=environment, capture_output=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"root rights" in done.stderr and b"Traceback" not in done.stderr


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    environment = os.environ | {"CUTAWAY_RUNTIME_DIR": str(tmp_path / "file" / "run")}
    done = subprocess.run([COMMAND, "ps"], env=environment, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 125
    assert done.stderr.startswith(b"cutaway: ") and b"Traceback" not in done.stderr


def test_no_engine_is_started_to_be_stopped(tmp_path: Path) -> None:
    environment = os.environ | {"CUTAWAY_RUNTIME_DIR": str(tmp_path)}
    codes = [
        subprocess.run([COMMAND, "engine", verb], env=environment, capture_output=True, timeout=TIMEOUT).returncode
        for verb in ("stop", "status")
    ]
    assert codes == [0, 1]
    assert list(tmp_path.iterdir()) == []


def test_the_engine_runs_in_the_foreground_for_systemd(tmp_path: Path) -> None:
    """It serves commands, and ends by SIGTERM leaving no socket."""
    environment = os.environ | {"CUTAWAY_ROOT": str(tmp_path / "root"), "CUTAWAY_RUNTIME_DIR": str(tmp_path / "run")}
    with subprocess.Popen([COMMAND, "engine", "run"], env=environment, stdin=subprocess.DEVNULL) as engine:
        deadline = time.monotonic() + TIMEOUT
        while not (tmp_path / "run" / "engine.sock").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        status = subprocess.run(
            [COMMAND, "engine", "status", "-o", "json"], env=environment, capture_output=True, timeout=TIMEOUT
        )
        assert json.loads(status.stdout)["engine_pid"] == engine.pid
        engine.terminate()
        assert engine.wait(TIMEOUT) == 0
    assert not (tmp_path / "run" / "engine.sock").exists()


def attached(letters: str, *descriptors: int) -> wire.Attachment:
    return wire.Attachment(letters, b"\x10\x11" if "t" in letters else b"", descriptors)


def test_pipes_are_pumped_to_their_end(scripted: Scripted) -> None:
    """Standard input goes to a process, its output comes back, and none is lost when it ends."""
    given = os.urandom(1 << 20)

    async def answer(connection: Connection, _: Command) -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "cat; echo done >&2; exit 3",
            stdin=(stdin := os.pipe())[0], stdout=(stdout := os.pipe())[1], stderr=(stderr := os.pipe())[1],
        )  # fmt: skip
        await connection.attach(attached("ioes", stdin[1], stdout[0], stderr[0]))
        for descriptor in (*stdin, *stdout, *stderr):
            os.close(descriptor)
        await connection.exit(await process.wait())

    done = scripted.run(answer, input=given)
    assert (done.stdout == given, done.stderr, done.returncode) == (True, b"done\n", 3)


def test_what_is_typed_after_the_process_ended_is_no_error(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        reading, writing = os.pipe()
        await connection.attach(attached("i", writing))
        os.close(writing)
        os.close(reading)
        await connection.exit(7)

    assert scripted.run(answer, input=b"x" * (1 << 20)).returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT])
def test_signals_are_passed_on(scripted: Scripted, number: signal.Signals) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        await connection.attach(attached("s"))
        await connection.err(b"attached\n")
        frame = await connection.receive()
        assert frame and frame.kind == wire.SIGNAL
        await connection.exit(int(frame.body))

    scripted.answer = answer
    with subprocess.Popen([COMMAND, "run"], env=scripted.environment, stderr=subprocess.PIPE) as process:
        assert process.stderr and process.stderr.readline() == b"attached\n"
        process.send_signal(number)
        assert process.wait(TIMEOUT) == number


async def serve_terminal(connection: Connection, *program: str) -> None:
    """Attaches the caller to a program on a terminal of its own, until it ends or the caller leaves."""
    master, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        "setsid", "--ctty", "--wait", *program, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    reading, writing = os.pipe()
    await connection.attach(attached("iot", master, reading, master))
    os.close(reading)
    copying = asyncio.ensure_future(copy(master, writing))
    leaving = asyncio.ensure_future(connection.receive())
    await asyncio.wait([copying, leaving], return_when=asyncio.FIRST_COMPLETED)
    if has_left := leaving.done():
        process.kill()
    leaving.cancel()
    code = await process.wait()
    await copying
    os.close(master)
    if not has_left:
        await connection.exit(code)


async def copy(master: int, target: int) -> None:
    """What comes out of a terminal, until nobody has it open any more."""
    os.set_blocking(master, False)
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(master, ready.set)
    try:
        while await ready.wait():
            ready.clear()
            try:
                os.write(target, os.read(master, 4096))
            except BlockingIOError:
                pass
    except OSError:  # EIO: everyone has closed it
        loop.remove_reader(master)
        os.close(target)


def echoes(child: pexpect.spawn[str]) -> bool:
    """Whether the caller's terminal shows what is typed, as it does outside of raw mode."""
    return child.getecho()


def test_a_terminal_follows_the_window_and_takes_control_keys(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        await serve_terminal(connection, "bash", "--norc")

    child = scripted.spawn(answer, "run", "-it")
    child.sendline("stty size; echo here$((1+1))")
    child.expect("24 80\r\n.*here2")
    assert not echoes(child)
    child.setwinsize(40, 120)
    child.sendline("stty size; echo here$((1+2))")
    child.expect("40 120\r\n.*here3")
    child.sendline("echo asleep$((1+3)); sleep 1000")
    child.expect("asleep4")
    child.send("\x03")
    child.sendline("echo awake$?; exit 5")
    child.expect("awake130")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5


def test_the_last_output_is_not_lost_and_the_terminal_restored(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        await serve_terminal(connection, "sh", "-c", "seq 20000; exit 3")

    line = f"{COMMAND} run -it; echo code=$?; stty -a"
    child = pexpect.spawn(
        "sh", ["-c", line], env=scripted.environment, timeout=TIMEOUT, encoding="utf-8", maxread=1 << 16
    )
    scripted.answer = answer
    child.expect("\r\n19999\r\n20000\r\n")
    child.expect("code=3")
    child.expect(" icanon .* echo ")
    child.expect(pexpect.EOF)
    child.close()


def test_the_detach_keys_leave_it_running(scripted: Scripted) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        await serve_terminal(connection, "cat")

    child = scripted.spawn(answer, "attach")
    child.sendline("hello")
    child.expect("hello\r\nhello")
    child.send("\x10")
    child.send("\x11")
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, child.signalstatus) == (0, None)


@pytest.mark.parametrize("ending", ["the engine dies", "SIGTERM"])
def test_the_terminal_is_restored_whatever_happens(scripted: Scripted, ending: str) -> None:
    async def answer(connection: Connection, _: Command) -> None:
        output = os.pipe()
        master, slave = pty.openpty()
        await connection.attach(attached("iot", master, output[0], master))
        os.write(output[1], b"attached\n")
        if ending == "SIGTERM":
            await connection.receive()
        for descriptor in (*output, master, slave):
            os.close(descriptor)

    child = pexpect.spawn("bash", ["--norc"], env=scripted.environment, timeout=TIMEOUT, encoding="utf-8")
    scripted.answer = answer
    child.sendline(f"PS1=; sh -c 'echo pid=$$; exec {COMMAND} attach'; echo code=$?; stty -a; exit")
    child.expect(r"pid=(\d+)\r\n")
    assert isinstance(child.match, re.Match)
    pid = int(child.match[1])
    child.expect("attached")
    if ending == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    child.expect("code=143" if ending == "SIGTERM" else "code=125")
    child.expect(" icanon .* echo ")
    child.expect(pexpect.EOF)
    child.close()


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"a\x10", b"b"], b"a\x10b", False),
        ([b"\x10\x10\x11"], b"\x10", True),
        ([b"\x10", b"\x10", b"\x11"], b"\x10", True),
    ],
)
def test_detach_keys_are_found_wherever_they_are_split(typed: list[bytes], passed: bytes, detached: bool) -> None:
    keys = DetachKeys(b"\x10\x11")
    results = [keys.feed(part) for part in typed]
    assert b"".join(part for part, _ in results) == passed
    assert results[-1][1] == detached


def test_without_detach_keys_everything_is_passed_on() -> None:
    assert DetachKeys(b"").feed(b"\x10\x11") == (b"\x10\x11", False)


def test_the_command_imports_next_to_nothing() -> None:
    """What it may not import costs more than all the rest of it: `os`, `socket`, `json`, `typing`, `argparse`, …"""
    source = "import sys; before = set(sys.modules); import cutaway.client.command; print(*set(sys.modules) - before)"
    package = Path(wire.__file__).parents[2]
    program = f"import sys; sys.path.append({str(package)!r}); {source}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    allowed = {"__future__", "_socket", "errno"}
    assert {name for name in done.stdout.split() if not name.startswith("cutaway")} <= allowed
