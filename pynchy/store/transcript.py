"""A conversation in the order in which it was said: messages of people, and replies that were sent.

The rule: what was taken back or replaced by an edit before it was answered is not in it, nor are commands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath

import attrs

from pynchy.model import ChatId, GroupId, Micros
from pynchy.store import groups
from pynchy.store.database import Database
from pynchy.store.rows import exists


@attrs.frozen
class Line:
    """One message. ``who`` is None for the assistant. ``files`` are the names of what came with it."""

    at: Micros
    chat: ChatId
    who: str | None
    text: str
    files: tuple[str, ...]


def chats_named(db: Database, name: str) -> list[ChatId]:
    """The chats that a name means: those of a group's folder, a chat's id, or a console chat without its prefix."""
    if groups.get(db, GroupId(name)) is not None:
        return groups.chats_of(db, GroupId(name))
    for chat in (ChatId(name), ChatId(f"console:{name}")):
        if exists(db, "SELECT 1 FROM chats WHERE chat = ?", (chat,)):
            return [chat]
    return []


def between(
    db: Database, chats: Sequence[ChatId], start: Micros, end: Micros, *, limit: int
) -> list[Line]:
    """The newest lines of some chats from a moment until (and without) another, the oldest of them first."""
    rows = db.execute(
        "SELECT at, chat, who, text, attachments, path FROM ("
        "  SELECT sent_at AS at, chat, sender_name AS who, text, attachments, NULL AS path, 0 AS side, seq AS row"
        "  FROM inbox WHERE chat IN (SELECT value FROM json_each(?1)) AND kind = 'text' AND gone IS NULL"
        "  AND sent_at >= ?2 AND sent_at < ?3"
        "  UNION ALL"
        "  SELECT sent_at, chat, NULL, text, NULL, path, 1, id"
        "  FROM outbox WHERE chat IN (SELECT value FROM json_each(?1)) AND kind IN ('text', 'file')"
        "  AND sent_at >= ?2 AND sent_at < ?3"
        ") ORDER BY at DESC, side DESC, row DESC LIMIT ?4",
        (json.dumps(list(chats)), start, end, limit),
    ).fetchall()
    return [
        Line(at, chat, who, text, _files(attachments, path))
        for at, chat, who, text, attachments, path in reversed(rows)
    ]


def _files(attachments: str | None, path: str | None) -> tuple[str, ...]:
    if path is not None:
        return (PurePath(path).name,)
    found = json.loads(attachments) if attachments else ()
    return tuple(each.get("name") or PurePath(each["path"]).name for each in found)
