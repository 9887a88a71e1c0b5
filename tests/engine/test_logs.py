"""What containers write: kept, told apart, found again by time and number, followed, rotated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import wait_until
from tests.engine.containers import inspected, running
from tests.engines import COMMAND, Engine

pytestmark = pytest.mark.usefixtures("busybox")


@contextmanager
def ended(cutaway: Engine, script: str, *options: str) -> Iterator[str]:
    """A container that has run a script to its end."""
    cutaway("run", "--name", "writer", "--network", "none", *options, "busybox", "sh", "-c", script)
    yield "writer"
    cutaway("rm", "writer")


@contextmanager
def follower(cutaway: Engine, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(COMMAND), "logs", "-f", *words]
    with subprocess.Popen(command, env=cutaway.environment, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_streams_are_kept_apart_and_in_full(cutaway: Engine, driver: str) -> None:
    with ended(cutaway, 'echo a; echo b >&2; printf "c\\td\\fe\\n\\nno end"', "--log-driver", driver) as box:
        logs = cutaway("logs", box)
    assert (logs.stdout, logs.stderr) == ("a\nc\td\fe\n\nno end", "b\n")


@pytest.mark.parametrize("driver", ["local", "json-file"])
@pytest.mark.parametrize(
    ("tail", "printed"), [("0", ""), ("1", "end"), ("2", "3\nend"), ("9", "1\n2\n3\nend"), ("all", "1\n2\n3\nend")]
)
def test_tail(cutaway: Engine, driver: str, tail: str, printed: str) -> None:
    with ended(cutaway, "seq 3; printf end", "--log-driver", driver) as box:
        assert cutaway("logs", "--tail", tail, box).stdout == printed


def test_times(cutaway: Engine) -> None:
    script = "echo first; usleep 50000; echo second; usleep 50000; printf thi; usleep 50000; echo rd"
    with ended(cutaway, script) as box:
        lines = cutaway("logs", "-t", box).stdout.splitlines()
        moments, words = zip(*(line.split(" ") for line in lines), strict=True)
        assert words == ("first", "second", "third")
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", moment) for moment in moments)
        assert list(moments) == sorted(moments)
        second = moments[1][:23] + "Z"  # milliseconds: before the second line, after the first
        assert cutaway("logs", "--since", second, box).stdout == "second\nthird\n"
        assert cutaway("logs", "--until", second, box).stdout == "first\n"
        assert cutaway("logs", "--since", "1h", box).stdout == "first\nsecond\nthird\n"
        assert cutaway("logs", "--until", "1h", box).stdout == ""
        assert cutaway("logs", "--since", "soon", box, check=False).returncode == 1


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_files_are_rotated_by_size(cutaway: Engine, driver: str) -> None:
    options = ("--log-driver", driver, "--log-opt", "max-size=10k", "--log-opt", "max-file=3")
    with ended(cutaway, "seq 1 10000", *options) as box:
        written = Path(inspected(cutaway, box, "{{.LogPath}}"))
        files = sorted(written.parent.glob(f"{written.name}*"))
        assert len(files) == 3
        assert all(file.stat().st_size <= 10240 for file in files)
        kept = cutaway("logs", box).stdout.split()
    assert kept == [str(number) for number in range(int(kept[0]), 10001)]
    assert int(kept[0]) > 1


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_a_line_whose_beginning_was_rotated_away_is_left_out(cutaway: Engine, driver: str) -> None:
    script = "for i in $(seq 100 120); do printf begin; usleep 5000; echo $i; usleep 5000; done"
    options = ("--log-driver", driver, "--log-opt", "max-size=110", "--log-opt", "max-file=2")
    with ended(cutaway, script, *options) as box:
        kept = cutaway("logs", box).stdout.splitlines()
    assert kept == [f"begin{number}" for number in range(121 - len(kept), 121)]
    assert 0 < len(kept) < 20


def test_json_file_is_dockers(cutaway: Engine) -> None:
    script = 'printf "one"; usleep 20000; printf " line\\ntab\\there \\303\\251\\n" ; echo error >&2'
    with ended(cutaway, script, "--log-driver", "json-file") as box:
        path = inspected(cutaway, box, "{{.LogPath}}")
        entries = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert [entry["log"] for entry in entries if entry["stream"] == "stdout"] == ["one line\n", "tab\there é\n"]
    assert [entry["log"] for entry in entries if entry["stream"] == "stderr"] == ["error\n"]
    assert all(entry.keys() == {"log", "stream", "time"} for entry in entries)


def test_none_keeps_nothing(cutaway: Engine) -> None:
    done = cutaway("run", "--name", "writer", "--log-driver", "none", "busybox", "echo", "seen")
    logs = cutaway("logs", "writer", check=False)
    cutaway("rm", "writer")
    assert done.stdout == "seen\n"
    assert (logs.returncode, logs.stdout) == (1, "")
    assert 'configured logging driver "none" does not support reading' in logs.stderr


def test_a_terminals_output_is_logged_too(cutaway: Engine) -> None:
    with ended(cutaway, "echo a; echo b >&2", "-t") as box:
        assert cutaway("logs", box).stdout.split() == ["a", "b"]


def test_following_ends_with_the_container(cutaway: Engine) -> None:
    script = "for i in 1 2 3; do echo $i; usleep 30000; done; printf last"
    with running(cutaway, command=("sh", "-c", script)) as box:
        assert cutaway("logs", "-f", box).stdout == "1\n2\n3\nlast"


def test_what_has_no_end_yet_is_seen_when_following(cutaway: Engine) -> None:
    script = "printf 'name? '; read name; echo hello $name; sleep 1000"
    with running(cutaway, "-i", command=("sh", "-c", script)) as box, follower(cutaway, "-t", box) as process:
        assert process.stdout
        assert _read(process, b"name? ").endswith(b"Z name? ")
        command = [str(COMMAND), "attach", "--sig-proxy=false", box]
        with subprocess.Popen(command, env=cutaway.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
            assert one.stdin
            one.stdin.write(b"you\n")
            one.stdin.flush()
            assert _read(process, b"hello you\n") == b"hello you\n"
            one.terminate()


def _read(process: subprocess.Popen[bytes], end: bytes) -> bytes:
    assert process.stdout
    read = b""
    while not read.endswith(end):
        part = os.read(process.stdout.fileno(), 4096)
        assert part, read
        read += part
    return read


def test_nothing_is_missed_while_files_are_rotated(cutaway: Engine) -> None:
    script = "seq 1 3000; usleep 1000; " * 6
    options = ("--log-opt", "max-size=16k", "--log-opt", "max-file=12")
    with running(cutaway, *options, command=("sh", "-c", script)) as box:
        assert cutaway("logs", "-f", box).stdout.split() == [str(number) for number in range(1, 3001)] * 6


def test_following_from_the_tail_until_a_moment(cutaway: Engine) -> None:
    with running(cutaway, command=("sh", "-c", "seq 3; sleep 1000")) as box:
        wait_until(lambda: cutaway("logs", box).stdout == "1\n2\n3\n")
        until = f"{time.time() + 0.2:.3f}"
        assert cutaway("logs", "-f", "--tail", "1", "--until", until, box).stdout == "3\n"


def test_a_log_that_grows_faster_than_it_is_read_comes_to_an_end(cutaway: Engine) -> None:
    options = ("--log-opt", "max-size=64k", "--log-opt", "max-file=2")
    with running(cutaway, *options, command=("yes", "more")) as box:
        wait_until(lambda: cutaway("logs", "--tail", "2", box).stdout == "more\nmore\n")


def test_a_restart_goes_on_in_the_same_log(cutaway: Engine) -> None:
    with ended(cutaway, "echo once") as box:
        cutaway("start", "-a", box)
        assert cutaway("logs", box).stdout == "once\nonce\n"


def test_who_follows_a_container_that_does_not_run_is_not_held_up(cutaway: Engine) -> None:
    with running(cutaway, "--restart", "always", command=("sh", "-c", "echo again; exit 1")) as box:
        wait_until(lambda: inspected(cutaway, box, "{{.RestartCount}}") >= "2")
        assert "again\n" in cutaway("logs", "-f", box).stdout
