"""Where contests are held: an engine of ours, and of the peers those that are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.engines import IMAGE, Cutaway, Docker, Engine, Podman
from tests import images

PEERS_START = os.environ.get("CUTAWAY_PEERS", "../shared/peers/start")
"""A script that installs the peers and starts them: `start DIR`. Beside it is `stop`."""
PEERS_DIRECTORY = Path(os.environ.get("CUTAWAY_PEERS_DIR", "/tmp/peers"))


class Arena:
    """`ours` and all `engines`, ours first; `rootfs`: busybox's files, for tools that need no image."""

    def __init__(self, ours: Cutaway, peers: list[Engine], rootfs: Path) -> None:
        self.ours, self.engines, self.rootfs = ours, [ours, *peers], rootfs

    def versions(self) -> dict[str, str]:
        versions = {engine.name: engine.version for engine in self.engines}
        for tool in ("crun", "runc", "bwrap"):
            if shutil.which(tool):
                said = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout
                versions[tool] = said.split("\n")[0].split()[-1]
        return versions


@contextmanager
def opened() -> Iterator[Arena]:
    """An arena whose engine of ours, and peers unless they ran before, end with the block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cutaway-bench-")))
        archive, rootfs = directory / "busybox.tar", directory / "rootfs"
        images.make_busybox(archive)
        with tarfile.open(archive) as tar:
            tar.extractall(rootfs)
        peers = stack.enter_context(_peers())
        ours = Cutaway(directory)
        ours.say("import", str(archive), IMAGE)
        stack.callback(ours.time, "engine", "stop")
        stack.callback(ours.remove_started)
        yield Arena(ours, peers, rootfs)


@contextmanager
def _peers() -> Iterator[list[Engine]]:
    """Docker and podman, started where the script for it is found."""
    candidates: list[Engine] = [Docker(PEERS_DIRECTORY), Podman(PEERS_DIRECTORY)]
    start = shutil.which(PEERS_START)
    ran_before = _answers(candidates[0])
    if start:
        subprocess.run([start, str(PEERS_DIRECTORY)], check=True, stdout=sys.stderr)
    there = [peer for peer in candidates if _answers(peer)]
    for peer in candidates:
        if peer not in there:
            print(f"{peer.name} is not there, and {PEERS_START} not found: measured without it", file=sys.stderr)
    yield there
    if start and not ran_before:
        subprocess.run([str(Path(start).with_name("stop")), str(PEERS_DIRECTORY)], check=True)


def _answers(engine: Engine) -> bool:
    try:
        return bool(engine.version)
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
