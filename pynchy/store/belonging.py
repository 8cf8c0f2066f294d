"""Check that the open database is still the file at its path, and the one this home had.

The rule: nothing is acknowledged whose commit went into a file that no start will find again. What such
a file holds is saved beside its place, as far as it can be.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import attrs

from pynchy.config.paths import stamp_of
from pynchy.store import mark as marks
from pynchy.store.connection import StoreBroken, StoreNotOurs
from pynchy.store.mark import Mark, MarkFile

_FILES: Final = ("", "-wal", "-shm")  # what SQLite has open, by what follows the name


def examine(path: Path, mark_path: Path, *, copies: Path) -> Mark | None:
    """Look at the files of a database before anything opens them. Raises `StoreNotOurs`."""
    mark = marks.load(mark_path)
    seen = marks.look(path, mark_path)
    if mark is None:
        if not seen.exists and (known := _newest(copies)) is not None:
            raise StoreNotOurs(
                f"there is no database at {path}, but there are copies of one. Nothing was changed. "
                f"To go on, {_advice(known)}"
            )
        return None
    wrong = marks.judge(mark, seen)
    if wrong is not None:
        raise StoreNotOurs(_sentence(wrong, path, mark, copies))
    return mark


def _sentence(wrong: str, path: Path, mark: Mark, copies: Path) -> str:
    log = marks.log_of(path).name
    advice = _advice(_newest(copies))
    go_on = "pynchy restore --accept goes on with what is there"
    match wrong:
        case "missing":
            what = "is empty" if path.exists() else "is gone"
            return (
                f"the database {path} {what}, and this home had one{_known(mark)}. Nothing was "
                f"changed. If you have the file, put it back; or {advice}"
            )
        case "log lost":
            return (
                f"{path.parent / log} is gone, which held the newest changes: {_gap(path, mark)} "
                f"Nothing was changed. If you have the file, put it back. Else {go_on}, or {advice}"
            )
        case "replaced":
            return (
                f"{path} is not the file that {log} was written for: it was replaced, and reading the "
                f"two together could destroy it. Nothing was changed. {go_on} and sets {log} aside; "
                f"or {advice}"
            )
        case _:
            return (
                f"{path.parent / log} does not belong to {path.name}: it is of another time, and "
                f"reading the two together would destroy the database. Nothing was changed. {go_on} "
                f"and sets that file aside; or {advice}"
            )


def opening(path: Path, mark: Mark) -> Mark:
    """The mark to write before a database is opened: from now on a log may lie beside it."""
    return attrs.evolve(mark, opened=True, salt=marks.salt_of(marks.log_of(path)))


def compare(path: Path, db: sqlite3.Connection, mark: Mark, copies: Path) -> None:
    """Raise `StoreNotOurs` for an open database that is another one, or lacks rows that there were."""
    if mark.lineage == 0:
        return
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        raise StoreNotOurs(
            f"{path} is no database of pynchy's, and this home had one{_known(mark)}. Nothing was "
            f"changed. To go on, {_advice(_newest(copies))}"
        )
    lineage, counts = marks.lineage_of(db), marks.counts_of(db)
    if not marks.is_behind(mark, lineage, counts):
        return
    another = lineage not in (0, mark.lineage)
    what = "is another database than this home had" if another else "is older than it was here"
    has = counts.get("inbox", 0)
    raise StoreNotOurs(
        f"{path} {what}: it ends with message {has}{_lacks(mark, has)}. Nothing was changed. If you "
        "put it there on purpose, pynchy restore --accept goes on with it; or "
        f"{_advice(_newest(copies))}"
    )


def _known(mark: Mark) -> str:
    if mark.lineage == marks.UNREADABLE or not mark.at:
        return ""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(mark.at))
    return f", which had come to message {mark.messages} and was last written {day}"


def _gap(path: Path, mark: Mark) -> str:
    has = marks.counts_in(path).get("inbox", 0)
    return f"the database ends with message {has}{_lacks(mark, has)}."


def _lacks(mark: Mark, has: int) -> str:
    if mark.messages > has:
        count = mark.messages - has
        return f", and this home had come to message {mark.messages}: {count} or fewer are missing"
    return ", the newest there was, but what became of it and of others may be missing"


def _newest(copies: Path) -> Path | None:
    """The newest copy, however it came there."""
    found = [(path.stat().st_mtime, path) for path in copies.glob("*.db") if path.is_file()]
    return max(found)[1] if found else None


def _advice(copy: Path | None) -> str:
    empty = "begin with an empty database: pynchy restore --empty"
    return empty if copy is None else f"put a copy back: pynchy restore {copy}; or {empty}"


# --- while it is open ---


@attrs.define(eq=False)
class Belonging:
    """Sees that an open database stays what it is, and keeps the mark of it."""

    path: Path
    connection: sqlite3.Connection
    _mark: Mark
    _file: MarkFile
    _log: int  # the descriptor of the log
    _ids: dict[str, tuple[int, int]]
    abandoned: bool = False

    @classmethod
    def of(cls, path: Path, connection: sqlite3.Connection, file: MarkFile) -> Belonging:
        """For a connection that was opened just now, and whose database was judged to be ours."""
        lineage = marks.lineage_of(connection)
        if lineage == 0:
            lineage = secrets.randbelow((1 << 31) - 1) + 1
            connection.execute(f"PRAGMA application_id = {lineage:d}")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # now the log is there
        log = os.open(marks.log_of(path), os.O_RDONLY | os.O_CLOEXEC)
        ids = {suffix: _id(path.with_name(path.name + suffix)) for suffix in _FILES}
        made = cls(
            path,
            connection,
            Mark(lineage, opened=True, inodes=marks.inodes_of(path)),
            file,
            log,
            ids,
        )
        made.committed(sync=True)
        return made

    def check(self) -> None:
        """Raise `StoreBroken` unless every file is where it was."""
        for suffix, known in self._ids.items():
            file = self.path.with_name(self.path.name + suffix)
            try:
                same = _id(file) == known
            except OSError:
                same = False
            if not same:
                raise StoreBroken(self._say(file))

    def see(self, look: Callable[[], None]) -> None:
        """Carry out `check` or `committed`, and let go of files that were moved away below us: what was committed
        since is not where a start would find it. Raises `StoreBroken`."""
        try:
            look()
        except (StoreBroken, OSError) as error:
            self.abandon()
            raise StoreBroken(str(error)) from error

    def committed(self, *, sync: bool = False) -> None:
        """After a commit: see that it is where a start will find it, and note how far we are."""
        self.check()
        self._mark = attrs.evolve(
            self._mark,
            salt=marks.salt_in(os.pread(self._log, marks.HEADER, 0)),
            counts=marks.counts_of(self.connection),
        )
        self._file.write(self._mark, sync=sync)

    def folding(self) -> None:
        """Before the log is emptied on purpose."""
        self._mark = attrs.evolve(self._mark, salt=None)
        self._file.write(self._mark)

    def closed(self) -> None:
        """After the connection was closed in order."""
        os.close(self._log)
        if marks.salt_of(marks.log_of(self.path)) is None:
            self._mark = attrs.evolve(self._mark, opened=False, salt=None)
        self._file.write(self._mark, sync=True)
        self._file.close()

    def abandon(self) -> None:
        """Let go of files that are not at their path any more. SQLite is not to close them: it would
        remove whatever log is at that path now."""
        import ctypes  # here: no start needs it

        self.abandoned = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))

    def _say(self, file: Path) -> str:
        if not self.path.parent.is_dir():
            return f"{self.path.parent} was moved or removed while pynchy ran; start it again there"
        what = "replaced" if file.exists() else "removed"
        saved = self._save()
        return f"{file} was {what} while pynchy ran{saved}"

    def _save(self) -> str:
        """Write all that is committed to a file of its own; what to say of it."""
        target = self.path.with_name(f"{self.path.name}.rescued-{stamp_of(time.time())}")
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self.connection.execute("VACUUM INTO ?", (str(target),))
            with target.open("rb") as file:
                os.fsync(file.fileno())
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError):
                target.unlink()
            return f"; what it held could not be saved: {error}"
        return f"; all it held is saved in {target}: pynchy restore {target} puts it back"


def _id(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_dev, seen.st_ino
