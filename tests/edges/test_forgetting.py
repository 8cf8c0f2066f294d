"""Registering a group is one act, and so is forgetting one: whole, or completed by the next start."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from pynchy.actions import groups as acts
from pynchy.actions.actor import OWNER
from pynchy.actions.effects import Effects
from pynchy.actions.refused import Refused
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.control.ops import groups as group_ops
from pynchy.control.ops.acting import Acting
from pynchy.control.ops.forgetting import ForgettingOps
from pynchy.control.server import OpFailed
from pynchy.maintenance import erasure as forgetting
from pynchy.model import MAIN, ChatId, Group, GroupId, Micros, RunId
from pynchy.store import audit, erasure, groups, memory, migrations, runs
from pynchy.store.connection import open_reader
from pynchy.store.database import Store, Tx, open_file, open_store, transaction
from tests.rules.store_world import CHAT, FAMILY, World
from tests.transactions import at

NOW = Micros(1_780_000_000_000_000)
SECRET = "xylophone"  # a word that was said, and nowhere else


def make_home(folder: Path) -> Home:
    home = Home(folder / "home")
    home.make()
    return home


# --- registering -------------------------------------------------------------------------------


#: Registers a group in one home after the other, killed at the first step in the first one, at the second in
#: the next: a step is a call to the file system or a statement. Ends with the one that is not killed.
REGISTERS = """
import itertools, os, signal, sys
from functools import partial
from pathlib import Path
from pynchy.actions.actor import OWNER
from pynchy.control.ops.groups import Wanted, add
from pynchy.container import folders
from pynchy.config.paths import Home
from pynchy.store.database import Tx, open_file, transaction

STEPS = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "shutil.rmtree"}

def register(home, last):
    home.make()
    left = last
    def count(*_):
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    opened = open_file(home.database)
    opened.connection.set_trace_callback(count)
    sys.addaudithook(lambda event, _: count() if event in STEPS else None)
    with transaction(opened.connection):
        wanted = Wanted(chat="console:family", folder="family", name="The family", trigger="", requires_trigger=None)
        add(Tx(opened.connection, 1), OWNER, wanted, "Pynchy", partial(folders.scaffold, home))
    count()

for last in itertools.count(1):
    child = os.fork()
    if child == 0:
        register(Home(Path(sys.argv[1]) / str(last)), last)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


MAIN_GROUP = Group(MAIN, "Main", "x", requires_trigger=False, is_main=True)


