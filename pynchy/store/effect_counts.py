"""Count what each group's agents did by themselves within the last hour.

The rule: whatever makes a turn that nobody asked for, or says something besides an answer to a person, is
counted in the transaction that does it: by `turns.add`, and by the functions of `outbox` that add an entry. Whether
more may be done is for `breakers`.
"""

from __future__ import annotations

from typing import Final

from pynchy.model import HOUR, GroupId, after
from pynchy.policy.effect_limits import Kind
from pynchy.store.database import Tx
from pynchy.store.rows import number

WINDOW: Final = 60  # minutes
_MINUTE: Final = 60_000_000  # in microseconds


def count(tx: Tx, folder: GroupId, kind: Kind, *, many: int = 1) -> None:
    """Something was done. What is older than an hour, or later than now by a clock that was set, is forgotten."""
    minute = tx.now // _MINUTE
    tx.execute(
        "DELETE FROM effects WHERE folder = ? AND (minute <= ? OR minute > ?)",
        (folder, minute - WINDOW, minute),
    )
    tx.execute(
        "INSERT INTO effects (folder, kind, minute, number) VALUES (?1, ?2, ?3, ?4) "
        "ON CONFLICT (folder, kind, minute) DO UPDATE SET number = number + ?4",
        (folder, kind, minute, many),
    )


def done(tx: Tx, folder: GroupId, kind: Kind) -> int:
    """How much of a kind a group did within the hour."""
    minute = tx.now // _MINUTE
    sql = "SELECT sum(number) FROM effects WHERE folder = ? AND kind = ? AND minute > ? AND minute <= ?"
    counted = number(tx, sql, (folder, kind, minute - WINDOW, minute))
    return counted + (_tokens(tx, folder) if kind == "tokens" else 0)


def begin_anew(tx: Tx, folder: GroupId) -> None:
    """Count from here on."""
    tx.execute("DELETE FROM effects WHERE folder = ?", (folder,))
    count(tx, folder, "tokens", many=-_tokens(tx, folder))


def _tokens(tx: Tx, folder: GroupId) -> int:
    """What the book has of the hour. What was read from a cache is not counted: it is nearly all of a long
    conversation, and cheap."""
    sql = (
        "SELECT sum(CASE state WHEN 'reserved' THEN reserved_tokens "
        "ELSE input_tokens + output_tokens + cache_write_tokens END) "
        "FROM usage INDEXED BY usage_hour WHERE folder = ? AND created_at > ? AND created_at <= ?"
    )
    return number(tx, sql, (folder, after(tx.now, -HOUR), tx.now))
