"""docs/xray.md says what `-o json` prints, and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from cutaway.xray import model

DOCUMENTATION = (Path(__file__).parents[2] / "docs/xray.md").read_text()
STRUCTS = [each for each in vars(model).values() if isinstance(each, type) and each.__module__ == model.__name__]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: str(struct.__name__))
def test_every_field_is_documented(struct: type[msgspec.Struct]) -> None:
    (described,) = [part for part in DOCUMENTATION.split("\n\n") if part.startswith(f"**{struct.__name__}**: ")]
    documented = re.findall(r"`(\w+)`\s\(", described)
    assert documented == list(struct.__struct_fields__)
