"""Turns as rows: what one is, making one, reading one. What becomes of it stands in `turns`."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.model import ChatId, GroupId, Micros, RunId, TurnId
from pynchy.store import effect_counts
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, columns, number, read_one

Kind = Literal["message", "task", "delegate", "notice"]


@attrs.frozen
class Turn:
    """A turn as it stands."""

    id: TurnId
    folder: GroupId
    chat: ChatId
    kind: Kind
    state: str
    run: RunId | None = attrs.field(metadata=column("run_id"))
    prompt_id: str | None
    attempt: int
    resumed: bool
    spoke: bool
    retry_at: Micros
    error: str | None
    result: str | None
    source: str | None
    failing: str | None = None  # the kind of its last failure, or of what it waits for
    failing_since: Micros | None = None
    same: int = 0  # failures of this kind in a row
    strikes: int = 0  # failures after which it did not wait
    bought: int = 0  # failures whose output was paid for
    freed: int = 0  # how often what it waited for was well again
    give_up_at: Micros | None = None


COLUMNS: Final = columns(Turn)


def add(
    tx: Tx,
    *,
    folder: GroupId,
    chat: ChatId,
    kind: Literal["task", "delegate", "notice"],
    prompt: str,
    source: str | None = None,
    isolated: bool = False,
    steps: int = 1,
) -> TurnId:
    """Work that is not of messages: a task's slot, a delegate, an answer that wakes the agent.

    ``isolated``: in a session of its own, which is not kept. ``steps``: how many steps of an agent or a
    schedule stand between a person's word and this; 0 if it is the answer to one. It counts as an
    effect of the group, unless a person's word woke the agent.
    """
    turn = tx.insert(
        "turns",
        folder=folder,
        chat=chat,
        kind=kind,
        state="waiting",
        prompt=prompt,
        source=source,
        isolated=isolated or kind == "delegate",
        retry_at=tx.now,
        created_at=tx.now,
        steps=steps,
    )
    if kind != "notice" or steps:
        effect_counts.count(tx, folder, "turns")
    return TurnId(turn)


def steps(db: Database, turn: TurnId) -> int:
    """How many steps a turn is from a person's word, see `add`."""
    return number(db, "SELECT steps FROM turns WHERE id = ?", (turn,))


def get(db: Database, turn: TurnId) -> Turn | None:
    """One turn."""
    return read_one(db, Turn, "FROM turns WHERE id = ?", (turn,))
