"""The audit log: who did what. The database lets nobody change or delete its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pynchy.model import GroupId
from pynchy.store.database import Database, Tx


def record(
    tx: Tx,
    *,
    actor: str,
    action: str,
    folder: GroupId | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Add a line. ``actor`` is a sender, a group's agent or the daemon; no secrets, no message text."""
    text = json.dumps(dict(detail or {}))
    tx.insert("audit", at=tx.now, actor=actor, action=action, folder=folder, detail=text)


def recent(db: Database, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest lines first."""
    rows = db.query(
        "SELECT id, at, actor, action, folder, detail FROM audit ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [{**row, "detail": json.loads(row["detail"])} for row in rows]
