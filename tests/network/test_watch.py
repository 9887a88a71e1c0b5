"""The engine hears of what a firewall or Docker does to the host's packet filter."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from functools import partial

import pytest

from cutaway.network.watch import RulesetWatch
from cutaway.plan.firewall import CreateTable, MapPorts
from cutaway.plan.operation import Context

TABLE = "cutaway-watched"


def notices(*changes: Callable[[], object]) -> bool:
    """Whether changes are reported."""

    async def main() -> bool:
        noticed = asyncio.Event()
        watch = RulesetWatch(TABLE, noticed.set)
        try:
            for change in changes:
                change()
            try:
                async with asyncio.timeout(0.5):
                    await noticed.wait()
            except TimeoutError:
                return False
            return True
        finally:
            watch.close()

    return asyncio.run(main())


def nft(command: str) -> Callable[[], object]:
    return lambda: subprocess.run(["nft", command], check=True)


def test_a_table_that_is_taken_away_is_noticed() -> None:
    CreateTable(TABLE).apply(Context())
    assert notices(nft(f"delete table ip {TABLE}"))


def test_dockers_chains_are_noticed() -> None:
    try:
        assert notices(nft("add table ip filter; add chain ip filter DOCKER-USER"))
    finally:
        nft("delete table ip filter")()


def test_the_engines_own_changes_are_not() -> None:
    CreateTable(TABLE).apply(Context())
    ports = MapPorts(TABLE, [["tcp", "", 8080, "10.213.1.2", 80]])
    try:
        assert not notices(
            *(partial(change, Context()) for change in (ports.apply, ports.undo, CreateTable(TABLE).apply))
        )
    finally:
        CreateTable(TABLE).undo(Context())


@pytest.mark.parametrize("table", ["inet admin", "ip cutaway-other"])
def test_what_others_do_elsewhere_is_not(table: str) -> None:
    assert not notices(nft(f"add table {table}"), nft(f"delete table {table}"))
