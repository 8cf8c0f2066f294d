"""Counts for the metrics.

The rule: what has been is never counted row by row. Totals are the numbers that rows were given, and what
is counted is what is under way, through the index that holds only that.
"""

from __future__ import annotations

from collections import Counter

import attrs

from pynchy.model import Micros
from pynchy.store import runs
from pynchy.store.database import Database
from pynchy.store.rows import number, scalar


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
    return Counts(
        totals={name: sequences.get(name, 0) for name in ("inbox", "turns", "outbox")},
        dead=number(db, "SELECT count(*) FROM turns WHERE state = 'dead'"),
        waiting=number(db, "SELECT count(*) FROM turns WHERE state = 'waiting'"),
        outbox=dict(db.execute(f"SELECT state, count(*) {open_} GROUP BY state").fetchall()),
        oldest=scalar(db, Micros, f"SELECT min(created_at) {open_}"),
        runs=Counter(run.kind for run in runs.live(db)),
        groups=number(db, "SELECT count(*) FROM groups"),
        tasks=dict(
            db.execute(
                "SELECT state, count(*) FROM tasks WHERE state IN ('active', 'paused') GROUP BY state"
            ).fetchall()
        ),
    )
