"""A clock that is wrong for a while must not silence anything for longer than that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

import trio
from trio.testing import MockClock

from pynchy.daemon.scheduler import Scheduler
from pynchy.model import DAY, MAIN, MAIN_CONSOLE, GroupId, Micros, RunId, TaskId, TurnId, after
from pynchy.policy.authority import OWNER
from pynchy.policy.requests import Request
from pynchy.policy.tools import Caller
from pynchy.schedule.times import parse
from pynchy.store import (
    approvals,
    derived_times,
    groups,
    outbox,
    task_rows,
    tasks,
    turns,
)
from pynchy.store.connection import Connection
from pynchy.store.database import Opened, Store, Tx, open_memory

NOON = Micros(1_796_040_000_000_000)
FAR = 400 * DAY
T = TypeVar("T")


async def inline(sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None) -> T:
    """In place of the store's thread."""
    await trio.lowlevel.checkpoint()
    return sync_fn()


class Machine:
    """A daemon's scheduler on a machine whose clock can be set."""

    def __init__(self) -> None:
        self.db: Connection = open_memory()
        self.off = 0.0  # seconds by which its clock is wrong
        self.due: list[tuple[float, GroupId]] = []
        self.ids = count(1)
        groups.ensure_main(Tx(self.db, NOON), name="Main", trigger="Pynchy")

    def new_id(self) -> str:
        return f"{next(self.ids):032x}"

    def now(self) -> Micros:
        return after(NOON, trio.current_time() - self.began + self.off)

    def task(self, kind: str, value: str) -> TaskId:
        return tasks.create(
            Tx(self.db, NOON),
            tasks.Order(
                id=TaskId(self.new_id()),
                folder=MAIN,
                chat=MAIN_CONSOLE,
                prompt=f"{kind} {value}",
                schedule=parse(kind, value, timezone="Europe/Berlin", now=NOON, from_main=True),
                context="group",
                creator=OWNER,
            ),
        ).id

    def next_run(self, task: TaskId) -> float:
        """Seconds from now."""
        found = task_rows.get(self.db, task)
        assert found is not None
        assert found.next_run is not None
        return (found.next_run - self.now()) / 1e6

    def said(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT text FROM outbox ORDER BY id")]

    def live(self, story: Callable[[], Awaitable[None]]) -> None:
        async def due(group: GroupId) -> None:
            await trio.lowlevel.checkpoint()
            self.due.append((trio.current_time() - self.began, group))

        async def main() -> None:
            self.began = trio.current_time()
            _keep, bell = trio.open_memory_channel[None](1)
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    Scheduler(
                        Store(Opened(self.db), inline, now=self.now, new_id=self.new_id),
                        bell,
                        now=self.now,
                        due=due,
                        wake=due,
                        outbox_bell=lambda: None,
                    ).run
                )
                await story()
                nursery.cancel_scope.cancel("the story is over")

        trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_clock_wrong_for_a_minute_silences_no_task() -> None:
    machine = Machine()
    made = [machine.task("cron", "0 9 * * *"), machine.task("interval", "3600")]
    yearly = machine.task("cron", "0 9 24 12 *")

    async def story() -> None:
        await trio.sleep(100)
        machine.off = FAR
        await trio.sleep(65)  # long enough to be looked at, so that every task was computed anew
        assert all(machine.next_run(task) > 0 for task in made)
        machine.off = 0.0
        await trio.sleep(65)
        daily, hourly = (machine.next_run(task) for task in made)
        assert 0 < hourly <= 3600
        assert 0 < daily <= DAY
        assert 0 < machine.next_run(yearly) <= 366 * DAY
        before = len(tasks.ledger(machine.db, made[1], limit=5000))
        await trio.sleep(2 * 3600)
        assert len(tasks.ledger(machine.db, made[1], limit=5000)) == before + 2
        await trio.sleep(DAY)
        # Tomorrow's slot was noted as missed by the wrong clock; it is not.
        assert "2026-12-01T09:00" in [row["slot"] for row in tasks.ledger(machine.db, made[0])]
        assert all(
            row["due_at"] <= machine.now()
            for task in made
            for row in tasks.ledger(machine.db, task, limit=5000)
        )

    machine.live(story)
    texts = " ".join(machine.said())
    assert "set forward by 400 days" in texts


def test_a_clock_hours_ahead_for_a_minute_silences_no_task_for_hours() -> None:
    machine = Machine()
    task = machine.task("interval", "600")

    def fell_due() -> set[str]:
        db, now = machine.db, machine.now()
        rows = tasks.ledger(db, task, limit=5000)
        return {row["slot"] for row in rows if row["fired_at"] > after(now, -3 * 3600)}

    async def story() -> None:
        await trio.sleep(100)
        machine.off = 5 * 3600.0
        await trio.sleep(65)
        machine.off = 0.0
        await trio.sleep(65)
        # The slot that has run while the clock was ahead stays, and does not run again.
        assert len(fell_due()) == 1
        await trio.sleep(3 * 3600 - 300)
        assert len(fell_due()) == 18

    machine.live(story)


