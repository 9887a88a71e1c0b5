"""Image configurations: what is read of them, what of a stranger's is refused, what is written."""

from __future__ import annotations

import json

import pytest

from cutaway.image import config
from cutaway.image.errors import BrokenArchive
from cutaway.image.instructions import applied
from tests.image.schemas import valid

DIFF_ID = "sha256:" + "ab" * 32


def document(**members: object) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [DIFF_ID]}, **members}).encode()


def test_what_is_read() -> None:
    parsed = config.parse(
        document(
            created="2026-01-02T03:04:05.678901234Z",
            config={"Cmd": "sh", "Env": None, "ExposedPorts": {"80/tcp": {}}, "Unknown": {"a": [1]}},
            container_config={"Cmd": 7},
        )
    )
    assert parsed.run.cmd == ["sh"]  # the old form, a word instead of a list
    assert parsed.run.env is None
    assert parsed.diff_ids == [DIFF_ID]
    assert parsed.created_at == 1767323045.678901


def test_an_image_without_a_configuration_to_run() -> None:
    assert config.parse(document(config=None)).run.cmd is None
    assert config.parse(document()).created_at == 0
    assert config.parse(document(created="yesterday")).created_at == 0


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"[]",
        b"{}",
        b'{"rootfs": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"rootfs": {}, "else": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        document(config={"Cmd": 7}),
        document(config={"Env": {"A": "1"}}),
        document(config={"Labels": {"a": 1}}),
        b'{"rootfs": {"diff_ids": ["sha256:../../etc"]}}',
        b'{"rootfs": {"diff_ids": ["md5:0123"]}}',
        b'{"rootfs": {}, "author": "\xff"}',
        b'{"rootfs": {}, "author": "' + b"x" * config.LARGEST + b'"}',
    ],
)
def test_what_is_refused(broken: bytes) -> None:
    with pytest.raises(BrokenArchive):
        config.parse(broken)


def test_what_is_written_is_valid_by_the_oci_schema() -> None:
    run = applied(['CMD ["sh"]', "ENV A=1", "EXPOSE 80", "VOLUME /v", "LABEL a=b", "STOPSIGNAL SIGINT", "USER me"])
    valid("config", config.encode(config.imported(run, DIFF_ID, "a message")))


def test_chain_ids_by_the_specification() -> None:
    lower, upper = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert config.chain_ids([lower, upper]) == [lower, config.digest(f"{lower} {upper}".encode())]
