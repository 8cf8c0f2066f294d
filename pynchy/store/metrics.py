"""Counts for the metrics.

The rule: what has been is never counted row by row. Totals are the numbers that rows were given, and what
is counted is what is under way, through the index that holds only that.
"""

from __future__ import annotations

from typing import Any

import attrs

from pynchy.model import Micros
from pynchy.store import runs
from pynchy.store.database import Database


@attrs.frozen
class Counts:
    """All of them, in one transaction."""

    totals: dict[str, int]  # rows that a table was ever given: inbox, turns, outbox
    dead: int  # turns that failed for good
    waiting: int  # turns that will be tried again
    outbox: dict[str, int]  # what is not sent yet, by state
    oldest: Micros | None  # since when the oldest of it waits
    runs: dict[str, int]  # containers, by kind
    groups: int
    tasks: dict[str, int]  # active and paused


def count(db: Database) -> Counts:
    """Now."""
    sequences = dict(db.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    open_ = "FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL"
    kinds: dict[str, int] = {}
    for run in runs.live(db):
        kinds[run.kind] = kinds.get(run.kind, 0) + 1
    return Counts(
        totals={name: int(sequences.get(name, 0)) for name in ("inbox", "turns", "outbox")},
        dead=_one(db, "SELECT count(*) FROM turns WHERE state = 'dead'"),
        waiting=_one(db, "SELECT count(*) FROM turns WHERE state = 'waiting'"),
        outbox=dict(db.execute(f"SELECT state, count(*) {open_} GROUP BY state").fetchall()),
        oldest=_one(db, f"SELECT min(created_at) {open_}"),
        runs=kinds,
        groups=_one(db, "SELECT count(*) FROM groups"),
        tasks=dict(
            db.execute(
                "SELECT state, count(*) FROM tasks WHERE state IN ('active', 'paused') GROUP BY state"
            ).fetchall()
        ),
    )


def _one(db: Database, sql: str) -> Any:
    return db.execute(sql).fetchone()[0]
