"""Back up the database while the daemon runs, check backups, and restore one.

The rule: a copy that `write_copy` leaves behind has been read again from end to end. It is written
aside and renamed, so there is never half of one under its name. Only copies with a nightly name are
ever removed: what a person made is theirs.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from pynchy.config.paths import STAMP, part_of, stamp_of
from pynchy.files import writing
from pynchy.model import DAY, Micros, after
from pynchy.store import mark as marks
from pynchy.store.connection import StoreBroken, open_reader, refuse_newer
from pynchy.store.mark import Mark

_BESIDE: Final = ("-wal", "-shm")  # what SQLite keeps beside a file
_KEPT: Final = ("", "-wal")  # of a store: its index of the log is made anew by whoever opens it
#: Where halves are left, and what they are called.
_HALVES: Final = (
    ("", "*.part"),
    ("", "*.part-wal"),
    ("", "export-*.db*"),
    ("", "upgrade-*.db*"),
    ("backups", "*.db.part"),
)
DAY_MICROS: Final = int(DAY * 1_000_000)
_NIGHTLY: Final = re.compile(r"nightly-(\d{8}T\d{6}Z)\.db(\.part)?", re.ASCII)


def write_copy(store: Path, path: Path) -> None:
    """Write a copy of ``store`` to ``path`` (mode 0600), replacing an older one, while others write.

    Raises `StoreBroken` if the copy is not sound or cannot be written, and where something else is
    there already; what is there stays then.
    """
    aside = part_of(path)
    try:
        if not _may_replace(path, store):
            raise StoreBroken(f"{path} already exists and is not a copy: choose another name")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy(store, aside)
            aside.replace(path)
            writing.sync(path.parent)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StoreBroken(f"cannot write the copy {path}: {error}") from error


def is_begun(store: Path) -> bool:
    """Whether there is anything to copy: a file that a first start was killed over is as good as none."""
    if not store.exists():
        return False
    try:
        with open_reader(store) as reader:
            return int(reader.execute("PRAGMA user_version").fetchone()[0]) > 0
    except sqlite3.Error:
        return True  # whoever copies it says what is wrong


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
    writing.sync(aside)


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


def rotate(folder: Path, *, keep: int, weeks: int = 0, now: Micros) -> int:
    """Remove nightly copies, and halves of some, but the ``keep`` newest and the oldest of each of ``weeks``
    weeks before those; how many copies that were.

    Never removed is the newest copy of a database that is another one than the newest copy is of, or of
    one with more messages: it may be all that is left of what somebody will miss. A copy of a day that is
    yet to come is of a clock that was wrong, and counts as the oldest.
    """
    for half in folder.glob("nightly-*.part"):
        if _NIGHTLY.fullmatch(half.name):
            half.unlink(missing_ok=True)
    found = _nightly(folder)
    right = [each for each in found if each[0] <= after(now, DAY)]
    wrong = [each for each in found if each[0] > after(now, DAY)]
    ordered = [*wrong, *right]
    cut = max(0, len(ordered) - keep)
    kept = [path for _, path in ordered[cut:]]
    older = ordered[:cut]
    by_week = {moment // (7 * DAY_MICROS): path for moment, path in reversed(older)}
    kept += [path for _, path in sorted(by_week.items())[max(0, len(by_week) - weeks) :]]
    kept += _last_of_their_kind([path for _, path in ordered])
    gone = [path for _, path in older if path not in kept]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


def _last_of_their_kind(copies: list[Path]) -> list[Path]:
    """Of copies, the oldest first: the newest of each other database than that of the last one, and the
    newest of those with more messages than the last one."""
    known = [(path, *_kind(path)) for path in copies]
    if not known:
        return []
    _, last, count = known[-1]
    found: dict[object, Path] = {}
    for path, lineage, messages in known:
        if lineage not in (None, last):
            found[lineage] = path
        if messages > count:
            found["more"] = path
    return list(found.values())


def _kind(copy: Path) -> tuple[int | None, int]:
    """Which database a copy is of, and how many messages that had had; None if it cannot be read."""
    try:
        with open_reader(copy) as db:
            return marks.lineage_of(db), marks.counts_of(db).get("inbox", 0)
    except sqlite3.Error:
        return None, 0


def tidy(store: Path, *, before: float) -> int:
    """Remove what tools that were killed left half written beside a store or its copies, before a moment
    (seconds since 1970); how many files."""
    removed = 0
    for folder, pattern in _HALVES:
        for half in (store.parent / folder).glob(pattern):
            with suppress(OSError):
                if half.lstat().st_mtime < before:
                    half.unlink()
                    removed += 1
    return removed


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


def restore(copy: Path, path: Path, *, stamp: str, mark: Path | None = None) -> Path | None:
    """Put a checked copy in the place of the store, which nobody may have open.

    What was there is kept beside it as ``NAME.before-STAMP``, and returned. Whatever ends us in between,
    the path holds the old store with its newest rows or the new one, and no log is ever beside a file
    that is not its own: the old log is folded into its file first, or, where the old file is damaged,
    both are copied before anything is removed. ``mark`` is where the home remembers its store.
    """
    check(copy)
    aside = part_of(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_halves(path)
        _copy(copy, aside)
        is_whole = mark is None or not _has_foreign_log(path, mark)
        if mark is not None:  # until this is over, either of the two is right
            marks.save(mark, Mark())
        kept = _exchange(path, aside, stamp, may_fold=is_whole)
        if mark is not None:
            marks.save(mark, _mark_of(path))
    except (OSError, sqlite3.Error) as error:
        raise StoreBroken(f"cannot restore {copy}: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return kept


def _exchange(path: Path, aside: Path, stamp: str, *, may_fold: bool) -> Path | None:
    """Put ``aside`` in the place of ``path``, and keep what was there; its new path."""
    if not _is_there(path):
        _remove_logs(path)
        aside.replace(path)
        writing.sync(path.parent)
        return None
    kept = path.with_name(f"{path.name}.before-{stamp}")
    if may_fold:
        _fold(path)
    _keep(path, kept)
    _remove_logs(path)  # if it is not folded: the file is damaged, and both are kept
    aside.replace(path)
    writing.sync(path.parent)
    return kept


def _is_there(path: Path) -> bool:
    """Whether there is a file worth keeping: one with anything in it, or beside it."""
    return path.exists() and (path.stat().st_size > 0 or marks.log_of(path).exists())


def _fold(path: Path) -> bool:
    """Bring what is in the log into the file. False if that cannot be: the file, or the log, is damaged."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=5.0)) as db:
            db.execute("PRAGMA synchronous = FULL")
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                return False
            busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy and not (marks.log_of(path).exists() and marks.log_of(path).stat().st_size)
    except sqlite3.Error:
        return False


