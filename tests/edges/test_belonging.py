"""The database, its log and what the home remembers of them: removed, replaced, older, of another time."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from pynchy.config.paths import Home
from pynchy.exits import Exit
from pynchy.model import MAIN_CONSOLE, Message, Micros, SenderId
from pynchy.store import backup, groups, mark, messages
from pynchy.store.connection import StoreBroken, StoreNotOurs
from pynchy.store.database import Database, Store, Tx, open_file, open_store

NOW = Micros(1_796_000_000_000_000)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def say(db: Database, number: int) -> None:
    groups.ensure_main(Tx(db, NOW), name="Main", trigger="Pynchy")
    message = Message(
        chat=MAIN_CONSOLE,
        id=f"m{number}",
        sender=SenderId("console:owner"),
        sender_name="Owner",
        sent_at=NOW,
        text=f"hello {number}",
        from_me=True,
    )
    messages.receive(Tx(db, NOW), message)


def count(db: Database) -> int:
    return int(db.execute("SELECT count(*) FROM inbox").fetchone()[0])


def count_in(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM inbox").fetchone()[0])


async def live(home: Home, *numbers: int) -> None:
    """A life that ends in order."""
    async with open_store(home.database, mark=home.store_mark) as store:
        for number in numbers:
            await store.call(say, number)


WRITER = """
import os, sys
from pathlib import Path
from pynchy.config.paths import Home
from pynchy.store.database import Store, open_file
home = Home(Path(sys.argv[1]))
def say(db, number):
    db.execute("INSERT OR IGNORE INTO chats (chat, name) VALUES ('console:main', '')")
    db.execute(
        "INSERT INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, kind, text, "
        "triggers, own) VALUES ('console:main', 'a', '', ?, 1, 1, 'text', 'hello', 0, 0)",
        (f"m{number}",),
    )
store = Store(open_file(home.database, mark=home.store_mark), None)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    store._transact(lambda: say(store._connection, number))
os._exit(9)
"""


def die(home: Home, first: int, end: int) -> None:
    """A life that is killed after it acknowledged some messages."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(home.root), str(first), str(end)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 9, done.stderr


def log_of(home: Home) -> Path:
    return home.database.with_name("pynchy.db-wal")


def refused(home: Home) -> str:
    before = {path.name: path.read_bytes() for path in home.store.iterdir() if path.is_file()}
    with pytest.raises(StoreNotOurs) as found:
        open_file(home.database, mark=home.store_mark)
    after = {path.name: path.read_bytes() for path in home.store.iterdir() if path.is_file()}
    for name in (home.database.name, log_of(home).name):
        assert before.get(name) == after.get(name), "it says that nothing was changed"
    return str(found.value)


# --- in order ---


async def test_lives_that_end_anyhow_go_on(home: Home) -> None:
    await live(home)
    for life in range(4):
        die(home, 10 * life + 1, 10 * life + 11)
        async with open_store(home.database, mark=home.store_mark) as store:
            assert store.stopped_uncleanly
            await store.call(say, 1000 + life)
            await store.tidy()
            await store.call(say, 2000 + life)
            assert await store.call(count) >= 10 * life
    known = mark.load(home.store_mark)
    assert known is not None
    assert not known.opened
    assert known.messages == count_in(home.database)


async def test_a_kill_right_after_the_log_was_emptied_accuses_nobody(home: Home) -> None:
    opened = open_file(home.database, mark=home.store_mark)
    store = Store(opened, trio.to_thread.run_sync)  # type: ignore[arg-type]  # as `open_store` casts it
    await store.call(say, 1)
    await store.tidy()
    assert log_of(home).stat().st_size == 0
    left = home.root.parent / "left"
    shutil.copytree(home.root, left)  # as a kill leaves it
    store.close()
    await live(Home(left), 2)
    assert count_in(Home(left).database) == 2


