"""An image with everything that a file system can hold, in layers that add, change, hide and remove.

But for sparse members: Docker's, podman's and buildah's stores run such an image, and fail when they are to save it or
push it (tar-split, which makes their archives anew, does not know them). Ours has the zeros instead.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from tests.image.archives import Layout, tarred
from tests.image.trees import archive, directory, hard_link, link, member

_NET_RAW = "0100000200200000000000000000000000000000"
"""`security.capability` of a program with CAP_NET_RAW (`capabilities(7)`)."""


def _xattr(name: str, value: bytes) -> dict[str, str]:
    return {f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")}


_BOTTOM = archive(
    [
        directory("bin"),
        member("bin/setuid", b"#!/bin/sh\n", mode=0o4755),
        member(
            "bin/ping", b"ping" * 1000, mode=0o755, pax_headers=_xattr("security.capability", bytes.fromhex(_NET_RAW))
        ),
        directory("tmp", mode=0o1777),
        directory("home", uid=1000, gid=50, mode=0o700, mtime=1_000_000_000),
        member("home/notes", b"private", uid=1000, gid=50, mode=0o600, pax_headers=_xattr("user.colour", b"blue")),
        member("home/large-owner", b"", uid=3_000_000, gid=4_000_000),
        member("home/nanoseconds", b"", mtime=1_234_567_890.123456789),
        member("home/grüße", "ünïcode".encode()),
        member("home/zeros", bytes(300_000) + b"between" + bytes(200_000)),
        directory("dev"),
        member("dev/null", kind=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("dev/disk", kind=tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660),
        member("dev/pipe", kind=tarfile.FIFOTYPE, mode=0o622),
        directory("links"),
        member("links/a", b"shared" * 100),
        hard_link("links/b", "links/a"),
        link("links/absolute", "/bin/ping"),
        link("links/relative", "../bin/ping"),
        link("links/dangling", "/no/such/place"),
        directory("gone"),
        member("gone/one", b"1"),
        directory("emptied"),
        member("emptied/old", b"old"),
        member("becomes-directory", b"file"),
        directory("becomes-file"),
        member("becomes-file/inside", b"x"),
        directory("d" * 120),
        member("d" * 120 + "/" + "f" * 200, b"long names"),
    ]
)
_MIDDLE = archive(
    [
        member(".wh.gone"),
        directory("emptied"),
        member("emptied/.wh..wh..opq"),
        member("emptied/new", b"new"),
        directory("becomes-directory"),
        member("becomes-directory/inside", b"y"),
        member("becomes-file", b"now a file"),
    ]
)
_TOP = archive([directory("bin"), member("bin/setuid", b"#!/bin/false\n", mode=0o6711), directory("srv", mtime=5)])
LAYERS = (_BOTTOM, _MIDDLE, _TOP)
NAME = "registry.example/everything:v1"


def everything(where: Path, compression: str = "gzip") -> tuple[str, Path]:
    """The image's ID, and an OCI layout of it in an archive."""
    layout = Layout(LAYERS, compression, NAME)
    where.mkdir()
    return layout.image_id, tarred(layout.write(where / "layout"), where / "layout.tar")
