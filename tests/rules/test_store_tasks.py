"""Tasks and their ledger, on the real schema."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.model import ChatId, GroupId, Micros, RunId, SenderId, TaskId
from pynchy.policy.failures import Trouble
from pynchy.schedule.firing import CatchUp
from pynchy.schedule.times import Schedule
from pynchy.store import (
    claims,
    groups,
    results,
    runs,
    serving,
    task_rows,
    tasks,
    turn_failures,
    turns,
)
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory

START = Micros(1_780_000_000_000_000)
MINUTE = 60_000_000
FAMILY = GroupId("family")
CHAT = ChatId("console:family")


class House:
    """A database with one group, and a supply of ids."""

    def __init__(self) -> None:
        self.db: Connection = open_memory()
        self._ids = count(1)
        groups.register(
            Tx(self.db, START),
            folder=FAMILY,
            name="Family",
            chats=(CHAT,),
            trigger="Pynchy",
            requires_trigger=False,
        )

    def new_id(self) -> str:
        return f"{next(self._ids):032x}"

    def task(
        self,
        kind: str = "interval",
        value: str = "600",
        *,
        catch_up: CatchUp = "coalesce",
    ) -> TaskId:
        schedule = Schedule(kind, value, "UTC", START)  # type: ignore[arg-type]  # strings of a test
        made = tasks.create(
            Tx(self.db, START),
            tasks.Order(
                id=TaskId(self.new_id()),
                folder=FAMILY,
                chat=CHAT,
                prompt="say hello",
                schedule=schedule,
                context="group",
                creator=SenderId("console:owner"),
                catch_up=catch_up,
            ),
        )
        return made.id

    def fire(self, now: int) -> tasks.Fired:
        return tasks.fire_due(Tx(self.db, Micros(now), self.new_id))

    def states(self, task: TaskId) -> list[str]:
        return [row["state"] for row in tasks.ledger(self.db, task, limit=5000)][::-1]

    def run(self, now: int, *, fails: bool = False) -> None:
        """One run of the group's waiting task."""
        run = RunId(self.new_id()[-16:])
        runs.begin(
            Tx(self.db, Micros(now)),
            runs.RunStart(
                run=run, folder=FAMILY, kind="task", container=f"pynchy-{run}", boot="boot"
            ),
        )
        claimed = claims.claim(Tx(self.db, Micros(now), self.new_id), run)
        assert claimed is not None
        if fails:
            for _ in range(2):
                turn_failures.fail(
                    Tx(self.db, Micros(now), self.new_id),
                    run,
                    Trouble("agent", "broke"),
                    jitter=0.0,
                )
                now += 10**9
                claims.claim(Tx(self.db, Micros(now), self.new_id), run)
        else:
            results.commit(
                Tx(self.db, Micros(now), self.new_id),
                run,
                results.Reply(answered=[claimed.prompt_id], pieces=["hello"], session=None),
            )
        runs.end(Tx(self.db, Micros(now), self.new_id), run, reason="exited")


@pytest.fixture
def house() -> House:
    return House()


def test_a_slot_is_claimed_and_the_task_moved_on_at_once(house: House) -> None:  # invariant 122
    # invariant 187
    task = house.task()
    assert house.fire(START).groups == ()
    fired = house.fire(START + 10 * MINUTE)
    assert fired.groups == (FAMILY,)
    assert fired.next_at == START + 20 * MINUTE
    assert house.fire(START + 10 * MINUTE).groups == ()
    house.run(START + 10 * MINUTE + 1000)
    assert house.states(task) == ["ran"]


def test_missed_slots_run_once_and_the_prompt_says_how_many(house: House) -> None:  # invariant 139
    task = house.task()
    house.fire(START + 45 * MINUTE)
    assert house.states(task) == ["coalesced", "coalesced", "coalesced", "waiting"]
    run = RunId("f" * 16)
    runs.begin(
        Tx(house.db, START),
        runs.RunStart(run=run, folder=FAMILY, kind="task", container="c", boot="b"),
    )
    claimed = claims.claim(Tx(house.db, Micros(START + 45 * MINUTE), house.new_id), run)
    assert claimed is not None
    assert claimed.task is not None
    assert claimed.task.missed == 3


def test_a_task_that_does_not_catch_up_lets_missed_slots_go(house: House) -> None:
    task = house.task(catch_up="skip")
    house.fire(START + 45 * MINUTE)
    assert house.states(task) == ["skipped"] * 4
    house.fire(START + 50 * MINUTE)
    assert house.states(task)[-1] == "waiting"