async def test_a_power_cut_that_left_an_older_mark_accuses_nobody(home: Home) -> None:
    await live(home, 1)
    die(home, 2, 3)
    older = home.store_mark.read_bytes()
    die(home, 3, 200)  # the log starts over in between
    home.store_mark.write_bytes(older)
    await live(home, 300)


async def test_a_mark_that_cannot_be_read_accuses_nobody_but_knows_that_there_was_a_store(
    home: Home,
) -> None:
    await live(home, 1)
    home.store_mark.write_bytes(bytes(512))
    await live(home, 2)
    home.store_mark.write_bytes(bytes(512))
    home.database.unlink()
    assert "is gone" in refused(home)


async def test_a_store_of_an_earlier_version_has_no_mark_and_gets_one(home: Home) -> None:
    async with open_store(home.database) as store:
        await store.call(say, 1)
    await live(home, 2)
    assert count_in(home.database) == 2
    assert mark.load(home.store_mark) is not None


# --- at a start ---


@pytest.mark.parametrize("what", ["gone", "empty"])
async def test_a_store_that_is_missing_is_not_made_anew(home: Home, what: str) -> None:
    await live(home, 1, 2, 3)
    copy = home.backups / "nightly-20261129T040000Z.db"
    backup.write_copy(home.database, copy)
    home.database.unlink()
    if what == "empty":
        home.database.touch()
    told = refused(home)
    assert f"is {what}" in told
    assert "had come to message 3 " in told
    assert f"pynchy restore {copy}" in told
    assert "pynchy restore --empty" in told
    backup.restore(copy, home.database, stamp="1", mark=home.store_mark)
    await live(home, 4)
    assert count_in(home.database) == 4


async def test_copies_alone_tell_that_there_was_a_store(home: Home) -> None:
    async with open_store(home.database) as store:  # of a version that kept no mark
        await store.call(say, 1)
        await store.copy_to(home.backups / "mine.db")
    home.database.unlink()
    assert "there are copies of one" in refused(home)


