"""Whether an account is linked: what a kill leaves is undone, and what cannot be read is no answer."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from pynchy.store import whatsapp_session as session
from tests.edges.whatsapp_running import open_whatsapp

from .test_whatsapp import connected, incoming, link, state, terms

WRITER = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 1")
db.execute("BEGIN")
db.execute("DELETE FROM whatsmeow_device")
db.execute("CREATE TABLE much (x)")
for _ in range(500):
    db.execute("INSERT INTO much VALUES (randomblob(4000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_while_writing(store: Path) -> Path:
    """A linked database whose writer was killed in the middle of a change: its journal is hot."""
    link(store)
    path = store / session.NAME
    assert subprocess.run([sys.executable, "-c", WRITER, str(path)], timeout=60).returncode == -9
    assert (store / (session.NAME + "-journal")).stat().st_size > 512
    return path


def test_a_hot_journal_is_undone_by_the_owner_and_no_answer_to_others(tmp_path: Path) -> None:
    path = killed_while_writing(tmp_path / "store")
    with pytest.raises(session.Unreadable) as error:
        session.linked(path, ours=False)
    assert not error.value.damaged
    account = session.linked(path, ours=True)
    assert account == session.Account("4917:3@s.whatsapp.net", "8001:3@lid")
    assert session.linked(path, ours=False) == account


async def test_a_bridge_comes_up_after_a_kill_in_the_middle_of_a_write(tmp_path: Path) -> None:
    killed_while_writing(tmp_path / "store")
    async with connected(terms(tmp_path, ["connected"], ["messages", 1])) as channel:
        assert (await incoming(channel)).number == 1


async def test_a_damaged_database_is_a_state_of_its_own_and_tried_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    link(store)
    whole = (store / session.NAME).read_bytes()
    (store / session.NAME).write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    with trio.fail_after(120):
        async with open_whatsapp(terms(tmp_path, ["connected"])) as channel:
            told = await state(channel, "unreadable")
            assert "pynchy auth whatsapp --again" in told.words
            (store / session.NAME).write_bytes(whole)
            await state(channel, "connected")


def test_what_is_certainly_not_linked(tmp_path: Path) -> None:
    path = tmp_path / session.NAME
    assert session.linked(path, ours=True) is None
    path.touch()
    assert session.linked(path, ours=False) is None
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (x)")
    assert session.linked(path, ours=False) is None
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT)")
    assert session.linked(path, ours=False) is None


@pytest.mark.parametrize("spoil", ["folder", "damage", "layout", "locked"])
def test_what_cannot_be_read_is_no_answer(tmp_path: Path, spoil: str) -> None:
    link(tmp_path)
    path = tmp_path / session.NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        match spoil:
            case "folder":
                path.unlink()
                path.mkdir()
            case "damage":
                path.write_bytes(b"x" * 5000)
            case "layout":
                other.execute("ALTER TABLE whatsmeow_device RENAME COLUMN jid TO id")
            case "locked":
                other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(session.Unreadable) as error:
            session.linked(path, ours=True)
    assert error.value.damaged is (spoil == "damage")


@pytest.mark.parametrize("made", [True, False])
def test_the_old_link_comes_back_unless_a_new_one_is_made(tmp_path: Path, made: bool) -> None:
    link(tmp_path)
    path = tmp_path / session.NAME
    before = path.read_bytes()
    session.put_aside(path)
    session.settle(path) if not made else None
    if made:
        link(tmp_path)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE whatsmeow_device SET jid = '4918:1@s.whatsapp.net'")
        session.settle(path)
    account = session.linked(path, ours=True)
    assert account is not None
    assert account.number.startswith("4918" if made else "4917")
    assert (path.read_bytes() == before) is not made
    assert [each.name for each in tmp_path.iterdir()] == [session.NAME]


def test_a_try_that_was_broken_off_twice_keeps_the_old_link(tmp_path: Path) -> None:
    link(tmp_path)
    path = tmp_path / session.NAME
    session.put_aside(path)
    path.write_bytes(b"half of it")
    session.put_aside(path)
    session.settle(path)
    assert session.linked(path, ours=True) is not None


def test_a_number_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    path = killed_while_writing(tmp_path / "store")
    assert session.number_of(path, "8001") is None
    shutil.rmtree(tmp_path / "store")
    assert session.number_of(path, "8001") is None
