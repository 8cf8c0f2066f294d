"""Scheduled tasks, and one row for each time that a task was due.

The rule: claiming a slot and moving the task to its next one are the same transaction, so neither a
crash nor a clock that jumps can run a slot twice, and none goes by without a row that says what became
of it. A task that cannot be understood or keeps failing is paused, and its chat is told.

    due -> waiting      a turn was made for it; it runs when the group has a slot
    waiting -> ran, late, failed, skipped    as its turn ended: late is more than `LATE` after its time
    due -> coalesced    a later slot, or the one that waits already, runs for it
    due -> skipped      the task does not catch up, or the daemon was down for longer than `WINDOW`
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from pynchy.limits import TASKS
from pynchy.model import MAIN, ChatId, GroupId, Micros, SenderId, TaskId, TurnId, after
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.schedule.firing import NOT_COUNTED, NOT_ITS_CHAT, CatchUp, fire, not_understood
from pynchy.schedule.times import (
    MIN_PERIOD,
    MIN_PERIOD_MAIN,
    BadSchedule,
    Schedule,
    Slot,
    next_slot,
    slots,
)
from pynchy.store import breakers, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, from_value, number, parts, read_all, scalar, scalars
from pynchy.store.task_rows import (
    Context,
    Task,
    end_if_over,
    get,
    set_aside,
    still_its,
)

SHORTEST: Final = 4  # letters of an id that name a task
MOST_TASKS: Final = TASKS.group
WINDOW: Final = TASKS.missed
BATCH: Final = 200  # tasks of one transaction


class CannotSchedule(ValueError):
    """The task cannot be made or changed so; the message says why. Nothing was changed."""


@attrs.frozen
class Fired:
    """What came of looking at what is due: groups with a turn to run, when to look again, and
    whether a chat was told something."""

    groups: tuple[GroupId, ...]
    next_at: Micros | None
    told: bool


_NOT_HELD: Final = "AND folder NOT IN (SELECT folder FROM breakers)"


@attrs.frozen(kw_only=True)
class Order:
    """A task that is to be made. ``depth``: how many tasks stand between a person's word and it."""

    id: TaskId
    folder: GroupId
    chat: ChatId
    prompt: str
    schedule: Schedule = attrs.field(metadata=parts(Schedule))
    context: Context
    creator: SenderId
    name: str = ""
    script: str | None = None
    catch_up: CatchUp = "coalesce"
    depth: int = 0


@attrs.frozen
class Change:
    """What becomes of a task; what is None stays as it is."""

    prompt: str | None = None
    script: str | None = None
    context: Context | None = None
    schedule: Schedule | None = None


def create(tx: Tx, order: Order) -> Task:
    """Make a task. Raises `CannotSchedule` if the group has too many, or tasks make tasks too deep."""
    if order.depth > TASKS.depth:
        raise CannotSchedule("a task made by a task cannot make another one")
    count = number(
        tx,
        "SELECT count(*) FROM tasks WHERE folder = ? AND state IN ('active', 'paused')",
        (order.folder,),
    )
    if count >= MOST_TASKS:
        raise CannotSchedule(f"the group has {MOST_TASKS} tasks; cancel one first")
    first = next_slot(order.schedule, Micros(tx.now - 1))
    tx.insert(
        "tasks",
        **from_value(order),
        state="active",
        next_run=None if first is None else first.at,
        created_at=tx.now,
    )
    found = get(tx, order.id)
    assert found is not None
    return found


def called(db: Database, word: str) -> list[Task]:
    """The tasks that a person means by a word: the one with this id; else those whose id begins so, or that are
    called so, and of them those that are not over, if any is."""
    exact = get(db, TaskId(word))
    if exact is not None:
        return [exact]
    low = word.lower()
    begins = len(low) >= SHORTEST and set(low) <= set("0123456789abcdef")
    found = read_all(
        db,
        Task,
        "FROM tasks WHERE (?1 AND id >= ?2 AND id < ?2 || 'g') "
        "OR (name = ?3 COLLATE NOCASE AND name <> '') ORDER BY created_at LIMIT 100",
        (begins, low, word),
    )
    return [task for task in found if task.state in ("active", "paused")] or found


def of_group(db: Database, folder: GroupId | None, *, ended: bool = False) -> list[Task]:
    """The tasks of a group (None: of all), the next due first. ``ended``: those that are over, too."""
    return read_all(
        db,
        Task,
        "FROM tasks WHERE (?1 IS NULL OR folder = ?1) AND (?2 OR state IN ('active', 'paused')) "
        "ORDER BY next_run IS NULL, next_run, created_at LIMIT 1000",
        (folder, ended),
    )


