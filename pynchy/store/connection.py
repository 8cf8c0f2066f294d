"""Open and configure the database file, read it beside the daemon, and name its failures."""

from __future__ import annotations

import sqlite3
import time
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
    with closing(connect_reader(path)) as reader:
        yield reader


def connect_reader(path: Path) -> Connection:
    """The same, for whoever closes it in time."""
    name = f"{path.absolute().as_uri()}?mode=ro"
    reader = sqlite3.connect(
        name,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=5.0,
        factory=Connection,
    )
    reader.execute("PRAGMA trusted_schema = OFF")
    return reader


class TooLong(Exception):
    """A question took longer than it may; nothing is wrong with the store."""


@contextmanager
def bounded_reading(reader: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """A block that reads one state of the file, for so long at most. Raises `TooLong`."""
    end = time.monotonic() + seconds
    reader.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    reader.execute("BEGIN")
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise TooLong(f"it took longer than {seconds:.0f} s") from None
        raise
    finally:
        reader.set_progress_handler(None, 0)
        reader.execute("ROLLBACK")


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
