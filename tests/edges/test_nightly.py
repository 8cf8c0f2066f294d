"""The nightly round on real files: a copy that can be trusted, and only what nobody needs is removed."""

# small files, and nobody else in the loop to wait

from __future__ import annotations

import math
import os
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import pytest
import trio
from loguru import logger
from trio.testing import MockClock

from pynchy.config.paths import Home
from pynchy.config.settings import Keeping
from pynchy.files.disk import Space, Threshold
from pynchy.maintenance.nightly import AGAIN, PIECE, NightlyRound
from pynchy.model import DAY, HOUR, MINUTE, GroupId, Micros, RunId, after
from pynchy.store import backup, groups, health, journal, runs
from pynchy.store.database import Database, Store, Tx, open_store
from tests.transactions import at

NOW = Micros(1_750_000_000_000_000)  # 2025-06-15T15:06:40Z
SETTLE = 1 * MINUTE
KEPT = Keeping(hour=4, settle=SETTLE, copies=3, weeks=0, logs=30 * DAY, usage=400 * DAY)


@attrs.define(eq=False)
class Night:
    """A nightly round with everything it needs, and a clock that can be set."""

    home: Home
    store: Store
    nightly: NightlyRound
    set_by: float = 0.0
    began: float = attrs.field(factory=time.monotonic)
    free: int = 1 << 40
    told: list[str] = attrs.field(factory=list)

    def now(self) -> Micros:
        return after(NOW, time.monotonic() - self.began + self.set_by)

    async def tell(self, text: str, kind: str) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(text)

    def copies(self) -> list[str]:
        return sorted(path.name for path in self.home.backups.iterdir())


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    home = Home(tmp_path)
    home.make()
    clock = [lambda: NOW]
    async with open_store(home.database, now=lambda: clock[0]()) as store:
        await store.call(at(NOW, groups.ensure_main), name="Main", trigger="Pynchy")

        async def tell(text: str, kind: str) -> None:
            await made.tell(text, kind)

        nightly = NightlyRound(
            store=store,
            home=home,
            kept=KEPT,
            timezone="UTC",
            threshold=Threshold(bytes=1 << 30, share=0),
            now=lambda: made.now(),
            measure=lambda: Space(free=made.free, total=1 << 41),
            tell=tell,
        )
        made = Night(home, store, nightly)
        clock[0] = made.now
        yield made


def _name(when: Micros) -> str:
    return backup.nightly_name(when)


async def test_a_round_makes_a_copy_that_was_read_and_that_nobody_else_may_read(
    night: Night,
) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="INFO", format="{message}")
    try:
        assert await night.nightly.round()
    finally:
        logger.remove(sink)
    (name,) = night.copies()
    copy = night.home.backups / name
    assert name.startswith("nightly-20250615T15")
    assert backup.check(copy) > 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert night.told == []
    assert any(f"copied the database to {name}" in line for line in said)


async def test_the_newest_copies_stay_and_a_persons_own_always(night: Night) -> None:
    backups = night.home.backups
    backups.mkdir()
    old = [_name(after(NOW, -days * DAY)) for days in (1, 2, 3, 4)]
    own = ["pynchy-1.db", "nightly-mine.db", "nightly-20251399T000000Z.db", "other.part"]
    for name in [*old, *own, f"{_name(NOW)}.part"]:
        (backups / name).write_bytes(b"x")
    assert await night.nightly.round()
    left = set(night.copies())
    assert left >= set(own)
    nightly = sorted(left - set(own))
    assert len(nightly) == KEPT.copies
    assert nightly[:2] == sorted(old[:2])  # and the new one


