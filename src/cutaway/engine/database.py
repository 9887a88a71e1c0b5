"""What the engine knows, kept in one SQLite file that only the engine writes.

Each thing is one row: its key and itself as JSON. Everything that is asked for often is held in memory; the file is
there for the next engine. Write-ahead logging without a sync per commit: after a crash of the engine nothing is lost,
after one of the host at worst the last moments. <https://sqlite.org/wal.html>
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from cutaway.engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Thing = TypeVar("Thing")
_RESERVE = 1 << 20  # bytes


class Database(sqlite3.Connection):
    """The file at `path`. Where the disk is full nothing new can be kept, but things can be deleted: that takes some
    space too, which is set aside for it. Raises `EngineError` where the file cannot be written."""

    path = reserve = ""

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:  # type: ignore[override]
        try:
            return super().execute(statement, values)
        except sqlite3.OperationalError as error:
            if not statement.startswith("DELETE") or not os.path.exists(self.reserve):
                raise EngineError(f"cannot write {self.path}: {error}") from None
        os.unlink(self.reserve)
        return self.execute(statement, values)

    def executemany(self, statement: str, values: Iterable[Sequence[object]]) -> sqlite3.Cursor:  # type: ignore[override]
        try:
            return super().executemany(statement, values)
        except sqlite3.OperationalError as error:
            raise EngineError(f"cannot write {self.path}: {error}") from None

    def set_aside(self) -> None:
        """Sets aside what has been used since, if there is room again."""
        self.reserve = f"{self.path}.reserve"
        file = os.open(self.reserve, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, _RESERVE)
        except OSError:
            os.unlink(self.reserve)
        finally:
            os.close(file)


def open_database(path: str) -> Database:
    """The engine's database at `path`, made if missing, readable by its owner alone.

    Raises `OSError`, and `EngineError` for a file that is none, or that another engine has open.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, isolation_level=None, factory=Database)
    database.path = path
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA foreign_keys = ON")
    except sqlite3.DatabaseError as error:
        database.close()
        raise EngineError(f"cannot open {path}: {error}") from None
    database.set_aside()
    return database


class Table(Generic[Thing]):
    """Things of one kind by their key."""

    def __init__(self, connection: sqlite3.Connection, name: str, kind: type[Thing]) -> None:
        self._connection, self._name = connection, name
        self._decoder = msgspec.json.Decoder(kind)
        self._encoder = msgspec.json.Encoder()
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, thing BLOB) WITHOUT ROWID")

    def save(self, key: str, thing: Thing) -> None:
        """Keeps `thing`, in the place of what was there under this key."""
        self._connection.execute(f"REPLACE INTO {self._name} VALUES (?, ?)", (key, self._encoder.encode(thing)))

    def delete(self, key: str) -> None:
        """Forgets what is under this key, if anything."""
        self._connection.execute(f"DELETE FROM {self._name} WHERE key = ?", (key,))

    def get(self, key: str) -> Thing | None:
        """What is under this key."""
        row = self._connection.execute(f"SELECT thing FROM {self._name} WHERE key = ?", (key,)).fetchone()
        return self._decoder.decode(row[0]) if row else None

    def items(self) -> list[tuple[str, Thing]]:
        """Everything, with its key."""
        rows = self._connection.execute(f"SELECT key, thing FROM {self._name}")
        return [(key, self._decoder.decode(thing)) for key, thing in rows]

    def all(self) -> Iterator[Thing]:
        """Everything, in no particular order."""
        for (thing,) in self._connection.execute(f"SELECT thing FROM {self._name}"):
            yield self._decoder.decode(thing)
