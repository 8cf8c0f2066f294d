"""Rows for approvals: what agents asked people in main, and what came of it.

The rule: a request is asked once and ends once, by the database's own word, and what follows from its end
(the agent that asked is woken, the audit has its row) is in the transaction that ends it. The effect of an
approval is in that transaction too, so an approval is either carried out or was never given.

    asked -> done       a person approved it, and it was carried out
    asked -> failed     a person approved it, and it cannot be done any more
    asked -> denied     a person denied it
    asked -> expired    nobody decided within `LIFETIME`, or its group was removed
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from pynchy.limits import APPROVALS
from pynchy.model import DAY, ChatId, GroupId, Micros, RunId, TurnId, after
from pynchy.store import audit, groups, turn_rows
from pynchy.store.database import Database, Tx

LIFETIME: Final = APPROVALS.lifetime
MOST_OPEN: Final = APPROVALS.open
MOST_A_DAY: Final = APPROVALS.a_day

State = Literal["asked", "done", "failed", "denied", "expired"]
End = Literal["done", "failed", "denied", "expired"]


class TooMany(ValueError):
    """The group has asked for too much; the message says what to wait for. Nothing was changed."""


@attrs.frozen
class Approval:
    """A request as it stands. ``request`` is its canonical text, ``sha256`` what an approval is bound to.

    ``chat``, ``run`` and ``turn`` are where it was asked. ``outcome`` says what came of it."""

    code: str
    folder: GroupId
    chat: ChatId
    run: RunId
    turn: TurnId
    command: str
    request: str
    sha256: str
    state: State
    asked_at: Micros
    expires_at: Micros
    decided_at: Micros | None
    decided_by: str | None
    outcome: str | None


@attrs.frozen
class Expired:
    """Groups whose agents are to be told that nobody decided, and when the next request expires."""

    groups: tuple[GroupId, ...]
    next_at: Micros | None


_COLUMNS: Final = (
    "code, folder, chat, run_id, turn_id, command, request, sha256, state, asked_at, expires_at, decided_at, "
    "decided_by, outcome"
)


def ask(
    tx: Tx,
    *,
    code: str,
    folder: GroupId,
    chat: ChatId,
    run: RunId,
    turn: TurnId,
    command: str,
    request: str,
    sha256: str,
) -> Approval:
    """Keep a request until somebody decides. Raises `TooMany`."""
    waiting = tx.execute(
        "SELECT count(*) FROM approvals WHERE folder = ? AND state = 'asked'", (folder,)
    ).fetchone()[0]
    if waiting >= MOST_OPEN:
        raise TooMany(f"{waiting} requests of this group wait for a person already")
    lately = tx.execute(
        "SELECT count(*) FROM approvals WHERE folder = ? AND asked_at > ? AND asked_at <= ?",
        (folder, after(tx.now, -DAY), after(tx.now, DAY)),  # later than that: the clock was wrong
    ).fetchone()[0]
    if lately >= MOST_A_DAY:
        raise TooMany(f"this group has asked for {lately} things within a day; that is enough")
    tx.execute(
        "INSERT INTO approvals (code, folder, chat, run_id, turn_id, command, request, sha256, state, "
        "asked_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'asked', ?, ?)",
        (code, folder, chat, run, turn, command, request, sha256, tx.now, after(tx.now, LIFETIME)),
    )
    found = get(tx, code)
    assert found is not None  # it was written in this transaction
    return found


def get(db: Database, code: str) -> Approval | None:
    """The request of this code."""
    row = db.execute(f"SELECT {_COLUMNS} FROM approvals WHERE code = ?", (code,)).fetchone()
    return None if row is None else Approval(*row)


def same(db: Database, folder: GroupId, sha256: str) -> Approval | None:
    """The request of a group that waits already and is this very one."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM approvals WHERE folder = ? AND sha256 = ? AND state = 'asked'",
        (folder, sha256),
    ).fetchone()
    return None if row is None else Approval(*row)


def recent(db: Database, *, every: bool = False, limit: int = 100) -> list[Approval]:
    """Those that wait, the oldest first; with ``every`` those that have ended too, the newest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM approvals ORDER BY asked_at DESC, code LIMIT ?"
        if every
        else f"SELECT {_COLUMNS} FROM approvals WHERE state = 'asked' ORDER BY asked_at, code LIMIT ?",
        (limit,),
    )
    return [Approval(*row) for row in rows]


def end(tx: Tx, approval: Approval, state: End, *, by: str, outcome: str) -> GroupId | None:
    """A request has ended. The group to be woken: its agent hears of it in a turn of its own.

    The schema sees to it that nothing ends twice.
    """
    tx.execute(
        "UPDATE approvals SET state = ?, decided_at = ?, decided_by = ?, outcome = ? WHERE code = ?",
        (state, tx.now, by, outcome, approval.code),
    )
    audit.record(
        tx,
        actor=by,
        action=_ACTIONS[state],
        folder=approval.folder,
        detail={"code": approval.code, "command": approval.command, "sha256": approval.sha256},
    )
    chat = _chat_of(tx, approval)
    if chat is None:
        return None
    turn_rows.add(
        tx,
        folder=approval.folder,
        chat=chat,
        kind="notice",
        prompt=f"You asked for {approval.command} ({approval.code}). {_TOLD[state]} {outcome}".strip(),
        source="approval",
        steps=max(1, turn_rows.steps(tx, approval.turn)),
    )
    return approval.folder


_ACTIONS: Final = {
    "done": "approved",
    "failed": "approved, and not possible",
    "denied": "denied",
    "expired": "approval expired",
}
_TOLD: Final = {
    "done": "A person in main approved it, and it is done:",
    "failed": "A person in main approved it, but it could not be done:",
    "denied": "A person in main denied it. Do not ask for it again unless you are told to.",
    "expired": "Nobody decided in time, so nothing was done.",
}


def expire(tx: Tx) -> Expired:
    """End what nobody decided in time, and what was asked at a time that is still far ahead: the clock was
    wrong then, and a request must not stay open for longer than any other."""
    rows = tx.execute(
        f"SELECT {_COLUMNS} FROM approvals WHERE state = 'asked' AND (expires_at <= ? OR asked_at > ?) "
        "ORDER BY expires_at, code",
        (tx.now, after(tx.now, LIFETIME)),
    ).fetchall()
    woken = [end(tx, Approval(*row), "expired", by="daemon", outcome="") for row in rows]
    (next_at,) = tx.execute(
        "SELECT min(expires_at) FROM approvals WHERE state = 'asked'"
    ).fetchone()
    return Expired(tuple(dict.fromkeys(each for each in woken if each is not None)), next_at)


def _chat_of(db: Database, approval: Approval) -> ChatId | None:
    """Where the group hears of it: the chat in which it asked, if that is still its own."""
    chats = groups.chats_of(db, approval.folder)
    return approval.chat if approval.chat in chats else chats[0] if chats else None
