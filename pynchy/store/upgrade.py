"""Migrate an older database: back it up first, and go back to that if a step fails.

The rule: a migration that was begun is either whole and checked, or the file is the one from before. The
copy is named after the two schemas, so that trying again replaces it and nothing piles up.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import attrs

from pynchy.store import backup, migrations
from pynchy.store.connection import Connection, StoreBroken, configure, migrate


@attrs.frozen
class Rehearsal:
    """What a migration of a copy came to."""

    before: int
    after: int
    seconds: float


def rehearse(copy: Path) -> Rehearsal:
    """Migrate a copy, which is changed, and read it from end to end. Raises `StoreBroken`."""
    began = time.monotonic()
    before = backup.check(copy)
    connection = sqlite3.connect(copy, isolation_level=None, factory=Connection)
    try:
        configure(connection)
        _migrate(connection, before)
    finally:
        connection.close()
    return Rehearsal(before, backup.check(copy), time.monotonic() - began)


def apply(connection: Connection, path: Path, version: int) -> None:
    """Migrate the store that is open, from ``version``. Raises `StoreBroken`, with the connection closed
    and the file as it was."""
    kept = path.parent / "backups" / f"schema-{version}-before-{migrations.SCHEMA}.db"
    backup.write_copy(path, kept)
    try:
        _migrate(connection, version)
    except Exception as error:
        connection.close()
        _put_back(kept, path, version)
        raise StoreBroken(
            f"{path}: {error}; it is as it was before, and a copy is {kept}"
        ) from error


def _migrate(connection: Connection, version: int) -> None:
    try:
        migrate(connection)
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        strays = connection.execute("PRAGMA foreign_key_check").fetchone()
    except Exception as error:  # whatever a step does wrong
        raise StoreBroken(
            f"the migration from schema {version} to {migrations.SCHEMA} failed: {error}"
        ) from error
    if verdict != "ok" or strays is not None:
        raise StoreBroken(
            f"the migration from schema {version} to {migrations.SCHEMA} left damage: "
            f"{verdict if strays is None else tuple(strays)}"
        )


def _put_back(kept: Path, path: Path, version: int) -> None:
    """Restore the copy, unless the step that failed was the first and took all back by itself."""
    if backup.check(path) == version:
        return
    stamp = f"failed-schema-{migrations.SCHEMA}"
    for old in path.parent.glob(f"{path.name}.before-{stamp}*"):
        old.unlink()
    backup.restore(kept, path, stamp=stamp)
