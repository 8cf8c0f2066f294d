"""The store on a real file: threads, sudden deaths, full disks, damaged files."""

# ruff: noqa: ASYNC230  # small files, and nobody else in the loop to wait

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from pynchy.cli import start
from pynchy.model import MAIN_CONSOLE, Message, Micros, SenderId
from pynchy.store import backup, database, groups, messages, migrations
from pynchy.store.connection import (
    StoreBroken,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreTooNew,
    TooLong,
)
from pynchy.store.database import Database, Store, Tx, open_store
from tests.transactions import at

NOW = Micros(1_750_000_000_000_000)


def receive_many(tx: Tx, several: list[Message]) -> None:
    """A burst in one transaction."""
    for each in several:
        messages.receive(tx, each)


def hello(number: int, *, text: str = "hello") -> Message:
    return Message(MAIN_CONSOLE, f"m{number}", SenderId("console:anna"), "Anna", NOW, text)


def make_main(db: Database) -> None:
    groups.ensure_main(Tx(db, NOW), name="Main", trigger="Pynchy")


def count(db: Database) -> int:
    return int(db.execute("SELECT count(*) FROM inbox").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store" / "pynchy.db"


class TestOpening:
    async def test_what_is_committed_is_there_next_time(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            assert (await store.call(at(NOW, messages.receive), hello(1))).wakes
        async with open_store(path) as store:
            assert await store.call(count) == 1

    async def test_nobody_else_may_read_it(self, path: Path) -> None:
        old = os.umask(0)
        try:
            async with open_store(path) as store:
                await store.call(make_main)
                modes = {
                    each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()
                }
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert set(modes) == {"pynchy.db", "pynchy.db-wal", "pynchy.db-shm"}
        assert set(modes.values()) == {0o600}

    async def test_it_closes_clean(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
        assert [each.name for each in path.parent.iterdir()] == ["pynchy.db"]

    async def test_its_settings_are_those_the_promises_rest_on(self, path: Path) -> None:
        def settings(db: Database) -> dict[str, object]:
            names = ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "mmap_size")
            return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

        async with open_store(path) as store:
            assert await store.call(settings) == {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "trusted_schema": 0,
                "mmap_size": 0,
            }

    async def test_a_newer_schema_is_left_as_it_is(self, path: Path) -> None:  # invariant 173
        # threat D8
        async with open_store(path):
            pass
        with sqlite3.connect(path) as newer:
            newer.execute(f"PRAGMA user_version = {migrations.SCHEMA + 1}")
        newer.close()
        before = path.read_bytes()
        with pytest.raises(StoreTooNew, match=f"schema {migrations.SCHEMA + 1}"):
            async with open_store(path):
                pass
        assert path.read_bytes() == before

    async def test_an_older_schema_is_brought_up_step_by_step(self, path: Path) -> None:
        # threat D8
        path.parent.mkdir(parents=True)
        import sqlite_utils

        connection = sqlite3.connect(path, isolation_level=None)
        history = sqlite_utils.Migrations("pynchy")
        history(name="m001_core")(migrations.STEPS[0])
        history.apply(sqlite_utils.Database(connection))
        connection.execute("PRAGMA user_version = 1")
        # By the columns of that schema: what the code writes today is of the newest.
        connection.execute(
            "INSERT INTO groups (folder, name, trigger, requires_trigger, is_main, epoch, created_at)"
            " VALUES ('main', 'Main', 'Pynchy', 0, 1, 0, ?)",
            (NOW,),
        )
        connection.close()
        async with open_store(path) as store:
            version = await store.call(lambda db: db.execute("PRAGMA user_version").fetchone()[0])
            assert version == migrations.SCHEMA
            assert len(await store.call(groups.list_groups)) == 1

    async def test_a_step_that_fails_leaves_the_file_as_it_was(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with open_store(path) as store:
            await store.call(make_main)

        def broken(db: object) -> None:
            assert isinstance(db, sqlite_utils.Database)
            db.execute("DROP TABLE outbox")
            raise RuntimeError("a bug in a step")

        import sqlite_utils

        steps = (*migrations.STEPS, broken)
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "STEPS", steps)
            patch.setattr(migrations, "SCHEMA", len(steps))
            with pytest.raises(StoreBroken, match="a bug in a step; it is as it was before"):
                async with open_store(path):
                    pass
        async with open_store(path) as store:
            assert await store.call(lambda db: db.execute("SELECT * FROM outbox").fetchall()) == []

    @pytest.mark.parametrize(
        "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"x" * 5000]
    )
    async def test_what_is_no_database_is_said_and_left(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with pytest.raises(StoreDamaged):
            async with open_store(path):
                pass
        assert path.read_bytes() == content
        assert "pynchy restore" in start.verdict(StoreDamaged("x"))[1]

    async def test_a_link_is_not_followed(
        self, path: Path, tmp_path: Path
    ) -> None:  # invariant 152
        path.parent.mkdir(parents=True)
        target = tmp_path / "victim"
        path.symlink_to(target)
        with pytest.raises(StoreBroken, match="is a link; move the database itself"):
            async with open_store(path):
                pass
        assert not target.exists()

    async def test_damage_is_found_after_an_unclean_stop(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            for start in range(0, 2000, 500):
                batch = [hello(number, text="x" * 200) for number in range(start, start + 500)]
                await store.call(at(NOW, receive_many), batch)
        size = path.stat().st_size
        with open(path, "r+b") as file:
            for page in range(20, size // 4096 - 5, 7):
                file.seek(page * 4096)
                file.write(os.urandom(2048))
        path.with_name("pynchy.db-wal").touch()  # as a daemon that died leaves it

        async def open_and_check() -> None:
            async with open_store(path) as store:
                assert store.stopped_uncleanly
                with pytest.raises(StoreBroken):
                    await store.check()
                await store.call(count)

        with pytest.raises(StoreBroken, match=r"malformed|damaged"):
            await open_and_check()

    async def test_a_sound_file_is_read_beside_the_calls(self, path: Path) -> None:
        async with open_store(path) as store:
            assert not store.stopped_uncleanly
            await store.call(make_main)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.check)
                for number in range(50):
                    await store.call(at(NOW, messages.receive), hello(number))
            assert await store.call(count) == 50


class TestCalls:
    async def test_a_call_that_raises_leaves_no_trace(self, path: Path) -> None:  # invariant 20
        def half(db: Database) -> None:
            messages.receive(Tx(db, NOW), hello(1))
            raise RuntimeError("in the middle")

        async with open_store(path) as store:
            await store.call(make_main)
            with pytest.raises(RuntimeError, match="in the middle"):
                await store.call(half)
            assert await store.call(count) == 0

    async def test_a_refused_row_is_an_error_and_no_end(self, path: Path) -> None:
        async with open_store(path) as store:
            with pytest.raises(sqlite3.IntegrityError):
                await store.call(lambda db: db.execute("INSERT INTO chats (chat) VALUES (NULL)"))
            await store.call(make_main)

    async def test_many_tasks_at_once_are_one_after_the_other(
        self, path: Path
    ) -> None:  # invariant 21
        inside = 0

        def add(db: Database, number: int) -> None:
            nonlocal inside
            inside += 1
            assert inside == 1
            messages.receive(Tx(db, NOW), hello(number))
            inside -= 1

        async with open_store(path) as store, trio.open_nursery() as nursery:
            await store.call(make_main)
            with trio.fail_after(60):
                async with trio.open_nursery() as writers:
                    for number in range(100):
                        writers.start_soon(store.call, add, number)
                assert await store.call(count) == 100
            nursery.cancel_scope.cancel()

    async def test_a_call_that_has_begun_is_not_cut_off(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            with trio.CancelScope() as scope:

                def slow(db: Database) -> None:
                    trio.from_thread.run_sync(scope.cancel)
                    messages.receive(Tx(db, NOW), hello(1))

                await store.call(slow)
            assert await store.call(count) == 1

    async def test_statements_cannot_be_given_two_at_a_time(self, path: Path) -> None:
        async with open_store(path) as store:
            with pytest.raises((sqlite3.Warning, sqlite3.ProgrammingError)):
                await store.call(lambda db: db.execute("SELECT 1; DROP TABLE inbox"))
            assert await store.call(count) == 0


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size``: the nearest thing to a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


async def fill(store: Store, *, batches: int = 200) -> int:
    """Write until it fails; how many messages were acknowledged."""
    for batch in range(batches):
        some = [hello(batch * 10 + number, text="x" * 1000) for number in range(10)]
        try:
            await store.call(at(NOW, receive_many), some)
        except StoreBroken:
            return batch * 10
    raise AssertionError("nothing failed")


class TestTrouble:
    async def test_a_file_that_cannot_grow(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            with file_size_limit(1_000_000):
                acknowledged = await fill(store)
                with pytest.raises(StoreBroken):
                    await store.call(count)
        async with open_store(path) as store:
            assert await store.call(count) >= acknowledged > 0
            await store.call(at(NOW, messages.receive), hello(10_000))

    async def test_a_database_that_is_full(self, path: Path) -> None:
        """SQLITE_FULL itself: the store refuses more, and has lost nothing of what it took."""
        async with open_store(path) as store:
            await store.call(make_main)
            await store.call(lambda db: db.execute("PRAGMA max_page_count = 150").fetchall())
            full: StoreBroken | None = None
            acknowledged = 0
            while full is None:
                try:
                    await store.call(
                        at(NOW, messages.receive), hello(acknowledged, text="x" * 3000)
                    )
                    acknowledged += 1
                except StoreBroken as error:
                    full = error
            assert isinstance(full, StoreFull)
            with pytest.raises(StoreBroken):
                await store.call(count)
        async with open_store(path) as store:
            assert await store.call(count) in (acknowledged, acknowledged + 1)
        assert acknowledged > 0

    @pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no place for a small file system")
    async def test_a_disk_that_is_full(self, tmp_path: Path) -> None:  # threat D4
        """In a namespace of its own with a file system of 2 MiB."""
        program = """
            import sys, trio
            from pathlib import Path
            from tests.edges.test_store import NOW, fill, make_main, count
            from pynchy.store import database
            async def main(path):
                async with database.open_store(path) as store:
                    await store.call(make_main)
                    acknowledged = await fill(store, batches=2000)
                ballast.unlink()
                async with database.open_store(path) as store:
                    print(acknowledged, await store.call(count))
            ballast = Path(sys.argv[1]) / "ballast"
            ballast.write_bytes(bytes(200_000))
            trio.run(main, Path(sys.argv[1]) / "pynchy.db")
        """
        mount = 'mount -t tmpfs -o size=2m,mode=700 none "$1" && shift && exec "$@"'
        place = str(tmp_path)
        unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
        ran = subprocess.run(
            [*unshare, place, sys.executable, "-c", textwrap.dedent(program), place],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "unshare" in ran.stderr or "mount:" in ran.stderr:
            pytest.skip("no namespaces here: " + ran.stderr.strip())
        assert ran.returncode == 0, ran.stderr
        acknowledged, kept = map(int, ran.stdout.split())
        assert kept >= acknowledged > 100

    async def test_a_file_that_may_not_be_written(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            await store.call(lambda db: db.execute("PRAGMA query_only = ON").fetchall())
            with pytest.raises(StoreBroken, match="READONLY"):
                await store.call(at(NOW, messages.receive), hello(1))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
    async def test_a_file_without_permission(self, path: Path) -> None:
        async with open_store(path):
            pass
        path.chmod(0o400)
        with pytest.raises(StoreBroken, match="cannot open"):
            async with open_store(path):
                pass

    async def test_a_commit_that_raises_is_unknown_and_the_end(self, path: Path) -> None:
        # threat D4
        """Whether it was durable, only a new start can tell."""
        async with open_store(path) as store:
            await store.call(make_main)

            def cut(db: Database) -> None:
                db.execute("COMMIT")  # as if it had been durable, and its answer lost

            with pytest.raises(StoreBroken, match="unknown"):
                await store.call(cut)
            with pytest.raises(StoreBroken, match="unknown"):
                await store.call(count)


WRITER = """
    import sys, trio
    from pathlib import Path
    from tests.edges.test_store import NOW, hello, make_main
    from pynchy.store import messages
    from pynchy.store.database import open_store
    async def main(path, first):
        async with open_store(path) as store:
            await store.call(make_main)
            number = first
            while True:
                await store.call(messages.receive, hello(number))
                print(number, flush=True)
                number += 1
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
"""


async def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:  # invariants 1, 19
    # threat D2
    """Kill a writer at any moment, again and again: each number it has told is in the file."""
    last = -1
    for _ in range(4):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(last + 1)],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        heard = b""
        with trio.fail_after(60):
            while heard.count(b"\n") < 30:
                heard += await process.stdout.receive_some()
            process.kill()
            await process.wait()
            while more := await process.stdout.receive_some():
                heard += more
        await process.stdout.aclose()
        told = int(heard.rsplit(b"\n", 2)[-2])
        assert path.with_name("pynchy.db-wal").exists()
        async with open_store(path) as store:
            numbers = await store.call(
                lambda db: [
                    int(row[0][1:])
                    for row in db.execute("SELECT message_id FROM inbox ORDER BY seq")
                ]
            )
        assert numbers == list(range(len(numbers)))
        assert numbers[-1] in (told, told + 1)
        last = numbers[-1]


class TestReading:
    async def test_a_long_search_holds_up_no_call(self, path: Path) -> None:
        began, go_on = threading.Event(), threading.Event()

        def long_search(db: Database) -> int:
            before = count(db)
            began.set()
            assert go_on.wait(60)
            assert count(db) == before  # one state, however long it takes
            return before

        async with open_store(path) as store:
            await store.call(make_main)
            found: list[int] = []

            async def look() -> None:
                found.append(await store.read(long_search))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await trio.to_thread.run_sync(began.wait)
                with trio.fail_after(30):
                    await store.call(at(NOW, messages.receive), hello(1))
                    await store.tidy()
                go_on.set()
            assert found == [0]
            assert await store.read(count) == 1

    async def test_a_search_cannot_write(self, path: Path) -> None:
        async with open_store(path) as store:
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                await store.read(make_main)
            await store.call(make_main)

    async def test_a_search_that_takes_too_long_is_given_up(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "MEMORIES", SimpleNamespace(search=0.05))
        endless = (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        )
        async with open_store(path) as store:
            with pytest.raises(TooLong):
                await store.read(lambda db: db.execute(endless).fetchone())
            assert await store.read(count) == 0  # the next one is answered

    async def test_it_is_closed_before_the_one_that_writes(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.read(count)
            await store.call(make_main)
        assert not path.with_name(path.name + "-wal").exists()  # the last one to close folds it in


class TestBackups:
    async def test_a_copy_is_whole_private_and_can_be_put_back(
        self, path: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "backups" / "monday.db"
        async with open_store(path) as store:
            await store.call(make_main)
            await store.call(at(NOW, messages.receive), hello(1))
            await store.copy_to(copy)
            await store.call(at(NOW, messages.receive), hello(2))
            await store.copy_to(copy)
            await store.call(at(NOW, messages.receive), hello(3))
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert [each.name for each in copy.parent.iterdir()] == ["monday.db"]
        kept = backup.restore(copy, path, stamp="1")
        async with open_store(path) as store:
            assert await store.call(count) == 2
        assert kept is not None
        async with open_store(kept) as store:
            assert await store.call(count) == 3

    async def test_a_wal_that_was_left_does_not_spoil_what_is_put_back(
        self, path: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy.db"
        async with open_store(path) as store:
            await store.call(make_main)
            await store.copy_to(copy)
            await store.call(at(NOW, messages.receive), hello(1))
            dead = tmp_path / "dead" / "pynchy.db"
            dead.parent.mkdir()
            for each in path.parent.iterdir():  # as a daemon that died leaves it
                (dead.parent / each.name).write_bytes(each.read_bytes())
        kept = backup.restore(copy, dead, stamp="1")
        async with open_store(dead) as store:
            assert await store.call(count) == 0
        # What was there can be put back in its turn, with what was only in its WAL.
        assert kept is not None
        backup.restore(kept, dead, stamp="2")
        async with open_store(dead) as store:
            assert await store.call(count) == 1
        async with open_store(kept) as store:
            assert await store.call(count) == 1

    @pytest.mark.parametrize(
        "content",
        [b"[model]\n", b"SQLite format 3\0".ljust(100, b"\0"), None],
        ids=["a text", "another database", "the store"],
    )
    async def test_a_copy_takes_the_place_of_a_copy_alone(
        self, path: Path, tmp_path: Path, content: bytes | None
    ) -> None:
        there = tmp_path / "there"
        async with open_store(path) as store:
            await store.call(make_main)
            if content is None:
                there.symlink_to(path)  # the store by another name
            else:
                there.write_bytes(content)
            before = there.read_bytes()
            with pytest.raises(StoreError, match="choose another name"):
                await store.copy_to(there)
            assert there.read_bytes() == before
            there.unlink()
            there.touch()  # as mktemp leaves it
            await store.copy_to(there)
            await store.copy_to(there)
        assert backup.check(there) == migrations.SCHEMA

    @pytest.mark.parametrize("content", [b"", b"no database" * 1000])
    async def test_what_is_no_copy_is_not_put_back(
        self, path: Path, tmp_path: Path, content: bytes
    ) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
        before = path.read_bytes()
        copy = tmp_path / "copy.db"
        copy.write_bytes(content)
        with pytest.raises(StoreError):
            backup.restore(copy, path, stamp="1")
        assert path.read_bytes() == before

    async def test_a_copy_that_cannot_be_written_leaves_the_older_one(
        self, path: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy.db"
        async with open_store(path) as store:
            await store.call(make_main)
            await store.copy_to(copy)
            before = copy.read_bytes()
            some = [hello(number, text="x" * 1000) for number in range(500)]
            await store.call(at(NOW, receive_many), some)
            await store.tidy()
            with file_size_limit(100_000), pytest.raises(StoreBroken):
                await store.copy_to(copy)
            assert copy.read_bytes() == before
            assert await store.call(count) == 500
        assert {each.name for each in tmp_path.iterdir()} == {"copy.db", "home"}

    async def test_quiet_hours_fold_the_log_in(self, path: Path) -> None:
        async with open_store(path) as store:
            await store.call(make_main)
            await store.tidy()
            assert path.with_name("pynchy.db-wal").stat().st_size == 0


def test_a_start_with_a_present_schema_imports_no_sqlite_utils(path: Path) -> None:
    """Half of what a start may take would go into that import; only a new schema needs it."""
    database.open_file(path).connection.close()
    program = (
        "import sys; from pathlib import Path; from pynchy.store import database\n"
        "database.open_file(Path(sys.argv[1])).connection.close()\n"
        "print('sqlite_utils' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"