async def test_what_is_known_for_long_enough_is_forgotten(night: Night) -> None:
    def fill(db: Database) -> None:
        for days in (1, 6, 8, 100):
            journal.record(
                Tx(db, after(NOW, -days * DAY)),
                GroupId("main"),
                f"{days:032x}",
                "0" * 64,
                ok=True,
                text="done",
            )
        for day in ("2020-01-01", "2025-06-14"):
            db.execute(
                "INSERT INTO usage (folder, run_id, model, day, state, reserved_tokens,"
                " reserved_cost, created_at, settled_at) VALUES"
                " ('main', 'r', 'm', ?, 'settled', 0, 0, 1, 1)",
                (day,),
            )

    await night.store.call(fill)
    wal = night.home.database.with_name("pynchy.db-wal")
    assert wal.stat().st_size > 0
    assert await night.nightly.round()
    rows = await night.store.call(lambda db: db.execute("SELECT count(*) FROM journal").fetchone())
    days = await night.store.call(lambda db: db.execute("SELECT day FROM usage").fetchall())
    assert rows[0] == 2
    assert days == [("2025-06-14",)]
    assert wal.stat().st_size == 0  # folded into the file


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder of which a socket's path is short, wherever tests put theirs."""
    with TemporaryDirectory(prefix="pynchy-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize("deep", [False, True], ids=["below home", "moved away"])
async def test_only_what_nobody_uses_is_removed(
    tmp_path: Path, short: Path, night: Night, deep: bool
) -> None:
    home = Home(tmp_path / ("d" * 100) if deep else short)
    home.make()
    night.nightly.home = home
    dead, alive, foreign = (RunId(f"{n:016x}") for n in (1, 2, 3))

    def fill(db: Database) -> None:
        runs.begin(
            Tx(db, NOW),
            runs.RunStart(
                run=dead, folder=GroupId("main"), kind="session", container="c1", boot="b"
            ),
        )
        runs.end(Tx(db, NOW, lambda: "0" * 32), dead, reason="closed")
        runs.begin(
            Tx(db, NOW),
            runs.RunStart(
                run=alive, folder=GroupId("main"), kind="session", container="c2", boot="b"
            ),
        )

    await night.store.call(fill)
    for run in (dead, alive):
        home.gateway(run).mkdir(mode=0o700, parents=True)
        (home.gateway(run) / "gateway.sock").touch()
    assert deep == (home.gateways not in home.gateway(dead).parents)
    stray = home.gateways / foreign  # of a run that no row knows any more
    stray.mkdir()
    not_ours = home.gateways / "what is this"
    not_ours.mkdir()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "precious").touch()
    (home.gateways / f"{4:016x}").symlink_to(target)

    logs = {name: home.run_logs / f"{name}.log" for name in ("old", "new")}
    bad = home.errors(GroupId("main")) / "x.json.bad"
    bad.parent.mkdir(parents=True)
    for path in (*logs.values(), bad):
        path.write_text("x")
    for path in (logs["old"], bad):
        os.utime(path, (NOW / 1e6 - 31 * DAY,) * 2)
    os.utime(logs["new"], (NOW / 1e6 - 29 * DAY,) * 2)

    assert await night.nightly.round()
    assert not home.gateway(dead).exists()
    assert not stray.exists()
    assert not_ours.exists()
    assert (target / "precious").exists()
    assert (home.gateway(alive) / "gateway.sock").exists()
    assert [path.exists() for path in (logs["old"], logs["new"], bad)] == [False, True, False]


async def test_a_copy_that_fails_is_told_once_and_costs_no_older_one(night: Night) -> None:
    backups = night.home.backups
    backups.mkdir()
    name = _name(after(NOW, -DAY))
    (backups / name).write_bytes(b"x")
    backups.rename(backups.with_name("aside"))
    backups.write_text("a file where the folder should be")
    assert not await night.nightly.round()
    assert not await night.nightly.round()
    assert len(night.told) == 1
    assert "was not made" in night.told[0]
    assert await night.store.call(groups.list_groups)  # the store itself is as it was
    backups.unlink()
    backups.with_name("aside").rename(backups)
    assert await night.nightly.round()
    assert len(night.told) == 1
    assert name in night.copies()


async def test_no_copy_is_begun_where_there_is_no_room_for_it(night: Night) -> None:
    night.free = 1 << 30  # enough, but for the copy
    assert not await night.nightly.round()
    assert "too little room" in night.told[0]
    assert not night.home.backups.exists()


async def test_copies_can_be_left_to_others(night: Night) -> None:
    night.nightly.kept = attrs.evolve(KEPT, copies=0)
    assert await night.nightly.round()
    assert not night.home.backups.exists()


async def test_the_newest_copy_is_found_by_its_name(night: Night) -> None:
    assert await night.nightly.newest() is None
    night.home.backups.mkdir()
    for days in (-400, -2, -1, 300):  # the last by a clock that was wrong
        (night.home.backups / _name(after(NOW, days * DAY))).touch()
    assert await night.nightly.newest() == after(NOW, -DAY)


class Counting(NightlyRound):
    """The loop alone: rounds are counted, by the hour of the wall clock."""

    began: Micros | None = None  # the newest copy there is
    fails: int = 0

    async def newest(self) -> Micros | None:
        await trio.lowlevel.checkpoint()
        return self.began

    async def round(self) -> bool:
        await trio.lowlevel.checkpoint()
        rounds.append(round((self.now() - NOW) / 1e6 / HOUR, 2))
        if self.fails:
            self.fails -= 1
            return False
        self.last = self.now()
        return True


