"""Taking one layer in: read once, and on the way hashed, stored, inflated, hashed again and unpacked.

    source ─▶ digest, blob file ─▶ inflate, diff ID ─▶ unpack
             └── one thread ──┘   └── one thread ──┘   └ this thread ┘

Threads serve here because hashing, inflating and writing leave the interpreter lock alone.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import closing

import msgspec

from cutaway.image import sparse
from cutaway.image.compression import GZIP, NONE, ZSTD, inflated, peek, recognised
from cutaway.image.errors import BrokenArchive, ImageError
from cutaway.image.tarstream import Reader, Stream
from cutaway.image.unpack import Unpacker

MEDIA_TYPES = {
    NONE: "application/vnd.oci.image.layer.v1.tar",
    GZIP: "application/vnd.oci.image.layer.v1.tar+gzip",
    ZSTD: "application/vnd.oci.image.layer.v1.tar+zstd",
}
"""Compressions a blob may have by the OCI image-spec; a layer that came otherwise is stored uncompressed."""

_AHEAD = 4  # pieces a thread may be ahead of the next one


class StagedLayer(msgspec.Struct, frozen=True):
    """A layer taken in but not yet the store's: its tree is `<staging>/<name>.layer`, its blob `<staging>/<name>.blob`.

    `size` counts the bytes of its files and links, `blob_size` those of the blob; `entries` the archive's members.
    """

    name: str
    diff_id: str
    size: int
    entries: int
    blob: str
    blob_size: int
    media_type: str


def take_in(
    chunks: Iterable[bytes],
    staging: str,
    name: str,
    expected: tuple[str, str] = ("", ""),
    progress: Callable[[int], None] = lambda _: None,
    stored: str = "",
) -> StagedLayer:
    """Reads a layer archive, compressed or not, into the directory `staging`.

    `expected` is its (digest, diff ID) as far as known: what does not match is refused. `progress` is told the bytes
    read so far. `stored` is a file that has the archive once it has been read, if there is one: then that becomes the
    blob, and no other is written. Raises `BrokenArchive`, or `ImageError` where the system refuses; what was made
    stays for the caller.
    """
    start, chunks = peek(chunks)
    kind = recognised(start)
    if kind not in MEDIA_TYPES:
        if stored:
            raise BrokenArchive(f"the layer is compressed with {kind}, which no registry should have")
        chunks, kind = inflated(chunks, kind), NONE
    blob = diff = hashlib.sha256()
    blob_path = os.path.join(staging, name + ".blob")
    plain = _ahead(_hashed(chunks, blob) if stored else _stored(chunks, blob, blob_path, progress))
    if kind != NONE:
        diff = hashlib.sha256()
        plain = _ahead(_hashed(inflated(plain, kind), diff))
    try:
        with closing(plain):
            unpacker = _unpack(plain, os.path.join(staging, name + ".layer"))
        if stored:
            os.link(stored, blob_path)
    except OSError as error:
        raise ImageError(f"cannot store the layer: {error.strerror}") from error
    layer = StagedLayer(
        name,
        diff_id="sha256:" + diff.hexdigest(),
        size=unpacker.size,
        entries=unpacker.entries,
        blob="sha256:" + blob.hexdigest(),
        blob_size=os.stat(blob_path).st_size,
        media_type=MEDIA_TYPES[kind],
    )
    _check(layer, expected)
    return layer


def _check(layer: StagedLayer, expected: tuple[str, str]) -> None:
    for wanted, found in zip(expected, (layer.blob, layer.diff_id), strict=True):
        if wanted and wanted != found:
            raise BrokenArchive(f"layer {wanted} does not have the digest it is named by, but {found}")


def _unpack(chunks: Iterable[bytes], path: str) -> Unpacker:
    os.mkdir(path, 0o755)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Unpacker(root, layer=True) as unpacker:
            reader = Reader(Stream(chunks))
            unpacker.unpack(reader)
            reader.stream.drain()
            return unpacker
    finally:
        os.close(root)


def _stored(
    chunks: Iterable[bytes], digest: hashlib._Hash, path: str, progress: Callable[[int], None]
) -> Generator[bytes]:
    done = 0
    with open(path, "xb", buffering=0) as file:
        for chunk in _hashed(chunks, digest):
            sparse.write(file.fileno(), memoryview(chunk))
            done += len(chunk)
            progress(done)
            yield chunk
        sparse.end(file.fileno())


def _hashed(chunks: Iterable[bytes], digest: hashlib._Hash) -> Generator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _ahead(chunks: Generator[bytes]) -> Generator[bytes]:
    """The same chunks, made by a thread that runs a few of them ahead; ends the thread when closed."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    closed = threading.Event()
    threading.Thread(target=_fill, args=(chunks, ready, closed), daemon=True).start()
    try:
        while (chunk := ready.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk
    finally:
        closed.set()
        while not ready.empty():  # makes room for a thread that waits to put, which then sees `closed`
            ready.get_nowait()


def _fill(chunks: Generator[bytes], ready: queue.Queue[bytes | BaseException | None], closed: threading.Event) -> None:
    try:
        with closing(chunks):
            for chunk in chunks:
                ready.put(chunk)
                if closed.is_set():
                    return
        ready.put(None)
    except BaseException as error:
        ready.put(error)
