"""The journal of agents' commands: each takes effect once and is answered, even after a crash.

The rule: `record` is called in the transaction that carries the command's effects out.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.model import DAY, GroupId, after
from pynchy.store.database import Database, Tx

KEEP: Final = 7.0 * DAY


@attrs.frozen
class Answered:
    """What a command was told when it was carried out."""

    ok: bool
    text: str


@attrs.frozen
class Conflict:
    """The id was used before, for other bytes."""


def answered(
    db: Database, folder: GroupId, command_id: str, sha256: str
) -> Answered | Conflict | None:
    """What this very command was told, if it came before."""
    row = db.execute(
        "SELECT sha256, ok, answer FROM journal WHERE folder = ? AND command_id = ?",
        (folder, command_id),
    ).fetchone()
    if row is None:
        return None
    return Answered(bool(row[1]), row[2]) if row[0] == sha256 else Conflict()


def record(tx: Tx, folder: GroupId, command_id: str, sha256: str, *, ok: bool, text: str) -> None:
    """Keep what a command was told. A second record for one id is refused by the database."""
    tx.execute(
        "INSERT INTO journal (folder, command_id, sha256, ok, answer, at) VALUES (?, ?, ?, ?, ?, ?)",
        (folder, command_id, sha256, ok, text, tx.now),
    )


def prune(tx: Tx) -> int:
    """Forget answers a week old: no container that could ask again lives so long."""
    return tx.execute("DELETE FROM journal WHERE at < ?", (after(tx.now, -KEEP),)).rowcount