rounds: list[float] = []


def rounds_of(
    *,
    last: float | None,
    hours: float,
    fails: int = 0,
    set_by: float = 0.0,
    set_back_after: float = math.inf,
) -> list[float]:
    """At which hours after `NOW` there were rounds. ``last``: the newest copy, in hours before.
    ``set_by``: hours by which the clock is set after half of the time."""
    rounds.clear()
    moved = [0.0]

    async def tell(text: str, kind: str) -> None:
        raise AssertionError(text)

    async def main() -> None:
        began = trio.current_time()
        made = Counting(
            store=None,  # type: ignore[arg-type]  # no round does anything
            home=Home(Path("/nowhere")),
            kept=KEPT,
            timezone="UTC",
            threshold=Threshold(bytes=0, share=0),
            now=lambda: after(NOW, trio.current_time() - began + moved[0]),
            measure=lambda: Space(1, 1),
            tell=tell,
        )
        made.began = None if last is None else after(NOW, -last * HOUR)
        made.fails = fails
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            await trio.sleep(hours / 2 * HOUR)
            moved[0] = set_by * HOUR
            await trio.sleep(min(set_back_after, hours / 2 * HOUR))
            if set_back_after < math.inf:
                moved[0] = 0.0
                await trio.sleep(hours / 2 * HOUR)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return list(rounds)


NIGHT = 12.89  # hours from then to four in the morning


def test_each_night_has_its_round() -> None:
    assert rounds_of(last=1, hours=70) == pytest.approx([NIGHT, NIGHT + 24, NIGHT + 48], abs=0.1)


@pytest.mark.parametrize("last", [None, 12, 24 * 30], ids=["none", "half a day", "a month"])
def test_a_round_that_was_missed_is_made_up_for_soon_after_the_start(last: float | None) -> None:
    soon = SETTLE / HOUR
    assert rounds_of(last=last, hours=20) == pytest.approx([soon, NIGHT], abs=0.1)


def test_what_failed_is_tried_again_each_hour() -> None:
    again = AGAIN / HOUR
    expected = [NIGHT, NIGHT + again, NIGHT + 2 * again, NIGHT + 24]
    assert rounds_of(last=1, hours=40, fails=2) == pytest.approx(expected, abs=0.1)


def test_a_clock_that_is_set_is_noticed_and_one_night_has_one_round() -> None:
    # after 10 hours it is set 10 hours forward, past the night: one round, at once
    assert rounds_of(last=1, hours=20, set_by=10) == pytest.approx(
        [20.0], abs=PIECE / HOUR + 2 * MINUTE / HOUR
    )
    # after 15 hours, the night's round done, it is set 5 hours back: that night has had its round
    assert rounds_of(last=1, hours=30, set_by=-5) == pytest.approx([NIGHT], abs=0.1)
    # after 15 hours it is set back by a month, which was the wrong one: nights go on at once
    back = rounds_of(last=1, hours=30, set_by=-24 * 30)
    assert len(back) >= 2


# --- what is damaged, what grows, what is old ---


