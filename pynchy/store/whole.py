"""Read all that is kept of one group, for export.

The rule: plain facts in the order in which they happened, times as people write them; nothing in it is
of another group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs

from pynchy.model import GroupId
from pynchy.store import groups, tasks
from pynchy.store.database import Database


def about(db: Database, folder: GroupId) -> dict[str, Any] | None:
    """The group itself, its chats and its settings; None if there is none."""
    found = groups.get(db, folder)
    if found is None:
        return None
    return {
        "folder": found.folder,
        "name": found.name,
        "trigger": found.trigger,
        "requires_trigger": found.requires_trigger,
        "answers": found.answers,
        "paused": found.paused,
        "model": found.model,
        "allowed_senders": found.allowed_senders,
        "chats": groups.chats_of(db, folder),
        "settings": groups.settings(db, folder),
    }


def said(db: Database, folder: GroupId) -> Iterator[dict[str, Any]]:
    """Every message in and out, the oldest first. What was taken back is not among them."""
    rows = db.query(
        "SELECT sent_at AS at, inbox.chat, sender AS 'from', sender_name AS name, message_id AS id, "
        "text, quoted, attachments, gone, NULL AS path FROM inbox JOIN chats USING (chat) "
        "WHERE folder = ?1 AND kind = 'text' AND gone IS NOT 'revoked' "
        "UNION ALL SELECT sent_at, chat, NULL, NULL, message_id, text, NULL, NULL, NULL, path "
        "FROM outbox WHERE folder = ?1 AND sent_at IS NOT NULL AND kind <> 'reaction' ORDER BY 1",
        (folder,),
    )
    for row in rows:
        row["at"] = spell(row["at"])
        for key in ("quoted", "attachments"):
            row[key] = None if row[key] is None else json.loads(row[key])
        yield {key: value for key, value in row.items() if value is not None or key == "from"}


def memories(db: Database, folder: GroupId) -> Iterator[dict[str, Any]]:
    """What its agents keep for good."""
    rows = db.query(
        "SELECT id, text, created_at AS at FROM memories WHERE folder = ? ORDER BY created_at, id",
        (folder,),
    )
    for row in rows:
        yield {**row, "at": spell(row["at"])}


def scheduled(db: Database, folder: GroupId) -> list[dict[str, Any]]:
    """Its tasks, those that are over too."""
    return [
        {**attrs.asdict(task), "next_run": None if task.next_run is None else spell(task.next_run)}
        for task in tasks.of_group(db, folder, ended=True)
    ]


def spell(at: int) -> str:
    """A moment in UTC, as RFC 3339 has it."""
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat().replace("+00:00", "Z")
