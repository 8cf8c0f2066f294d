"""Recompute the times in rows that were derived from a wrong clock.

A moment that is computed once and kept (a task's next run, a retry) is only as right as the clock was
then. The rule: nothing waits longer, from now on, than the rule that set its moment would let it wait.
A moment is only ever brought nearer, so a slot that is due, or was missed, stays due.

Elsewhere the same holds by itself: a cooldown and a hold end when they lie further ahead than they can
be set, counts of what came lately do not count what lies ahead, the nightly round is computed anew.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.limits import SENDING
from pynchy.model import DAY, after
from pynchy.policy import failures, wording
from pynchy.schedule.times import BadSchedule, next_slot
from pynchy.store import holds, notices, tasks
from pynchy.store.database import Tx
from pynchy.store.rows import read_all
from pynchy.store.task_rows import Task

SPREAD: Final = 1.5  # times the longest wait: what chance adds to one is less


@attrs.frozen
class Corrected:
    """How many rows waited for a moment too far ahead."""

    tasks: int = 0
    turns: int = 0
    replies: int = 0
    questions: int = 0

    def __bool__(self) -> bool:
        return any(attrs.astuple(self))


def correct(tx: Tx) -> Corrected:
    """Bring every stored moment within what its rule allows from now. Cheap enough for each start."""
    missed = _correct_ledger(tx)
    holds.correct(tx)
    retried = "state = 'waiting' AND waits_for IS NULL AND give_up_at IS NULL"
    unsent = "sent_at IS NULL AND failed_at IS NULL"
    asked = "state IN ('waiting', 'open')"
    return Corrected(
        tasks=missed + _correct_tasks(tx),
        turns=_bound(tx, "turns", "retry_at", retried, failures.LONGEST_WAIT),
        replies=_bound(tx, "outbox", "next_at", unsent, SENDING.longest)
        + _bound(tx, "outbox", "created_at", unsent, 0.0),
        questions=_bound(tx, "questions", "asked_at", asked, 0.0),
    )


def _correct_tasks(tx: Tx) -> int:
    corrected = 0
    ahead = "FROM tasks WHERE state = 'active' AND kind <> 'once' AND next_run > ?"
    for task in read_all(tx, Task, ahead, (tx.now,)):
        assert task.next_run is not None
        try:
            following = next_slot(task.schedule, tx.now)
        except BadSchedule:
            continue  # it is set aside when it falls due
        if following is not None and following.at < task.next_run:
            tx.execute("UPDATE tasks SET next_run = ? WHERE id = ?", (following.at, task.id))
            corrected += 1
    return corrected


def _correct_ledger(tx: Tx) -> int:
    """Take back what was noted of slots that are yet to come, by a clock that was ahead; how many tasks are due by
    that.

    Left there, such a row would keep its slot from running when it does come. What ran then did run: within a day it
    stays, so that nothing runs twice; beyond that it is noted for now, under another key.
    """
    ahead = "WHERE due_at > ?1 AND fired_at > ?2"
    day_on = after(tx.now, DAY)
    # What fell due while the clock was wrong was noted as missed: it is due now.
    missed = (after(tx.now, -tasks.WINDOW), day_on)
    count = 0
    for task, due in tx.execute(
        f"SELECT task_id, min(due_at) FROM fires {ahead} AND turn_id IS NULL GROUP BY task_id",
        missed,
    ).fetchall():
        count += tx.execute(
            "UPDATE tasks SET next_run = ?1 WHERE id = ?2 AND state = 'active' AND next_run > ?1",
            (due, task),
        ).rowcount
    tx.execute(f"DELETE FROM fires {ahead} AND turn_id IS NULL", missed)
    tx.execute(f"DELETE FROM fires {ahead} AND turn_id IS NULL", (tx.now, tx.now))
    tx.execute(
        "UPDATE fires SET slot = 'early-' || slot || '-' || ?1, due_at = ?1, fired_at = ?1 "
        f"{ahead} AND turn_id IS NOT NULL",
        (tx.now, day_on),
    )
    return count


def _bound(tx: Tx, table: str, column: str, where: str, longest: float) -> int:
    """Let no row of a table wait longer than ``longest`` seconds and what chance adds."""
    return tx.execute(
        f"UPDATE {table} SET {column} = ?1 WHERE {where} AND {column} > ?2",
        (tx.now, after(tx.now, SPREAD * longest)),
    ).rowcount


def correct_and_tell(tx: Tx, *, jumped: float) -> tuple[Corrected, bool]:
    """`correct`, and tell main if the clock ``jumped`` by seconds worth a word or tasks would have waited
    in vain; whether it was told."""
    corrected = correct(tx)
    words = wording.clock_was_set(jumped, tasks=corrected.tasks)
    if words is None:
        return corrected, False
    told = notices.tell_main_once(tx, "clock", words)
    return corrected, told
