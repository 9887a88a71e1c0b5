"""The tests' own process as a client of the shared engine."""

from __future__ import annotations

import pytest

from tests.engines import Engine


@pytest.fixture
def client(engine: Engine, busybox: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has `import cutaway` reach the shared engine; the name of an image there."""
    for name in ("CUTAWAY_ROOT", "CUTAWAY_RUNTIME_DIR"):
        monkeypatch.setenv(name, engine.environment[name])
    return busybox
