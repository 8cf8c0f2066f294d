"""Check the database and its indexes, and rebuild what can be rebuilt from rows."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Final

import attrs

from pynchy.store.connection import StoreBroken, open_reader
from pynchy.store.database import Database

MOST: Final = 1000  # findings of one look
#: Findings that are about an index alone: everything in it is in its table, too.
_INDEX: Final = re.compile(
    r"(?:wrong # of entries in index|row \d+ missing from index|non-unique entry in index"
    r"|row \d+ values differ from index) (\S+)"
)


@attrs.frozen
class Health:
    """What a look found: indexes that are wrong, and the first of what cannot be mended."""

    indexes: tuple[str, ...] = ()
    damage: str = ""


def look(path: Path) -> Health:
    """Read all of a database beside the daemon that writes it. Raises `StoreBroken` if it cannot be read."""
    try:
        with open_reader(path) as reader:
            rows = reader.execute(f"PRAGMA integrity_check({MOST:d})").fetchall()
    except sqlite3.Error as error:
        raise StoreBroken(f"{path}: {error}") from error
    return judge([str(row[0]) for row in rows])


def judge(findings: list[str]) -> Health:
    """What the lines of an integrity check come to."""
    indexes: dict[str, None] = {}
    for finding in findings:
        if finding == "ok":
            continue
        if (found := _INDEX.fullmatch(finding)) is None:
            return Health(damage=finding)
        indexes[found[1]] = None
    return Health(indexes=tuple(indexes))


def mend(db: Database, indexes: tuple[str, ...]) -> None:
    """Make indexes anew from their tables."""
    for name in indexes:
        quoted = name.replace('"', '""')
        db.execute(f'REINDEX "{quoted}"')
