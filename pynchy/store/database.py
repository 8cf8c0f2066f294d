"""The one connection to the database, and the only way to use it: `Store.call`.

The rule: a call is one transaction, one at a time, in a worker thread. Query functions are plain
and sync, ``fn(db, ...)``; they neither commit nor know of threads.

Only one connection ever writes or checkpoints. That keeps clear of SQLite's WAL-reset bug (3.7.0 to
3.51.2), which needs two. Checks and backups read through one of their own, read-only, beside the calls;
whoever else wants to know something asks the daemon, or reads a copy.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Final,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)

import attrs
import trio

from pynchy.limits import MEMORIES
from pynchy.model import Micros
from pynchy.store import migrations
from pynchy.store.connection import (
    Connection,
    StoreBroken,
    StoreDamaged,
    StoreFull,
    bounded_reading,
    configure,
    connect,
    connect_reader,
    migrate,
    open_reader,
    refuse_newer,
)

if TYPE_CHECKING:
    from pynchy.store.belonging import Belonging

P = ParamSpec("P")
T = TypeVar("T")

NewId = Callable[[], str]  # a fresh random id, 32 hex digits


class Database(Protocol):
    """What a query function is given. `Connection` is one, and so is `sqlite_utils.Database`.

    The daemon's own is the light one: importing sqlite-utils takes as long as importing trio does,
    so it is left to migrations, which have nothing to do at most starts.
    """

    def execute(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ..., /
    ) -> sqlite3.Cursor: ...

    def query(
        self, sql: str, params: Sequence[Any] | dict[str, Any] = ..., /
    ) -> Iterator[dict[str, Any]]: ...


def wall_clock() -> Micros:
    """Microseconds since 1970, by this machine's clock."""
    return Micros(time.time_ns() // 1000)


def random_id() -> str:
    """32 hex digits that nobody can guess."""
    return secrets.token_hex(16)


@attrs.frozen(eq=False)
class Tx:
    """One transaction: the database as it is in it, the moment that it happens at, and a source of fresh ids.

    It is a `Database`, so whatever only reads or writes rows takes it, too.
    """

    _db: Database
    now: Micros
    new_id: NewId = random_id

    def execute(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] = (), /
    ) -> sqlite3.Cursor:
        return self._db.execute(sql, parameters)

    def query(
        self, sql: str, params: Sequence[Any] | dict[str, Any] = (), /
    ) -> Iterator[dict[str, Any]]:
        return self._db.query(sql, params)

    def insert(self, table: str, /, **values: Any) -> int:
        """Add a row with these columns, and answer with its rowid."""
        return cast("int", self._insert("INSERT", table, values).lastrowid)

    def insert_new(self, table: str, /, **values: Any) -> int | None:
        """Add a row with these columns unless it is there; its rowid, None if it was."""
        cursor = self._insert("INSERT OR IGNORE", table, values)
        return cursor.lastrowid if cursor.rowcount else None

    def replace(self, table: str, /, **values: Any) -> None:
        """Add a row with these columns in the place of the one with its key."""
        self._insert("INSERT OR REPLACE", table, values)

    def update(self, table: str, where: str, params: Sequence[Any], /, **values: Any) -> int:
        """Set these columns in the rows ``where`` names; how many rows. Without columns nothing is done."""
        if not values:
            return 0
        settings = ", ".join(f"{column} = ?" for column in values)
        return self.execute(
            f"UPDATE {table} SET {settings} WHERE {where}", (*values.values(), *params)
        ).rowcount

    def _insert(self, verb: str, table: str, values: Mapping[str, Any]) -> sqlite3.Cursor:
        marks = ", ".join("?" * len(values))
        return self.execute(
            f"{verb} INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
        )

    @contextmanager
    def undone_if_raised(self) -> Iterator[None]:
        """A block that raises has written nothing, and the transaction goes on."""
        self.execute("SAVEPOINT block")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK TO block")
            raise
        finally:
            self.execute("RELEASE block")

    def at(self, now: Micros) -> Tx:
        """The same transaction, as it would be at another moment."""
        return Tx(self._db, now, self.new_id)


class RunSync(Protocol):
    """Where calls are carried out: `trio.to_thread.run_sync`, or something inline in simulations."""

    def __call__(
        self, sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None
    ) -> Awaitable[T]: ...


