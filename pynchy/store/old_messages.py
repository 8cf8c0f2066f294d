"""Read the messages of a NanoClaw or earlier Pynchy database, from a copy of ours.

The rule: its file may have been written by anybody, a container too. So it is never opened where it is,
nothing of its schema is trusted, and only plain tables are read, by statements of our own.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from pynchy.store.connection import StoreBroken

TABLES: Final = (
    "chats",
    "messages",
    "registered_groups",
    "router_state",
    "scheduled_tasks",
    "sessions",
)


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of the tables that such a database has. Raises `StoreBroken`."""
    with tempfile.TemporaryDirectory(prefix="pynchy-import-") as folder:
        copy = Path(folder, "messages.db")
        for suffix in ("", "-wal", "-journal"):
            beside = path.with_name(path.name + suffix)
            if beside.is_file() and not beside.is_symlink():
                shutil.copyfile(beside, copy.with_name(copy.name + suffix))
        try:
            with closing(sqlite3.connect(copy, isolation_level=None)) as db:
                db.execute("PRAGMA trusted_schema = OFF")
                db.execute("PRAGMA cell_size_check = ON")
                verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise StoreBroken(f"{path} is damaged: {verdict}")
                return {table: _rows(db, table) for table in TABLES if _is_table(db, table)}
        except (OSError, sqlite3.Error) as error:
            raise StoreBroken(f"{path} cannot be read: {error}") from error


def _is_table(db: sqlite3.Connection, name: str) -> bool:
    row = db.execute("SELECT type, sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return row is not None and row[0] == "table" and "VIRTUAL" not in row[1].upper().split("(")[0]


def _rows(db: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    cursor = db.execute(f'SELECT * FROM "{table}"')
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
