"""From every earlier schema to this one: nothing is lost, a copy comes first, and failure leaves all as it was."""

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from click.testing import CliRunner, Result

from pynchy.cli.app import pynchy
from pynchy.config.paths import Home
from pynchy.daemon.lock import open_lock
from pynchy.model import MAIN, MAIN_CONSOLE, Micros
from pynchy.store import backup, groups, memory, messages, migrations, outbox, tasks, upgrade
from pynchy.store.connection import StoreBroken, open_reader
from pynchy.store.database import open_file, open_store
from tests.edges import old_stores
from tests.transactions import at, entry_of

EARLIER = range(1, migrations.SCHEMA)
NOW = Micros(1_790_000_000_000_000)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def upgrade_command(home: Home, *arguments: str, **env: str) -> Result:
    env = {"PYNCHY_HOME": str(home.root), **env}
    return CliRunner().invoke(pynchy, ["upgrade", *arguments], env=env)


@pytest.mark.parametrize("schema", EARLIER)
async def test_nothing_is_lost_on_the_way_up(home: Home, schema: int) -> None:
    old_stores.make(schema, home.database)
    async with open_store(home.database) as store:
        found = await store.call(groups.list_groups)
        assert [group.folder for group in found] == ["main", "family"]
        assert (found[0].session, found[0].epoch) == ("session-1", 3)
        assert found[1].allowed_senders == ("a",)
        assert await store.call(at(NOW, messages.waiting_groups)) == ["main"]
        history = await store.call(messages.history, MAIN_CONSOLE, limit=9)
        assert [each.text for each in history] == ["first", "second", "unanswered"]
        (head,) = await store.call(at(NOW, outbox.heads))
        entry = await store.call(entry_of, head.out.id)
        assert entry is not None
        assert entry["text"] == "on its way"
        for question in ("unanswered", "an answering one"):  # the second by its stem
            (said, *_) = await store.call(memory.said, MAIN, question, limit=2)
            assert said.text == ("unanswered" if question == "unanswered" else "answered")
        if schema >= 3:
            (task,) = await store.call(tasks.of_group, MAIN)
            assert (task.name, task.state) == ("briefing", "active")
        if schema >= 5:
            (kept,) = await store.call(memory.recall, MAIN, "tea", limit=1)
            assert kept.text == "Ann likes tea"
            assert await store.call(memory.recall, MAIN, "teas Anna likes", limit=1) == [kept]
    assert backup.check(home.database) == migrations.SCHEMA


@pytest.mark.parametrize("schema", EARLIER)
def test_a_copy_comes_first(home: Home, schema: int) -> None:
    old_stores.make(schema, home.database)
    open_file(home.database).connection.close()
    kept = home.store / "backups" / f"schema-{schema}-before-{migrations.SCHEMA}.db"
    assert backup.check(kept) == schema
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    open_file(home.database).connection.close()  # now there is nothing to do
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.parametrize(
    "page", sorted(old_stores.SCHEMAS.glob("*.sql")), ids=lambda page: page.stem
)
def test_a_step_that_is_out_is_never_edited(page: Path) -> None:
    schema = int(page.stem.removeprefix("schema_"))
    with (
        closing(old_stores.open_at(schema)) as today,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as kept,
    ):
        kept.executescript(page.read_text())
        assert old_stores.definitions(kept) == old_stores.definitions(today)


def broken(db: sqlite_utils.Database) -> None:
    db.execute("DROP TABLE outbox")
    raise RuntimeError("a bug in a step")


def damaging(db: sqlite_utils.Database) -> None:
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("INSERT INTO turn_inputs VALUES (999, 999)")


@pytest.mark.parametrize("last", [broken, damaging])
@pytest.mark.parametrize("schema", [1, migrations.SCHEMA])
def test_a_migration_that_fails_leaves_all_as_it_was(
    home: Home, monkeypatch: pytest.MonkeyPatch, schema: int, last: Any
) -> None:
    # invariant 174
    old_stores.make(schema, home.database)
    before = dump(home.database)
    steps = (*migrations.STEPS, last)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "STEPS", steps)
        patch.setattr(migrations, "SCHEMA", len(steps))
        for _ in range(2):  # a service manager tries again
            with pytest.raises(StoreBroken, match="it is as it was before, and a copy is"):
                open_file(home.database)
            assert backup.check(home.database) == schema
            assert dump(home.database) == before
    open_file(home.database).connection.close()  # the next version has mended it
    assert backup.check(home.database) == migrations.SCHEMA


def dump(path: Path) -> dict[str, Any]:
    with open_reader(path) as db:
        tables = ("groups", "chats", "inbox", "turns", "outbox")
        rows = {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in tables}  # noqa: S608
        return {**rows, "schema": old_stores.definitions(db)}


class Died(BaseException):
    """The machine went off."""


def die(db: sqlite_utils.Database) -> None:
    raise Died


@pytest.mark.parametrize("step", EARLIER)
def test_a_start_that_dies_between_two_steps_is_finished_by_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    old_stores.make(1, home.database)
    before = dump(home.database)["inbox"]
    with monkeypatch.context() as patch:
        patch.setattr(
            migrations, "STEPS", (*migrations.STEPS[:step], die, *migrations.STEPS[step:])
        )
        with pytest.raises(Died):
            open_file(home.database)
    assert backup.check(home.database) == step
    open_file(home.database).connection.close()
    assert backup.check(home.database) == migrations.SCHEMA
    assert dump(home.database)["inbox"] == before
    assert backup.check(home.store / "backups" / f"schema-1-before-{migrations.SCHEMA}.db") == 1


def test_no_room_for_the_copy_is_no_migration(home: Home) -> None:
    old_stores.make(1, home.database)
    (home.store / "backups").write_text("in the way")
    with pytest.raises(StoreBroken, match="cannot write the copy"):
        open_file(home.database)
    assert backup.check(home.database) == 1


def test_it_can_be_tried_on_a_copy(home: Home) -> None:
    old_stores.make(1, home.database)
    done = upgrade_command(home, "--check", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["before"], told["after"]) == (0, 1, migrations.SCHEMA)
    assert backup.check(home.database) == 1
    assert not list(home.store.glob("upgrade-*"))
    assert upgrade_command(home).exit_code == 0
    assert backup.check(home.database) == migrations.SCHEMA
    assert "nothing to do" in upgrade_command(home, "--check").stdout


def test_what_would_stop_the_next_start_is_said(home: Home, tmp_path: Path) -> None:
    assert "no database yet" in upgrade_command(home, "--check").stdout
    home.config.write_text("[limits]\nidel = 3\n")
    wrong = upgrade_command(home, "--check")
    assert wrong.exit_code == 78
    assert "config.toml:2, limits.idel" in wrong.stdout
    home.config.unlink()
    home.database.write_bytes(b"no database" * 99)
    assert upgrade_command(home, "--check").exit_code == 73
    with open_lock(home.lock):
        assert upgrade_command(home).exit_code == 75


def test_a_trial_finds_what_a_step_does_wrong(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    old_stores.make(1, home.database)
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
    monkeypatch.setattr(migrations, "SCHEMA", len(migrations.STEPS))
    with pytest.raises(StoreBroken, match="a bug in a step"):
        upgrade.rehearse(home.database)
