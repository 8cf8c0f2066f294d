"""How much a group's agents may do by themselves, and what happens when it is more."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from pynchy.actions import commands
from pynchy.actions.call import Done, Given, Host
from pynchy.limits import HELPERS
from pynchy.model import ChatId, GroupId, RunId, SenderId, Staged, TaskId, after
from pynchy.policy import tools
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.schedule.times import Schedule
from pynchy.store import breakers, claims, effect_counts, results, runs, tasks, turns
from pynchy.store.database import Tx
from pynchy_agent import wire
from tests.rules.store_world import CHAT, FAMILY, World

HOUR = 3600.0
YEARLY = {"schedule_type": "interval", "schedule_value": 31_536_000, "context_mode": "group"}


def said_to_main(world: World) -> list[str]:
    rows = world.db.execute("SELECT text FROM outbox WHERE chat = 'console:main' ORDER BY id")
    return [row[0] for row in rows]


@attrs.define
class Agent:
    """An agent of the family at work in one turn."""

    world: World
    run: RunId
    bounds: Bounds = UNBOUNDED

    def call(self, name: str, /, **args: Any) -> Done:
        return commands.handle(
            Tx(self.world.db, self.world.passes(1.0), self.world.new_id),
            Given(
                wire.Command(name=name, args=args),
                FAMILY,
                self.run,
                self.world.new_id(),
                "0" * 64,
                Staged(path="/outgoing/cat.png", name="cat.png", size=7),
            ),
            Host(bounds=self.bounds),
        )


def asked(bounds: Bounds = UNBOUNDED) -> Agent:
    """In a turn that a person asked for."""
    world = World.with_family(requires_trigger=False)
    world.hear("hello")
    run = world.begin()
    world.claim(run)
    return Agent(world, run, bounds)


def scheduled(agent: Agent) -> Agent:
    """The next turn of the task that falls due, in a run of its own."""
    world = agent.world
    world.db.execute("UPDATE turns SET state = 'done', ended_at = 1 WHERE run_id = ?", (agent.run,))
    runs.end(Tx(world.db, world.now, world.new_id), agent.run, reason="closed")
    run = world.begin(kind="task")
    world.claim(run)
    return Agent(world, run, agent.bounds)


def task_of(done: Done) -> TaskId:
    assert done.ok, done.text
    return TaskId(done.text.split()[2].rstrip(";"))


# --- tasks that run tasks ------------------------------------------------------------------------


def test_two_tasks_that_run_each_other_come_to_an_end() -> None:  # threat I13
    agent = asked()
    first = task_of(agent.call("schedule_task", prompt="a", **YEARLY))
    second = task_of(agent.call("schedule_task", prompt="b", **YEARLY))
    assert agent.call("run_task_now", task_id=first).ok
    agent = scheduled(agent)
    assert agent.call("run_task_now", task_id=second).ok
    agent = scheduled(agent)
    done = agent.call("run_task_now", task_id=first)
    assert not done.ok
    assert "ran less than 300 s ago, and nobody asked" in done.text
    agent.world.passes(301)
    assert agent.call("run_task_now", task_id=first).ok
    agent = scheduled(agent)
    agent.world.passes(301)
    done = agent.call("run_task_now", task_id=second)
    assert not done.ok
    assert "does not run another one" in done.text


def test_a_person_may_have_a_task_run_again_at_once() -> None:
    agent = asked()
    task = task_of(agent.call("schedule_task", prompt="a", **YEARLY))
    for _ in range(2):
        assert agent.call("run_task_now", task_id=task).ok
        agent.world.db.execute("UPDATE turns SET state = 'done', ended_at = 1 WHERE kind = 'task'")
        agent.world.db.execute("UPDATE fires SET state = 'ran'")


@pytest.fixture
def unasked() -> Agent:
    """In the turn of a task, a year after it was made."""
    agent = asked()
    task = task_of(agent.call("schedule_task", prompt="a", **YEARLY))
    assert agent.call("run_task_now", task_id=task).ok
    return scheduled(agent)


def test_a_task_makes_no_other_like_itself(unasked: Agent) -> None:
    done = unasked.call("schedule_task", prompt="a", **YEARLY)
    assert not done.ok
    assert "says the same at the same times" in done.text
    assert unasked.call("schedule_task", prompt="another", **YEARLY).ok


def test_a_task_schedules_nothing_sooner_than_an_interval_may_be(unasked: Agent) -> None:
    soon = {"schedule_type": "once", "context_mode": "group"}
    for moment, ok in (("2025-06-15T15:08:00+00:00", False), ("2025-06-15T18:00:00+00:00", True)):
        done = unasked.call("schedule_task", prompt=moment, schedule_value=moment, **soon)
        assert done.ok is ok, done.text


def test_a_task_does_not_move_itself_nearer_than_an_interval_may_be(unasked: Agent) -> None:
    [task] = tasks.of_group(unasked.world.db, FAMILY)
    done = unasked.call(
        "update_task",
        task_id=task.id,
        schedule_type="once",
        schedule_value="2025-06-15T15:08:00+00:00",
    )
    assert not done.ok
    assert "no task runs more often than that" in done.text


def test_what_a_helper_that_a_task_asked_for_wakes_is_still_not_asked_for(unasked: Agent) -> None:
    assert unasked.call("delegate", prompt="work", wait=False).ok
    world = unasked.world
    runs.end(Tx(world.db, world.now, world.new_id), unasked.run, reason="closed")
    run = world.begin()
    woken = world.claim(run)
    assert woken.kind == "notice"
    assert turns.steps(world.db, woken.turn) > 0
    assert task_of(Agent(world, run).call("schedule_task", prompt="c", **YEARLY))
    [made] = [task for task in tasks.of_group(world.db, FAMILY) if task.prompt == "c"]
    assert made.depth > 0


# --- what is counted -----------------------------------------------------------------------------

EACH: dict[str, dict[str, Any]] = {
    "send_message": {"text": "hello"},
    "send_file": {"path": "cat.png"},
    "react": {"emoji": "🙂"},
    "ask_user": {"question": "which?"},
    "delegate": {"prompt": "work"},
    "run_task_now": {},
}


@pytest.mark.parametrize("name", EACH)
def test_every_act_that_says_something_or_makes_a_turn_is_counted_and_bounded(name: str) -> None:
    # threat I13
    agent = asked(Bounds(turns=3, messages=3, files=3))
    kind = tools.TOOLS[name].effect
    assert kind is not None
    tasks_made = [
        task_of(agent.call("schedule_task", prompt=str(number), **YEARLY)) for number in range(4)
    ]
    for task in tasks_made[:3]:
        args = EACH[name] | ({"task_id": task} if name == "run_task_now" else {})
        if name == "ask_user":
            agent.world.db.execute("UPDATE questions SET state = 'dropped'")
        done = agent.call(name, **args)
        assert done.ok, done.text
    assert effect_counts.done(Tx(agent.world.db, agent.world.now), FAMILY, kind) == 3
    args = EACH[name] | ({"task_id": tasks_made[3]} if name == "run_task_now" else {})
    done = agent.call(name, **args)
    assert not done.ok
    assert "held back" in done.text
    assert done.effects.speaks, "main was told"
    assert not agent.call(name, **args).effects.speaks, "once"
    [told] = said_to_main(agent.world)
    assert "/resume family" in told
    assert breakers.held_back(agent.world.db) == {FAMILY: kind}


def test_every_command_with_an_effect_has_a_bound() -> None:
    looks = {"list_tasks", "get_task", "recall", "search_history", "list_groups", "get_usage"}
    keeps = {"remember", "forget", "pause_task", "cancel_task"}  # rows that make and say nothing
    mains = {"refresh_groups", "register_group", "update_group", "unregister_group"}
    by_approval = {"request_mount", "request_host", "request_tool"}
    without = {name for name, tool in tools.TOOLS.items() if tool.effect is None}
    assert without == looks | keeps | mains | by_approval


def test_within_the_hour_counts_and_no_longer() -> None:
    world = World.with_family()
    effect_counts.count(Tx(world.db, world.now), FAMILY, "turns", many=2)
    assert effect_counts.done(Tx(world.db, after(world.now, HOUR - 61)), FAMILY, "turns") == 2
    assert effect_counts.done(Tx(world.db, after(world.now, HOUR + 60)), FAMILY, "turns") == 0
    assert effect_counts.done(Tx(world.db, after(world.now, -HOUR)), FAMILY, "turns") == 0
    effect_counts.count(Tx(world.db, after(world.now, -HOUR)), FAMILY, "turns")
    assert effect_counts.done(Tx(world.db, world.now), FAMILY, "turns") == 0, "a clock was set back"


def test_tokens_hold_back_what_nobody_asked_for() -> None:
    world = World.with_family()
    bounds = Bounds(tokens=1000)

    def held() -> bool:
        found = breakers.held(Tx(world.db, world.now, world.new_id), FAMILY, "turns", bounds=bounds)
        return found is not None

    insert = (
        "INSERT INTO usage (folder, run_id, model, day, state, reserved_tokens, reserved_cost, "
        "input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at, settled_at) "
        "VALUES ('family', 'r', 'm', 'd', 'settled', 0, 0, 600, 300, 9000, 50, ?, 1)"
    )
    world.db.execute(insert, (world.now,))
    assert not held(), "what is read from the cache is left aside"
    world.db.execute(insert, (world.now,))
    assert held()
    assert breakers.let_go_on(Tx(world.db, world.now), FAMILY)
    assert not held(), "it is counted from here on"
    assert not breakers.let_go_on(Tx(world.db, world.now), FAMILY)


def test_without_bounds_nobody_is_held_back() -> None:
    agent = asked()
    for number in range(100):
        assert agent.call("send_message", text=str(number)).ok
    assert breakers.held_back(agent.world.db) == {}


# --- a group that is held back -------------------------------------------------------------------


def due(world: World, bounds: Bounds) -> tasks.Fired:
    return tasks.fire_due(Tx(world.db, world.now, world.new_id), bounds=bounds)


def every(world: World, seconds: int, folder: GroupId = FAMILY, chat: ChatId = CHAT) -> TaskId:
    made = tasks.create(
        Tx(world.db, world.now),
        tasks.Order(
            id=TaskId(world.new_id()),
            folder=folder,
            chat=chat,
            prompt=f"every {seconds}",
            schedule=Schedule("interval", str(seconds), "UTC", world.now),
            context="group",
            creator=SenderId("owner"),
        ),
    )
    return made.id


def test_its_tasks_stay_due_and_are_caught_up_with_when_it_may_go_on() -> None:
    world = World.with_family()
    bounds = Bounds(turns=1)
    task = every(world, 300)
    world.passes(301)
    assert due(world, bounds).groups == (FAMILY,)
    run = world.begin(kind="task")
    world.commit(run, world.claim(run))
    world.end(run)
    world.passes(300)
    first = due(world, bounds)
    assert first.groups == ()
    assert first.told
    assert first.next_at is None, "it does not spin"
    world.passes(600)
    assert not due(world, bounds).told
    assert breakers.let_go_on(Tx(world.db, world.now), FAMILY)
    assert due(world, bounds).groups == (FAMILY,)
    [latest, *_] = tasks.ledger(world.db, task)
    assert latest["missed"] == 2
    assert len(said_to_main(world)) == 1


def test_another_groups_tasks_run_all_the_while() -> None:
    world = World.with_family()
    other, its_chat = GroupId("work"), ChatId("120364@g.us")
    world.register(other, its_chat)
    every(world, 300)
    every(world, 300, other, its_chat)
    world.db.execute("INSERT INTO breakers (folder, kind, at) VALUES ('family', 'turns', 0)")
    world.passes(301)
    fired = due(world, Bounds(turns=5))
    assert fired.groups == (other,)
    assert fired.next_at is not None


def test_it_says_nothing_that_nobody_asked_for_and_still_answers_people() -> None:
    world = World.with_family(requires_trigger=False)
    bounds = Bounds(messages=2)
    every(world, 300)
    world.passes(301)
    due(world, bounds)

    def commit(run: RunId, *answered: claims.Claimed) -> results.Committed:
        return results.commit(
            Tx(world.db, world.passes(1.0), world.new_id),
            run,
            results.Reply(
                answered=[each.prompt_id for each in answered],
                pieces=[f"a word, {world.new_id()}"],
                session=None,
            ),
            bounds=bounds,
        )

    run = world.begin(kind="task")
    claimed = world.claim(run)
    assert [bool(commit(run).outbox) for _ in range(4)] == [True, True, False, False]
    last = commit(run, claimed)
    assert (last.turns, last.outbox, last.held) == ((claimed.turn,), (), True)
    world.end(run)
    assert len(said_to_main(world)) == 1
    world.hear("are you there?")
    run = world.begin()
    answer = commit(run, world.claim(run))
    assert answer.outbox
    assert not answer.held
    assert not commit(run).outbox, "an afterthought is no answer"
    world.hear("and now?")
    asked = world.claim(run)
    turns.add(
        Tx(world.db, world.now),
        turns.Work(folder=FAMILY, chat=CHAT, kind="notice", prompt="a helper has ended"),
    )
    assert commit(run, asked, world.claim(run)).outbox, "it answers a person among others"


def test_answers_to_people_are_never_counted() -> None:
    world = World.with_family(requires_trigger=False)
    for _ in range(5):
        world.hear("hello")
        run = world.begin()
        world.commit(run, world.claim(run), say=["hello"])
        world.end(run)
    assert effect_counts.done(Tx(world.db, world.now), FAMILY, "messages") == 0
    assert effect_counts.done(Tx(world.db, world.now), FAMILY, "turns") == 0


def test_helpers_that_nobody_waits_for_are_refused_where_they_would_have_no_slot() -> None:
    agent = asked(Bounds(background=False))
    done = agent.call("delegate", prompt="work", wait=False)
    assert not done.ok
    assert "too few slots" in done.text
    assert agent.call("delegate", prompt="work").ok
    assert HELPERS.group > 1
