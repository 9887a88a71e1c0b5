"""Notices when others change the host's packet filter in a way that takes away what networks need.

Docker or a firewall may start after the engine: `nft flush ruleset` at its start takes the engine's table with it, and
Docker's FORWARD chain drops what it does not know. `CreateTable`, `AddNetworkToTable`, `MapPorts` and `AllowForwarding`
can be applied again at any time, and add only what is missing.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from cutaway.kernel.nftables.header import NFNLGRP_NFTABLES
from cutaway.kernel.nftables.ruleset import Change, NftablesSocket

if TYPE_CHECKING:
    from collections.abc import Callable

REST = 0.05
"""Seconds to wait for further changes: they come in bursts."""


class RulesetWatch:
    """Calls `changed` whenever the engine's networks may need to be applied again, until `close`."""

    def __init__(self, table: str, changed: Callable[[], None]) -> None:
        self._table, self._changed = table, changed
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None
        self._nft = NftablesSocket()
        self._nft.join(NFNLGRP_NFTABLES)
        self._loop.add_reader(self._nft, self._read)

    def close(self) -> None:
        """Watches no longer."""
        self._loop.remove_reader(self._nft)
        self._nft.close()
        if self._due:
            self._due.cancel()

    def _read(self) -> None:
        try:
            concerned = any(self._concerns(change) for change in self._nft.changes())
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            concerned = True  # more came than could be kept
        if concerned and not self._due:
            self._due = self._loop.call_later(REST, self._notify)

    def _notify(self) -> None:
        self._due = None
        self._changed()

    def _concerns(self, change: Change) -> bool:
        if change.table == self._table:
            return change.call == "NFT_MSG_DELTABLE"
        return change.table == "filter" and change.call in ("NFT_MSG_NEWCHAIN", "NFT_MSG_DELRULE")
