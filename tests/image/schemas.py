"""The OCI image-spec's own JSON schemas, where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT4

SCHEMAS = Path(__file__).parents[3] / "shared/reference/oci-image-schema"
_BASE = "https://opencontainers.org/schema/image/"


def valid(kind: str, document: bytes) -> Any:
    """A document parsed, after the schema for its kind (`config`, `image-manifest`, …) has found nothing wrong."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"the OCI's schemas are not in {SCHEMAS}")
    schemas = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
    registry: Registry[Any] = Registry().with_resources(
        (place + name, DRAFT4.create_resource(schema))
        for name, schema in schemas.items()
        for place in (_BASE, "https://opencontainers.org/schema/")  # against which they resolve each other's names
    )
    validator = jsonschema.Draft4Validator(schemas[f"{kind}-schema.json"], registry=registry)
    parsed = json.loads(document)
    assert [error.message for error in validator.iter_errors(parsed)] == []
    return parsed