def test_a_start_brings_back_what_an_earlier_life_computed_from_a_wrong_clock() -> None:
    machine = Machine()
    task = machine.task("cron", "0 9 * * *")
    tasks.fire_due(Tx(machine.db, after(NOON, FAR), machine.new_id))

    async def story() -> None:
        assert 0 < machine.next_run(task) <= DAY
        await trio.sleep(1)

    machine.live(story)
    [text] = machine.said()
    assert "must have been wrong" in text
    assert "one task" in text


def test_a_clock_set_back_an_hour_runs_nothing_twice() -> None:
    machine = Machine()
    task = machine.task("interval", "3600")

    async def story() -> None:
        await trio.sleep(3700)
        assert len(machine.due) == 1
        machine.off = -3600.0
        await trio.sleep(1000)
        assert len(machine.due) == 1
        assert 0 < machine.next_run(task) <= 3600

    machine.live(story)
    slots = [row["slot"] for row in tasks.ledger(machine.db, task)]
    assert len(slots) == len(set(slots)) == 1


def test_without_anything_wrong_nothing_is_corrected_and_nothing_said() -> None:
    machine = Machine()
    machine.task("cron", "0 9 * * *")

    async def story() -> None:
        await trio.sleep(3 * DAY)

    machine.live(story)
    assert not machine.said()
    assert not derived_times.correct(Tx(machine.db, after(NOON, 3 * DAY)))


def test_whatever_waits_for_a_moment_is_brought_back() -> None:
    machine = Machine()
    db, bad = machine.db, after(NOON, FAR)
    turn = turns.add(
        Tx(db, bad),
        turns.Work(
            folder=MAIN, chat=MAIN_CONSOLE, kind="task", prompt="", source="task 1", isolated=False
        ),
    )
    [entry] = outbox.enqueue(
        Tx(db, bad, machine.new_id), outbox.Author(MAIN, MAIN_CONSOLE), ("hello",)
    )
    db.execute("UPDATE outbox SET next_at = ? WHERE id = ?", (bad, entry))
    assert outbox.heads(Tx(db, NOON)) == []
    corrected = derived_times.correct(Tx(db, NOON))
    assert corrected.turns == 1
    assert corrected.replies == 2
    [head] = outbox.heads(Tx(db, NOON))
    assert head.out.id == entry
    found = turns.get(db, turn)
    assert found is not None
    assert found.retry_at == NOON
    # and it is not kept for 400 days either, if it cannot be sent
    assert outbox.next_due(Tx(db, NOON)) == after(NOON, DAY)


def test_a_request_of_a_day_to_come_does_not_stay_open_and_blocks_no_other() -> None:
    machine = Machine()
    db, bad = machine.db, after(NOON, FAR)

    asking = Caller(MAIN, True, RunId("1" * 16), MAIN_CONSOLE, TurnId(1), trusted=True)

    def ask(code: str, now: Micros) -> None:
        approvals.ask(
            Tx(db, now), asking, Request(MAIN, "request_mount", {"path": code}), code=code
        )

    for number in range(12):  # all that a group may ask for in a day
        ask(f"AAAAAA{number:02d}", bad)
        db.execute(
            "UPDATE approvals SET state = 'denied', decided_by = 'me', decided_at = ? WHERE code = ? AND ? < 11",
            (bad, f"AAAAAA{number:02d}", number),
        )
    approvals.expire(Tx(db, NOON))
    last = approvals.get(db, "AAAAAA11")
    assert last is not None
    assert last.state == "expired"
    assert approvals.count_today(Tx(db, NOON), MAIN) == 0
    assert approvals.count_open(db, MAIN) == 0


def test_what_fell_due_while_the_clock_was_wrong_runs_once_when_it_is_right() -> None:
    machine = Machine()
    task = machine.task("cron", "2 13 * * *")  # two minutes from now

    async def story() -> None:
        await trio.sleep(60)
        machine.off = FAR
        await trio.sleep(125)
        machine.off = 0.0
        await trio.sleep(65)

    machine.live(story)
    [today] = [row for row in tasks.ledger(machine.db, task) if row["slot"] == "2026-11-30T13:02"]
    assert today["state"] != "skipped"
    found = task_rows.get(machine.db, task)
    assert found is not None
    assert found.next_run == after(NOON, 120 + DAY)