def test_a_registration_that_is_killed_at_any_step_is_whole_or_not_there(tmp_path: Path) -> None:
    # invariant 175
    argv = [sys.executable, "-c", REGISTERS, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    homes = [Home(path) for path in tmp_path.iterdir()]
    assert len(homes) > 20
    seen = set()
    for home in homes:
        opened = open_file(home.database)
        registered = groups.list_groups(opened.connection)
        if registered:
            assert_whole(home)  # the row is never there without what belongs to it
        folders.mend(home, MAIN_GROUP)
        assert (home.group(MAIN) / "CLAUDE.md").is_file()
        assert [each.name for each in home.groups.glob(".*")] == []
        if not registered:
            with transaction(opened.connection):
                family = add(opened.connection, partial(folders.scaffold, home))
            assert family["folder"] == "family"
            assert_whole(home)
        seen.add((int(home.root.name) < len(homes) - 1, bool(registered)))
        opened.connection.close()
    # Until its commit there is no row, and after it there is.
    assert seen == {(True, False), (False, True)}


def add(db: sqlite3.Connection, scaffold: object) -> dict[str, object]:
    wanted = group_ops.Wanted(
        chat=ChatId("console:family"),
        folder=GroupId("family"),
        name="The family",
        trigger="",
        requires_trigger=None,
    )
    tx = Tx(db, NOW)  # type: ignore[arg-type]
    shown, _ = group_ops.add(tx, OWNER, wanted, "Pynchy", scaffold)  # type: ignore[arg-type]
    return shown


def assert_whole(home: Home) -> None:
    family = GroupId("family")
    page = home.group(family) / "CLAUDE.md"
    assert page.read_text().startswith("# The family\n")
    assert page.read_text().endswith("## Under way\n")
    for folder in (home.session(family), home.commands(family), home.media(family)):
        assert folder.is_dir()


def test_what_is_in_the_way_leaves_no_row_behind(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (home.groups / "family").symlink_to(tmp_path)
    opened = open_file(home.database)
    with pytest.raises(Refused), transaction(opened.connection):
        add(opened.connection, partial(folders.scaffold, home))
    assert groups.list_groups(opened.connection) == []
    (home.groups / "family").unlink()
    forgetting.mark(home, GroupId("family"))
    with pytest.raises(Refused, match="being deleted"), transaction(opened.connection):
        add(opened.connection, partial(folders.scaffold, home))
    opened.connection.close()


def test_a_group_that_lost_its_folder_has_one_with_its_next_run(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    group = Group(GroupId("kids"), "Kids", "x", requires_trigger=True, is_main=False)
    folders.prepare(home, group, owner=(os.getuid(), os.getgid()), skills={})
    assert (home.group(group.folder) / "CLAUDE.md").read_text().startswith("# Kids")


@pytest.mark.parametrize("name", ["", "global", "Main", "a/b", "..", "a" * 64, "-a", "ä", "a\n"])
def test_a_folder_name_is_strict(name: str) -> None:
    world = World()
    with pytest.raises(groups.CannotRegister):
        world.register(GroupId(name))
    assert groups.list_groups(world.db) == []


# --- forgetting: rows ----------------------------------------------------------------------------


def lived_in() -> World:
    """A family that has left something in every table there is."""
    world = World.with_family(requires_trigger=False)
    for folder, chat in ((FAMILY, CHAT), (GroupId("kids"), ChatId("120364@g.us"))):
        if folder != FAMILY:
            world.register(folder, chat, requires_trigger=False)
        for _ in range(2):
            world.hear(f"{SECRET} is said in {folder}", chat=chat)
            run = world.begin(folder)
            claimed = world.claim(run, folder)
            world.commit(run, claimed, say=[f"{SECRET} is the answer"])
            world.end(run)
        memory.remember(Tx(world.db, world.now), folder, f"{SECRET} of {folder}", id=world.new_id())
        fill(world, folder, chat, run, claimed.turn)
    return world


def fill(world: World, folder: GroupId, chat: ChatId, run: RunId, turn: int) -> None:
    """One row in each table that the course of a day does not reach."""
    new = world.new_id
    for table, row in {
        "tasks": (new(), folder, chat, "", SECRET, None, "once", "x", "UTC", "group", "skip", "a", 0,
                  "active", None, 1, 2, 0, 1),
        "journal": (folder, new(), "0", 1, SECRET, 1),
        "questions": (new(), folder, chat, 0, run, turn, new(), SECRET, "[]", "dropped", 1,
                      *[None] * 6),
        "delegates": (turn, folder, turn, run, 1, 0, 0),
        "notices": (chat, "x", 1, 0),
        "effects": (folder, "turns", 1, 1),
        "breakers": (folder, "turns", 1),
        "pace": (chat, "x", 1, 0),
        "approvals": (new()[-8:], folder, chat, run, turn, "request_host", SECRET, "0" * 64, "asked",
                      1, 2, None, None, None),
        "usage": (None, folder, run, "m", "2026-01-01", "settled", 1, 1, 1, 1, 0, 0, 5, 1, 1, 0),
        "ended_sessions": (folder, SECRET),
        "holds": (f"group:{folder}", "budget", 1, 1, 1, None, None, SECRET),
    }.items():  # fmt: skip
        world.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    task = world.db.execute("SELECT max(rowid), id FROM tasks").fetchone()[1]
    world.db.execute("INSERT INTO fires VALUES (?, 's', 1, 1, ?, 0, 'ran', NULL)", (task, turn))


def counts(world: World) -> dict[str, int]:
    tables = [
        row[0]
        for row in world.db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '%\\_fts%' ESCAPE '\\' "
            "AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_sqlite%' ESCAPE '\\'"
        )
    ]
    return {
        table: world.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for table in tables
    }


def test_every_row_of_a_group_is_gone_and_none_of_another() -> None:  # threat K9
    world = lived_in()
    before = counts(world)
    empty = {table for table, rows in before.items() if rows == 0} - {"audit"}
    assert not empty, "a table that this test leaves empty proves nothing"
    done = acts.forget(Tx(world.db, NOW), OWNER, FAMILY)
    assert done is not None
    gone, effects = done
    assert gone == {"messages": 2, "replies": 2, "tasks": 1, "memories": 1}
    assert effects == Effects(registered=True, removed=(FAMILY,))
    after = counts(world)
    for table, rows in before.items():
        if table == "audit":
            assert after[table] == 1
        elif table in erasure.KEPT:
            assert after[table] == rows
        elif table not in ("groups", "chats") and rows:
            assert after[table] == rows / 2, table  # the other group has as much as before
    assert groups.get(world.db, FAMILY) is None
    assert groups.get(world.db, GroupId("kids")) is not None
    named = [line for line in world.db.iterdump() if line.startswith("INSERT") and FAMILY in line]
    assert {line.split('"')[1] for line in named} == {"audit", "usage"}
    for index in ("inbox_fts", "outbox_fts", "memories_fts"):
        world.db.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")  # noqa: S608
    assert world.db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert [line["action"] for line in audit.recent(world.db)] == ["group forgotten"]


def test_it_begins_anew_after(tmp_path: Path) -> None:
    world = lived_in()
    erasure.erase(Tx(world.db, NOW), FAMILY)
    world.register(FAMILY, CHAT, requires_trigger=False)
    assert memory.said(world.db, FAMILY, SECRET, limit=9) == []
    assert memory.recall(world.db, FAMILY, SECRET, limit=9) == []
    heard = world.hear("hello again")
    run = world.begin()
    world.commit(run, world.claim(run), say=["hello"])
    assert heard.wakes


def test_a_chat_that_is_anothers_now_stays_with_it() -> None:
    world = lived_in()
    groups.remove_chat(world.db, CHAT)
    groups.add_chat(world.db, GroupId("kids"), CHAT)
    world.hear("said to the kids")
    erasure.erase(Tx(world.db, NOW), FAMILY)
    texts = {row[0] for row in world.db.execute("SELECT text FROM inbox WHERE chat = ?", (CHAT,))}
    assert "said to the kids" in texts
    run = world.begin(GroupId("kids"))
    assert world.claim(run, GroupId("kids")) is not None


def test_a_group_that_was_removed_before_is_forgotten_too() -> None:
    world = lived_in()
    groups.remove(world.db, FAMILY)
    assert erasure.is_known(world.db, FAMILY)
    gone = erasure.erase(Tx(world.db, NOW), FAMILY)
    assert gone is not None
    assert gone["messages"] == 2
    assert not erasure.is_known(world.db, FAMILY)


def test_nothing_is_erased_under_a_live_container() -> None:
    world = lived_in()
    world.begin()
    before = counts(world)
    assert erasure.erase(Tx(world.db, NOW), FAMILY) is None
    assert counts(world) == before


def test_a_table_that_nobody_thought_of_is_noticed() -> None:
    """Whoever adds a table with a group or a chat in it must say what forgetting does with it."""
    source = Path(erasure.__file__).read_text()
    world = World()
    for table in counts(world):
        columns = {row[1] for row in world.db.execute(f"PRAGMA table_info({table})")}
        if "folder" not in columns and columns & {"chat", "run_id", "turn_id"} and table != "fires":
            assert f'"{table}"' in source, table
    assert migrations.SCHEMA >= 6


# --- forgetting: files, and what comes in between ------------------------------------------------


async def quiet(group: GroupId) -> None:
    await trio.lowlevel.checkpoint()


def forgetting_op(
    store: Store,
    home: Home,
    end: Callable[[GroupId], Awaitable[None]],
    removed: list[GroupId] | None = None,
) -> ForgettingOps:
    async def carry_out(effects: Effects) -> None:
        await trio.lowlevel.checkpoint()
        assert effects.registered
        if removed is not None:
            removed.extend(effects.removed)

    return ForgettingOps(Acting(store, carry_out), home, end)


async def settled(store: Store, home: Home) -> None:
    """A group with a file and a finished run in the store at ``home``."""
    await store.call(at(NOW, groups.ensure_main), name="Main", trigger="Pynchy")
    await store.call(add, partial(folders.scaffold, home))  # type: ignore[arg-type]
    await store.call(
        at(NOW, memory.remember), GroupId("family"), f"the {SECRET} is ours", id="0" * 32
    )
    run = RunId("ab" * 8)
    await store.call(
        at(NOW, runs.begin),
        runs.RunStart(run=run, folder=GroupId("family"), kind="session", container="c", boot="b"),
    )
    await store.call(at(NOW, runs.end), run, reason="over")
    (home.group(GroupId("family")) / "notes.txt").write_text("ours")
    (home.run_logs / f"20260101T000000Z-{run}.log").write_text("a line")
    (home.run_logs / f"20260101T000000Z-{'cd' * 8}.log").write_text("of another group")


def left_of(home: Home) -> list[str]:
    """Paths that speak of the family, or hold the word."""
    found = []
    for path in home.root.rglob("*"):
        if "family" in str(path.relative_to(home.root)) or (
            path.is_file() and not path.is_symlink() and SECRET.encode() in path.read_bytes()
        ):
            found.append(str(path.relative_to(home.root)))
    return found


async def test_files_logs_and_the_very_bytes_are_gone(tmp_path: Path) -> None:  # threat K9
    home = make_home(tmp_path)
    removed: list[GroupId] = []
    async with open_store(home.database) as store:
        await settled(store, home)
        assert left_of(home) != []
        op = forgetting_op(store, home, quiet, removed)
        answer = await op.forget(None, folder="family")  # type: ignore[arg-type]
        assert answer == {
            "folder": "family", "messages": 0, "replies": 0, "tasks": 0, "memories": 1, "left": [],
        }  # fmt: skip
        assert removed == [GroupId("family")]
        assert left_of(home) == []
        assert len(list(home.run_logs.iterdir())) == 1
        for folder in ("family", "main", "global", "..", "nobody"):
            with pytest.raises(OpFailed):
                await op.forget(None, folder=folder)  # type: ignore[arg-type]


async def test_a_run_is_ended_first(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    async with open_store(home.database) as store:
        await settled(store, home)
        run = RunId("ef" * 8)
        await store.call(
            at(NOW, runs.begin),
            runs.RunStart(
                run=run, folder=GroupId("family"), kind="session", container="d", boot="b"
            ),
        )
        asked = 0

        async def end(group: GroupId) -> None:
            nonlocal asked
            asked += 1
            assert (home.group(group) / "notes.txt").exists(), "nothing goes while it runs"
            if asked == 2:
                await store.call(at(NOW, runs.end), run, reason="over")

        op = forgetting_op(store, home, end)
        await op.forget(None, folder="family")  # type: ignore[arg-type]
        assert asked == 2
        assert left_of(home) == []


class Killed(BaseException):
    """The daemon is gone."""


@pytest.mark.parametrize("step", ["marked", "hushed", "ended", "files", "rows", "tidy"])
async def test_the_next_start_completes_what_was_begun(tmp_path: Path, step: str) -> None:
    # threat K9
    home = make_home(tmp_path)

    class Dying(Store):
        """A store whose daemon dies at one of its calls."""

        async def call(self, fn, *args, **kwargs):  # type: ignore[no-untyped-def]
            if {"marked": erasure.hush, "hushed": None, "files": acts.forget}.get(step) is fn:
                raise Killed
            result = await super().call(fn, *args, **kwargs)
            if step == "rows" and fn is acts.forget:
                raise Killed
            return result

        async def tidy(self) -> None:
            if step == "tidy":
                raise Killed
            await super().tidy()

    async def end(group: GroupId) -> None:
        if step in ("hushed", "ended"):
            raise Killed
        await trio.lowlevel.checkpoint()

    opened = open_file(home.database)
    store = Dying(opened, trio.to_thread.run_sync)  # type: ignore[arg-type]
    await settled(store, home)
    op = forgetting_op(store, home, end)
    with pytest.raises(Killed):
        await op.forget(None, folder="family")  # type: ignore[arg-type]
    opened.connection.close()
    assert forgetting.marked(home) == [GroupId("family")]
    async with open_store(home.database) as reborn:
        await forgetting.complete(reborn, home)
        assert [group.folder for group in await reborn.call(groups.list_groups)] == ["main"]
    assert left_of(home) == []
    with open_reader(home.database) as reader:
        actions = [row[0] for row in reader.execute("SELECT action FROM audit ORDER BY id")]
    assert actions[-1] == "group forgotten"


def test_what_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.media(GroupId("family")).parent.mkdir(parents=True)
    home.media(GroupId("family")).write_text("a file where a folder should be")
    left = folders.forget(home, GroupId("family"), [])
    assert left == [home.media(GroupId("family"))]
    assert [each.name for each in home.groups.iterdir()] == ["global"]
