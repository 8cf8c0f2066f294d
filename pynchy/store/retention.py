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
        "SELECT seq, received_at, kind, text, ("
        "  SELECT folder IS NOT NULL AND inbox.seq > min(claimed_seq, coalesce(("
        "    SELECT min(lo) FROM turns WHERE turns.chat = chats.chat AND ended_at IS NULL "
        "    AND lo IS NOT NULL), claimed_seq)) FROM chats WHERE chats.chat = inbox.chat"
        ") OR EXISTS (SELECT 1 FROM turn_inputs JOIN turns ON turns.id = turn_id "
        "  WHERE turn_inputs.seq = inbox.seq AND ended_at IS NULL) AS needed "
        "FROM inbox WHERE seq > ? ORDER BY seq LIMIT ?",
        (onwards, WINDOW),
    ).fetchall()
    old = [(seq, kind, text) for seq, at, kind, text, needed in rows if at < before and not needed]
    for seq, kind, text in old:
        if kind == "text":
            search.drop(db, "inbox_fts", seq, text)
        db.execute("DELETE FROM turn_inputs WHERE seq = ?", (seq,))
        db.execute("DELETE FROM inbox WHERE seq = ?", (seq,))
    return Pruned(len(old), _onwards(rows, before))


def prune_replies(db: Database, *, before: Micros, onwards: int = 0) -> Pruned:
    """Delete what was sent, or given up, before a moment, of the next rows."""
    rows = db.execute(
        "SELECT id, created_at, kind, text, sent_at IS NULL AND failed_at IS NULL FROM outbox "
        "WHERE id > ? ORDER BY id LIMIT ?",
        (onwards, WINDOW),
    ).fetchall()
    old = [(id, kind, text) for id, at, kind, text, open in rows if at < before and not open]
    for id, kind, text in old:
        if kind == "text":
            search.drop(db, "outbox_fts", id, text)
        db.execute("DELETE FROM outbox WHERE id = ?", (id,))
    return Pruned(len(old), _onwards(rows, before))


def _onwards(rows: list[tuple[int, int, object, object, object]], before: Micros) -> int | None:
    """Where to go on: behind these rows, unless all of them are young, or there are no more."""
    if len(rows) < WINDOW or all(row[1] >= before for row in rows):
        return None
    return int(rows[-1][0])
