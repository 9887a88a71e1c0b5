"""The process keeps one socket to the packet filter open: it is opened before the tests are watched for leaks."""

from __future__ import annotations

import pytest

from cutaway.kernel.nftables.ruleset import kept_socket


@pytest.fixture(scope="session", autouse=True)
def _kept_socket() -> None:
    kept_socket()
