"""Runs: one row for each container, written before the container exists.

The rule: a row that is not ``gone`` may have a container, and nothing else has one. At start the rows
of an earlier life of the daemon are ended, and their containers named for removal.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.model import GroupId, Micros, RunId
from pynchy.store import delegates, holds, questions, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import columns, to_value

Kind = Literal["session", "task", "delegate"]
State = Literal["starting", "running", "stopping"]


@attrs.frozen
class Run:
    """A container from before its start until after its end."""

    id: RunId
    folder: GroupId
    kind: Kind
    container: str
    state: str
    boot: str
    epoch: int
    started_at: Micros
    ended_at: Micros | None
    reason: str | None


_COLUMNS: Final = columns(Run)


@attrs.frozen
class RunStart:
    """A run that is about to begin. ``boot`` names this life of the daemon."""

    run: RunId
    folder: GroupId
    kind: Kind
    container: str
    boot: str


def begin(tx: Tx, start: RunStart) -> Run:
    """Announce a run. The database refuses a second one of a group (delegates aside)."""
    row = tx.execute(
        "INSERT INTO runs (id, folder, kind, container, state, boot, epoch, started_at) "
        f"SELECT ?, folder, ?, ?, 'starting', ?, epoch, ? FROM groups WHERE folder = ? "
        f"RETURNING {_COLUMNS}",
        (start.run, start.kind, start.container, start.boot, tx.now, start.folder),
    ).fetchone()
    if row is None:
        raise LookupError(f"no group {start.folder}")
    return to_value(Run, row)


def set_state(db: Database, run: RunId, state: State) -> None:
    """A run that is not gone moved on."""
    db.execute("UPDATE runs SET state = ? WHERE id = ? AND state <> 'gone'", (state, run))


def end(tx: Tx, run: RunId, *, reason: str) -> list[turns.Failure]:
    """The container is verified gone. Turns it still held go back, see `turns.release`.

    Call `turns.fail` first when they failed. Harmless a second time.
    """
    released = turns.release(tx, run)
    tx.execute(
        "UPDATE runs SET state = 'gone', ended_at = ?, reason = ? WHERE id = ? AND state <> 'gone'",
        (tx.now, reason, run),
    )
    _settle_waiting(tx, run)
    return released


def _settle_waiting(tx: Tx, run: RunId) -> None:
    """What its agent waited for, and who waited for it: neither is in vain."""
    holds.run_ended(tx, run)
    questions.run_ended(tx, run)
    delegates.run_ended(tx, run)


def interrupt_others(tx: Tx, *, boot: str) -> list[str]:
    """End the runs that an earlier life of the daemon left, and give back what they held.

    Returns the names of their containers, which may still exist.
    """
    left = tx.execute(
        "SELECT id, container FROM runs WHERE state <> 'gone' AND boot <> ? ORDER BY started_at, id",
        (boot,),
    ).fetchall()
    for run, _ in left:
        turns.release(tx, RunId(run), message="the daemon stopped")
        tx.execute(
            "UPDATE runs SET state = 'gone', ended_at = ?, reason = 'interrupted' WHERE id = ?",
            (tx.now, run),
        )
        _settle_waiting(tx, RunId(run))
    return [container for _, container in left]


def get(db: Database, run: RunId) -> Run | None:
    """One run."""
    row = db.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run,)).fetchone()
    return to_value(Run, row) if row is not None else None


def live(db: Database, folder: GroupId | None = None) -> list[Run]:
    """The runs that may have a container, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM runs WHERE state <> 'gone' AND (?1 IS NULL OR folder = ?1) "
        "ORDER BY started_at, id",
        (folder,),
    )
    return [to_value(Run, row) for row in rows]


def recent(db: Database, folder: GroupId | None = None, *, limit: int) -> list[Run]:
    """The newest runs first, of a group or of all."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM runs WHERE ?1 IS NULL OR folder = ?1 "
        "ORDER BY started_at DESC, id LIMIT ?2",
        (folder, limit),
    ).fetchall()
    return [to_value(Run, row) for row in rows]


def is_current(db: Database, run: RunId) -> bool:
    """Whether a run may still write: it is of the group's present epoch."""
    row = db.execute(
        "SELECT 1 FROM runs JOIN groups USING (folder) WHERE runs.id = ? "
        "AND runs.epoch = groups.epoch",
        (run,),
    ).fetchone()
    return row is not None
