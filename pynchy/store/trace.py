"""Trace one message from arrival to answer, and find those that have not ended.

The rule: nothing here is stored for telling. It is read from the rows that carry the promises, so what
is told is what was done.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from pynchy.model import ChatId, GroupId, Micros, Seq
from pynchy.store.database import Database
from pynchy.store.rows import scalars

Row = dict[str, Any]
State = Literal[
    "context",  # waits to be seen with the next message that asks
    "seen",  # was context of a turn
    "passed over",  # was context, but there was no room for it or its chat was removed
    "pending",  # asks, and no run has it yet
    "working",  # a run has it
    "retrying",  # failed, and will be tried again
    "answered",
    "silent",  # the agent had nothing to say
    "failed",  # given up, and the chat was told
    "cancelled",  # a person stopped it
    "edited",  # replaced before it was answered
    "taken back",
    "command",  # a chat command, carried out when it came
    "notice",  # the host's word to the agent
]


@attrs.frozen
class Step:
    """One thing that happened, and when. ``detail`` has ids and reasons, never what was written."""

    at: Micros
    what: str
    detail: str = ""


@attrs.frozen
class Life:
    """A message from its receipt to its end, as far as it came."""

    seq: Seq
    chat: ChatId
    folder: GroupId | None
    sender: str
    message_id: str
    state: State
    steps: tuple[Step, ...]


def why(db: Database, message_id: str) -> list[Life]:
    """What became of the message with this id; several if several chats or senders have one.

    The id of something we sent tells the life of the messages that it answers.
    """
    found = scalars(
        db, Seq, "SELECT seq FROM inbox WHERE message_id = ? ORDER BY seq LIMIT 20", (message_id,)
    ) or scalars(
        db,
        Seq,
        "WITH said (turn) AS (SELECT turn_id FROM outbox WHERE message_id = ?) "
        "SELECT seq FROM turn_inputs JOIN inbox USING (seq) WHERE triggers = 1 AND turn_id IN ("
        "  SELECT turn FROM said UNION "
        "  SELECT id FROM turns WHERE answered_by IN (SELECT turn FROM said)"
        ") ORDER BY seq LIMIT 20",
        (message_id,),
    )
    return [why_seq(db, seq) for seq in found]


def why_seq(db: Database, seq: Seq) -> Life:
    """What became of the message with this number."""
    sql = "SELECT inbox.*, folder, claimed_seq FROM inbox JOIN chats USING (chat) WHERE seq = ?"
    row = _first(db, sql, seq)
    if row is None:
        raise LookupError(f"no message {seq}")
    turn = _first(
        db, "SELECT turns.* FROM turn_inputs JOIN turns ON turns.id = turn_id WHERE seq = ?", seq
    )
    shown = turn is not None
    if turn is None:
        turn = _first(
            db,
            "SELECT * FROM turns WHERE chat = ?1 AND kind = 'message' AND hi >= ?2 AND lo < ?2 "
            "ORDER BY hi LIMIT 1",
            row["chat"],
            seq,
        )
    return Life(
        seq=seq,
        chat=row["chat"],
        folder=row["folder"],
        sender=row["sender"],
        message_id=row["message_id"],
        state=_state(row, turn, shown=shown),
        steps=tuple(_steps(db, row, turn, shown=shown)),
    )


def _first(db: Database, sql: str, *params: object) -> Row | None:
    return next(db.query(sql, params), None)


@attrs.frozen
class Came:
    """A message in a list: which it is, and what became of it. ``text`` is its beginning."""

    seq: Seq
    chat: ChatId
    sender_name: str
    message_id: str
    received_at: Micros
    text: str
    state: State


def recent(db: Database, folder: GroupId | None, *, limit: int) -> list[Came]:
    """The newest messages of people (of a group; None: of all), the newest first."""
    rows = db.execute(
        "SELECT seq, chat, sender_name, message_id, received_at, substr(text, 1, 200) FROM inbox "
        "JOIN chats USING (chat) WHERE kind <> 'notice' AND (?1 IS NULL OR folder = ?1) "
        "ORDER BY seq DESC LIMIT ?2",
        (folder, limit),
    ).fetchall()
    return [Came(*(*row, why_seq(db, row[0]).state)) for row in rows]


@attrs.frozen
class Unended:
    """A message that asked and has come to no end."""

    seq: Seq
    chat: ChatId
    folder: GroupId | None
    received_at: Micros
    reason: str


def unended(
    db: Database, *, before: Micros, limit: int = 100, thorough: bool = False
) -> list[Unended]:
    """Messages that asked before this moment and have no end yet: no reply, no silence, no notice, no
    cancel. After the longest turn and all its retries there should be none; whoever looks sooner sees
    what is still under way.

    The cost is in what is under way and what was given up. ``thorough`` looks at every message there
    is, for one that a turn passed by.
    """
    questions = [_PENDING, _UNDER_WAY, _DEAD_SILENT] + ([_PASSED_BY] if thorough else [])
    sql = " UNION ALL ".join(f"SELECT * FROM ({each})" for each in questions)
    rows = db.execute(f"{sql} ORDER BY 1 LIMIT ?2", (before, limit))
    return [Unended(*row) for row in rows]


# CROSS JOIN: in this order, whatever SQLite thinks of it.
_PENDING: Final = (
    "SELECT seq, chat, folder, received_at, 'no turn' FROM chats INDEXED BY chats_waiting "
    "CROSS JOIN inbox USING (chat) WHERE folder IS NOT NULL AND wanted_seq > claimed_seq "
    "AND seq > claimed_seq AND triggers = 1 AND gone IS NULL AND received_at <= ?1"
)
_ASKED: Final = (
    "CROSS JOIN turn_inputs ON turn_id = turns.id CROSS JOIN inbox USING (seq) "
    "WHERE triggers = 1 AND gone IS NULL AND received_at <= ?1 "
)
_UNDER_WAY: Final = (
    "SELECT seq, turns.chat, folder, received_at, state FROM turns INDEXED BY turns_live "
    f"{_ASKED} AND ended_at IS NULL"
)
_DEAD_SILENT: Final = (
    "SELECT seq, turns.chat, folder, received_at, 'given up without a word' "
    f"FROM turns INDEXED BY turns_dead {_ASKED} AND state = 'dead' AND NOT EXISTS ("
    "SELECT 1 FROM outbox WHERE outbox.turn_id = turns.id AND notice = 1)"
)
_PASSED_BY: Final = (
    "SELECT seq, inbox.chat, folder, received_at, 'passed by' FROM inbox JOIN turns "
    "ON turns.chat = inbox.chat AND turns.kind = 'message' AND lo < seq AND hi >= seq "
    "WHERE triggers = 1 AND gone IS NULL AND received_at <= ?1 "
    "AND NOT EXISTS (SELECT 1 FROM turn_inputs WHERE turn_inputs.seq = inbox.seq)"
)


_ENDS: dict[str, State] = {
    "waiting": "retrying",
    "claimed": "working",
    "dead": "failed",
    "cancelled": "cancelled",
}


def _state(row: Row, turn: Row | None, *, shown: bool) -> State:
    if row["gone"] is not None:
        return "edited" if row["gone"] == "edited" else "taken back"
    if row["kind"] != "text":
        return "command" if row["kind"] == "command" else "notice"
    if not row["triggers"]:
        if turn is None:
            return "context" if row["seq"] > row["claimed_seq"] else "passed over"
        return "seen" if shown else "passed over"
    if turn is None:
        return "pending" if row["seq"] > row["claimed_seq"] else "passed over"
    if turn["state"] == "done":
        return "silent" if turn["answered_by"] is None and not turn["spoke"] else "answered"
    return _ENDS[turn["state"]]


def _steps(db: Database, row: Row, turn: Row | None, *, shown: bool) -> list[Step]:
    asks = "asks for an answer" if row["triggers"] else "as context"
    steps = [Step(row["sent_at"], "sent by its writer"), Step(row["received_at"], "stored", asks)]
    if turn is None:
        return steps
    if not shown:
        no_room = f"no room for it in turn {turn['id']}"
        return [*steps, Step(turn["created_at"], "passed over", no_room)]
    attempts = db.query(
        "SELECT attempts.*, runs.kind, runs.started_at, runs.ended_at AS run_ended, reason "
        "FROM attempts JOIN runs ON runs.id = run_id WHERE turn_id = ? ORDER BY claimed_at",
        (turn["id"],),
    )
    for number, attempt in enumerate(attempts, start=1):
        steps += _attempt_steps(attempt, number, turn["id"])
    if turn["state"] == "waiting":
        steps.append(Step(turn["retry_at"], "due again", turn["error"] or ""))
    entries = db.query(
        "SELECT * FROM outbox WHERE turn_id IN (?, ?) ORDER BY id LIMIT 200",
        (turn["id"], turn["answered_by"]),
    )
    for entry in entries:
        steps += _entry_steps(entry)
    if turn["ended_at"] is not None:
        words = {"done": "done", "dead": "given up", "cancelled": "cancelled by a person"}
        steps.append(Step(turn["ended_at"], words[turn["state"]], turn["error"] or ""))
    return sorted(steps, key=lambda step: step.at)


def _happened(*steps: tuple[Micros | None, str, str]) -> list[Step]:
    """Those that have a moment."""
    return [Step(at, what, detail) for at, what, detail in steps if at is not None]


def _attempt_steps(attempt: Row, number: int, turn: int) -> list[Step]:
    run = f"run {attempt['run_id']} ({attempt['kind']})"
    return _happened(
        (attempt["started_at"], "run started", run),
        (attempt["claimed_at"], "claimed", f"turn {turn}, attempt {number}, {run}"),
        (attempt["accepted_at"], "accepted by the agent", run),
        (attempt["ended_at"], "attempt ended", attempt["outcome"]),
        (attempt["run_ended"], "run ended", f"{run}: {attempt['reason']}"),
    )


def _entry_steps(entry: Row) -> list[Step]:
    name = f"{'notice' if entry['notice'] else entry['kind']} {entry['message_id']}"
    tries = ", ".join(filter(None, (name, f"attempt {entry['attempt']}", entry["error"])))
    ends = [
        (entry["sent_at"], "sent", tries),
        (entry["failed_at"], "not delivered, given up", tries),
        (entry["tried_at"], f"tried, {entry['state']}", tries),
    ]
    return _happened((entry["created_at"], "in the outbox", name)) + _happened(*ends)[:1]
