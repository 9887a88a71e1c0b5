"""The leak check notices what it is there for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import leaks
from tests.leaks import Watch


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", 0)


@contextmanager
def made(make: list[str], unmake: list[str]) -> Iterator[None]:
    subprocess.run(make, check=True)
    yield
    subprocess.run(unmake, check=True)


CGROUP = f"{leaks.cgroup_hierarchies()[0]}/cutaway-test-{os.getpid()}-leak"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("make", "unmake", "named"),
    [
        ("mount -t tmpfs leak {}", "umount {}", "mount {} (tmpfs)"),
        ("ip link add leak type bridge", "ip link delete leak", "link leak"),
        ("ip netns add leak", "ip netns delete leak", "network namespace /run/netns/leak"),
        ("nft add table inet leak", "nft delete table inet leak", '"name": "leak"'),
        (f"mkdir {CGROUP}", f"rmdir {CGROUP}", f"cgroup {CGROUP}"),
        ("touch {}/state", "rm {}/state", "file {}/state"),
    ],
)
def test_names_what_is_left(make: str, unmake: str, named: str, tmp_path: Path) -> None:
    watch = Watch([tmp_path])
    with made(make.format(tmp_path).split(), unmake.format(tmp_path).split()):
        left = watch.left_behind()
    assert any(named.format(tmp_path) in thing for thing in left)
    assert watch.left_behind() == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.vm
def test_names_a_process_that_has_left_the_session() -> None:
    """A daemon: no child of ours, in a session of its own."""
    watch = Watch([])
    daemon = "import os, sys; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", daemon], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.wait()
        assert any(thing.startswith(f"process {pid} ") for thing in watch.left_behind())


@pytest.mark.usefixtures("impatient")
def test_names_a_descriptor() -> None:
    watch = Watch([])
    descriptor = os.open("/dev/null", os.O_RDONLY)
    assert watch.left_behind() == [f"descriptor {descriptor} → /dev/null"]
    os.close(descriptor)


@pytest.mark.usefixtures("impatient")
def test_names_what_was_the_hosts() -> None:
    subprocess.run(["ip", "link", "add", "theirs", "type", "bridge"], check=True)
    watch = Watch([])
    subprocess.run(["ip", "link", "delete", "theirs"], check=True)
    assert watch.compare().taken_away == ["link theirs"]
