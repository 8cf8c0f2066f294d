"""A year of schedules in two zones, lived through: clocks change, clocks are set, and the daemon dies.

The scheduler and the store are the real ones; the agents are a few lines, for what is asked here is not what they say.
What must come out is worked out by `tests.rules.minutes`, which walks over every minute of the year: each of those
moments has exactly one row in the ledger, and at most one run of it was ever committed.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

import attrs
import pytest
import trio
from loguru import logger

from pynchy.daemon.scheduler import Scheduler
from pynchy.model import ChatId, GroupId, Micros, RunId, SenderId, TaskId
from pynchy.policy.failures import Trouble
from pynchy.schedule.firing import CatchUp
from pynchy.schedule.times import Kind, Schedule, spell
from pynchy.store import groups, outbox, results, runs, serving, task_rows, tasks
from pynchy.store.database import Opened, Store, Tx, transaction
from tests.rules.minutes import due
from tests.simulation.engine import simulate
from tests.simulation.world import fresh_database
from tests.transactions import at

T = TypeVar("T")

YEAR: Final = 2026
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
HOUR: Final = 3600.0
CHUNK: Final = 900.0  # a clock that was set is noticed within this
MOST_OUT: Final = 20 * HOUR  # less than a day, so that the ledger counts each slot that was missed


def instant(text: str) -> Micros:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return Micros((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))


BEGIN, END = instant(f"{YEAR}-01-01T00:00"), instant(f"{YEAR + 1}-01-01T00:00")


@attrs.frozen
class Plan:
    """A schedule of the year, and the minutes (UTC, since 1970) at which it is due."""

    kind: Kind
    value: str
    zone: str
    catch_up: CatchUp = "coalesce"
    anchor: Micros = BEGIN

    def minutes(self) -> list[int]:
        match self.kind:
            case "cron":
                return due(self.value, self.zone, YEAR, YEAR)
            case "interval":
                step = int(self.value) // 60
                return list(range(BEGIN // 60_000_000 + step, END // 60_000_000, step))
            case "once":
                return [self.anchor // 60_000_000]


def once(text: str, zone: str) -> Plan:
    moment = instant(text)
    return Plan("once", spell(moment, zone), zone, anchor=moment)


PLANS: Final = (
    Plan("cron", "30 2 * * *", BERLIN),  # the hour that is left out, and comes twice
    Plan("cron", "30 1 * * *", NEW_YORK, "skip"),
    Plan("cron", "0,30 1-2 * * sun", NEW_YORK),
    Plan("cron", "0 9 * * mon-fri", BERLIN, "skip"),
    Plan("cron", "15 */6 * * *", NEW_YORK),
    Plan("cron", "45 */12 1-7 * *", BERLIN, "skip"),
    Plan("cron", "0 12 31 * *", NEW_YORK),
    Plan("interval", f"{6 * 3600}", BERLIN),
    Plan("interval", f"{29 * 3600 + 60}", NEW_YORK, "skip"),
    once(f"{YEAR}-03-08T06:59", NEW_YORK),  # a minute before their clocks go forward
    once(f"{YEAR}-10-25T00:30", BERLIN),
    once(f"{YEAR}-12-31T23:59", NEW_YORK),
)
#: When clocks change: the moments at which something is sure to go wrong, too.
CHANGES: Final = tuple(
    instant(f"{YEAR}-{each}")
    for each in ("03-08T07:00", "03-29T01:00", "10-25T01:00", "11-01T06:00")
)


class Year:
    """The clock, the disk, and what really happened."""

    def __init__(self, seed: int, *, kill_at: int | None = None, down: float = 0.0) -> None:
        self.dice = random.Random(seed)
        self.kill_at = (
            kill_at  # the one point at which a life ends, in the place of all other trouble
        )
        self.down = down
        self.points = 0
        self.db = fresh_database()
        self.offset = 0.0  # what the clock on the wall was moved by, in seconds
        self.ids = 0
        self.calm = kill_at is not None
        self.life: Life | None = None
        self.lives = 0
        self.jumps = 0
        self.alive_at = BEGIN  # when the scheduler was last seen to look
        self.well: list[tuple[Micros, Micros]] = []  # stretches in which nothing went wrong
        self.well_since: Micros | None = None
        self.set_at: float | None = None  # when the clock was set forward, until that is noticed
        self.noticed: list[float] = []  # after so many seconds
        self.latest = BEGIN  # that the clock on the wall has shown

    def now(self) -> Micros:
        return Micros(BEGIN + round((trio.current_time() + self.offset) * 1e6))

    def new_id(self) -> str:
        self.ids += 1
        return f"{self.ids:032x}"

    def disturbed(self) -> None:
        """A stretch in which nothing went wrong has ended."""
        self.latest = max(self.latest, self.now())
        if self.well_since is not None:
            self.well.append((self.well_since, self.now()))
        self.well_since = None

    def looks(self) -> Micros:
        """What time the scheduler is told it is. Once it has looked, all is well again, but for what
        comes round a second time."""
        now = self.now()
        self.alive_at = max(self.alive_at, now)
        if self.set_at is not None:
            self.noticed.append(trio.current_time() - self.set_at)
            self.set_at = None
        if self.well_since is None and now >= self.latest:
            self.well_since = now
        return now

    async def until(self, moment: Micros) -> None:
        """Until the clock on the wall has come to a moment, however it is set."""
        while (left := (moment - self.now()) / 1e6) > 0:  # noqa: ASYNC110
            await trio.sleep(left)

    def out(self) -> float:
        """How long nobody has looked at what is due, in seconds of the clock on the wall."""
        return (self.now() - self.alive_at) / 1e6

    # --- what goes wrong ---

    async def kills(self) -> None:
        while not self.calm:
            await trio.sleep(self.dice.expovariate(1 / (60 * HOUR)))
            self.kill()

    async def kills_as_clocks_change(self) -> None:
        for moment in CHANGES:
            await self.until(Micros(moment + round(self.dice.uniform(-HOUR, HOUR) * 1e6)))
            self.kill()

    def ends_here(self) -> bool:
        """Whether a life ends at this point, one of many."""
        self.points += 1
        if self.kill_at is not None:
            return self.points == self.kill_at
        return not self.calm and self.dice.random() < 0.001

    def kill(self) -> None:
        if self.life is not None and not self.calm:
            self.life.die()

    async def sets_the_clock(self) -> None:
        """By hand, by a time server, or by a machine that slept: both ways."""
        while not self.calm:
            await trio.sleep(self.dice.expovariate(1 / (200 * HOUR)))
            by = self.dice.choice((-1, 1)) * min(self.dice.expovariate(1 / HOUR), 3 * HOUR)
            if self.out() + abs(by) > MOST_OUT:
                continue
            self.disturbed()
            self.jumps += 1
            self.offset += by
            if by < 0:
                self.fiddle()
            elif self.life is not None and not self.life.dead:
                self.set_at = trio.current_time()

    def fiddle(self) -> None:
        """Somebody pauses every task and resumes it at once, so that each asks anew when it is due:
        where the clock was set back, at moments that have been."""
        with transaction(self.db):
            for task in tasks.of_group(self.db, None):
                if task.next_run is not None and task.next_run > self.now():
                    assert task_rows.pause(self.db, task.id, reason="to see whether it is missed")
                    assert tasks.resume(Tx(self.db, self.now()), task.id)
        if self.life is not None:
            self.life.told.send_nowait(None)

    def outage(self) -> float:
        if self.kill_at is not None:
            return self.down
        long = self.dice.random()
        mean = 60.0 if long < 0.5 else 2 * HOUR if long < 0.85 else 12 * HOUR
        return max(0.0, min(self.dice.expovariate(1 / mean), MOST_OUT - self.out()))


class Life:
    """One life of the daemon: the scheduler, and whoever runs what is due."""

    def __init__(self, year: Year) -> None:
        self.year = year
        self.dead = False
        self.scope = trio.CancelScope()
        self.store = Store(Opened(year.db), self.run_sync, now=year.now, new_id=year.new_id)
        self.bells: dict[GroupId, trio.Event] = {}
        self.told, self.bell = trio.open_memory_channel[None](math.inf)

    def die(self) -> None:
        if not self.dead:
            self.dead = True
            self.year.disturbed()
            self.year.set_at = None
            self.scope.cancel("killed")

    async def run_sync(
        self, sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None
    ) -> T:
        """In place of the store's thread. Before a transaction and after it is where a life may end."""
        for moment in ("before", "after"):
            if self.dead or self.year.ends_here():
                self.die()
                await trio.sleep_forever()  # it is cancelled, and says no more
            if moment == "before":
                value = sync_fn()
        await trio.lowlevel.checkpoint()
        return value

    async def live(self) -> None:
        year = self.year
        with self.scope:
            async with trio.open_nursery() as nursery:
                await self._recover()
                ring = partial(self._ring, nursery)
                _, unfinished = await self.store.call(serving.unfinished)
                for group in unfinished:
                    await ring(group)
                logger.disable("pynchy")  # a line of the log loads and asks what no simulation may
                await Scheduler(
                    self.store,
                    self.bell,
                    now=year.looks,
                    due=ring,
                    wake=ring,
                    outbox_bell=lambda: None,
                    chunk=CHUNK,
                ).run()
        self.dead = True

    async def _recover(self) -> None:
        year = self.year
        boot = f"boot {year.lives}"
        await self.store.call(at(year.now(), runs.interrupt_others), boot=boot)
        await self.store.call(at(year.now(), outbox.recover))

    async def _ring(self, nursery: trio.Nursery, group: GroupId) -> None:
        if group not in self.bells:
            self.bells[group] = trio.Event()
            nursery.start_soon(self._serve, group)
        self.bells[group].set()
        await trio.lowlevel.checkpoint()

    async def _serve(self, group: GroupId) -> None:
        while True:
            await self.bells[group].wait()
            self.bells[group] = trio.Event()
            while await self._one_run(group):
                pass
            left = await self.store.call(at(self.year.now(), serving.left), group, kind="task")
            if left.ready or left.retry_after is not None:
                with trio.move_on_after(left.retry_after or 0.0):
                    await self.bells[group].wait()
                self.bells[group].set()

    async def _one_run(self, group: GroupId) -> bool:
        year, run = self.year, RunId(self.year.new_id()[-16:])
        begun = await self.store.call(
            at(year.now(), serving.begin),
            runs.RunStart(
                run=run, folder=group, kind="task", container=f"c-{run}", boot=f"boot {year.lives}"
            ),
            turn=None,
            prewarm=False,
        )
        if begun is None or begun.claimed is None:
            return False
        claimed = begun.claimed
        works = 90.0 if year.calm or year.dice.random() < 0.9 else 3 * HOUR
        await trio.sleep(year.dice.expovariate(1 / works))
        fails = not year.calm and year.dice.random() < 0.05
        if not fails:
            missed = 0 if claimed.task is None else claimed.task.missed
            await self.store.call(
                at(year.now(), results.commit),
                run,
                results.Reply(
                    answered=[claimed.prompt_id], pieces=[f"done, {missed} missed"], session=None
                ),
            )
        await self.store.call(
            at(year.now(), serving.settle),
            run,
            serving.RunEnd(
                folder=group,
                kind="task",
                reason="over",
                trouble=Trouble("agent", "it broke") if fails else None,
                accepted=[claimed.prompt_id],
                session=None,
            ),
            jitter=0.0,
        )
        return True


