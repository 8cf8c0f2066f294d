"""Turns: units of agent work, as rows; making one, reading one, ending one.

The rule: every change of a turn is one transaction with everything that must agree with it: the cursor,
the replies, the notices.

    (messages) -> claimed                 a run takes everything unanswered of one chat (`claims`)
    claimed -> done                       a result names it: replies, cursor and session in one commit (`results`)
    claimed -> waiting                    failed: tried again as `policy.failures` says, or resumed if it spoke
                                          (`turn_failures`)
    waiting -> waiting                    parked: what holds its group back holds it back too
    claimed -> waiting                    the run ended without looking at it: again at once
    claimed, waiting -> dead              given up; the chat and main are told in the same commit
    claimed, waiting -> cancelled         a person said so

A chat whose oldest turn waits for its retry hands out nothing newer: order within a chat holds.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from pynchy.model import ChatId, GroupId, Micros, RunId, TurnId
from pynchy.store import effect_counts, groups, holds, task_rows
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, number, read_all, read_one

COMPACT: Final = "compact"  # the source of a notice that is an order: shorten the conversation

Kind = Literal["message", "task", "delegate", "notice"]
State = Literal["done", "dead", "cancelled"]

#: The kinds of turns that a kind of run takes.
OF_RUN: Final[dict[str, tuple[Kind, Kind]]] = {
    "session": ("message", "notice"),
    "task": ("task", "task"),
    "delegate": ("delegate", "delegate"),
}


@attrs.frozen
class Turn:
    """A turn as it stands."""

    id: TurnId
    folder: GroupId
    chat: ChatId
    kind: Kind
    state: str
    run: RunId | None = attrs.field(metadata=column("run_id"))
    prompt_id: str | None
    attempt: int
    resumed: bool
    spoke: bool
    retry_at: Micros
    error: str | None
    result: str | None
    source: str | None
    failing: str | None = None  # the kind of its last failure, or of what it waits for
    failing_since: Micros | None = None
    same: int = 0  # failures of this kind in a row
    strikes: int = 0  # failures after which it did not wait
    bought: int = 0  # failures whose output was paid for
    freed: int = 0  # how often what it waited for was well again
    give_up_at: Micros | None = None
    steps: int = 1  # see `Work`


@attrs.frozen(kw_only=True)
class Work:
    """Work that is not of messages: a task's slot, a delegate, an answer that wakes the agent.

    ``isolated``: in a session of its own, which is not kept. ``steps``: how many steps of an agent or a
    schedule stand between a person's word and this; 0 if it is the answer to one.
    """

    folder: GroupId
    chat: ChatId
    kind: Literal["task", "delegate", "notice"]
    prompt: str
    source: str | None = None
    isolated: bool = False
    steps: int = 1


def add(tx: Tx, work: Work) -> TurnId:
    """Make a turn of work. It counts as an effect of the group, unless a person's word woke the agent."""
    values = attrs.asdict(work)
    values["isolated"] = work.isolated or work.kind == "delegate"
    turn = tx.insert("turns", **values, state="waiting", retry_at=tx.now, created_at=tx.now)
    if work.kind != "notice" or work.steps:
        effect_counts.count(tx, work.folder, "turns")
    return TurnId(turn)


def get(db: Database, turn: TurnId) -> Turn | None:
    """One turn."""
    return read_one(db, Turn, "FROM turns WHERE id = ?", (turn,))


def steps(db: Database, turn: TurnId) -> int:
    """How many steps a turn is from a person's word, see `Work`."""
    return number(db, "SELECT steps FROM turns WHERE id = ?", (turn,))


def held(db: Database, run: RunId) -> list[Turn]:
    """The turns a run has claimed and not ended, oldest first."""
    return read_all(
        db, Turn, "FROM turns WHERE run_id = ? AND state = 'claimed' ORDER BY id", (run,)
    )


def count_waiting(db: Database) -> int:
    """How many turns wait for another try."""
    return number(db, "SELECT count(*) FROM turns WHERE ended_at IS NULL AND state = 'waiting'")


def retried(db: Database, *, limit: int) -> list[dict[str, Any]]:
    """The turns that failed and are tried again, the next one first; with why, when, and what they wait for."""
    rows = db.query(
        "SELECT id AS turn, folder, chat, attempt, retry_at AS at, give_up_at AS until, error, "
        "waits_for AS held_by FROM turns "
        "WHERE ended_at IS NULL AND state = 'waiting' AND error IS NOT NULL "
        "ORDER BY retry_at, id LIMIT ?",
        (limit,),
    )
    return list(rows)


def cancel(tx: Tx, folder: GroupId, *, all_of_it: bool = False) -> list[Turn]:
    """A person stopped it: what is running, and what waits to be tried again, is over.

    Messages that no run has been given yet stay, and so does, but for ``all_of_it``, what waits for its
    first try. Whatever the run still says about the cancelled is dropped by `results.commit`.
    """
    found = read_all(
        tx,
        Turn,
        "FROM turns WHERE folder = ? AND ended_at IS NULL "
        "AND state IN ('waiting', 'claimed') AND (? OR state = 'claimed' OR attempt > 0 OR interrupted > 0 "
        "OR kind IN ('message', 'delegate')) ORDER BY id",
        (folder, all_of_it),
    )
    for turn in found:
        end(tx, turn.id, "cancelled")
    holds.nobody_waits(tx)
    return found


def cancel_one(tx: Tx, turn: TurnId) -> bool:
    """This turn is not wanted any more; False if it has ended."""
    found = number(tx, "SELECT count(*) FROM turns WHERE id = ? AND ended_at IS NULL", (turn,))
    if found:
        end(tx, turn, "cancelled")
    return bool(found)


def give_up(tx: Tx, turn: TurnId, error: str | None) -> None:
    """End a turn that will not be tried again, in silence: whoever waits for it looks at it. Without
    ``error`` what it failed with last stands."""
    tx.execute("UPDATE turns SET error = coalesce(?, error) WHERE id = ?", (error, turn))
    end(tx, turn, "dead")


def end(tx: Tx, turn: TurnId, state: State, *, outcome: str | None = None) -> None:
    """A turn is over, with what hangs on it: its attempt, its chat's cursor or its task's slot."""
    chat, kind = tx.execute(
        "UPDATE turns SET state = ?, ended_at = ? WHERE id = ? RETURNING chat, kind",
        (state, tx.now, turn),
    ).fetchone()
    if kind == "message":
        groups.settle_cursor(tx, ChatId(chat))
    elif kind == "task":
        task_rows.settle(tx, turn, state)
    close_attempt(tx, turn, outcome or state)


def close_attempt(tx: Tx, turn: TurnId, outcome: str) -> None:
    """What the run came to that had this turn last."""
    tx.execute(
        "UPDATE attempts SET ended_at = ?, outcome = ? WHERE ended_at IS NULL "
        "AND prompt_id = (SELECT prompt_id FROM turns WHERE id = ?)",
        (tx.now, outcome, turn),
    )
