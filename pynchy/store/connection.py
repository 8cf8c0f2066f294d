"""Open and configure the database file, read it beside the daemon, and name its failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pynchy.store import migrations


class Connection(sqlite3.Connection):
    """A connection that also answers in dictionaries, as `sqlite_utils.Database.query` does."""

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] = (), /
    ) -> Iterator[dict[str, Any]]:
        cursor = self.execute(sql, params)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, row, strict=True)) for row in cursor)


class StoreError(Exception):
    """The store cannot be used; whoever relies on it must stop."""


class StoreTooNew(StoreError):
    """The file was written by a newer version of this program. Nothing was touched."""


class StoreBroken(StoreError):
    """The file cannot be trusted or written: corrupt, read-only, an I/O error, or a COMMIT whose
    outcome is unknown. Every later call is refused; a new start reads what is really there."""


class StoreDamaged(StoreBroken):
    """What is in the file is no sound database."""


class StoreFull(StoreBroken):
    """The disk is full."""


class StoreNotOurs(StoreError):
    """The file, its log and what this home remembers of them do not belong together. Nothing was touched;
    the message says what is missing and what to do."""


def refuse_newer(path: Path, version: int) -> None:
    """Raise `StoreTooNew` for a file with a schema that is yet to come."""
    if version > migrations.SCHEMA:
        raise StoreTooNew(
            f"{path} has schema {version}, this version knows {migrations.SCHEMA}; "
            "install the newer version, or restore a backup"
        )


@contextmanager
def open_reader(path: Path) -> Iterator[Connection]:
    """A connection that can only read, beside the one that writes."""
    name = f"{path.absolute().as_uri()}?mode=ro"
    with closing(
        sqlite3.connect(name, uri=True, isolation_level=None, timeout=5.0, factory=Connection)
    ) as reader:
        reader.execute("PRAGMA trusted_schema = OFF")
        yield reader


def connect(name: str) -> Connection:
    return sqlite3.connect(
        name, isolation_level=None, check_same_thread=False, factory=Connection, timeout=5.0
    )


def configure(db: sqlite3.Connection) -> None:
    """The settings that every promise of durability rests on."""
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # NORMAL may lose what was acknowledged, when the power goes
        "busy_timeout = 5000",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "mmap_size = 0",
        "temp_store = MEMORY",
        "wal_autocheckpoint = 1000",
        "fullfsync = ON",  # macOS only; elsewhere these two do nothing
        "checkpoint_fullfsync = ON",
    ):
        db.execute(f"PRAGMA {pragma}")


def migrate(connection: Connection) -> None:
    """Bring the schema up to date."""
    import sqlite_utils

    migrations.migrate(sqlite_utils.Database(connection))
