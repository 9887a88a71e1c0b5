"""The bundles and the runtime of tests/conformance, with which the escapes are tried."""

from __future__ import annotations

from tests.conformance.conftest import bundle, bundles, busybox_root, runtime

__all__ = ["bundle", "bundles", "busybox_root", "runtime"]
