"""Helpers that agents start: who started them, how deep they nest, and reporting their end.

The rule: a helper's turn is tried once and belongs to the run that asked. When that run is gone, what has
not begun is cancelled; when the helper's own run is gone, its turn has ended, one way or the other.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.limits import HELPERS
from pynchy.model import ChatId, GroupId, RunId, TurnId
from pynchy.store import turn_rows, turns
from pynchy.store.database import Database, Tx

DEEPEST: Final = HELPERS.depth
MOST: Final = HELPERS.group

SHOWN: Final = HELPERS.answer


class TooMany(Exception):
    """No helper is to be had; the text says why."""


@attrs.frozen
class Outcome:
    """What came of a helper."""

    ok: bool
    text: str


def ask(
    tx: Tx, *, folder: GroupId, chat: ChatId, parent: TurnId, run: RunId, prompt: str, waits: bool
) -> TurnId:
    """Make a helper's turn. Raises `TooMany`, having written nothing."""
    above = depth(tx, parent)
    if above >= DEEPEST:
        raise TooMany("a helper's helper has no helpers of its own; do it yourself")
    open_now = tx.execute(
        "SELECT count(*) FROM delegates JOIN turns ON turns.id = turn_id "
        "WHERE delegates.folder = ? AND ended_at IS NULL",
        (folder,),
    ).fetchone()[0]
    if open_now >= MOST:
        raise TooMany(f"{MOST} helpers are at work already; wait for one")
    turn = turn_rows.add(
        tx,
        folder=folder,
        chat=chat,
        kind="delegate",
        prompt=prompt,
        steps=turn_rows.steps(tx, parent),
    )
    tx.execute(
        "INSERT INTO delegates (turn_id, folder, parent_turn, parent_run, depth, waits) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (turn, folder, parent, run, above + 1, waits),
    )
    return turn


def depth(db: Database, turn: TurnId) -> int:
    """How deep a turn stands: 0 for one that is no helper's."""
    row = db.execute("SELECT depth FROM delegates WHERE turn_id = ?", (turn,)).fetchone()
    return 0 if row is None else int(row[0])


def outcome(db: Database, turn: TurnId) -> Outcome | None:
    """What came of a helper, or None while it is not over."""
    found = turn_rows.get(db, turn)
    if found is None:
        return Outcome(ok=False, text="the helper is not known any more")
    if found.state in ("waiting", "claimed"):
        return None
    if found.state == "done":
        text = found.result or "(the helper said nothing)"
        return Outcome(ok=True, text=text[:SHOWN])
    reason = found.error or ("it was stopped" if found.state == "cancelled" else "unknown")
    return Outcome(ok=False, text=f"the helper failed: {reason}")


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
        turn_rows.add(
            tx,
            folder=folder,
            chat=chat,
            kind="notice",
            prompt=f"Helper {turn} has ended. {'Its answer:' if came.ok else ''}\n{came.text}",
            source="delegate",
            steps=max(1, steps),
        )
        tx.execute("UPDATE delegates SET told = 1 WHERE turn_id = ?", (turn,))
