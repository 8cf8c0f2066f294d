"""Helpers that agents start: who started them, how deep they nest, and reporting their end.

The rule: a helper's turn is tried once and belongs to the run that asked. When that run is gone, a helper that has not
begun is cancelled; when the helper's own run is gone, its turn has ended, one way or the other.
"""

from __future__ import annotations

from pynchy.model import GroupId, RunId, TurnId
from pynchy.policy import wording
from pynchy.policy.tools import Caller
from pynchy.policy.wording import Outcome
from pynchy.store import turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import number


def ask(tx: Tx, caller: Caller, prompt: str, *, waits: bool) -> TurnId:
    """Make a helper's turn for a caller."""
    turn = turns.add(
        tx,
        turns.Work(
            folder=caller.folder,
            chat=caller.chat,
            kind="delegate",
            prompt=prompt,
            steps=caller.steps,
        ),
    )
    tx.insert(
        "delegates",
        turn_id=turn,
        folder=caller.folder,
        parent_turn=caller.turn,
        parent_run=caller.run,
        depth=caller.depth + 1,
        waits=waits,
    )
    return turn


def at_work(db: Database, folder: GroupId) -> int:
    """How many helpers of a group are not over."""
    return number(
        db,
        "SELECT count(*) FROM delegates JOIN turns ON turns.id = turn_id "
        "WHERE delegates.folder = ? AND ended_at IS NULL",
        (folder,),
    )


def depth(db: Database, turn: TurnId) -> int:
    """How deep a turn stands: 0 for one that is no helper's."""
    return number(db, "SELECT depth FROM delegates WHERE turn_id = ?", (turn,))


def outcome(db: Database, turn: TurnId) -> Outcome | None:
    """What came of a helper, or None while it is not over."""
    found = turns.get(db, turn)
    if found is None:
        return Outcome(ok=False, text="the helper is not known any more")
    if found.state in ("waiting", "claimed"):
        return None
    return wording.outcome_of(found.state, found.result, found.error)


def run_ended(tx: Tx, run: RunId) -> None:
    """A run is gone. Its own turn ends if it was a helper's, and so do the helpers it asked for that
    have not begun. Whoever does not wait for a helper is woken with what came of it."""
    unfinished = tx.execute(
        "SELECT turn_id, turns.run_id IS ?1 FROM delegates JOIN turns ON turns.id = turn_id "
        "WHERE ended_at IS NULL AND (turns.run_id = ?1 OR (parent_run = ?1 AND state = 'waiting'))",
        (run,),
    ).fetchall()
    for turn, own in unfinished:
        turns.give_up(tx, turn, None if own else "the run that asked for it ended")
    ended = tx.execute(
        "SELECT turn_id, delegates.folder, chat, turns.steps FROM delegates JOIN turns ON turns.id = turn_id "
        "WHERE waits = 0 AND told = 0 AND ended_at IS NOT NULL AND state <> 'cancelled' "
        "AND (turns.run_id = ?1 OR parent_run = ?1) AND depth = 1 ORDER BY turn_id",
        (run,),
    ).fetchall()
    for turn, folder, chat, steps in ended:
        came = outcome(tx, turn)
        assert came is not None, "it has ended"
        turns.add(
            tx,
            turns.Work(
                folder=folder,
                chat=chat,
                kind="notice",
                prompt=wording.helper_ended(turn, came),
                source="delegate",
                steps=max(1, steps),
            ),
        )
        tx.execute("UPDATE delegates SET told = 1 WHERE turn_id = ?", (turn,))
