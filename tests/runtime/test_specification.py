"""The form of a `config.json`: what the specification's own JSON schemas accept is accepted, and what they refuse
refused, for every field of a document that has them all, with all manner of values in its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.runtime.specification import InvalidConfig, check, check_process, check_resources
from tests.runtime.documents import EVERYTHING

SCHEMAS = Path(__file__).resolve().parents[3] / "shared/reference/oci-runtime-schema"
VALUES: list[Any] = [
    None, True, 0, 1, -1, 512, 65536, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 31) - 1, -(1 << 63) - 1, 1.5, "", "x",
    "LINUX", "RLIMIT_", "0-3", "2MB", "02MB", "MB:", [], [1], ["x"], {}, {"x": 1}, {"x": "y"}, [{}], [[]],
]  # fmt: skip
ELSEWHERE = ("solaris", "windows", "zos", "freebsd")
"""Platforms of which not all the schemas are at hand."""


@pytest.fixture(scope="module")
def schema_accepts() -> Callable[[Any], bool]:
    if not SCHEMAS.is_dir():
        pytest.skip("the specification's schemas are not at hand")
    from jsonschema import Draft4Validator
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    documents = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    documents |= {f"config-{name}.json": {name: {"type": "object"}} for name in ELSEWHERE}
    registry: Registry[Any] = Registry().with_resources(
        (name, DRAFT4.create_resource(document)) for name, document in documents.items()
    )
    return Draft4Validator({"$ref": "config-schema.json"}, registry=registry).is_valid


def accepts(document: Any) -> bool:
    try:
        check(document)
    except InvalidConfig:
        return False
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*path, key))


def replaced(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    section = path[0]
    document = {"ociVersion": "1.3.0", section: json.loads(json.dumps(EVERYTHING[section]))}
    here: Any = document
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return document


def without(path: tuple[Any, ...]) -> dict[str, Any]:
    document = replaced(path, None)
    here: Any = document
    for key in path[:-1]:
        here = here[key]
    del here[path[-1]]
    return document


def test_the_document_that_has_everything_is_right(schema_accepts: Callable[[Any], bool]) -> None:
    check(EVERYTHING)
    assert schema_accepts(EVERYTHING)


WIDER = ("fileMode",)
"""Fields in which engines give more than the schema has."""


@pytest.mark.parametrize("section", EVERYTHING)
def test_every_field_takes_what_the_schema_takes(section: str, schema_accepts: Callable[[Any], bool]) -> None:
    differing = []
    for path in places(EVERYTHING[section], (section,)):
        variations = [(f"= {value!r}", replaced(path, value)) for value in VALUES] + [("missing", without(path))]
        for what, document in variations:
            wanted = schema_accepts(document) or (path[-1] in WIDER and accepts(document))
            if accepts(document) != wanted:
                differing.append(f"{'.'.join(map(str, path))} {what}: {'accepted' if accepts(document) else 'refused'}")
    assert not differing, "\n".join(differing)


def test_the_field_and_what_was_expected_are_named() -> None:
    for path, value, said in (
        (("linux", "namespaces", 0, "type"), "nets", "linux.namespaces[0].type: expected one of mount, pid, network"),
        (("process", "rlimits", 0, "soft"), -1, "process.rlimits[0].soft: expected an integer from 0 to"),
        (("mounts", 0, "options"), "ro", "mounts[0].options: expected a list, not 'ro'"),
        (("hooks", "poststop", 0, "timeout"), 0, "hooks.poststop[0].timeout: expected an integer from 1"),
    ):
        with pytest.raises(InvalidConfig) as refused:
            check(replaced(path, value))
        assert said in str(refused.value)
    with pytest.raises(InvalidConfig, match=r"process\.cwd: is required, and missing"):
        check({"ociVersion": "1.3.0", "process": {}})
    with pytest.raises(InvalidConfig, match="the document: expected an object, not \\[\\]"):
        check([])


def test_unknown_fields_are_allowed_everywhere() -> None:
    check({**EVERYTHING, "futureField": 1, "linux": {**EVERYTHING["linux"], "later": {}}})


def test_the_recursive_propagations_of_other_engines_are_taken() -> None:
    check({"ociVersion": "1.0.2", "linux": {"rootfsPropagation": "rslave"}})


def test_the_kind_of_a_file_in_its_mode_is_taken() -> None:
    check(replaced(("linux", "devices", 0, "fileMode"), 0o20666))
    with pytest.raises(InvalidConfig, match="fileMode"):
        check(replaced(("linux", "devices", 0, "fileMode"), -1))


def test_a_process_and_resources_by_themselves() -> None:
    check_process(EVERYTHING["process"])
    check_resources(EVERYTHING["linux"]["resources"])
    with pytest.raises(InvalidConfig, match=r"linux\.resources\.pids\.limit"):
        check_resources({"pids": {"limit": "many"}})
