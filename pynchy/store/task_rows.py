"""Tasks as rows: what one is, reading one, and how its slots end. What falls due stands in `tasks`."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.limits import TASKS
from pynchy.model import ChatId, GroupId, Micros, SenderId, TaskId, TurnId
from pynchy.policy import failures
from pynchy.schedule.firing import CatchUp, failed_too_often, outcome
from pynchy.schedule.times import Schedule
from pynchy.store import notices
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, parts, read_one, scalar

MOST_FAILURES: Final = TASKS.failures

Context = Literal["group", "isolated"]


@attrs.frozen
class Task:
    """A task as it stands. ``next_run`` is None when nothing is to come."""

    id: TaskId
    folder: GroupId
    chat: ChatId
    name: str
    prompt: str
    script: str | None
    schedule: Schedule = attrs.field(metadata=parts(Schedule))
    context: Context
    catch_up: CatchUp
    creator: SenderId
    depth: int
    state: Literal["active", "paused", "done", "cancelled"]
    reason: str | None
    next_run: Micros | None
    failures: int
    created_at: Micros


def get(db: Database, task: TaskId) -> Task | None:
    """One task."""
    return read_one(db, Task, "FROM tasks WHERE id = ?", (task,))


def pause(db: Database, task: TaskId, *, reason: str) -> bool:
    """Let a task rest; False if it was not active. What waits of it still runs."""
    changed = db.execute(
        "UPDATE tasks SET state = 'paused', reason = ?, next_run = NULL "
        "WHERE id = ? AND state = 'active'",
        (reason, task),
    )
    return changed.rowcount == 1


def still_its(db: Database, task: Task) -> bool:
    """Whether the task's chat still belongs to its group: else it would speak to strangers."""
    return exists(db, "SELECT 1 FROM chats WHERE chat = ? AND folder = ?", (task.chat, task.folder))


def settle(tx: Tx, turn: TurnId, ended: str) -> None:
    """A task's turn has ended: its slot says how, and a task of one moment is over."""
    row = tx.execute(
        "SELECT task_id, slot, due_at, coalesce(claimed_at, fired_at) FROM fires "
        "JOIN turns ON turns.id = turn_id WHERE turn_id = ?",
        (turn,),
    ).fetchone()
    if row is None:
        return
    task, slot, due_at, began_at = row
    state, reason = outcome(ended, due_at=due_at, began_at=began_at)
    tx.execute(
        "UPDATE fires SET state = ?, reason = ? WHERE task_id = ? AND slot = ?",
        (state, reason, task, slot),
    )
    count = "failures + 1" if ended == "dead" else "0"
    tx.execute(f"UPDATE tasks SET failures = {count} WHERE id = ?", (task,))
    end_if_over(tx, task)


def end_if_over(db: Database, task: TaskId) -> None:
    """A task of one moment is done when that has been."""
    db.execute(
        "UPDATE tasks SET state = 'done' WHERE id = ? AND kind = 'once' AND next_run IS NULL "
        "AND state = 'active'",
        (task,),
    )


def pause_if_failing(tx: Tx, turn: TurnId) -> None:
    """Pause the task of a turn that is dead, if it failed too often in a row, and tell its chat."""
    id = scalar(tx, TaskId, "SELECT task_id FROM fires WHERE turn_id = ?", (turn,))
    task = None if id is None else get(tx, id)
    if task is not None and task.state == "active" and task.failures >= MOST_FAILURES:
        set_aside(tx, task, failed_too_often(task.failures))


def set_aside(tx: Tx, task: Task, reason: str) -> None:
    """Pause a task, and tell its chat why; main, where the chat is not its group's any more."""
    pause(tx, task.id, reason=reason)
    if still_its(tx, task):
        notices.tell(tx, task.chat, failures.task_paused(task.name or task.prompt, reason))
    else:  # what it says would be read by strangers
        words = failures.task_paused(task.name or task.id, reason, folder=task.folder)
        notices.tell_main(tx, words)
