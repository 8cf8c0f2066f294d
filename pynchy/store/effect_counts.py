"""Count what each group's agents did by themselves within the last hour.

The rule: whatever makes a turn that nobody asked for, or says something besides an answer to a person, is
counted in the transaction that does it, by the two functions that every such act goes through:
`turns.add` and `outbox.enqueue`. Whether more may be done is for `breakers`.
"""

from __future__ import annotations

from typing import Final

from pynchy.model import HOUR, GroupId, after
from pynchy.policy.effect_limits import Kind
from pynchy.store.database import Tx

WINDOW: Final = 60  # minutes
_MINUTE: Final = 60_000_000  # in microseconds


def count(tx: Tx, folder: GroupId, kind: Kind, *, number: int = 1) -> None:
    """Something was done. What is older than an hour, or later than now by a clock that was set, is forgotten."""
    minute = tx.now // _MINUTE
    tx.execute(
        "DELETE FROM effects WHERE folder = ? AND (minute <= ? OR minute > ?)",
        (folder, minute - WINDOW, minute),
    )
    tx.execute(
        "INSERT INTO effects (folder, kind, minute, number) VALUES (?1, ?2, ?3, ?4) "
        "ON CONFLICT (folder, kind, minute) DO UPDATE SET number = number + ?4",
        (folder, kind, minute, number),
    )


def done(tx: Tx, folder: GroupId, kind: Kind) -> int:
    """How much of a kind a group did within the hour."""
    minute = tx.now // _MINUTE
    counted = tx.execute(
        "SELECT coalesce(sum(number), 0) FROM effects "
        "WHERE folder = ? AND kind = ? AND minute > ? AND minute <= ?",
        (folder, kind, minute - WINDOW, minute),
    ).fetchone()[0]
    return int(counted) + (_tokens(tx, folder) if kind == "tokens" else 0)


def begin_anew(tx: Tx, folder: GroupId) -> None:
    """Count from here on."""
    tx.execute("DELETE FROM effects WHERE folder = ?", (folder,))
    count(tx, folder, "tokens", number=-_tokens(tx, folder))


def _tokens(tx: Tx, folder: GroupId) -> int:
    """What the book has of the hour. What was read from a cache is not counted: it is nearly all of a long
    conversation, and cheap."""
    row = tx.execute(
        "SELECT coalesce(sum(CASE state WHEN 'reserved' THEN reserved_tokens "
        "ELSE input_tokens + output_tokens + cache_write_tokens END), 0) "
        "FROM usage INDEXED BY usage_hour WHERE folder = ? AND created_at > ? AND created_at <= ?",
        (folder, after(tx.now, -HOUR), tx.now),
    ).fetchone()
    return int(row[0])