def _keep(path: Path, kept: Path) -> None:
    """Copy a store and the log beside it byte by byte, whatever is in them. No second name for the same
    file: whoever goes on with the one would change the other."""
    half = part_of(kept)
    for suffix in _KEPT:
        old, new = path.with_name(path.name + suffix), half.with_name(half.name + suffix)
        if old.exists():
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with old.open("rb") as source, open(os.open(new, flags, 0o600), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
    for suffix in reversed(_KEPT):  # the log first: a file is never there without its log
        with suppress(FileNotFoundError):
            half.with_name(half.name + suffix).rename(kept.with_name(kept.name + suffix))
    writing.sync(path.parent)


def clear_halves(path: Path) -> int:
    """Remove what a restore that was killed had only half written; how many files. Nobody may restore."""
    halves = [*path.parent.glob(f"{path.name}.before-*.part*"), part_of(path)]
    there = [half for half in halves if half.exists()]
    for half in there:
        half.unlink()
    return len(there)


def accept(path: Path, *, stamp: str, mark: Path) -> list[Path]:
    """Go on with the store that is there, whatever this home remembers of it. A log that is not its own
    is set aside, and returned. Nobody may have it open."""
    aside: list[Path] = []
    try:
        if _has_foreign_log(path, mark):
            log = marks.log_of(path)
            moved = log.with_name(f"{log.name}.aside-{stamp}")
            log.rename(moved)
            aside.append(moved)
            path.with_name(path.name + "-shm").unlink(missing_ok=True)
            writing.sync(path.parent)
        check(path)
        marks.save(mark, _mark_of(path))
    except OSError as error:
        raise StoreBroken(f"cannot go on with {path}: {error}") from error
    return aside


def begin_anew(path: Path, *, stamp: str, mark: Path) -> Path | None:
    """Let the next start make an empty store. What is there is kept, and returned."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_halves(path)
        is_whole = not _has_foreign_log(path, mark)
        marks.save(mark, Mark())
        if not _is_there(path):
            _remove_logs(path)
            return None
        kept = path.with_name(f"{path.name}.before-{stamp}")
        if is_whole and _fold(path):
            _remove_logs(path)
            path.rename(kept)
        else:
            _keep(path, kept)
            _remove_logs(path)
            path.unlink()
        writing.sync(path.parent)
    except OSError as error:
        raise StoreBroken(f"cannot set {path} aside: {error}") from error
    return kept


def _has_foreign_log(path: Path, mark: Path) -> bool:
    """Whether the log beside a store belongs to another time, as far as this home remembers."""
    known = marks.load(mark)
    return known is not None and marks.judge(known, marks.look(path, mark)) in (
        "log foreign",
        "replaced",
    )


def _mark_of(path: Path) -> Mark:
    """What to remember of a store that is closed, or has only its own log beside it."""
    with open_reader(path) as db:
        known = Mark(marks.lineage_of(db), counts=marks.counts_of(db))
    salt = marks.salt_of(marks.log_of(path))
    if known.lineage == 0:  # of a version that gave none: known is only that there is a store
        known = attrs.evolve(known, lineage=marks.UNREADABLE)
    return attrs.evolve(known, opened=True, salt=salt, inodes=marks.inodes_of(path))


def _remove_logs(path: Path) -> None:
    for suffix in _BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
