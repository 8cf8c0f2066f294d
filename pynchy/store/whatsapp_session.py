"""Read from the WhatsApp library's database which account is linked, and whose a hidden id is.

A process that is killed while the library writes leaves a half-done change behind, which the next
opener has to undo before it can read anything. So whoever owns the database (the bridge, before it loads
the library) opens it for writing; others only look. "Cannot be read" is never taken for "not linked", and
nothing of the library's is changed here but by putting the whole file aside.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import attrs

NAME: Final = "whatsapp.db"
BEFORE: Final = ".before"  # the session that a new link is to take the place of
BUSY: Final = 5.0  # seconds to wait for a writer
WRITTEN: Final = 5.0  # seconds for the library to write down that the link is made, or over


@attrs.frozen
class Account:
    """A linked account's two ids, each with the number of our device."""

    number: str
    lid: str


class Unreadable(Exception):
    """Whether an account is linked cannot be told now. ``damaged``: nor will it ever be, by itself."""

    def __init__(self, reason: str, *, damaged: bool) -> None:
        super().__init__(reason)
        self.damaged = damaged


def linked(path: Path, *, ours: bool) -> Account | None:
    """The account that the database is linked to, or None if it certainly is to none.

    ``ours``: the caller alone uses the database, and what a kill left half done is undone first.
    Raises `Unreadable`.
    """
    try:
        if not path.stat().st_size:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreadable(f"{path.name}: {error.strerror}", damaged=False) from None
    try:
        with closing(_open(path, ours=ours)) as db:
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'whatsmeow_device'"
            if db.execute(tables).fetchone() is None:  # made, and never linked
                return None
            row = db.execute("SELECT jid, coalesce(lid, '') FROM whatsmeow_device").fetchone()
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE
        raise Unreadable(f"{path.name}: {error}", damaged=damaged) from None
    return None if row is None or not row[0] else Account(str(row[0]), str(row[1]))


_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def wait_until(path: Path, ready: Callable[[Account | None], bool]) -> Account | None:
    """Wait until what the library has written down is as expected, not for ever, and return that."""
    deadline = time.monotonic() + WRITTEN
    found = None
    while time.monotonic() < deadline:
        with suppress(Unreadable):  # the library is writing
            if ready(found := linked(path, ours=False)):
                break
        time.sleep(0.1)
    return found


def number_of(path: Path, lid_user: str) -> str | None:
    """The number behind a hidden id, as far as the library has learned it and it can be read now."""
    try:
        with closing(_open(path, ours=False)) as db:
            found = db.execute("SELECT pn FROM whatsmeow_lid_map WHERE lid = ?", (lid_user,))
            row = found.fetchone()
    except sqlite3.Error:  # busy, in the middle of a change, or of an older layout
        return None
    return str(row[0]) if row and row[0] else None


def _open(path: Path, *, ours: bool) -> sqlite3.Connection:
    mode = "rw" if ours else "ro"
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY)


def put_aside(path: Path) -> None:
    """Make room for a new link. The old one comes back by `settle` if no new one is made."""
    with suppress(Unreadable):  # damaged, or worse: another reason to link anew
        linked(path, ours=True)  # undoes what is half done: the files go apart from here on
    _remove_companions(path)
    if _beside(path, BEFORE).exists():  # of a try that was broken off, and could not be settled
        path.unlink(missing_ok=True)
    elif path.exists():
        path.replace(_beside(path, BEFORE))


def settle(path: Path) -> None:
    """Choose between a new link and the one before it, if both are there: the new one, once it is made.

    For whoever has the database alone, before anything else.
    """
    before = _beside(path, BEFORE)
    if not before.exists():
        return
    if linked(path, ours=True) is None:
        _remove_companions(path)
        before.replace(path)
    else:
        before.unlink()


def _remove_companions(path: Path) -> None:
    for companion in ("-journal", "-wal", "-shm"):
        _beside(path, companion).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