def change(tx: Tx, task: TaskId, wanted: Change) -> Task | None:
    """Change a task that is not over; None if there is no such task."""
    found = get(tx, task)
    if found is None or found.state not in ("active", "paused"):
        return None
    given = {
        column: value
        for column, value in attrs.asdict(wanted, recurse=False).items()
        if value is not None and column != "schedule"
    }
    if wanted.schedule is not None:
        first = next_slot(wanted.schedule, Micros(tx.now - 1))
        given |= {**from_value(wanted.schedule), "failures": 0}
        if found.state == "active":
            given["next_run"] = None if first is None else first.at
    tx.update("tasks", "id = ?", (task,), **given)
    return get(tx, task)


def resume(tx: Tx, task: TaskId) -> bool:
    """Wake a paused task; False if it was not paused. What it missed meanwhile is not made up for."""
    found = get(tx, task)
    if found is None or found.state != "paused":
        return False
    first = next_slot(found.schedule, tx.now)
    if first is None:
        raise CannotSchedule("its time has passed; give it another one")
    tx.execute(
        "UPDATE tasks SET state = 'active', reason = NULL, failures = 0, next_run = ? WHERE id = ?",
        (first.at, task),
    )
    return True


def cancel(tx: Tx, task: TaskId) -> bool:
    """End a task for good, with what waits of it; False if it is over already. A run that goes on is
    left to end."""
    changed = tx.execute(
        "UPDATE tasks SET state = 'cancelled', next_run = NULL "
        "WHERE id = ? AND state IN ('active', 'paused')",
        (task,),
    )
    if changed.rowcount != 1:
        return False
    waiting = (
        "SELECT turn_id FROM fires JOIN turns ON turns.id = turn_id "
        "WHERE task_id = ? AND fires.state = 'waiting' AND turns.state = 'waiting'"
    )
    for turn in scalars(tx, TurnId, waiting, (task,)):
        turns.cancel_one(tx, turn)
    return True


def run_now(tx: Tx, task: TaskId, *, asked_in: int = 0) -> bool:
    """Make a turn of a task out of its order; False if it is over, or waits to run already.

    ``asked_in``: how many steps the turn that asks for it is from a person's word. Raises `CannotSchedule` if
    tasks run tasks too deep, or one is run more often by turns that nobody asked for than it may fall due.
    """
    found = get(tx, task)
    if found is None or found.state not in ("active", "paused") or _waits(tx, task) is not None:
        return False
    if not still_its(tx, found):
        return False
    steps = max(found.depth, asked_in) + 1
    if asked_in:
        if steps > TASKS.depth + 1:
            raise CannotSchedule("a task that a task has run does not run another one")
        last = last_run(tx, task)
        if last is not None and last <= tx.now < after(last, least_period(found.folder)):
            raise CannotSchedule(
                f"it ran less than {least_period(found.folder):.0f} s ago, and nobody asked for this"
            )
    _claim(tx, found, Slot(tx.now, f"now-{tx.now}"), missed=0, steps=steps)
    return True


def least_period(folder: GroupId) -> float:
    """Seconds between two runs of a task that nobody asked for by hand."""
    return MIN_PERIOD_MAIN if folder == MAIN else MIN_PERIOD


def last_run(db: Database, task: TaskId) -> Micros | None:
    """When a turn of the task was last made."""
    sql = "SELECT max(fired_at) FROM fires WHERE task_id = ? AND turn_id IS NOT NULL"
    return scalar(db, Micros, sql, (task,))


def like(db: Database, folder: GroupId, prompt: str, schedule: Schedule) -> TaskId | None:
    """A task of the group that is not over and says the same in the same rhythm."""
    return scalar(
        db,
        TaskId,
        "SELECT id FROM tasks WHERE folder = ? AND prompt = ? AND kind = ? AND value = ? "
        "AND state IN ('active', 'paused') LIMIT 1",
        (folder, prompt, schedule.kind, schedule.value),
    )


