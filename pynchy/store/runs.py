"""Runs: one row for each container, written before the container exists.

The rule: a row that is not ``gone`` may have a container, and nothing else has one. At start the rows
of an earlier life of the daemon are ended, and their containers named for removal.
"""

from __future__ import annotations

from typing import Literal

import attrs

from pynchy.model import GroupId, Micros, RunId
from pynchy.store import delegates, holds, questions, turn_failures
from pynchy.store.database import Database, Tx
from pynchy.store.rows import columns, read_all, read_one, to_value

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
        f"RETURNING {columns(Run)}",
        (start.run, start.kind, start.container, start.boot, tx.now, start.folder),
    ).fetchone()
    if row is None:
        raise LookupError(f"no group {start.folder}")
    return to_value(Run, row)


def set_state(db: Database, run: RunId, state: State) -> None:
    """A run that is not gone moved on."""
    db.execute("UPDATE runs SET state = ? WHERE id = ? AND state <> 'gone'", (state, run))


def end(tx: Tx, run: RunId, *, reason: str) -> list[turn_failures.Failure]:
    """The container is verified gone. Turns it still held go back, see `turn_failures.release`.

    Call `turn_failures.fail` first when they failed. Harmless a second time.
    """
    released = turn_failures.release(tx, run)
    _gone(tx, run, reason)
    return released


def _gone(tx: Tx, run: RunId, reason: str) -> None:
    tx.execute(
        "UPDATE runs SET state = 'gone', ended_at = ?, reason = ? WHERE id = ? AND state <> 'gone'",
        (tx.now, reason, run),
    )
    # What its agent waited for, and who waited for it: neither is in vain.
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
        turn_failures.release(tx, RunId(run), message="the daemon stopped")
        _gone(tx, RunId(run), "interrupted")
    return [container for _, container in left]


def get(db: Database, run: RunId) -> Run | None:
    """One run."""
    return read_one(db, Run, "FROM runs WHERE id = ?", (run,))


def live(db: Database, folder: GroupId | None = None) -> list[Run]:
    """The runs that may have a container, oldest first."""
    rest = "FROM runs WHERE state <> 'gone' AND (?1 IS NULL OR folder = ?1) ORDER BY started_at, id"
    return read_all(db, Run, rest, (folder,))


def recent(db: Database, folder: GroupId | None = None, *, limit: int) -> list[Run]:
    """The newest runs first, of a group or of all."""
    rest = "FROM runs WHERE ?1 IS NULL OR folder = ?1 ORDER BY started_at DESC, id LIMIT ?2"
    return read_all(db, Run, rest, (folder, limit))
