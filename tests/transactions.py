"""Transactions of the store at a moment that a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pynchy.model import Micros
from pynchy.store.database import Database, Tx

P = ParamSpec("P")
T = TypeVar("T")


def at(now: Micros, fn: Callable[Concatenate[Tx, P], T]) -> Callable[Concatenate[Tx, P], T]:
    """``fn`` as it would be called at ``now``, whatever the store's clock says."""

    def moved(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return fn(tx.at(now), *args, **kwargs)

    return moved


def open_entries(db: Database) -> int:
    """How many entries of the outbox are still to be sent."""
    sql = "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL"
    return int(db.execute(sql).fetchone()[0])


def entry_of(db: Database, entry: int) -> dict[str, Any] | None:
    """An entry of the outbox with all its columns."""
    return next(db.query("SELECT * FROM outbox WHERE id = ?", (entry,)), None)


def held_notices(db: Database) -> int:
    """How many words of the kind that was told last were held back since."""
    return int(db.execute("SELECT held FROM notices ORDER BY last_at DESC LIMIT 1").fetchone()[0])
