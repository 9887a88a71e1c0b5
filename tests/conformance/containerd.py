"""A containerd, all of whose state is its own, and its CRI: what a kubelet says to it, over gRPC."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from cutaway.kernel.cgroups import Cgroup
from tests.children import wait_until

IMAGE = "docker.io/library/busybox:latest"
CGROUP = f"/cutaway-test-{os.getpid()}-containerd"
_CONFIG = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{directory}/socket"
[ttrpc]
  address = "{directory}/socket.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "cutaway"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cutaway]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cutaway.options]
      BinaryName = "{runtime}"
"""


class Containerd:
    """A context manager, as long as which it lives; called with arguments, it runs `ctr` against it."""

    def __init__(self, directory: Path, runtime: str) -> None:
        self._directory, self._runtime = directory, runtime

    def __enter__(self) -> Containerd:
        Cgroup(CGROUP).create()
        config = self._directory / "config.toml"
        config.write_text(_CONFIG.format(directory=self._directory, image=IMAGE, runtime=self._runtime))
        with open(self._directory / "log", "wb") as log:
            command = ["containerd", "--config", str(config)]
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: self.ended("version").returncode == 0, 30)
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.terminate()
        self._daemon.wait(timeout=30)
        Cgroup(CGROUP).remove()

    def ended(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["ctr", "--address", f"{self._directory}/socket", *words]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def __call__(self, *words: str) -> str:
        done = self.ended(*words)
        assert done.returncode == 0, f"ctr {' '.join(words)}: {done.stderr}"
        return done.stdout

    def load(self, archive: Path, namespace: str) -> None:
        """Makes an image of a root file system."""
        image = self._directory / "image.tar"
        write_image(archive, image)
        self("--namespace", namespace, "images", "import", str(image))

    def cri(self) -> Cri:
        return Cri(grpc.insecure_channel(f"unix://{self._directory}/socket"))


class Cri:
    """The Kubernetes Container Runtime Interface: calls by name, messages as their fields by number.

    <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def __call__(self, method: str, fields: dict[int, Any]) -> dict[int, Any]:
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}", request_serializer=encode, response_deserializer=decode
        )
        return dict(call(fields, timeout=60))

    def close(self) -> None:
        self._channel.close()


def encode(fields: dict[int, Any]) -> bytes:
    """A protobuf message: text, numbers, messages (as their fields), and lists of these."""
    encoded = b""
    for number, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                encoded += _varint(number << 3) + _varint(each)
            else:
                content = encode(each) if isinstance(each, dict) else each.encode()
                encoded += _varint(number << 3 | 2) + _varint(len(content)) + content
    return encoded


def decode(message: bytes) -> dict[int, Any]:
    """The last value of each field: a number, or bytes that may be text or a message."""
    fields, stream = {}, io.BytesIO(message)
    while stream.tell() < len(message):
        number, kind = divmod(_read_varint(stream), 8)
        length = _read_varint(stream)
        fields[number] = stream.read(length) if kind == 2 else length
    return fields


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 | 128]) + _varint(number >> 7)


def _read_varint(stream: io.BytesIO) -> int:
    byte = stream.read(1)[0]
    return byte if byte < 128 else byte % 128 | _read_varint(stream) << 7


def write_image(rootfs: Path, image: Path) -> None:
    """An archive as `docker save` writes it, of one layer."""
    layer = rootfs.read_bytes()
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(image, "w") as archive:
        for name, content in _files(layer, config, manifest):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _files(layer: bytes, config: object, manifest: object) -> Iterator[tuple[str, bytes]]:
    yield "layer.tar", layer
    yield "config.json", json.dumps(config).encode()
    yield "manifest.json", json.dumps(manifest).encode()


def is_installed() -> bool:
    return bool(shutil.which("containerd") and shutil.which("ctr"))
