"""Hand turns to runs: what is due, or everything unanswered of one chat.

The rule: while something holds a group back (`holds`), nothing is handed out but to the run that tries for
all; what is due meanwhile is parked, and its chats are told once.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pynchy.limits import PROMPTS
from pynchy.model import ChatId, GroupId, RunId, Seq, TurnId
from pynchy.policy import failures
from pynchy.store import groups, holds, messages, turn_failures, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, number, read_all, scalar, scalars
from pynchy.store.turns import OF_RUN, Turn
from pynchy.text.prompt import PromptMessage, PromptTask


@attrs.frozen
class Claimed:
    """A turn as it is handed to a run.

    ``messages`` are what it covers, in order; ``omitted`` counts older context that there was no room
    for. ``notices`` are the host's words for the agent. ``resume``: it spoke before it died, ``said`` is
    what, and it must go on in the same session. ``prompt`` is what a turn that is not of messages is to do.
    ``probes``: the holds that it is the probe for; the first answer lifts them.
    """

    turn: TurnId
    prompt_id: str
    chat: ChatId
    chat_name: str
    kind: turns.Kind
    attempt: int  # 1 the first time
    resume: bool
    said: tuple[str, ...]
    messages: tuple[PromptMessage, ...]
    omitted: int
    notices: tuple[str, ...]
    prompt: str | None
    source: str | None
    task: PromptTask | None = None
    script: str | None = None  # of the task: it decides whether the model is woken
    isolated: bool = False
    seqs: tuple[Seq, ...] = ()  # of ``messages``
    probes: tuple[str, ...] = ()


def claim(
    tx: Tx,
    run: RunId,
    *,
    chat: ChatId | None = None,
    turn: TurnId | None = None,
    terms: failures.Terms = failures.USUAL,
) -> Claimed | None:
    """Give a run its next turn, or None if nothing is due.

    While something holds the group back (`holds`), what is due is parked, and its chats are told once. When that may
    be tried again, the first run that asks gets its turn and tries for all.

    A session run gets turns of messages and notices: one that waited and is due, else everything
    unanswered of the chat that asked first. A task run gets the oldest due task, a delegate only the
    ``turn`` it was begun for. With ``chat`` only that chat counts. A run of an older epoch gets nothing.
    """
    row = tx.execute(
        "SELECT runs.kind, folder FROM runs JOIN groups USING (folder) WHERE runs.id = ? "
        "AND state <> 'gone' AND runs.epoch = groups.epoch AND (paused = 0 OR kind = 'delegate')",
        (run,),
    ).fetchone()
    if row is None:
        return None
    run_kind, folder = row
    held = holds.over(tx, folder) if run_kind != "delegate" else []  # a helper's parent is at work
    if (hold := holds.closed(held, now=tx.now)) is not None:
        while run_kind == "session" and _gather(tx, folder, chat):
            pass
        _park(tx, folder, run_kind, hold, terms=terms)
        return None
    waiting = _waiting(tx, folder, run_kind, chat=chat, turn=turn)
    while waiting is not None and _is_void(tx, waiting):
        turns.end(tx, waiting, "cancelled")
        waiting = _waiting(tx, folder, run_kind, chat=chat, turn=turn)
    if waiting is None and run_kind == "session" and turn is None:
        waiting = _gather(tx, folder, chat)
    if waiting is None:
        return None
    claimed = _hand_over(tx, waiting, run)
    return attrs.evolve(claimed, probes=holds.take(tx, held, run))


def is_held(tx: Tx, folder: GroupId) -> bool:
    """Whether a run of this group would be given nothing for now."""
    return holds.closed(holds.over(tx, folder), now=tx.now) is not None


def _waiting(
    tx: Tx, folder: GroupId, run_kind: str, *, chat: ChatId | None, turn: TurnId | None
) -> TurnId | None:
    """The oldest turn that is due for a run of this kind."""
    if run_kind == "delegate" and turn is None:
        return None
    return scalar(
        tx,
        TurnId,
        "SELECT id FROM turns WHERE folder = ?1 AND state = 'waiting' AND retry_at <= ?2 "
        "AND kind IN (?3, ?4) AND (?5 IS NULL OR chat = ?5) AND (?6 IS NULL OR id = ?6) "
        "ORDER BY id LIMIT 1",
        (folder, tx.now, *OF_RUN[run_kind], chat, turn),
    )


def _is_void(db: Database, turn: TurnId) -> bool:
    """Whether everything that a turn of messages was to answer has been taken back."""
    return exists(
        db,
        "SELECT 1 FROM turns WHERE id = ?1 AND kind = 'message' AND NOT EXISTS ("
        "  SELECT 1 FROM turn_inputs JOIN inbox USING (seq) "
        "  WHERE turn_id = ?1 AND triggers = 1 AND gone IS NULL)",
        (turn,),
    )


# --- parking ---


def _park(
    tx: Tx, folder: GroupId, run_kind: str, hold: holds.Hold, *, terms: failures.Terms
) -> None:
    """Let what is due in a group wait for what holds it back, and tell its chats, each once. What has waited for as
    long as it was told it would is given up."""
    due = read_all(
        tx,
        Turn,
        "FROM turns WHERE folder = ? AND state = 'waiting' AND retry_at <= ? "
        "AND kind IN (?, ?) ORDER BY id",
        (folder, tx.now, *OF_RUN[run_kind]),
    )
    for turn in due:
        if _is_void(tx, turn.id):
            turns.end(tx, turn.id, "cancelled")
        else:
            turn_failures.park(tx, turn, hold, terms=terms)
    holds.keep_order(tx, {turn.chat for turn in due})


# --- a turn of messages ---


def _gather(tx: Tx, folder: GroupId, chat: ChatId | None) -> TurnId | None:
    """Make a turn of everything unanswered in the chat that asked first."""
    row = tx.execute(
        "SELECT chat, claimed_seq, (SELECT min(seq) FROM inbox WHERE inbox.chat = chats.chat "
        "  AND triggers = 1 AND gone IS NULL AND seq > claimed_seq) AS asked "
        "FROM chats INDEXED BY chats_waiting "
        "WHERE folder = ?1 AND folder IS NOT NULL AND wanted_seq > claimed_seq "
        "AND (?2 IS NULL OR chat = ?2) AND NOT EXISTS ("
        "  SELECT 1 FROM turns INDEXED BY turns_live WHERE turns.chat = chats.chat "
        "  AND kind = 'message' AND ended_at IS NULL AND state = 'waiting') "
        "ORDER BY asked LIMIT 1",
        (folder, chat),
    ).fetchone()
    if row is None:
        return None
    where, lo, _ = row
    asking, hi = _asking(tx, where, lo)
    shown, omitted = _context(tx, where, lo, hi)
    turn = tx.insert(
        "turns",
        folder=folder,
        chat=where,
        kind="message",
        state="waiting",
        lo=lo,
        hi=hi,
        omitted=omitted,
        retry_at=tx.now,
        created_at=tx.now,
    )
    for seq in sorted(asking + shown):
        tx.insert("turn_inputs", seq=seq, turn_id=turn)
    tx.execute("UPDATE chats SET claimed_seq = ? WHERE chat = ?", (hi, where))
    return TurnId(turn)


def _asking(db: Database, chat: ChatId, lo: Seq) -> tuple[list[Seq], Seq]:
    """The oldest messages that ask, as many as one turn takes, and how far the turn reaches."""
    rows = db.execute(
        "SELECT seq, length(CAST(text AS BLOB)) FROM inbox "
        "WHERE chat = ? AND triggers = 1 AND gone IS NULL AND seq > ? ORDER BY seq LIMIT ?",
        (chat, lo, PROMPTS.messages + 1),
    ).fetchall()
    taken: list[Seq] = []
    size = 0
    for seq, length in rows:
        size += length
        if taken and (len(taken) == PROMPTS.messages or size > PROMPTS.asking):
            return taken, taken[-1]
        taken.append(seq)
    newest = "SELECT max(seq) FROM inbox WHERE chat = ? AND kind <> 'command' AND gone IS NULL"
    return taken, Seq(number(db, newest, (chat,)))


def _context(db: Database, chat: ChatId, lo: Seq, hi: Seq) -> tuple[list[Seq], int]:
    """The newest context that fits, and how many older messages did not."""
    between = (
        "FROM inbox WHERE chat = ? AND triggers = 0 "
        "AND kind <> 'command' AND gone IS NULL AND seq > ? AND seq <= ?"
    )
    rows = db.execute(
        f"SELECT seq, length(CAST(text AS BLOB)) {between} ORDER BY seq DESC LIMIT ?",
        (chat, lo, hi, PROMPTS.messages),
    ).fetchall()
    budget = PROMPTS.context
    shown: list[Seq] = []
    for seq, length in rows:
        budget -= length
        if budget < 0:
            break
        shown.append(seq)
    return shown, number(db, f"SELECT count(*) {between}", (chat, lo, hi)) - len(shown)


# --- what the run is given ---


def _hand_over(tx: Tx, turn: TurnId, run: RunId) -> Claimed:
    prompt_id = _uuid(tx.new_id())
    chat, kind, attempt, spoke, omitted, prompt, source, isolated = tx.execute(
        "UPDATE turns SET state = 'claimed', run_id = ?, prompt_id = ?, claimed_at = ? WHERE id = ? "
        "RETURNING chat, kind, attempt, spoke, omitted, prompt, source, isolated",
        (run, prompt_id, tx.now, turn),
    ).fetchone()
    tx.insert("attempts", prompt_id=prompt_id, turn_id=turn, run_id=run, claimed_at=tx.now)
    inputs = read_all(
        tx,
        messages.Stored,
        "FROM turn_inputs JOIN inbox USING (seq) WHERE turn_id = ? AND gone IS NULL ORDER BY seq",
        (turn,),
    )
    texts = [each for each in inputs if each.kind == "text"]
    said = "SELECT text FROM outbox WHERE turn_id = ? AND notice = 0 ORDER BY ord"
    task, script = _task(tx, turn, prompt) if kind == "task" else (None, None)
    return Claimed(
        turn=turn,
        prompt_id=prompt_id,
        chat=chat,
        chat_name=groups.chat_name(tx, chat),
        kind=kind,
        attempt=attempt + 1,
        resume=bool(spoke),
        said=tuple(scalars(tx, str, said, (turn,))),
        messages=tuple(map(_prompt_message, texts)),
        omitted=omitted,
        notices=tuple(each.text for each in inputs if each.kind == "notice"),
        prompt=prompt,
        source=source,
        task=task,
        script=None if spoke else script,
        isolated=bool(isolated),
        seqs=tuple(each.seq for each in texts),
    )


def _prompt_message(kept: messages.Stored) -> PromptMessage:
    return PromptMessage(
        sender_name=kept.sender_name,
        sent_at=kept.sent_at,
        text=kept.text,
        quoted=kept.quoted,
        attachments=kept.attachments,
        triggers=kept.triggers,
        id=kept.id,
        edited=kept.edited,
    )


def _task(db: Database, turn: TurnId, prompt: str) -> tuple[PromptTask | None, str | None]:
    """The task of a turn as its agent is told of it, and the script that decides whether it is woken."""
    row = db.execute(
        "SELECT tasks.id, due_at, missed, name, script FROM fires "
        "JOIN tasks ON tasks.id = fires.task_id WHERE turn_id = ?",
        (turn,),
    ).fetchone()
    if row is None:
        return None, None
    task, due_at, missed, name, script = row
    return PromptTask(task, prompt, due_at, missed, name), script or None


def accepted(tx: Tx, run: RunId, prompt_ids: Sequence[str]) -> None:
    """The agent has these prompts. That is for `trace` to tell; nothing is done by it."""
    for prompt_id in prompt_ids:
        tx.execute(
            "UPDATE attempts SET accepted_at = ? WHERE prompt_id = ? AND run_id = ? "
            "AND accepted_at IS NULL",
            (tx.now, prompt_id, run),
        )


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
