"""The journal of agents' commands: each takes effect once and is answered, even after a crash.

The rule: `record` is called in the transaction that carries the command's effects out.
"""

from __future__ import annotations

from typing import Final

import attrs

from pynchy.model import DAY, GroupId, after
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, number, read_one, scalar

KEEP: Final = 7.0 * DAY


@attrs.frozen
class Answered:
    """What a command was told when it was carried out."""

    ok: bool
    text: str = attrs.field(metadata=column("answer"))


@attrs.frozen
class Conflict:
    """The id was used before, for other bytes."""


def answered(
    db: Database, folder: GroupId, command_id: str, sha256: str
) -> Answered | Conflict | None:
    """What this very command was told, if it came before."""
    where = "FROM journal WHERE folder = ? AND command_id = ?"
    known = scalar(db, str, f"SELECT sha256 {where}", (folder, command_id))
    if known is None or known == sha256:
        return read_one(db, Answered, where, (folder, command_id))
    return Conflict()


def record(tx: Tx, folder: GroupId, command_id: str, sha256: str, *, ok: bool, text: str) -> None:
    """Keep what a command was told. A second record for one id is refused by the database."""
    tx.insert(
        "journal",
        folder=folder,
        command_id=command_id,
        sha256=sha256,
        ok=ok,
        answer=text,
        at=tx.now,
    )


def count(tx: Tx, folder: GroupId, *, seconds: float) -> int:
    """How many commands a group has given lately. What was given later than now, by a clock that was
    set back since, is not lately."""
    sql = (
        "SELECT count(*) FROM journal INDEXED BY journal_at WHERE at > ? AND at <= ? AND folder = ?"
    )
    return number(tx, sql, (after(tx.now, -seconds), tx.now, folder))


def prune(tx: Tx) -> int:
    """Forget answers a week old: no container that could ask again lives so long."""
    return tx.execute("DELETE FROM journal WHERE at < ?", (after(tx.now, -KEEP),)).rowcount