def test_a_task_that_does_not_catch_up_and_still_waits_counts_each_slot_once(house: House) -> None:
    task = house.task(catch_up="skip")
    house.fire(START + 10 * MINUTE)  # waits, for its group is busy
    house.fire(START + 40 * MINUTE)  # two were missed, and a third is due now
    assert house.states(task) == ["waiting", "skipped", "skipped", "coalesced"]


def test_a_moment_that_is_not_made_up_for_is_over(house: House) -> None:
    task = house.task("once", "whenever", catch_up="skip")
    assert house.fire(START + 2 * MINUTE).groups == ()
    assert house.states(task) == ["skipped"]
    found = task_rows.get(house.db, task)
    assert found is not None
    assert found.state == "done"


def test_one_run_is_buffered_and_no_more(house: House) -> None:  # invariant 91
    task = house.task()
    house.fire(START + 10 * MINUTE)
    house.fire(START + 20 * MINUTE)
    house.fire(START + 30 * MINUTE)
    assert house.states(task) == ["waiting", "coalesced", "coalesced"]
    house.run(START + 31 * MINUTE)
    assert house.states(task) == ["late", "coalesced", "coalesced"]


def test_a_month_away_costs_a_bounded_number_of_rows(house: House) -> None:
    task = house.task("cron", "*/5 * * * *")
    house.fire(START + 30 * 24 * 60 * MINUTE)
    states = house.states(task)
    assert len(states) <= 24 * 12 + 2
    assert states.count("waiting") == 1


def test_once_is_final_and_has_no_window(house: House) -> None:  # threat I13
    task = house.task("once", "whenever")
    house.fire(START + 90 * 24 * 60 * MINUTE)
    assert house.states(task) == ["waiting"]
    house.run(START + 90 * 24 * 60 * MINUTE)
    found = task_rows.get(house.db, task)
    assert found is not None
    assert found.state == "done"
    assert not tasks.resume(Tx(house.db, START), task)
    assert not tasks.run_now(Tx(house.db, START), task)


def test_a_row_that_is_no_schedule_is_paused_and_said(house: House) -> None:  # invariant 124
    task = house.task()
    other = house.task()
    house.db.execute("UPDATE tasks SET value = 'soon' WHERE id = ?", (task,))
    fired = house.fire(START + 10 * MINUTE)
    assert fired.told
    assert fired.groups == (FAMILY,)
    found = task_rows.get(house.db, task)
    assert found is not None
    assert found.state == "paused"
    assert house.states(other) == ["waiting"]


def test_a_task_that_keeps_failing_is_paused(house: House) -> None:  # invariant 135
    task = house.task()
    for number in range(1, task_rows.MOST_FAILURES + 1):
        house.fire(START + number * 10 * MINUTE)
        house.run(START + number * 10 * MINUTE, fails=True)
    found = task_rows.get(house.db, task)
    assert found is not None
    assert found.state == "paused"
    assert found.reason is not None
    assert "5 times" in found.reason


def test_resuming_looks_forward(house: House) -> None:  # invariant 138
    task = house.task()
    assert task_rows.pause(house.db, task, reason="asked")
    assert house.fire(START + 60 * MINUTE) == tasks.Fired((), None, told=False)
    assert tasks.resume(Tx(house.db, Micros(START + 61 * MINUTE)), task)
    assert house.fire(START + 61 * MINUTE).next_at == START + 70 * MINUTE


def test_cancelling_takes_what_waits_along(house: House) -> None:  # threat I14, invariant 131
    task = house.task()
    house.fire(START + 10 * MINUTE)
    assert tasks.cancel(Tx(house.db, Micros(START + 11 * MINUTE)), task)
    assert house.states(task) == ["skipped"]
    assert not tasks.cancel(Tx(house.db, Micros(START + 11 * MINUTE)), task)


@given(looks=st.lists(st.integers(1, 3 * 24 * 60), min_size=1, max_size=12))
def test_every_slot_has_one_row_and_one_run_at_most(looks: list[int]) -> None:
    house = House()
    task = house.task("cron", "*/15 * * * *")
    for minutes in looks:  # the clock goes back and forth
        house.fire(START + minutes * MINUTE)
    keys = [row["slot"] for row in tasks.ledger(house.db, task, limit=10_000)]
    assert len(keys) == len(set(keys))
    assert house.states(task).count("waiting") <= 1


