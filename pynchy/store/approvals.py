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
from pynchy.policy import wording
from pynchy.policy.requests import Request, digest
from pynchy.policy.tools import Caller
from pynchy.policy.wording import End
from pynchy.store import audit, groups, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, from_value, number, read_all, read_one, scalar

LIFETIME: Final = APPROVALS.lifetime
State = Literal["asked", "done", "failed", "denied", "expired"]


@attrs.frozen
class Approval:
    """A request as it stands. ``request`` is its canonical text, ``sha256`` what an approval is bound to.

    ``chat``, ``run`` and ``turn`` are where it was asked. ``outcome`` says what came of it."""

    code: str
    folder: GroupId
    chat: ChatId
    run: RunId = attrs.field(metadata=column("run_id"))
    turn: TurnId = attrs.field(metadata=column("turn_id"))
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


def ask(tx: Tx, caller: Caller, request: Request, *, code: str) -> Approval:
    """Keep a request of a caller until somebody decides."""
    canonical = request.canonical
    asked = Approval(
        code=code,
        folder=request.folder,
        chat=caller.chat,
        run=caller.run,
        turn=caller.turn,
        command=request.command,
        request=canonical,
        sha256=digest(canonical),
        state="asked",
        asked_at=tx.now,
        expires_at=after(tx.now, LIFETIME),
        decided_at=None,
        decided_by=None,
        outcome=None,
    )
    tx.insert("approvals", **from_value(asked))
    return asked


def count_open(db: Database, folder: GroupId) -> int:
    """How many requests of a group wait for a person."""
    return number(
        db, "SELECT count(*) FROM approvals WHERE folder = ? AND state = 'asked'", (folder,)
    )


def count_today(tx: Tx, folder: GroupId) -> int:
    """How many requests a group made within a day. One of more than a day ahead is not counted: the clock was
    wrong then."""
    sql = "SELECT count(*) FROM approvals WHERE folder = ? AND asked_at > ? AND asked_at <= ?"
    return number(tx, sql, (folder, after(tx.now, -DAY), after(tx.now, DAY)))


def get(db: Database, code: str) -> Approval | None:
    """The request of this code."""
    return read_one(db, Approval, "FROM approvals WHERE code = ?", (code,))


def same(db: Database, folder: GroupId, sha256: str) -> Approval | None:
    """The request of a group that waits already and is this very one."""
    rest = "FROM approvals WHERE folder = ? AND sha256 = ? AND state = 'asked'"
    return read_one(db, Approval, rest, (folder, sha256))


def recent(db: Database, *, every: bool = False, limit: int = 100) -> list[Approval]:
    """Those that wait, the oldest first; with ``every`` those that have ended too, the newest first."""
    rest = (
        "ORDER BY asked_at DESC, code" if every else "WHERE state = 'asked' ORDER BY asked_at, code"
    )
    return read_all(db, Approval, f"FROM approvals {rest} LIMIT ?", (limit,))


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
    turns.add(
        tx,
        turns.Work(
            folder=approval.folder,
            chat=chat,
            kind="notice",
            prompt=wording.request_ended(approval.command, approval.code, state, outcome),
            source="approval",
            steps=max(1, turns.steps(tx, approval.turn)),
        ),
    )
    return approval.folder


_ACTIONS: Final = {
    "done": "approved",
    "failed": "approved, and not possible",
    "denied": "denied",
    "expired": "approval expired",
}


def expire(tx: Tx) -> Expired:
    """End what nobody decided in time, and what was asked at a time that is still far ahead: the clock was
    wrong then, and a request must not stay open for longer than any other."""
    over = read_all(
        tx,
        Approval,
        "FROM approvals WHERE state = 'asked' AND (expires_at <= ? OR asked_at > ?) ORDER BY expires_at, code",
        (tx.now, after(tx.now, LIFETIME)),
    )
    woken = [end(tx, each, "expired", by="daemon", outcome="") for each in over]
    next_at = scalar(tx, Micros, "SELECT min(expires_at) FROM approvals WHERE state = 'asked'")
    return Expired(tuple(dict.fromkeys(each for each in woken if each is not None)), next_at)


def _chat_of(db: Database, approval: Approval) -> ChatId | None:
    """Where the group hears of it: the chat in which it asked, if that is still its own."""
    chats = groups.chats_of(db, approval.folder)
    return approval.chat if approval.chat in chats else chats[0] if chats else None