def make(year: Year, plans: tuple[Plan, ...]) -> dict[TaskId, Plan]:
    """The groups of both zones with their tasks."""
    made = {}
    for zone in (BERLIN, NEW_YORK):
        folder = GroupId(zone.rpartition("/")[2].lower().replace("_", "-"))
        groups.register(
            Tx(year.db, BEGIN),
            folder=folder,
            name=zone,
            chats=(ChatId(f"console:{folder}"),),
            trigger="Pynchy",
            requires_trigger=False,
        )
        for plan in plans:
            if plan.zone == zone:
                task = tasks.create(
                    Tx(year.db, BEGIN),
                    tasks.Order(
                        id=TaskId(year.new_id()),
                        folder=folder,
                        chat=ChatId(f"console:{folder}"),
                        prompt="say so",
                        schedule=Schedule(plan.kind, plan.value, zone, plan.anchor),
                        context="isolated",
                        creator=SenderId("console:owner"),
                        catch_up=plan.catch_up,
                    ),
                )
                made[task.id] = plan
    return made


async def live_through(year: Year) -> dict[TaskId, Plan]:
    """The whole of it; the tasks that were made at its beginning."""
    made = make(year, PLANS)
    async with trio.open_nursery() as nursery:
        for trouble in (year.kills, year.kills_as_clocks_change, year.sets_the_clock):
            nursery.start_soon(trouble)
        nursery.start_soon(_lives, year)
        await year.until(END)
        year.calm = True
        await trio.sleep(48 * HOUR)  # whatever was begun in the year ends
        nursery.cancel_scope.cancel()
    return made


