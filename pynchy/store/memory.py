"""What agents remember, and the search over it and over their chats.

The rule: a group sees its own memories and those for all groups, and no others.
"""

from __future__ import annotations

import json
from typing import Final

import attrs

from pynchy.model import ChatId, GroupId, Micros
from pynchy.store import languages, search
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, number, read_all, read_one, scalar, scalars
from pynchy.text import terms


@attrs.frozen
class Memory:
    """One remembered fact, of a group, or ``shared`` by all."""

    id: str
    text: str = attrs.field(metadata=column("memories.text"))
    group: GroupId | None = attrs.field(metadata=column("memories.folder"))
    shared: bool = attrs.field(metadata=column("memories.folder IS NULL"))
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
    search.put(tx, "memories_fts", row, text, folder)
    return Memory(id, text, folder, folder is None, tx.now)


def get(db: Database, id: str) -> Memory | None:
    """The fact of this id."""
    return read_one(db, Memory, "FROM memories WHERE id = ?", (id,))


def called(db: Database, id: str) -> list[Memory]:
    """The facts of which this is the id or its beginning."""
    return read_all(db, Memory, "FROM memories WHERE substr(id, 1, length(?1)) = ?1", (id,))


def newest(db: Database, folder: GroupId | None, *, limit: int) -> list[Memory]:
    """The facts of a group, and those for all, the newest first; with None those of every group."""
    rest = (
        "FROM memories WHERE ?1 IS NULL OR folder = ?1 OR folder IS NULL "
        "ORDER BY created_at DESC, rowid DESC LIMIT ?2"
    )
    return read_all(db, Memory, rest, (folder, limit))


def change(tx: Tx, id: str, text: str) -> None:
    """Let a fact say something else. It counts as remembered now."""
    row, folder = tx.execute(
        "UPDATE memories SET text = ?, created_at = ? WHERE id = ? RETURNING rowid, folder",
        (text, tx.now, id),
    ).fetchone()
    search.put(tx, "memories_fts", row, text, folder)


def recall(db: Database, folder: GroupId, question: str, *, limit: int) -> list[Memory]:
    """The facts of a group, and those for all, that fit a question best; without words, the newest. Where none fits,
    those in which a word of the question is part of a longer one."""
    asked = _asked(db, folder, question)
    if not asked:
        return newest(db, folder, limit=limit)

    def matching(expression: str) -> list[tuple[int, Micros]]:
        return db.execute(_FACTS, (expression, folder, search.WEIGHED)).fetchall()

    kept = search.best(asked, matching, limit=limit)
    if not kept:
        inside = json.dumps(terms.parts(question, (languages.of(db, folder), terms.DEFAULT)))
        kept = scalars(db, int, _FACTS_WITH_PARTS, (inside, folder, limit))
    found = [read_one(db, Memory, "FROM memories WHERE rowid = ?", (row,)) for row in kept]
    return [each for each in found if each is not None]


_FACTS: Final = (
    "SELECT memories.rowid, created_at FROM memories_fts JOIN memories ON memories.rowid = memories_fts.rowid "
    "WHERE memories_fts MATCH ?1 AND (folder = ?2 OR folder IS NULL) ORDER BY memories_fts.rowid DESC LIMIT ?3"
)


#: Looks at each fact: there are not many.
_FACTS_WITH_PARTS: Final = (
    "SELECT memories.rowid FROM memories WHERE (folder = ?2 OR folder IS NULL) "
    "AND EXISTS (SELECT 1 FROM json_each(?1) WHERE instr(lower(text), json_each.value)) "
    "ORDER BY created_at DESC, memories.rowid DESC LIMIT ?3"
)


def forget(db: Database, id: str) -> None:
    """Drop a fact."""
    row = scalar(db, int, "DELETE FROM memories WHERE id = ? RETURNING rowid", (id,))
    if row is not None:
        search.drop(db, "memories_fts", row)


def said(db: Database, folder: GroupId, question: str, *, limit: int) -> list[Said]:
    """What was said in the chats of a group that fits a question, best first: by people and by us."""

    def matching(expression: str) -> list[tuple[tuple[str, int], Micros]]:
        return [
            ((name, row), at)
            for name, (hits, _) in _SAID.items()
            for row, at in db.execute(hits, (expression, folder, search.WEIGHED)).fetchall()
        ]

    kept = search.best(_asked(db, folder, question), matching, limit=limit)
    return [Said(*db.execute(_SAID[name][1], (row,)).fetchone()) for name, row in kept]


#: Of the messages of people and of our own: what matches, and one of them whole.
_SAID: Final = {
    "inbox": (
        "SELECT seq, sent_at FROM inbox_fts JOIN inbox ON inbox.seq = inbox_fts.rowid "
        "JOIN chats ON chats.chat = inbox.chat WHERE inbox_fts MATCH ?1 AND chats.folder = ?2 "
        "AND gone IS NULL ORDER BY inbox_fts.rowid DESC LIMIT ?3",
        "SELECT sent_at, chat, sender_name, text FROM inbox WHERE seq = ?",
    ),
    "outbox": (
        "SELECT id, created_at FROM outbox_fts JOIN outbox ON outbox.id = outbox_fts.rowid "
        "WHERE outbox_fts MATCH ?1 AND outbox.folder = ?2 ORDER BY outbox_fts.rowid DESC LIMIT ?3",
        "SELECT created_at, chat, '', text FROM outbox WHERE id = ?",
    ),
}


def _asked(db: Database, folder: GroupId, question: str) -> list[terms.Term]:
    """The words of a question, in the group's language; in ours, too, which is mixed into many others."""
    return terms.read(question, (languages.of(db, folder), terms.DEFAULT))