def ledger(db: Database, task: TaskId, *, limit: int = 20) -> list[dict[str, Any]]:
    """The newest slots of a task: what became of each, and what was said in it."""
    return list(
        db.query(
            "SELECT slot, due_at, fired_at, state, reason, missed, turn_id, "
            "(SELECT group_concat(text, char(10)) FROM outbox WHERE outbox.turn_id = fires.turn_id) "
            "AS said FROM fires WHERE task_id = ? ORDER BY due_at DESC, slot DESC LIMIT ?",
            (task, limit),
        )
    )


# --- what falls due ---


def fire_due(tx: Tx, *, bounds: Bounds = UNBOUNDED) -> Fired:
    """Claim the slots that are due, each with its task's next one, and say when to look again.

    What is due in a group that is held back stays due: it is caught up with when the group may go on.
    """
    due = read_all(
        tx,
        Task,
        f"FROM tasks WHERE state = 'active' AND next_run <= ? {_NOT_HELD} "
        "ORDER BY next_run, id LIMIT ?",
        (tx.now, BATCH),
    )
    groups: dict[GroupId, None] = {}
    told = False
    for task in due:
        if not still_its(tx, task):
            set_aside(tx, task, NOT_ITS_CHAT)
            told = True
            continue
        stop = breakers.held(tx, task.folder, "turns", bounds=bounds)
        if stop is not None:
            told = told or stop.told
            continue
        try:
            if _fire(tx, task):
                groups[task.folder] = None
        except BadSchedule as error:
            set_aside(tx, task, not_understood(str(error)))
            told = True
    ahead = f"SELECT min(next_run) FROM tasks WHERE state = 'active' {_NOT_HELD}"
    return Fired(tuple(groups), scalar(tx, Micros, ahead), told)


def _fire(tx: Tx, task: Task) -> bool:
    """Give every due slot of a task its row; whether there is a turn to run."""
    assert task.next_run is not None
    begin = Micros(task.next_run - 1)
    horizon = after(tx.now, -WINDOW)
    if task.schedule.kind != "once" and begin < horizon:
        first = next(slots(task.schedule, begin, tx.now), None)
        if first is not None and not _has_row(tx, task, first):
            _record(tx, task, first, "skipped", NOT_COUNTED)
        begin = horizon
    # A clock that was set, or a new time zone, can bring a moment round again: it has had its row.
    due = [slot for slot in slots(task.schedule, begin, tx.now) if not _has_row(tx, task, slot)]
    following = next_slot(task.schedule, tx.now)
    tx.execute(
        "UPDATE tasks SET next_run = ? WHERE id = ?",
        (None if following is None else following.at, task.id),
    )
    if not due:
        return False
    waits = _waits(tx, task.id)
    firing = fire(due, catch_up=task.catch_up, waits=waits is not None, now=tx.now)
    for each in firing.passed:
        _record(tx, task, each.slot, each.state, each.reason)
    if firing.run is not None:
        _claim(tx, task, firing.run, missed=firing.missed, steps=task.depth + 1)
    elif firing.missed:
        tx.execute("UPDATE fires SET missed = missed + ? WHERE turn_id = ?", (firing.missed, waits))
    else:
        end_if_over(tx, task.id)
    return firing.run is not None


def _has_row(db: Database, task: Task, slot: Slot) -> bool:
    return exists(db, "SELECT 1 FROM fires WHERE task_id = ? AND slot = ?", (task.id, slot.key))


def _claim(tx: Tx, task: Task, slot: Slot, *, missed: int, steps: int) -> None:
    turn = turns.add(
        tx,
        turns.Work(
            folder=task.folder,
            chat=task.chat,
            kind="task",
            prompt=task.prompt,
            source=f"task {task.id}",
            isolated=task.context == "isolated",
            steps=steps,
        ),
    )
    _record(tx, task, slot, "waiting", turn_id=turn, missed=missed)


def _record(
    tx: Tx, task: Task, slot: Slot, state: str, reason: str | None = None, **more: int
) -> None:
    """The row of a slot. The primary key refuses a second one, and the transaction with it."""
    tx.insert(
        "fires",
        task_id=task.id,
        slot=slot.key,
        due_at=slot.at,
        fired_at=tx.now,
        state=state,
        reason=reason,
        **more,
    )


def _waits(db: Database, task: TaskId) -> TurnId | None:
    """The turn of a task that is yet to run, if there is one."""
    return scalar(
        db,
        TurnId,
        "SELECT turn_id FROM fires JOIN turns ON turns.id = turn_id "
        "WHERE task_id = ? AND fires.state = 'waiting' AND turns.state = 'waiting' LIMIT 1",
        (task,),
    )