@pytest.mark.parametrize(
    "command",
    [("run", "--offline"), ("why",), ("backup",), ("upgrade",), ("export", "main", "out.tar.gz")],
    ids=lambda command: command[0],
)
async def test_a_store_that_is_gone_with_its_mark_is_not_begun_anew(
    home: Home, command: tuple[str, ...], tmp_path: Path
) -> None:
    await live(home, 1)
    copy = home.backups / "Mine.db"
    backup.write_copy(home.database, copy)
    home.database.unlink()
    home.store_mark.unlink()
    done = await trio.run_process(
        [sys.executable, "-m", "pynchy", *command],
        env={
            "PYNCHY_HOME": str(home.root),
            "PYNCHY_CONTAINER_ENGINE": "bwrap",
            "PATH": os.environ["PATH"],
        },
        cwd=tmp_path,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == Exit.STORE, done
    assert f"pynchy restore {copy}" in done.stderr.decode()
    assert not home.database.exists()


async def test_the_owner_can_begin_anew(home: Home) -> None:
    await live(home, 1)
    kept = backup.begin_anew(home.database, stamp="1", mark=home.store_mark)
    assert kept is not None
    assert count_in(kept) == 1
    backup.write_copy(kept, home.backups / "mine.db")
    await live(home)
    assert count_in(home.database) == 0


async def test_a_log_that_was_removed_while_nobody_looked_is_missed(home: Home) -> None:
    await live(home, 1)
    die(home, 2, 32)
    log_of(home).unlink()
    told = refused(home)
    assert "pynchy.db-wal is gone" in told
    assert (
        "ends with message 1, and this home had come to message 31: 30 or fewer are missing" in told
    )
    backup.accept(home.database, stamp="1", mark=home.store_mark)
    await live(home, 100)
    assert count_in(home.database) == 2


async def test_a_log_of_another_time_is_never_read(home: Home) -> None:
    await live(home, 1)
    die(home, 2, 10)
    old = log_of(home).read_bytes()
    await live(home, 10, 11)
    log_of(home).write_bytes(old)
    assert "does not belong" in refused(home)
    [aside] = backup.accept(home.database, stamp="1", mark=home.store_mark)
    assert aside.read_bytes() == old
    await live(home, 12)
    assert backup.check(home.database)
    assert count_in(home.database) == 12


async def test_a_log_of_an_earlier_time_beside_a_killed_one_is_never_read(home: Home) -> None:
    die(home, 1, 10)
    old = log_of(home).read_bytes()
    await live(home, 10)
    die(home, 20, 30)
    log_of(home).write_bytes(old)
    assert "does not belong" in refused(home)


async def test_an_older_file_in_the_place_is_seen(home: Home) -> None:
    await live(home, 1, 2)
    old = home.database.read_bytes()
    await live(home, 3, 4, 5)
    home.database.write_bytes(old)
    told = refused(home)
    assert "is older than it was here" in told
    assert (
        "ends with message 2, and this home had come to message 5: 3 or fewer are missing" in told
    )
    backup.accept(home.database, stamp="1", mark=home.store_mark)
    await live(home, 6)


async def test_another_file_in_the_place_is_seen(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.make()
    await live(other, *range(10))
    await live(home, 1)
    shutil.copy(other.database, home.database)
    assert "is another database" in refused(home)


async def test_what_is_no_database_of_ours_is_not_made_one(home: Home) -> None:
    await live(home, 1)
    home.database.unlink()
    with closing(sqlite3.connect(home.database)) as db:
        db.execute("CREATE TABLE theirs (x)")
    assert "is no database of pynchy's" in refused(home)


# --- below a daemon that runs ---


def remove(home: Home) -> None:
    home.database.unlink()


def remove_log(home: Home) -> None:
    log_of(home).unlink()


def replace(home: Home) -> None:
    shutil.copy(home.database, home.store / "x")
    (home.store / "x").replace(home.database)


@pytest.mark.parametrize("harm", [remove, remove_log, replace])
async def test_nothing_is_acknowledged_into_a_file_that_is_not_there(
    home: Home, harm: object
) -> None:
    # threat D2
    await live(home, 1)
    async with open_store(home.database, mark=home.store_mark) as store:
        await store.call(say, 2)
        assert callable(harm)
        harm(home)
        with pytest.raises(StoreBroken, match="while pynchy ran; all it held is saved in") as found:
            await store.call(say, 3)
        with pytest.raises(StoreBroken):
            await store.call(count)
        with pytest.raises(StoreBroken):
            await store.copy_to(home.backups / "wrong.db")
    [rescued] = home.store.glob("*.rescued-*")
    assert str(rescued) in str(found.value)
    assert count_in(rescued) == 3  # what was not acknowledged may be there all the same
    before = {path.name: path.stat().st_size for path in home.store.iterdir()}
    assert "pynchy.db-shm" in before  # nothing was tidied up at a path that is somebody else's
    refused(home)
    backup.restore(rescued, home.database, stamp="1", mark=home.store_mark)
    await live(home, 4)
    assert count_in(home.database) == 4


async def test_a_home_that_is_moved_ends_it_and_loses_nothing(home: Home) -> None:
    moved = Home(home.root.parent / "moved")
    async with open_store(home.database, mark=home.store_mark) as store:
        await store.call(say, 1)
        home.root.rename(moved.root)
        with pytest.raises(StoreBroken, match="was moved"):
            await store.call(say, 2)
    await live(moved, 3)
    assert count_in(moved.database) == 3


async def test_what_only_reads_is_not_looked_after(home: Home) -> None:
    async with open_store(home.database, mark=home.store_mark) as store:
        await store.call(say, 1)
        written = home.store_mark.stat().st_mtime_ns
        assert await store.call(count) == 1
        assert home.store_mark.stat().st_mtime_ns == written
