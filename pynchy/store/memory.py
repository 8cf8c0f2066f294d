"""What agents remember, and the search over it and over their chats.

The rule: a group sees its own memories and those for all groups, and no others.
"""

from __future__ import annotations

import attrs

from pynchy.model import ChatId, GroupId, Micros
from pynchy.store import search
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, number, read_all, read_one


@attrs.frozen
class Memory:
    """One remembered fact. ``shared``: it is for all groups."""

    id: str
    text: str = attrs.field(metadata=column("memories.text"))
    shared: bool = attrs.field(metadata=column("folder IS NULL"))
    created_at: Micros


@attrs.frozen
class Said:
    """A message or a reply that was found."""

    at: Micros
    chat: ChatId
    who: str
    text: str


def find(db: Database, folder: GroupId | None, text: str) -> Memory | None:
    """What a group, or (None) all, remember already, word for word."""
    return read_one(db, Memory, "FROM memories WHERE folder IS ? AND text = ?", (folder, text))


def count(db: Database, folder: GroupId | None) -> int:
    """How many facts are remembered for a group, or (None) for all."""
    return number(db, "SELECT count(*) FROM memories WHERE folder IS ?", (folder,))


def remember(tx: Tx, folder: GroupId | None, text: str, *, id: str) -> Memory:
    """Keep a fact for a group, or (None) for all. What is there already word for word stays once."""
    if (known := find(tx, folder, text)) is not None:
        return known
    row = tx.insert("memories", id=id, folder=folder, text=text, created_at=tx.now)
    search.add(tx, "memories_fts", row, text)
    return Memory(id, text, folder is None, tx.now)


def recall(db: Database, folder: GroupId, question: str, *, limit: int) -> list[Memory]:
    """The facts of a group, and those for all, that fit a question best; without words, the newest."""
    match = search.any_of(question)
    if match is None:
        rest = "FROM memories WHERE folder = ? OR folder IS NULL ORDER BY created_at DESC, rowid DESC LIMIT ?"
        return read_all(db, Memory, rest, (folder, limit))
    return read_all(
        db,
        Memory,
        "FROM memories_fts JOIN memories ON memories.rowid = memories_fts.rowid "
        "WHERE memories_fts MATCH ? AND (folder = ? OR folder IS NULL) "
        "ORDER BY bm25(memories_fts) LIMIT ?",
        (match, folder, limit),
    )


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
    return read_all(
        db,
        Said,
        "FROM ("
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
