"""The image configuration: how to run the image, and which layers it is made of, as one JSON document.

Its digest is the image's ID, so the bytes are kept as they came and never written anew. OCI image-spec, `config.md`;
Docker adds members of its own, kept here because `inspect` shows them. What is read comes from strangers: size and
depth are bounded, and members of a wrong type are refused.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from typing import Any

import msgspec

from cutaway.image.errors import BrokenArchive
from cutaway.image.references import is_digest

LARGEST = 4 << 20
"""Bytes a configuration, manifest or index may have; registries refuse larger manifests too."""

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
}
ARCHITECTURE, VARIANT = _ARCHITECTURES.get(os.uname().machine, (os.uname().machine, ""))
"""This machine's platform in Go's words, which image configurations use."""

Words = list[str] | str | None
_Set = dict[str, Any] | None


class Healthcheck(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """How Docker tests whether a container works; times in nanoseconds."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


class RunConfig(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """What a container of the image runs unless told otherwise: the member `config`."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: _Set | msgspec.UnsetType = msgspec.UNSET
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: Words = None
    healthcheck: Healthcheck | msgspec.UnsetType | None = msgspec.UNSET
    args_escaped: bool | msgspec.UnsetType = msgspec.UNSET
    image: str = ""
    volumes: _Set = None
    working_dir: str = ""
    entrypoint: Words = None
    network_disabled: bool | msgspec.UnsetType = msgspec.UNSET
    mac_address: str | msgspec.UnsetType = msgspec.UNSET
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | msgspec.UnsetType = msgspec.UNSET
    stop_timeout: int | msgspec.UnsetType | None = msgspec.UNSET
    shell: Words | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        self.cmd, self.entrypoint = _words(self.cmd), _words(self.entrypoint)


class RootFS(msgspec.Struct):
    """The layers, lowest first, each by the digest of its uncompressed tar archive."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One step of how the image was made; a step with `empty_layer` made no layer."""

    created: str | None = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The whole document. `created` is RFC 3339 text, empty where the image does not say."""

    architecture: str = ""
    variant: str = ""
    os: str = ""
    created: str | None = ""
    author: str = ""
    comment: str = ""
    container: str = ""
    docker_version: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    config: RunConfig | None = None
    history: list[History] | None = None
    rootfs: RootFS

    @property
    def run(self) -> RunConfig:
        """`config`, never absent."""
        return self.config or RunConfig()

    @property
    def created_at(self) -> float:
        """When it was made, in seconds since 1970; 0 where it does not say or says it badly."""
        return seconds_of(self.created)

    @property
    def diff_ids(self) -> list[str]:
        """The layers' diff IDs, lowest first."""
        return self.rootfs.diff_ids


_decoder = msgspec.json.Decoder(ImageConfig)


def parse(document: bytes) -> ImageConfig:
    """The configuration in `document`; raises `BrokenArchive` where it is none."""
    if len(document) > LARGEST:
        raise BrokenArchive(f"the image configuration has {len(document)} bytes; more than {LARGEST} are not accepted")
    try:
        config = _decoder.decode(document)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise BrokenArchive(f"the image configuration cannot be read: {error}") from None
    for diff_id in config.diff_ids:
        if not is_digest(diff_id):
            raise BrokenArchive(f"the image configuration names a layer {diff_id[:80]!r}, which is no sha256 digest")
    return config


def encode(config: ImageConfig) -> bytes:
    """The document for a configuration made here."""
    return msgspec.json.encode(config)


def imported(run: RunConfig, diff_id: str, comment: str) -> ImageConfig:
    """The configuration of an image made now from one layer."""
    created = now()
    return ImageConfig(
        architecture=ARCHITECTURE,
        variant=VARIANT,
        os="linux",
        created=created,
        comment=comment,
        config=run,
        history=[History(created=created, comment=comment)],
        rootfs=RootFS("layers", [diff_id]),
    )


def committed(parent: ImageConfig, run: RunConfig, step: History, diff_id: str, container: str) -> ImageConfig:
    """The configuration of an image made of a container of `parent`: a step more, and the layer `diff_id`, if any."""
    diff_ids = [*parent.diff_ids, diff_id] if diff_id else parent.diff_ids
    return ImageConfig(
        architecture=parent.architecture,
        variant=parent.variant,
        os=parent.os,
        os_version=parent.os_version,
        created=step.created,
        author=step.author,
        comment=step.comment,
        container=container,
        config=run,
        history=[*(parent.history or []), step],
        rootfs=RootFS("layers", diff_ids),
    )


def seconds_of(moment: str | None) -> float:
    """An RFC 3339 moment in seconds since 1970; 0 for none, for one before that, and for what is none."""
    try:
        parsed = datetime.fromisoformat(moment or "")
        return max((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp(), 0)
    except (ValueError, OverflowError):
        return 0


def now() -> str:
    """This moment, as configurations write it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def image_id(document: bytes) -> str:
    """The image's ID: `sha256:…` of its configuration."""
    return digest(document)


def digest(content: bytes) -> str:
    """The digest of `content`, as OCI descriptors write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The IDs of each layer on top of those below it (OCI image-spec, *Layer ChainID*), lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


def _words(words: Words) -> list[str] | None:
    return [words] if isinstance(words, str) else words
