"""What agents remember, and the search over it and over their chats.

The rule: a group sees its own and what is for all, and nothing of any other.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.limits import MEMORIES
from pynchy.model import ChatId, GroupId, Micros
from pynchy.store import search
from pynchy.store.database import Database, Tx

MOST_MEMORIES: Final = MEMORIES.most


class Full(ValueError):
    """The group has as many memories as it may; nothing was kept."""


@attrs.frozen
class Memory:
    """One remembered fact. ``shared``: it is for all groups."""

    id: str
    text: str
    shared: bool
    created_at: Micros


@attrs.frozen
class Said:
    """A message or a reply that was found."""

    at: Micros
    chat: ChatId
    who: str
    text: str


def remember(tx: Tx, folder: GroupId | None, text: str, *, id: str) -> Memory:
    """Keep a fact for a group, or (None) for all. What is there already word for word stays once."""
    row = tx.execute(
        "SELECT id, created_at FROM memories WHERE folder IS ? AND text = ?", (folder, text)
    ).fetchone()
    if row is not None:
        return Memory(row[0], text, folder is None, row[1])
    count = tx.execute("SELECT count(*) FROM memories WHERE folder IS ?", (folder,)).fetchone()[0]
    if count >= MOST_MEMORIES:
        raise Full(f"{MOST_MEMORIES} facts are remembered already; forget some first")
    row = tx.execute(
        "INSERT INTO memories (id, folder, text, created_at) VALUES (?, ?, ?, ?) RETURNING rowid",
        (id, folder, text, tx.now),
    ).fetchone()
    search.add(tx, "memories_fts", row[0], text)
    return Memory(id, text, folder is None, tx.now)


def recall(db: Database, folder: GroupId, question: str, *, limit: int) -> list[Memory]:
    """The facts of a group, and those for all, that fit a question best; without words, the newest."""
    match = search.any_of(question)
    if match is None:
        rows = db.execute(
            "SELECT id, text, folder IS NULL, created_at FROM memories "
            "WHERE folder = ? OR folder IS NULL ORDER BY created_at DESC, rowid DESC LIMIT ?",
            (folder, limit),
        )
    else:
        rows = db.execute(
            "SELECT id, memories.text, folder IS NULL, created_at FROM memories_fts "
            "JOIN memories ON memories.rowid = memories_fts.rowid "
            "WHERE memories_fts MATCH ? AND (folder = ? OR folder IS NULL) "
            "ORDER BY bm25(memories_fts) LIMIT ?",
            (match, folder, limit),
        )
    return [Memory(id, text, bool(shared), at) for id, text, shared, at in rows]


def forget(db: Database, folder: GroupId, id: str, *, shared_too: bool) -> bool:
    """Drop a fact of a group, or with ``shared_too`` one for all; False if there is none."""
    row = db.execute(
        "DELETE FROM memories WHERE id = ?1 AND (folder = ?2 OR (?3 AND folder IS NULL)) "
        "RETURNING rowid, text",
        (id, folder, shared_too),
    ).fetchone()
    if row is None:
        return False
    search.drop(db, "memories_fts", row[0], row[1])
    return True


def said(db: Database, folder: GroupId, question: str, *, limit: int) -> list[Said]:
    """What was said in the chats of a group that fits a question, best first: by people and by us."""
    match = search.any_of(question)
    if match is None:
        return []
    rows = db.execute(
        "SELECT at, chat, who, text FROM ("
        "  SELECT sent_at AS at, inbox.chat AS chat, sender_name AS who, inbox.text AS text, "
        "  bm25(inbox_fts) AS rank FROM inbox_fts JOIN inbox ON inbox.seq = inbox_fts.rowid "
        "  JOIN chats ON chats.chat = inbox.chat "
        "  WHERE inbox_fts MATCH ?1 AND chats.folder = ?2 AND gone IS NULL "
        "  UNION ALL "
        "  SELECT created_at, outbox.chat, '', outbox.text, bm25(outbox_fts) FROM outbox_fts "
        "  JOIN outbox ON outbox.id = outbox_fts.rowid "
        "  WHERE outbox_fts MATCH ?1 AND outbox.folder = ?2"
        ") ORDER BY rank LIMIT ?3",
        (match, folder, limit),
    )
    return [Said(Micros(at), ChatId(chat), who, text) for at, chat, who, text in rows]
