"""An image to pull: ten layers, about 300 MB of Debian's files, brought to a registry."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from copy import copy
from hashlib import sha256
from pathlib import Path

LAYERS = 10
SIZE = 300e6
"""Bytes of all files in the image."""


def publish(archive: Path, reference: str, directory: Path) -> None:
    """Makes the image of the files in `archive`, a root file system, and has skopeo bring it to a registry."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers = [_layer(path, blobs) for path in _split(archive, directory)]
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for diff_id, _ in layers]},
    }
    config = _blob(json.dumps(document).encode(), blobs, "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer for _, layer in layers]}
    descriptor = _blob(json.dumps(manifest).encode(), blobs, "application/vnd.oci.image.manifest.v1+json")
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    target = f"docker://{reference}"
    subprocess.run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{directory}", target], check=True)


def _split(archive: Path, directory: Path) -> Iterator[Path]:
    """The files again and again, each time in another directory, cut into layers of one size."""
    paths = [directory / f"{number}.tar" for number in range(LAYERS)]
    with tarfile.open(archive) as source:
        members = [member for member in source if member.isfile() or member.isdir() or member.issym()]
        left = iter(range(1 << 30))
        again, at = next(left), 0
        for path in paths:
            written = 0
            with tarfile.open(path, "w") as layer:
                while written < SIZE / LAYERS:
                    if at == len(members):
                        again, at = next(left), 0
                    member = copy(members[at])
                    member.name = f"copy{again}/{member.name}"
                    layer.addfile(member, source.extractfile(member) if member.isfile() else None)
                    written, at = written + member.size, at + 1
            yield path


def _layer(path: Path, blobs: Path) -> tuple[str, dict[str, object]]:
    content = path.read_bytes()
    path.unlink()
    compressor = zlib.compressobj(6, wbits=31)
    compressed = compressor.compress(content) + compressor.flush()
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    return f"sha256:{sha256(content).hexdigest()}", _blob(compressed, blobs, media_type)


def _blob(content: bytes, blobs: Path, media_type: str) -> dict[str, object]:
    digest = sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
