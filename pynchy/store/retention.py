"""Delete old messages, if the owner has set how long to keep them.

The rule: what nobody has answered stays, however old it is: messages that no agent has been shown yet,
those of a turn that has no end, replies that are still to be sent.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.model import Micros
from pynchy.store import search
from pynchy.store.database import Database

WINDOW: Final = 1000  # rows that one call looks at: nobody waits long for it


@attrs.frozen
class Pruned:
    """What one call deleted, and where the next goes on; None: there is nothing older left."""

    deleted: int
    onwards: int | None


def prune_messages(db: Database, *, before: Micros, onwards: int = 0) -> Pruned:
    """Delete messages that came before a moment, of the next rows."""
    rows = db.execute(
        "SELECT seq, received_at, kind, ("
        "  SELECT folder IS NOT NULL AND inbox.seq > min(claimed_seq, coalesce(("
        "    SELECT min(lo) FROM turns WHERE turns.chat = chats.chat AND ended_at IS NULL "
        "    AND lo IS NOT NULL), claimed_seq)) FROM chats WHERE chats.chat = inbox.chat"
        ") OR EXISTS (SELECT 1 FROM turn_inputs JOIN turns ON turns.id = turn_id "
        "  WHERE turn_inputs.seq = inbox.seq AND ended_at IS NULL) AS needed "
        "FROM inbox WHERE seq > ? ORDER BY seq LIMIT ?",
        (onwards, WINDOW),
    ).fetchall()
    deletes = ("DELETE FROM turn_inputs WHERE seq = ?", "DELETE FROM inbox WHERE seq = ?")
    return _prune(db, rows, before, "inbox_fts", deletes)


def prune_replies(db: Database, *, before: Micros, onwards: int = 0) -> Pruned:
    """Delete what was sent, or given up, before a moment, of the next rows."""
    rows = db.execute(
        "SELECT id, created_at, kind, sent_at IS NULL AND failed_at IS NULL AS needed "
        "FROM outbox WHERE id > ? ORDER BY id LIMIT ?",
        (onwards, WINDOW),
    ).fetchall()
    return _prune(db, rows, before, "outbox_fts", ("DELETE FROM outbox WHERE id = ?",))


Rows = list[tuple[int, Micros, str, bool]]  # number, moment, kind, whether it is needed


def _prune(
    db: Database, rows: Rows, before: Micros, index: search.Index, deletes: tuple[str, ...]
) -> Pruned:
    """Delete the old ones of some rows, and say where to go on: behind these, unless all are young or the last."""
    old = [(id, kind) for id, at, kind, needed in rows if at < before and not needed]
    for id, kind in old:
        if kind == "text":
            search.drop(db, index, id)
        for delete in deletes:
            db.execute(delete, (id,))
    is_last = len(rows) < WINDOW or all(at >= before for _, at, *_ in rows)
    return Pruned(len(old), None if is_last else rows[-1][0])
