"""What has come of a blob so far: a file named by its digest, which outlives whoever downloads it.

So a download goes on where it stopped, also when it was stopped by SIGKILL. What the file holds is not believed: it is
read like the rest, and hashed. Whoever uses it has it locked (`flock(2)`); who wants the same blob meanwhile waits.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from cutaway.image.compression import PIECE
from cutaway.image.registry.repository import Repository


class Partial:
    """The beginning of the blob `digest`, whose file is open and locked as `file`."""

    def __init__(self, path: str, file: int, digest: str, whole: int) -> None:
        self.path, self._file, self._digest, self._whole = path, file, digest, whole
        if self.size > whole:
            self.discard()

    @property
    def size(self) -> int:
        """How many bytes there are so far."""
        return os.fstat(self._file).st_size

    def discard(self) -> None:
        """Forgets all that has come."""
        os.ftruncate(self._file, 0)

    def chunks(self, repository: Repository, progress: Callable[[int], None]) -> Iterator[bytes]:
        """The whole blob: what is there, and then what comes from the registry, which is in the file before it is
        here. `progress` is told the bytes so far. Raises `RegistryError`."""
        done = 0
        while chunk := os.pread(self._file, PIECE, done):
            done += len(chunk)
            yield chunk
        progress(done)
        for chunk in repository.blob(self._digest, self._whole, done):
            _write(self._file, chunk, done)
            done += len(chunk)
            progress(done)
            yield chunk


@contextmanager
def opened(directory: str, digest: str, size: int) -> Iterator[Partial]:
    """What there is of a blob of `size` bytes, for nobody else meanwhile."""
    path = os.path.join(directory, digest.removeprefix("sha256:"))
    file = _locked(path)
    try:
        yield Partial(path, file, digest, size)
    finally:
        os.close(file)


def forget(directory: str, digests: Iterable[str]) -> int:
    """Removes what there is of these blobs, where nobody is downloading them now; returns how many bytes of the disk
    that gives back."""
    return sum(_forgotten(os.path.join(directory, digest.removeprefix("sha256:"))) for digest in digests)


def forget_unused(directory: str) -> int:
    """As `forget`, of all there is."""
    return forget(directory, os.listdir(directory))


def _forgotten(path: str) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return 512 * os.fstat(file).st_blocks
    except BlockingIOError:
        return 0
    finally:
        os.close(file)


def _locked(path: str) -> int:
    """A descriptor of the file at `path`; it may have been removed, and made anew, while it was waited for."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        os.close(file)


def _write(file: int, chunk: bytes, offset: int) -> None:
    left = memoryview(chunk)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
