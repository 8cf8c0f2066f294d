"""A small file by which a home recognises its own database.

Nothing inside a database can tell that it is gone, that an older one stands in its place, or that the
log beside it (``-wal``), which holds the newest rows, was removed or belongs to another time. So a small
file elsewhere in the home says which database there was, how far it had come, and which log it had.

It is written after each commit and not synced then: a kill of the process loses nothing of it, a power
cut leaves an earlier one, and an earlier one never accuses a database that is in order. The rule: the
mark is never ahead of what is committed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from pynchy.files import writing

SIZE: Final = 512  # bytes: one block, written in place
#: Log headers count on from their first number each time the log starts over; so far may one have
#: counted since the mark was synced.
NEWER: Final = 1 << 24
UNREADABLE: Final = -1  # in the place of a lineage: there was a database, and no more is known
HEADER: Final = 32  # bytes of a log's header


@attrs.frozen
class Mark:
    """What was true at the last commit that we know of."""

    lineage: int = 0  # which database it is; 0: none yet, so an empty one may be made
    opened: bool = False  # somebody had it open to write, and has not closed it
    salt: int | None = None  # of the log's header; None: nothing is known of a log
    counts: Mapping[str, int] = attrs.Factory(dict)  # rows ever made, by table
    inodes: tuple[int, ...] = ()  # of the file, and of the log that was made for it
    at: int = 0  # seconds since 1970

    @property
    def messages(self) -> int:
        return self.counts.get("inbox", 0)


@attrs.frozen
class Seen:
    """What is there."""

    exists: bool  # and is not empty
    log: int | None = (
        None  # the salt of the log beside it; None: there is no log with anything in it
    )
    written_since: bool = False  # the file was written after the mark was
    inodes: tuple[int, ...] = ()


def judge(mark: Mark, seen: Seen) -> str | None:
    """What is wrong with the files beside each other, or None. Rules: nothing was opened yet."""
    if mark.lineage == 0:
        return None
    if not seen.exists:
        return "missing"
    if mark.lineage == UNREADABLE:
        return None
    if seen.log is None:
        lost = mark.opened and mark.salt is not None and not seen.written_since
        return "log lost" if lost else None
    if not mark.opened:
        return "log foreign"
    if mark.salt is not None and (seen.log - mark.salt) % (1 << 32) >= NEWER:
        return "log foreign"
    # A home that was copied has other inodes for both: then they came together.
    if len(mark.inodes) == len(seen.inodes) == 2 and mark.inodes[1] == seen.inodes[1]:
        return None if mark.inodes[0] == seen.inodes[0] else "replaced"
    return None


def is_behind(mark: Mark, lineage: int, counts: Mapping[str, int]) -> bool:
    """Whether a database that was opened is another one, or lacks rows that this home had."""
    if mark.lineage in (0, UNREADABLE):
        return False
    if lineage not in (0, mark.lineage):
        return True
    return any(counts.get(table, 0) < count for table, count in mark.counts.items())


def look(path: Path, mark_path: Path) -> Seen:
    """Look at the files without opening the database."""
    try:
        file = path.stat()
    except FileNotFoundError:
        return Seen(exists=False, log=salt_of(log_of(path)))
    try:
        marked = mark_path.stat().st_mtime_ns
    except FileNotFoundError:
        marked = 0
    return Seen(
        exists=file.st_size > 0,
        log=salt_of(log_of(path)),
        written_since=file.st_mtime_ns > marked,
        inodes=inodes_of(path),
    )


def inodes_of(path: Path) -> tuple[int, ...]:
    """Of a database and its log, as far as they are there."""
    files = (path, log_of(path))
    return tuple(file.stat().st_ino for file in files if file.exists())


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def salt_of(log: Path) -> int | None:
    try:
        with log.open("rb") as file:
            return salt_in(file.read(HEADER))
    except FileNotFoundError:
        return None


def salt_in(header: bytes) -> int | None:
    """The first number by which the frames of a log know their header."""
    return int.from_bytes(header[16:20], "big") if len(header) == HEADER else None


def lineage_of(db: sqlite3.Connection) -> int:
    """Which database this is, a copy's included; 0: it was made by a version that did not say."""
    return int(db.execute("PRAGMA application_id").fetchone()[0])


def counts_of(db: sqlite3.Connection) -> dict[str, int]:
    """How many rows the tables ever had, as far as they count them."""
    return {
        str(name): int(seq) for name, seq in db.execute("SELECT name, seq FROM sqlite_sequence")
    }


def counts_in(path: Path) -> dict[str, int]:
    """The same, of a file that nobody has open, without the log beside it; empty if it cannot be read."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as db:
            return counts_of(db)
    except sqlite3.Error:
        return {}


# --- the file ---


def load(path: Path) -> Mark | None:
    """The mark of a home; None if it has none. One that cannot be read says only that there was a
    database."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        found: dict[str, Any] = json.loads(text)
        salt = found["salt"]
        return Mark(
            lineage=int(found["lineage"]),
            opened=bool(found["opened"]),
            salt=None if salt is None else int(salt),
            counts={str(name): int(count) for name, count in found["counts"].items()},
            at=int(found["at"]),
            inodes=tuple(map(int, found["inodes"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Mark(lineage=UNREADABLE, opened=True)


def save(path: Path, mark: Mark) -> None:
    """Write a mark and see it to the disk. Raises OSError."""
    with MarkFile(path) as file:
        file.write(mark, sync=True)


class MarkFile:
    """The file, held open to be written often."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        if fresh:
            with suppress(OSError):
                writing.sync(path.parent)

    def __enter__(self) -> MarkFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, mark: Mark, *, sync: bool = False) -> None:
        """Replace what it says, in place."""
        document = attrs.asdict(attrs.evolve(mark, at=int(time.time())), recurse=False)
        line = json.dumps(document, separators=(",", ":")).encode().ljust(SIZE - 1) + b"\n"
        os.pwrite(self._descriptor, line, 0)
        if sync:
            os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