class Store:
    """Our side of the database: `call` and nothing else."""

    def __init__(
        self,
        opened: Opened,
        run_sync: RunSync,
        *,
        now: Callable[[], Micros] = wall_clock,
        new_id: NewId = random_id,
    ) -> None:
        self._now = now
        self._new_id = new_id
        self._connection = opened.connection
        self._path = opened.path
        self._belonging = opened.belonging
        self._run_sync = run_sync
        self._limiter = trio.CapacityLimiter(1)
        self._reader: Connection | None = None
        self._reading = trio.CapacityLimiter(1)
        self._broken: str | None = None
        self._rows = opened.connection.total_changes  # so far
        self._told = self._rows  # when somebody was last told
        self._tell: Callable[[], None] = _nobody
        #: The last owner did not close it: let `check` read it while the work begins.
        self.stopped_uncleanly: Final = opened.stopped_uncleanly

    async def call(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Carry out ``fn(db, ...)`` as one durable transaction, after those that came before.

        When it returns, the change is on disk. What ``fn`` raises goes up and leaves no trace.
        Cancelling the caller doesn't stop a call that has begun. Raises `StoreBroken` when the
        database fails, then for every call after.
        """

        def work() -> T:
            return self._transact(lambda: fn(self._begun(), *args, **kwargs))

        result = await self._run_sync(work, limiter=self._limiter)
        if self._rows != self._told:
            self._told = self._rows
            self._tell()
        return result

    async def read(
        self, fn: Callable[Concatenate[Tx, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Answer a question that may take a while: beside the calls, so that none of them waits for it.

        It sees what was committed before it begins, and cannot write. Raises `TooLong` after `READING` seconds.
        """
        if self._path == Opened.MEMORY:
            return await self.call(fn, *args, **kwargs)

        def work() -> T:
            if self._reader is None:
                self._reader = connect_reader(self._path)
            with bounded_reading(self._reader, MEMORIES.search):
                return fn(Tx(self._reader, self._now(), self._new_id), *args, **kwargs)

        return await self._run_sync(work, limiter=self._reading)

    def _begun(self) -> Tx:
        return Tx(self._connection, self._now(), self._new_id)

    def tell_changes(self, tell: Callable[[], None]) -> None:
        """Call this, in the loop, after each call that changed a row."""
        self._tell = tell

    async def check(self) -> None:
        """Read the whole file beside the calls. Raises `StoreBroken` if it is damaged, and so does
        every call from then on."""
        with self._usable():
            await self._aside(partial(_read_through, self._path))

    async def look(self, at: Callable[[Path], T]) -> T:
        """Have the file read beside the calls; what is raised breaks no call."""
        return await self._aside(partial(at, self._path))

    async def copy_to(self, path: Path) -> None:
        """Write a sound copy of everything committed so far, beside the calls; see `backup`."""
        from pynchy.store import backup  # here: a start has nothing to copy

        await self._run_sync(self._look, limiter=self._limiter)
        await self._aside(partial(backup.write_copy, self._path, path))

    async def tidy(self) -> None:
        """Fold the WAL back into the file; for quiet hours.

        No ANALYZE: without statistics the plans of our questions are always those that are tested.
        """
        await self._run_sync(self._fold, limiter=self._limiter)

    async def _aside(self, work: Callable[[], T]) -> T:
        return await self._run_sync(work, limiter=trio.CapacityLimiter(1))

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Refuse whatever comes after the first `StoreBroken`."""
        if self._broken is not None:
            raise StoreBroken(self._broken)
        try:
            yield
        except StoreBroken as error:
            self._broken = str(error)
            raise

    def _fold(self) -> None:
        self._look()
        with self._usable():
            try:
                if self._belonging is not None:
                    self._belonging.folding()
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise StoreBroken(f"checkpoint: {error}") from error

    def _transact(self, work: Callable[[], T]) -> T:
        with self._usable():
            with transaction(self._connection):
                result = work()
            rows = self._connection.total_changes
            if rows != self._rows and self._belonging is not None:
                self._belonging.see(self._belonging.committed)
            self._rows = rows
            return result

    def _look(self) -> None:
        """See that the file is still at its path."""
        with self._usable():
            if self._belonging is not None:
                self._belonging.see(self._belonging.check)

    @property
    def is_broken(self) -> bool:
        """Whether it has failed in a way that ends the daemon."""
        return self._broken is not None

    def close(self) -> None:
        """Close the file in order, unless it is not there any more. Nothing reads it by then."""
        if self._reader is not None:
            self._reader.close()
        if self._belonging is None or not self._belonging.abandoned:
            close(self._connection, self._belonging)


def _nobody() -> None:
    """Whom changes are told when nobody asked."""


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """``BEGIN IMMEDIATE`` … ``COMMIT``, or ``ROLLBACK`` if the block raises."""
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise _broken(error, "BEGIN") from error
    try:
        yield
    except BaseException as error:
        _roll_back(db)
        if isinstance(error, sqlite3.DatabaseError) and _is_of_the_file(error):
            raise _broken(error, "a statement") from error
        raise
    try:
        db.execute("COMMIT")
    except sqlite3.Error as error:
        # Unknown, not failed: it may be durable all the same. Only a new start can tell.
        _roll_back(db)
        if _primary(error) == sqlite3.SQLITE_CONSTRAINT:
            raise
        kind = StoreFull if _primary(error) == sqlite3.SQLITE_FULL else StoreBroken
        raise kind(f"COMMIT: {error}; its outcome is unknown") from error


def _roll_back(db: Database) -> None:
    # It may fail: SQLite rolled back by itself, or the file is gone. The first error tells more.
    with suppress(sqlite3.Error):
        db.execute("ROLLBACK")


_OF_THE_FILE: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


def _primary(error: sqlite3.Error) -> int:
    code = getattr(error, "sqlite_errorcode", None)
    return (code & 0xFF) if isinstance(code, int) else 0


def _is_of_the_file(error: sqlite3.Error) -> bool:
    return _primary(error) in _OF_THE_FILE


def _broken(error: sqlite3.Error, where: str) -> StoreBroken:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return _KINDS.get(_primary(error), StoreBroken)(f"{where}: {error} ({name})")


_KINDS: Final[Mapping[int, type[StoreBroken]]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
}


def _unreadable(error: sqlite3.Error, path: Path) -> StoreBroken:
    """The same of a file that is being opened."""
    return _KINDS.get(_primary(error), StoreBroken)(f"{path}: {error}")


@attrs.frozen
class Opened:
    """A connection to a store, and how its last owner left it."""

    MEMORY: ClassVar = Path(":memory:")

    connection: Connection
    path: Path = MEMORY
    stopped_uncleanly: bool = False
    belonging: Belonging | None = None

    def close(self) -> None:
        """Close the file in order; what its log has is in it then."""
        close(self.connection, self.belonging)


def close(connection: Connection, belonging: Belonging | None) -> None:
    """Close a store in order, and note that it is."""
    connection.close()
    if belonging is not None:
        belonging.closed()


@asynccontextmanager
async def open_store(
    path: Path,
    *,
    mark: Path | None = None,
    run_sync: RunSync = cast("RunSync", trio.to_thread.run_sync),
    now: Callable[[], Micros] = wall_clock,
    new_id: NewId = random_id,
) -> AsyncIterator[Store]:
    """The store for the length of the block; closed, and its WAL folded in, after.

    Creates the file (mode 0600, directory 0700) if it is missing, and brings an older schema up to date.
    With ``mark``, the file in which a home remembers its store, one that is missing though there was one
    is not made, and one that is another, or lacks what there was, is not opened: `StoreNotOurs`. Raises
    `StoreTooNew` before it touches anything a newer version wrote, and `StoreBroken` for what is no
    database.
    """
    limiter = trio.CapacityLimiter(1)
    opened = await run_sync(partial(open_file, path, mark=mark), limiter=limiter)
    store = Store(opened, run_sync, now=now, new_id=new_id)
    try:
        yield store
    finally:
        store.close()


def open_file(path: Path, *, mark: Path | None = None) -> Opened:
    """What `open_store` holds; for it, and for tools that run while no daemon does. An older schema is
    copied into ``backups`` before it is brought up to date."""
    if mark is None:
        return _open_file(path)
    from pynchy.store import belonging  # here: simulations and tools on copies have no home
    from pynchy.store.mark import Mark, MarkFile

    copies = path.parent / "backups"
    try:
        known = belonging.examine(path, mark, copies=copies) or Mark()
        if known.lineage:
            with MarkFile(mark) as file:
                file.write(belonging.opening(path, known), sync=True)
        opened = _open_file(path, judge=lambda db: belonging.compare(path, db, known, copies))
        try:
            belongs = belonging.Belonging.of(path, opened.connection, MarkFile(mark))
        except BaseException:
            opened.connection.close()
            raise
    except sqlite3.Error as error:
        raise _unreadable(error, path) from error
    except OSError as error:
        raise StoreBroken(f"cannot open {path}: {error}") from error
    return attrs.evolve(opened, belonging=belongs)


def see_that_it_is_ours(path: Path, mark: Path) -> None:
    """Raise `StoreNotOurs` where the files of a store are not those that this home had. Opens nothing."""
    from pynchy.store import belonging

    belonging.examine(path, mark, copies=path.parent / "backups")


def _open_file(
    path: Path, *, judge: Callable[[Connection], None] = lambda connection: None
) -> Opened:
    """``judge`` may refuse what was opened, before anything is changed."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite removes its log when the last connection is closed, and at no other time.
        stopped_uncleanly = path.with_name(path.name + "-wal").exists()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection = connect(str(path))
    except (OSError, sqlite3.Error) as error:
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            raise StoreBroken(f"{path} is a link; move the database itself to that place") from None
        raise StoreBroken(f"cannot open {path}: {error}") from error
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        refuse_newer(path, version)
        judge(connection)
        configure(connection)
        if version == 0:
            migrate(connection)
        elif version < migrations.SCHEMA:
            from pynchy.store import upgrade  # here: most starts have nothing to bring up

            upgrade.apply(connection, path, version)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _unreadable(error, path) from error
    except BaseException:
        connection.close()
        raise
    return Opened(connection, path, stopped_uncleanly)


def size_of(path: Path) -> int:
    """Bytes of a store: its file, and what is in the log beside it. 0 if there is none."""
    log = path.with_name(path.name + "-wal")
    return sum(each.stat().st_size for each in (path, log) if each.exists())


def _read_through(path: Path) -> None:
    try:
        with open_reader(path) as reader:
            verdict = reader.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise _unreadable(error, path) from error
    if verdict != "ok":
        raise StoreDamaged(f"{path} is damaged: {verdict}")


def open_memory() -> Connection:
    """A fresh database in memory with the whole schema, for rules and simulations."""
    connection = connect(":memory:")
    configure(connection)
    migrate(connection)
    return connection