def _lose_from_index(path: Path, index: str) -> None:
    """Take a row out of an index, behind SQLite's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        row = db.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
        db.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
        db.execute("PRAGMA writable_schema = RESET")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "INSERT INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, kind, "
            "text, triggers, own) VALUES ('console:main', 'a', '', 'lost', 1, 1, 'text', 'x', 0, 0)"
        )
        db.execute("PRAGMA writable_schema = ON")
        db.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
        db.execute("PRAGMA writable_schema = RESET")


async def test_a_damaged_index_is_made_anew_and_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    async with open_store(home.database) as store:
        await store.call(at(NOW, groups.ensure_main), name="Main", trigger="Pynchy")
    await trio.to_thread.run_sync(_lose_from_index, home.database, "inbox_message")
    told: list[str] = []

    async def tell(text: str, kind: str) -> None:
        await trio.lowlevel.checkpoint()
        told.append(text)

    async with open_store(home.database) as store:
        assert (await store.look(health.look)).indexes == ("inbox_message",)
        nightly = NightlyRound(
            store=store,
            home=home,
            kept=KEPT,
            timezone="UTC",
            threshold=Threshold(bytes=1, share=0),
            now=lambda: NOW,
            measure=lambda: Space(free=1 << 40, total=1 << 41),
            tell=tell,
        )
        assert await nightly.round()
        assert await store.look(health.look) == health.Health()
        found = await store.call(
            lambda db: db.execute(
                "SELECT count(*) FROM inbox INDEXED BY inbox_message WHERE message_id = 'lost'"
            ).fetchone()
        )
        assert found == (1,)
    [text] = told
    assert "inbox_message" in text


def test_what_is_no_index_is_damage() -> None:
    assert health.judge(["ok"]) == health.Health()
    assert health.judge(["row 1 missing from index a", "wrong # of entries in index b"]) == (
        health.Health(indexes=("a", "b"))
    )
    assert health.judge(["row 1 missing from index a", "Tree 4 page 9: btreeInitPage()"]).damage


async def test_what_killed_tools_left_is_tidied_after_a_day(night: Night) -> None:
    home = night.home
    home.backups.mkdir()
    halves = [
        home.backups / "pynchy-1.db.part",
        home.store / "export-77.db",
        home.store / "upgrade-77.db-wal",
        home.store / "pynchy.db.before-X.part",
    ]
    mine = [home.backups / "mine.part.db", home.store / "install-id", home.store / "whatsapp.db"]
    for path in [*halves, *mine]:
        path.touch()
        os.utime(path, (NOW / 1e6 - 2 * DAY,) * 2)
    young = home.backups / "pynchy-2.db.part"
    young.touch()
    os.utime(young, (NOW / 1e6,) * 2)
    assert await night.nightly.round()
    assert not [path for path in halves if path.exists()]
    assert all(path.exists() for path in [*mine, young])


def _copy_of(path: Path, lineage: int, messages: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA application_id = {lineage}")
        db.execute("CREATE TABLE inbox (seq INTEGER PRIMARY KEY AUTOINCREMENT)")  # makes it, too
        db.execute("INSERT INTO sqlite_sequence VALUES ('inbox', ?)", (messages,))


def _names(folder: Path, *days: int) -> set[str]:
    return {backup.nightly_name(after(NOW, -day * DAY)) for day in days}


def test_copies_are_of_days_and_of_weeks(tmp_path: Path) -> None:
    for day in range(30):
        _copy_of(tmp_path / backup.nightly_name(after(NOW, -day * DAY)), 7, 5)
    backup.rotate(tmp_path, keep=3, weeks=3, now=NOW)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 6
    assert _names(tmp_path, 0, 1, 2) <= set(left)
    for _ in range(3):  # again, and nothing goes
        assert backup.rotate(tmp_path, keep=3, weeks=3, now=NOW) == 0


def test_night_after_night_copies_of_three_weeks_are_there(tmp_path: Path) -> None:
    for night in range(30):
        now = after(NOW, night * DAY)
        _copy_of(tmp_path / backup.nightly_name(now), 7, night)
        backup.rotate(tmp_path, keep=3, weeks=3, now=now)
    oldest = min(path.name for path in tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 6
    assert oldest <= backup.nightly_name(after(NOW, (29 - 14) * DAY))


def test_the_last_copy_of_another_database_and_of_a_larger_one_stays(tmp_path: Path) -> None:
    _copy_of(tmp_path / backup.nightly_name(after(NOW, -40 * DAY)), 1, 1000)
    _copy_of(tmp_path / backup.nightly_name(after(NOW, -39 * DAY)), 1, 1001)
    _copy_of(tmp_path / backup.nightly_name(after(NOW, -20 * DAY)), 2, 500)
    for night in range(14):  # the database was made anew, empty
        now = after(NOW, night * DAY)
        _copy_of(tmp_path / backup.nightly_name(now), 2, night)
        backup.rotate(tmp_path, keep=2, now=now)
    assert {path.name for path in tmp_path.iterdir()} == _names(tmp_path, 39, 20, -12, -13)


def test_a_copy_of_a_day_to_come_takes_nobodys_place(tmp_path: Path) -> None:
    wrong = tmp_path / backup.nightly_name(after(NOW, 400 * DAY))
    _copy_of(wrong, 7, 1)
    for day in (2, 1, 0):
        _copy_of(tmp_path / backup.nightly_name(after(NOW, -day * DAY)), 7, 1)
    backup.rotate(tmp_path, keep=3, now=NOW)
    assert {path.name for path in tmp_path.iterdir()} == _names(tmp_path, 0, 1, 2)


def test_a_clock_that_is_wrong_for_a_while_makes_no_round() -> None:
    # By it all is old: what would be deleted does not come back with the right time.
    assert rounds_of(last=1, hours=8, set_by=400 * 24, set_back_after=10 * MINUTE) == []
    # One that stays is believed, an hour later.
    assert rounds_of(last=1, hours=8, set_by=400 * 24) == [pytest.approx(400 * 24 + 5, abs=0.2)]