async def _lives(year: Year) -> None:
    while True:
        year.lives += 1
        year.life = Life(year)
        await year.life.live()
        await trio.sleep(year.outage())


def minute(slot: str, plan: Plan, due_at: int) -> int:
    assert due_at % 60_000_000 == 0, (slot, plan)
    return due_at // 60_000_000


@pytest.mark.parametrize("seed", [1])
def test_every_moment_has_one_row_and_at_most_one_run(seed: int) -> None:
    # invariants 122, 129, 130
    year = Year(seed)
    made = simulate(partial(live_through, year), seed=seed).value
    assert year.lives > 100
    assert year.jumps > 20
    assert max(year.noticed) <= CHUNK
    rows = list(
        year.db.query("SELECT * FROM fires WHERE due_at < ? ORDER BY due_at, task_id", (END,))
    )
    seen = Counter(row["state"] for row in rows)
    for id, plan in made.items():
        its = [row for row in rows if row["task_id"] == id]
        assert [row["due_at"] // 60_000_000 for row in its] == plan.minutes(), plan
        for row in its:
            assert_row(year, row, plan)
        coalesced = sum(row["state"] == "coalesced" for row in its)
        assert coalesced == sum(row["missed"] for row in its), plan
        task = task_rows.get(year.db, id)
        assert task is not None
        assert task.state == ("done" if plan.kind == "once" else "active"), plan
    # Everything that can happen did, and most of it went well.
    assert set(seen) >= {"ran", "late", "coalesced", "skipped"}, seen
    assert seen["ran"] > 0.6 * len(rows), seen
    assert seen["failed"] < 0.01 * len(rows), seen


def assert_row(year: Year, row: dict[str, object], plan: Plan) -> None:
    turn = row["turn_id"]
    said = year.db.execute("SELECT count(*) FROM outbox WHERE turn_id = ?", (turn,)).fetchone()[0]
    committed = year.db.execute(
        "SELECT count(*) FROM attempts WHERE turn_id = ? AND outcome = 'done'", (turn,)
    ).fetchone()[0]
    match row["state"]:
        case "ran" | "late":
            assert (said, committed) == (1, 1), row
        case "coalesced":
            assert turn is None, row
        case "skipped":
            assert turn is None, row
            assert plan.catch_up == "skip", row
            assert row["reason"] == "missed", row
        case "failed":
            assert committed == 0, row
        case other:
            pytest.fail(f"{other}: {row}")
    at, fired = row["due_at"], row["fired_at"]
    assert isinstance(at, int)
    assert isinstance(fired, int)
    if any(begin + 1_000_000 < at < end - 1_000_000 for begin, end in year.well):
        assert fired - at < 1_000_000, f"nothing was wrong, and it was late: {row}"


@pytest.mark.parametrize(("catch_up", "down"), [("coalesce", 10.0), ("skip", 1500.0)])
def test_a_task_survives_a_kill_at_every_step(catch_up: CatchUp, down: float) -> None:
    # threat D1
    plans = (
        Plan("interval", "600", BERLIN, catch_up),
        Plan("once", "x", BERLIN, catch_up, Micros(BEGIN + 12 * 60_000_000)),
    )
    step = 0
    while True:
        step += 1
        year = Year(step, kill_at=step, down=down)
        made = simulate(partial(a_while, year, plans), seed=0).value
        if year.lives == 1:
            break  # there is no such point any more
        for id, plan in made.items():
            rows = tasks.ledger(year.db, id)[::-1]
            slots = [(row["due_at"] - BEGIN) // 60_000_000 for row in rows]
            assert slots[:6] == ([12] if plan.kind == "once" else [10, 20, 30, 40, 50, 60]), step
            for row in rows:
                if row["state"] != "waiting":
                    assert_row(year, row, plan)
            if plan.kind == "once":
                task = task_rows.get(year.db, id)
                assert task is not None
                assert task.state == "done", step
    assert step > 60


async def a_while(year: Year, plans: tuple[Plan, ...]) -> dict[TaskId, Plan]:
    made = make(year, plans)
    with trio.move_on_after(1.5 * HOUR):
        await _lives(year)
    return made