def test_a_moment_that_comes_round_again_runs_once_and_breaks_nothing(house: House) -> None:
    task = house.task("cron", "0 10 * * *")
    day = 24 * 60 * MINUTE
    house.fire(START + day)
    first = house.states(task)
    house.run(START + day)
    # The people moved west: the same wall clock comes again.
    house.db.execute("UPDATE tasks SET timezone = 'America/New_York' WHERE id = ?", (task,))
    house.db.execute("UPDATE tasks SET next_run = ? WHERE id = ?", (START + day - MINUTE, task))
    for hours in range(1, 30):
        house.fire(START + day + hours * 60 * MINUTE)
    keys = [row["slot"] for row in tasks.ledger(house.db, task)]
    assert len(keys) == len(set(keys))
    assert len(keys) >= len(first)


def test_an_isolated_task_has_a_conversation_of_its_own(house: House) -> None:
    schedule = Schedule("interval", "600", "UTC", START)
    tasks.create(
        Tx(house.db, START),
        tasks.Order(
            id=TaskId(house.new_id()),
            folder=FAMILY,
            chat=CHAT,
            prompt="x",
            schedule=schedule,
            context="isolated",
            creator=SenderId("a"),
        ),
    )
    house.fire(START + 10 * MINUTE)
    run = RunId("e" * 16)
    runs.begin(
        Tx(house.db, START),
        runs.RunStart(run=run, folder=FAMILY, kind="task", container="c", boot="b"),
    )
    claimed = claims.claim(Tx(house.db, Micros(START + 10 * MINUTE), house.new_id), run)
    assert claimed is not None
    assert claimed.isolated


def test_a_task_does_not_speak_in_a_chat_that_belongs_to_others_now(house: House) -> None:
    # invariants 134, 137
    task = house.task()
    turns.cancel(Tx(house.db, START), FAMILY, all_of_it=True)
    groups.remove(house.db, FAMILY)
    found = task_rows.get(house.db, task)
    assert found is not None
    assert found.state == "cancelled"
    # Its chat alone can change hands, too.
    House.__init__(house)
    task = house.task()
    groups.remove_chat(house.db, CHAT)
    fired = house.fire(START + 10 * MINUTE)
    assert fired.groups == ()
    assert house.states(task) == []
    assert not tasks.run_now(Tx(house.db, Micros(START + 11 * MINUTE)), task)


def test_a_paused_or_removed_group_leaves_nothing_to_start(house: House) -> None:
    house.task()
    house.fire(START + 10 * MINUTE)
    now = Micros(START + 11 * MINUTE)
    assert serving.left(Tx(house.db, now), FAMILY, kind="task").ready
    groups.set_paused(house.db, FAMILY, paused=True)
    assert serving.left(Tx(house.db, now), FAMILY, kind="task") == serving.Left(
        ready=False, retry_after=None
    )
    assert serving.unfinished(house.db) == ([], [])
    assert serving.paused(house.db) == [FAMILY]


@pytest.mark.parametrize("kind", ["session", "context"])
def test_a_spent_session_is_forgotten_once_and_then_final(house: House, kind: str) -> None:
    # invariants 99, 100
    house.db.execute("UPDATE groups SET session = 'old' WHERE folder = ?", (FAMILY,))
    house.task()
    house.fire(START + 10 * MINUTE)

    def settled(session: str | None) -> turn_failures.Failure:
        run = RunId(house.new_id()[-16:])
        runs.begin(
            Tx(house.db, START),
            runs.RunStart(run=run, folder=FAMILY, kind="task", container=run, boot="b"),
        )
        now = Micros(START + 10**12)
        claims.claim(Tx(house.db, now, house.new_id), run)
        (failure,) = serving.settle(
            Tx(house.db, now, house.new_id),
            run,
            serving.RunEnd(
                folder=FAMILY,
                kind="task",
                reason="x",
                trouble=Trouble(kind, "m"),
                accepted=(),
                session=session,
            ),
            jitter=0.0,
        ).failures
        return failure

    assert not settled("old").dead
    found = groups.get(house.db, FAMILY)
    assert found is not None
    assert found.session is None
    house.db.execute("UPDATE groups SET session = 'new' WHERE folder = ?", (FAMILY,))
    assert settled("new").dead
    said = [row[0] for row in house.db.execute("SELECT text FROM outbox")]
    assert sum("had to begin a new conversation" in text for text in said) == 1
