"""Process events, in the machine's initial namespaces: the tests' own network namespace has none."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap

import pytest

from cutaway.kernel.procevents import ProcessEvents
from tests.host import Host

pytestmark = pytest.mark.vm

PRELUDE = """
import os, select, signal, sys, time
from cutaway.kernel.procevents import ProcessEvents

def wait_for(events, *pids):
    found, deadline = {}, time.monotonic() + 10
    while not found.keys() >= set(pids) and time.monotonic() < deadline:
        select.select([events], [], [], 1)
        found |= {pid: os.waitstatus_to_exitcode(status) for pid, status in events.exits() if pid in pids}
    return [found.get(pid) for pid in pids]

events = ProcessEvents()
"""


def outside(host: Host, script: str) -> str:
    """What the script prints, that runs in the machine's initial network namespace."""
    initial = ("nsenter", "--net=/proc/1/ns/net", "--") if os.access("/proc/1/ns/net", os.R_OK) else host.real_network
    done = subprocess.run(
        [*initial, sys.executable, "-c", PRELUDE + textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    if "only root in the initial namespaces" in done.stderr:
        pytest.skip("this machine is not in the initial namespaces")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tells_how_strangers_end(host: Host) -> None:
    script = """
        reads, writes = os.pipe()
        if (parent := os.fork()) == 0:  # the others are its children, not ours
            ends = [lambda: os._exit(7), lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: os._exit(0)]
            for end in ends:
                if (child := os.fork()) == 0:
                    end()
                os.write(writes, child.to_bytes(4, "little"))
                os.waitpid(child, 0)
            os._exit(3)
        os.waitpid(parent, 0)
        children = [int.from_bytes(os.read(reads, 4), "little") for _ in range(3)]
        print(wait_for(events, *children, parent))
        """
    assert outside(host, script) == "[7, -15, 0, 3]\n"


def test_nothing_but_ends_is_kept(host: Host) -> None:
    script = """
        import threading
        events.exits()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        print([pid for pid, _ in events.exits() if pid == os.getpid()])
        """
    assert outside(host, script) == "[]\n"


def test_reading_never_blocks_and_closing_ends_it(host: Host) -> None:
    script = """
        print(os.get_blocking(events.fileno()))
        events.exits()
        number = events.fileno()
        events.close()
        print(os.path.exists(f"/proc/self/fd/{number}"))
        """
    assert outside(host, script) == "False\nFalse\n"


def test_lost_events_are_said_to_be_lost(host: Host) -> None:
    script = """
        import socket
        with socket.fromfd(events.fileno(), socket.AF_NETLINK, socket.SOCK_DGRAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # room for hardly any
            for _ in range(50):
                if (child := os.fork()) == 0:
                    os._exit(0)
                os.waitpid(child, 0)
            same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        print(len(events.exits()) < 50, events.lost > 0)
        last = os.fork()
        if last == 0:
            os._exit(5)
        os.waitpid(last, 0)
        print(wait_for(events, last))
        """
    assert outside(host, script) == "True True\n[5]\n"


def test_elsewhere_is_refused() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        ProcessEvents()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not select.select([], [], [], 0)[0]
