"""Copies of the store: written while the daemon runs, checked before they count, and put back.

The rule: a copy that `write_copy` leaves behind has been read again from end to end. It is written
aside and renamed, so there is never half of one under its name. Only copies with a nightly name are
ever removed: what a person made is theirs.
"""

from __future__ import annotations

import os
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pynchy.home import STAMP, part_of, stamp_of
from pynchy.model import DAY, Micros, after

from .database import StoreBroken, open_reader, refuse_newer

_BESIDE: Final = ("-wal", "-shm")  # what SQLite keeps beside a file
_NIGHTLY: Final = re.compile(r"nightly-(\d{8}T\d{6}Z)\.db(\.part)?", re.ASCII)


def write_copy(store: Path, path: Path) -> None:
    """Write a copy of ``store`` to ``path`` (mode 0600), replacing an older one, while others write.

    Raises `StoreBroken` if the copy is not sound or cannot be written, and where something else is
    there already; what is there stays then.
    """
    aside = part_of(path)
    try:
        if not _may_replace(path, store):
            raise StoreBroken(f"{path} is there already, and is no copy: say another name")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy(store, aside)
            aside.replace(path)
            _sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StoreBroken(f"cannot write the copy {path}: {error}") from error


def _may_replace(path: Path, store: Path) -> bool:
    """Whether nothing is lost with what is there: nothing, an empty file, an older copy, sound or not."""
    try:
        with path.open("rb") as there:
            head = there.read(100)
            is_store = store.exists() and path.samefile(store)
    except FileNotFoundError:
        return True
    version = int.from_bytes(head[60:64], "big")  # "user_version" of SQLite's file format
    return not head or (head.startswith(b"SQLite format 3\0") and version > 0 and not is_store)


def _copy(source: Path, aside: Path) -> None:
    """All that is committed in a file and what is beside it, as one new file, read again."""
    aside.unlink(missing_ok=True)
    # VACUUM INTO accepts an empty file, so its mode is right from the first byte on.
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with open_reader(source) as reader:
        try:
            refuse_newer(source, int(reader.execute("PRAGMA user_version").fetchone()[0]))
            reader.execute("VACUUM INTO ?", (str(aside),))
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            advice = "pynchy restore puts a copy back"
            raise StoreBroken(f"{source} is damaged: {error}; {advice}") from error
    check(aside)
    _sync(aside)


def check(path: Path) -> int:
    """Read a copy from end to end; its schema version. Raises `StoreBroken` or `StoreTooNew`."""
    try:
        with open_reader(path) as copy:
            verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            strays = copy.execute("PRAGMA foreign_key_check").fetchone()
            version = int(copy.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StoreBroken(f"{path} is no sound database: {error}") from error
    if verdict != "ok" or strays is not None:
        raise StoreBroken(f"{path} is damaged: {verdict if strays is None else strays}")
    if version == 0:
        raise StoreBroken(f"{path} is no copy of a store")
    refuse_newer(path, version)
    return version


def nightly_name(moment: Micros) -> str:
    """What a copy that is made by itself at this moment is called. Names sort by time."""
    return f"nightly-{stamp_of(moment // 1_000_000)}.db"


def newest(folder: Path, *, now: Micros) -> Micros | None:
    """When the newest nightly copy was made; one from a day that is yet to come does not count."""
    made = [moment for moment, _ in _nightly(folder) if moment <= after(now, DAY)]
    return max(made, default=None)


def rotate(folder: Path, *, keep: int) -> int:
    """Remove all nightly copies but the ``keep`` newest, and halves of some; how many copies that were."""
    for half in folder.glob("nightly-*.part"):
        if _NIGHTLY.fullmatch(half.name):
            half.unlink(missing_ok=True)
    old = [path for _, path in _nightly(folder)][: -keep or None]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _nightly(folder: Path) -> list[tuple[Micros, Path]]:
    """The nightly copies with their moments, the oldest first."""
    found = []
    for path in folder.glob("nightly-*.db"):
        if named := _NIGHTLY.fullmatch(path.name):
            try:
                moment = datetime.strptime(named[1], STAMP).replace(tzinfo=UTC)
            except ValueError:  # of the shape, but no date: not ours
                continue
            found.append((Micros(int(moment.timestamp()) * 1_000_000), path))
    return sorted(found)


def restore(copy: Path, path: Path, *, stamp: str) -> Path | None:
    """Put a checked copy in the place of the store, which nobody may have open.

    What was there is kept beside it as ``NAME.before-STAMP``, and returned. Its WAL goes with it: a
    WAL applied to another file would destroy that, and without its own such a file lacks its newest rows.
    """
    check(copy)
    aside = part_of(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _copy(copy, aside)
        kept = _keep(path, stamp) if path.exists() else None
        for suffix in _BESIDE:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        aside.replace(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreBroken(f"cannot restore {copy}: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return kept


def _keep(path: Path, stamp: str) -> Path:
    """Give the store a second name, so that at no moment it has none."""
    kept = path.with_name(f"{path.name}.before-{stamp}")
    for suffix in ("", *_BESIDE):
        old = path.with_name(path.name + suffix)
        if old.exists():
            os.link(old, kept.with_name(kept.name + suffix))
    return kept


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
