"""Turns: units of agent work, from the claim of their messages to their end.

The rule: every change of a turn is one transaction with everything that must agree with it: the cursor,
the replies, the notices.

    (messages) -> claimed                 a run takes everything unanswered of one chat
    claimed -> done                       a result names it: replies, cursor and session in one commit
    claimed -> waiting                    failed: tried again as `policy.failures` says, or resumed if it spoke
    waiting -> waiting                    parked: what holds its group back holds it back too
    claimed -> waiting                    the run ended without looking at it: again at once
    claimed, waiting -> dead              given up; the chat and main are told in the same commit
    claimed, waiting -> cancelled         a person said so

A chat whose oldest turn waits for its retry hands out nothing newer: order within a chat holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from pynchy.limits import PROMPTS
from pynchy.model import (
    MAIN_CONSOLE,
    ChatId,
    GroupId,
    Micros,
    Outgoing,
    RunId,
    Seq,
    TurnId,
    after,
)
from pynchy.policy import failures
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.store import breakers, groups, holds, messages, notices, outbox, task_rows
from pynchy.store.database import Database, Tx
from pynchy.store.rows import to_value
from pynchy.store.turn_rows import COLUMNS, Kind, Turn, steps
from pynchy.text.prompt import PromptMessage, PromptTask

COMPACT: Final = "compact"  # the source of a notice that is an order: shorten the conversation

MAX_MESSAGES: Final = PROMPTS.messages
MAX_CONTEXT: Final = PROMPTS.context
MAX_ASKING: Final = PROMPTS.asking


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
    kind: Kind
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


@attrs.frozen
class Committed:
    """What a result came to. ``superseded``: nothing was written, the run is of an older epoch.
    ``unknown``: prompts it named that were not its to answer. ``taken``: the first of ``outbox``, its try begun.
    ``released``: groups whose work is due again, since the model has answered. ``held``: what it said was left
    out, for the group did too much by itself."""

    turns: tuple[TurnId, ...]
    outbox: tuple[int, ...]
    chat: ChatId | None
    superseded: bool = False
    unknown: tuple[str, ...] = ()
    taken: Outgoing | None = None
    released: tuple[GroupId, ...] = ()
    held: bool = False


@attrs.frozen
class Failure:
    """What became of a turn that failed. ``retry_at`` is None if it is dead. ``anew``: its session is not to be used
    again. ``alert``: the owner was told this, and is to be told elsewhere, too."""

    turn: TurnId
    chat: ChatId
    attempt: int
    retry_at: Micros | None
    dead: bool
    anew: bool = False
    alert: str = ""


def claim(
    tx: Tx,
    folder: GroupId,
    run: RunId,
    *,
    chat: ChatId | None = None,
    turn: TurnId | None = None,
    max_messages: int = MAX_MESSAGES,
    max_context: int = MAX_CONTEXT,
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
        "SELECT runs.kind FROM runs JOIN groups USING (folder) "
        "WHERE runs.id = ? AND folder = ? AND state <> 'gone' AND runs.epoch = groups.epoch "
        "AND (paused = 0 OR kind = 'delegate')",
        (run, folder),
    ).fetchone()
    if row is None:
        return None
    run_kind = str(row[0])
    held = holds.over(tx, folder) if run_kind != "delegate" else []  # a helper's parent is at work
    if (hold := holds.closed(held, now=tx.now)) is not None:
        while run_kind == "session" and _gather(
            tx, folder, chat=chat, limit=max_messages, context=max_context
        ):
            pass
        _park(tx, folder, run_kind, hold, terms=terms)
        return None
    waiting = _waiting(tx, folder, run_kind, chat=chat, turn=turn)
    while waiting is not None and _is_void(tx, waiting):
        _end(tx, waiting, "cancelled")
        waiting = _waiting(tx, folder, run_kind, chat=chat, turn=turn)
    if waiting is None and run_kind == "session" and turn is None:
        waiting = _gather(tx, folder, chat=chat, limit=max_messages, context=max_context)
    if waiting is None:
        return None
    claimed = _hand_over(tx, waiting, run)
    probes = holds.take(tx, held, run)
    return claimed if claimed is None else attrs.evolve(claimed, probes=probes)


def is_held(tx: Tx, folder: GroupId) -> bool:
    """Whether a run of this group would be given nothing for now."""
    return holds.closed(holds.over(tx, folder), now=tx.now) is not None


def _park(
    tx: Tx, folder: GroupId, run_kind: str, hold: holds.Hold, *, terms: failures.Terms
) -> None:
    """Let what is due in a group wait for what holds it back, and tell its chats, each once. What has waited for as
    long as it was told it would is given up."""
    rows = tx.execute(
        f"SELECT {COLUMNS} FROM turns WHERE folder = ? AND state = 'waiting' AND retry_at <= ? "
        "AND kind IN (?, ?) ORDER BY id",
        (folder, tx.now, *_RUN_KINDS[run_kind]),
    ).fetchall()
    due = [to_value(Turn, row) for row in rows]
    for turn in due:
        if _is_void(tx, turn.id):
            _end(tx, turn.id, "cancelled")
            continue
        same = turn.failing == hold.kind and turn.failing_since is not None
        since = turn.failing_since if same and turn.failing_since is not None else tx.now
        end = failures.give_up_at(hold.kind, since, named=hold.until is not None, terms=terms)
        trouble = failures.Trouble(hold.kind, hold.reason)
        if end is not None and end <= tx.now and hold.prober is None:
            verdict = failures.Verdict(None, until=end)
            _give_up(tx, turn, trouble, verdict, terms=terms)
            continue
        at = hold.probe_at if end is None or end <= tx.now else min(hold.probe_at, end)
        tx.execute(
            "UPDATE turns SET retry_at = ?, waits_for = ?, failing = ?, failing_since = ?, give_up_at = ?, "
            "error = coalesce(error, ?) WHERE id = ?",
            (at, hold.scope, hold.kind, since, end, f"{hold.kind}: {hold.reason}"[:2000], turn.id),
        )
        wait = _Wait(hold.kind, hold.since, hold.until or end, named=hold.until is not None)
        _tell_waiting(tx, turn, wait, terms=terms)
    holds.keep_order(tx, {turn.chat for turn in due})


_RUN_KINDS: Final = {
    "session": ("message", "notice"),
    "task": ("task", "task"),
    "delegate": ("delegate", "delegate"),
}


def _waiting(
    tx: Tx, folder: GroupId, run_kind: str, *, chat: ChatId | None, turn: TurnId | None
) -> TurnId | None:
    if run_kind == "delegate" and turn is None:
        return None
    row = tx.execute(
        "SELECT id FROM turns WHERE folder = ?1 AND state = 'waiting' AND retry_at <= ?2 "
        "AND kind IN (?3, ?4) AND (?5 IS NULL OR chat = ?5) AND (?6 IS NULL OR id = ?6) "
        "ORDER BY id LIMIT 1",
        (folder, tx.now, *_RUN_KINDS[run_kind], chat, turn),
    ).fetchone()
    return None if row is None else TurnId(row[0])


def _is_void(db: Database, turn: TurnId) -> bool:
    """Whether everything that a turn of messages was to answer has been taken back."""
    row = db.execute(
        "SELECT 1 FROM turns WHERE id = ?1 AND kind = 'message' AND NOT EXISTS ("
        "  SELECT 1 FROM turn_inputs JOIN inbox USING (seq) "
        "  WHERE turn_id = ?1 AND triggers = 1 AND gone IS NULL)",
        (turn,),
    ).fetchone()
    return row is not None


def _gather(
    tx: Tx, folder: GroupId, *, chat: ChatId | None, limit: int, context: int
) -> TurnId | None:
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
    asking, hi = _asking(tx, where, lo, limit=limit)
    shown, omitted = _context(tx, where, lo, hi, limit=limit, budget=context)
    turn = tx.execute(
        "INSERT INTO turns (folder, chat, kind, state, lo, hi, omitted, retry_at, created_at) "
        "VALUES (?, ?, 'message', 'waiting', ?, ?, ?, ?, ?) RETURNING id",
        (folder, where, lo, hi, omitted, tx.now, tx.now),
    ).fetchone()[0]
    for seq in sorted(asking + shown):
        tx.execute("INSERT INTO turn_inputs (seq, turn_id) VALUES (?, ?)", (seq, turn))
    tx.execute("UPDATE chats SET claimed_seq = ? WHERE chat = ?", (hi, where))
    return TurnId(turn)


def _asking(db: Database, chat: ChatId, lo: Seq, *, limit: int) -> tuple[list[Seq], Seq]:
    """The oldest messages that ask, as many as one turn takes, and how far the turn reaches."""
    rows = db.execute(
        "SELECT seq, length(CAST(text AS BLOB)) FROM inbox "
        "WHERE chat = ? AND triggers = 1 AND gone IS NULL AND seq > ? ORDER BY seq LIMIT ?",
        (chat, lo, limit + 1),
    ).fetchall()
    taken: list[Seq] = []
    size = 0
    for seq, length in rows:
        size += length
        if taken and (len(taken) == limit or size > MAX_ASKING):
            return taken, taken[-1]
        taken.append(seq)
    newest = db.execute(
        "SELECT max(seq) FROM inbox WHERE chat = ? AND kind <> 'command' AND gone IS NULL", (chat,)
    ).fetchone()[0]
    return taken, newest


def _context(
    db: Database, chat: ChatId, lo: Seq, hi: Seq, *, limit: int, budget: int
) -> tuple[list[Seq], int]:
    """The newest context that fits, and how many older messages did not."""
    rows = db.execute(
        "SELECT seq, length(CAST(text AS BLOB)) FROM inbox WHERE chat = ? AND triggers = 0 "
        "AND kind <> 'command' AND gone IS NULL AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?",
        (chat, lo, hi, limit),
    ).fetchall()
    shown: list[Seq] = []
    for seq, length in rows:
        budget -= length
        if budget < 0:
            break
        shown.append(seq)
    total = db.execute(
        "SELECT count(*) FROM inbox WHERE chat = ? AND triggers = 0 "
        "AND kind <> 'command' AND gone IS NULL AND seq > ? AND seq <= ?",
        (chat, lo, hi),
    ).fetchone()[0]
    return shown, total - len(shown)


def _hand_over(tx: Tx, turn: TurnId, run: RunId) -> Claimed | None:
    prompt_id = _uuid(tx.new_id())
    row = tx.execute(
        "UPDATE turns SET state = 'claimed', run_id = ?, prompt_id = ?, claimed_at = ? WHERE id = ? "
        "RETURNING chat, kind, attempt, spoke, omitted, prompt, source, isolated",
        (run, prompt_id, tx.now, turn),
    ).fetchone()
    chat, kind, attempt, spoke, omitted, prompt, source, isolated = row
    tx.execute(
        "INSERT INTO attempts (prompt_id, turn_id, run_id, claimed_at) VALUES (?, ?, ?, ?)",
        (prompt_id, turn, run, tx.now),
    )
    inputs = tx.execute(
        f"SELECT {messages.COLUMNS}, kind FROM turn_inputs JOIN inbox USING (seq) "
        "WHERE turn_id = ? AND gone IS NULL ORDER BY seq",
        (turn,),
    ).fetchall()
    said = tx.execute(
        "SELECT text FROM outbox WHERE turn_id = ? AND notice = 0 ORDER BY ord", (turn,)
    )
    return Claimed(
        turn=turn,
        prompt_id=prompt_id,
        chat=chat,
        chat_name=groups.chat_name(tx, chat),
        kind=kind,
        attempt=attempt + 1,
        resume=bool(spoke),
        said=tuple(text for (text,) in said),
        messages=tuple(_prompt_message(each[:-1]) for each in inputs if each[-1] == "text"),
        omitted=omitted,
        notices=tuple(each[6] for each in inputs if each[-1] == "notice"),
        prompt=prompt,
        source=source,
        task=_task(tx, turn, prompt) if kind == "task" else None,
        script=_script(tx, turn) if kind == "task" and not spoke else None,
        isolated=bool(isolated),
        seqs=tuple(each[0] for each in inputs if each[-1] == "text"),
    )


def _prompt_message(row: tuple[Any, ...]) -> PromptMessage:
    kept = messages.stored(row)
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


def _task(db: Database, turn: TurnId, prompt: str) -> PromptTask | None:
    row = db.execute(
        "SELECT tasks.id, due_at, missed, name FROM fires "
        "JOIN tasks ON tasks.id = fires.task_id WHERE turn_id = ?",
        (turn,),
    ).fetchone()
    if row is None:
        return None
    task, due_at, missed, name = row
    return PromptTask(task, prompt, due_at, missed, name)


def _script(db: Database, turn: TurnId) -> str | None:
    row = db.execute(
        "SELECT script FROM fires JOIN tasks ON tasks.id = fires.task_id WHERE turn_id = ?", (turn,)
    ).fetchone()
    return None if row is None else row[0] or None


def accepted(tx: Tx, run: RunId, prompt_ids: Sequence[str]) -> None:
    """The agent has these prompts. That is for `why` to tell; nothing is done by it."""
    for prompt_id in prompt_ids:
        tx.execute(
            "UPDATE attempts SET accepted_at = ? WHERE prompt_id = ? AND run_id = ? "
            "AND accepted_at IS NULL",
            (tx.now, prompt_id, run),
        )


@attrs.frozen
class Reply:
    """What a run's agent came to: the prompts that this answers, and what is to be said. ``reached``: the model
    has answered, so whatever held the group back is well again."""

    answered: Sequence[str]
    pieces: Sequence[str]
    session: str | None
    reached: bool = False


def commit(
    tx: Tx, run: RunId, reply: Reply, *, take: ChatId | None = None, bounds: Bounds = UNBOUNDED
) -> Committed:
    """A result: the turns it names are done, its pieces are to be sent, the session is kept; at once.

    No pieces is a success too: the agent had nothing to say. A prompt that is not this run's, or was
    answered or cancelled, is not answered (again). Pieces of a result that names none of its turns are
    the run's afterthought: they go to the chat of its last turn, unless that one was cancelled, and
    are dropped if it names only turns that are not its own any more. Pieces that these turns have said
    already, by a tool, are not said again. What is no answer to a person counts against the ``bounds`` of its
    group, and is left out when it is held back. In the chat ``take`` the first piece's try begins with this, if
    nothing is in front of it.
    """
    row = tx.execute(
        "SELECT runs.kind, runs.folder, groups.epoch IS runs.epoch FROM runs "
        "LEFT JOIN groups USING (folder) WHERE runs.id = ?",
        (run,),
    ).fetchone()
    if row is None or not row[2]:
        return Committed((), (), None, superseded=True)
    run_kind, folder, _ = row
    pieces = reply.pieces
    if reply.session is not None:
        groups.set_session(tx, run, reply.session)

    found: list[tuple[TurnId, ChatId]] = []
    unknown: list[str] = []
    for prompt_id in dict.fromkeys(reply.answered):
        turn = tx.execute(
            "SELECT id, chat FROM turns WHERE prompt_id = ? AND run_id = ? AND state = 'claimed'",
            (prompt_id, run),
        ).fetchone()
        if turn is None:
            unknown.append(prompt_id)
        else:
            found.append((turn[0], turn[1]))
    speaker = found[-1] if found else None
    if not reply.answered:
        speaker = _afterthought(tx, run)

    entries: list[int] = []
    answer = any(not steps(tx, turn_id) for turn_id, _ in found)  # a person waits for it
    held: breakers.Held | None = None
    if speaker is not None and pieces and not answer and run_kind != "delegate":
        held = breakers.held(tx, folder, "messages", bounds=bounds)
        pieces = () if held is not None else pieces
    if speaker is not None and pieces and run_kind == "delegate":
        tx.execute("UPDATE turns SET result = ? WHERE id = ?", ("\n\n".join(pieces), speaker[0]))
    elif speaker is not None and pieces and not _was_said(tx, speaker, found, pieces):
        by = outbox.Author(folder, speaker[1], speaker[0], run, answer=answer)
        entries = outbox.enqueue(tx, by, pieces)
    for turn_id, _ in found:
        _end(tx, turn_id, "done")
        if speaker is not None and pieces:
            tx.execute("UPDATE turns SET answered_by = ? WHERE id = ?", (speaker[0], turn_id))
    at_once = entries and speaker is not None and speaker[1] == take
    released = holds.lift_over(tx, folder) if reply.reached else []
    return Committed(
        turns=tuple(turn_id for turn_id, _ in found),
        outbox=tuple(entries),
        chat=None if speaker is None else speaker[1],
        unknown=tuple(unknown),
        taken=outbox.take(tx, entries[0]) if at_once else None,
        released=tuple(released),
        held=held is not None,
    )


def _was_said(
    db: Database,
    speaker: tuple[TurnId, ChatId],
    found: Sequence[tuple[TurnId, ChatId]],
    pieces: Sequence[str],
) -> bool:
    """Whether these very words are on their way to the chat already, or there."""
    said: list[str] = []
    for turn in sorted({speaker[0], *(turn for turn, _ in found)}):
        rows = db.execute(
            "SELECT text FROM outbox WHERE turn_id = ? AND chat = ? AND kind = 'text' "
            "AND notice = 0 AND state <> 'failed' ORDER BY id",
            (turn, speaker[1]),
        )
        said += [_plain(row[0]) for row in rows]
    words = [_plain(piece) for piece in pieces]
    return any(said[at : at + len(words)] == words for at in range(len(said)))


def _plain(text: str) -> str:
    """A text for comparison: how it is spaced is no difference."""
    return " ".join(text.split())


def _afterthought(db: Database, run: RunId) -> tuple[TurnId, ChatId] | None:
    row = db.execute(
        "SELECT id, chat, state FROM turns WHERE run_id = ? ORDER BY claimed_at DESC, id DESC "
        "LIMIT 1",
        (run,),
    ).fetchone()
    return None if row is None or row[2] == "cancelled" else (row[0], row[1])


def fail(
    tx: Tx,
    run: RunId,
    trouble: failures.Trouble,
    *,
    jitter: float,
    prompts: Sequence[str] | None = None,
    terms: failures.Terms = failures.USUAL,
) -> list[Failure]:
    """What a run held has failed: all of it, or only ``prompts``. What becomes of it stands in `policy.failures`.

    In this transaction, too: a trouble that concerns more than the turn holds those others back; a chat that has to
    wait is told so once; giving up is told to the chat, and to main where that is called for. A full folder is told
    even if nothing was owed.
    """
    found = []
    for turn in _held(tx, run):
        if prompts is not None and turn.prompt_id not in prompts:
            continue
        found.append(_fail(tx, turn, trouble, failures.Deciding(jitter, terms)))
    if trouble.kind == "quota" and not found and (last := _last_chat(tx, run)) is not None:
        words = failures.given_up(
            trouble, failures.Verdict(None), spoke=False, bought=0, now=tx.now, terms=terms
        )
        notices.tell_once(tx, last, trouble.kind, words)
    return found


def _fail(tx: Tx, turn: Turn, trouble: failures.Trouble, deciding: failures.Deciding) -> Failure:
    """One turn has failed."""
    row = failures.row_of(trouble.kind)
    again = turn.failing == trouble.kind and turn.failing_since is not None
    since = turn.failing_since if again and turn.failing_since is not None else tx.now
    past = failures.Past(
        same=turn.same + 1 if again else 1,
        since=since,
        strikes=turn.strikes + (not row.again.waits),
        attempts=turn.attempt + 1,
        bought=turn.bought + trouble.bought,
        spoke=turn.spoke,
        resumed=turn.resumed,
    )
    verdict = deciding.on(trouble, past, now=tx.now)
    tx.execute(
        "UPDATE turns SET attempt = ?, failing = ?, failing_since = ?, same = ?, strikes = ?, bought = ?, "
        "give_up_at = NULL, waits_for = NULL WHERE id = ?",
        (past.attempts, trouble.kind, since, past.same, past.strikes, past.bought, turn.id),
    )
    turn = attrs.evolve(turn, attempt=past.attempts, bought=past.bought, failing_since=since)
    if verdict.retry_at is None:
        return _give_up(tx, turn, trouble, verdict, terms=deciding.terms)
    if not row.again.waits:
        failed = _wait(tx, turn, trouble, verdict.retry_at, resumes=True)
        return attrs.evolve(failed, anew=verdict.anew)
    return _hold_back(tx, turn, trouble, verdict, deciding)


def _hold_back(
    tx: Tx,
    turn: Turn,
    trouble: failures.Trouble,
    verdict: failures.Verdict,
    deciding: failures.Deciding,
) -> Failure:
    """A turn waits until something outside is well again; whoever that concerns waits with it.

    A turn that was freed before, since others were answered, and fails as before is no sign that they will fail.
    """
    since, terms = turn.failing_since, deciding.terms
    assert verdict.retry_at is not None
    assert since is not None
    assert turn.run is not None
    named = holds.named(trouble.kind, trouble.moment)
    end = failures.give_up_at(trouble.kind, since, named=named, terms=terms)
    at, cause, scope = verdict.retry_at, since, None
    if trouble.sure and turn.kind != "delegate":
        scope = failures.scope_of(trouble.kind, turn.folder, groups.model_of(tx, turn.folder))
    if scope is not None and (not turn.freed or holds.is_on(tx, scope)):
        hold = holds.enter(tx, scope, turn.run, trouble, deciding=deciding, end=end)
        at, cause = max(hold.probe_at, failures.stepping_back(hold.probe_at, hold.kind)), hold.since
    else:
        scope = None
    if end is not None:
        at = min(at, max(end, tx.now))
    failed = _wait(tx, turn, trouble, at, resumes=False)
    tx.execute("UPDATE turns SET waits_for = ?, give_up_at = ? WHERE id = ?", (scope, end, turn.id))
    owner = failures.for_owner(trouble, folder=turn.folder) if turn.kind != "delegate" else None
    where = _owners_chat(tx, trouble.kind)
    wait = _Wait(trouble.kind, cause, verdict.until if named else end, named)
    told = _tell_waiting(tx, turn, wait, terms=terms, more=owner if where == turn.chat else None)
    if owner is None:
        return failed
    if where != turn.chat:
        group = f" of {turn.folder}" if scope is not None and scope.startswith("group:") else ""
        told = notices.tell_once(
            tx, where, f"owner: {trouble.kind}{group}", owner, since=cause
        )  # fmt: skip
    return attrs.evolve(failed, alert=owner if told else "")


def _owners_chat(db: Database, kind: str) -> ChatId:
    """Where the owner hears of what only they can mend: main for a budget, the console for the rest."""
    budget = kind in ("budget", "budget_of_all")
    return (groups.main_chat(db) or MAIN_CONSOLE) if budget else MAIN_CONSOLE


@attrs.frozen
class _Wait:
    """What a chat waits for, and until when. ``named``: somebody said when the trouble is over."""

    kind: str
    since: Micros
    until: Micros | None
    named: bool


def _tell_waiting(
    tx: Tx, turn: Turn, wait: _Wait, *, terms: failures.Terms, more: str | None = None
) -> bool:
    """Tell a chat that it has to wait, and ``more``: once for each cause. Whether it was told now."""
    if turn.kind == "delegate" or not failures.row_of(wait.kind).waits:
        return False
    words = failures.waiting(wait.kind, until=wait.until, named=wait.named, now=tx.now, terms=terms)
    words = words if more is None else f"{words} {more}"
    return notices.tell_once(tx, turn.chat, wait.kind, words, since=wait.since)


def _last_chat(db: Database, run: RunId) -> ChatId | None:
    """The chat that a run worked for last."""
    row = db.execute(
        "SELECT chat FROM attempts JOIN turns ON turns.id = turn_id WHERE attempts.run_id = ? "
        "ORDER BY attempts.claimed_at DESC, turns.id DESC LIMIT 1",
        (run,),
    ).fetchone()
    return None if row is None else ChatId(row[0])


def release(
    tx: Tx,
    run: RunId,
    *,
    message: str = "the run ended before it answered",
    terms: failures.Terms = failures.USUAL,
) -> list[Failure]:
    """Give back what a run held when it ended through no fault of its own: a shutdown, a closed
    container, the death of the daemon. It is due again at once.

    That is no failed attempt of a turn that said nothing; only a turn that this happens to again and
    again is given up, since it may be the cause. One that spoke is resumed once, as after any failure.
    """
    released = []
    for turn in _held(tx, run):
        row = tx.execute(
            "UPDATE turns SET interrupted = interrupted + 1 WHERE id = ? RETURNING interrupted",
            (turn.id,),
        ).fetchone()
        lost = turn.resumed if turn.spoke else row[0] > failures.INTERRUPTIONS
        trouble = failures.Trouble("interrupted", message)
        released.append(
            _give_up(tx, turn, trouble, failures.Verdict(None), terms=terms)
            if lost
            else _wait(tx, turn, trouble, tx.now, resumes=True)
        )
    return released


def _wait(
    tx: Tx, turn: Turn, trouble: failures.Trouble, retry_at: Micros, *, resumes: bool
) -> Failure:
    """A turn waits for its next try. ``resumes``: that is the one time that a turn which spoke is resumed."""
    error = f"{trouble.kind}: {trouble.message}"[:2000]
    retry_at = _in_order(tx, turn, retry_at)
    tx.execute(
        "UPDATE turns SET state = 'waiting', attempt = ?, retry_at = ?, error = ?, "
        "resumed = max(resumed, spoke AND ?) WHERE id = ?",
        (turn.attempt, retry_at, error, resumes, turn.id),
    )
    _close_attempt(tx, turn.id, error)
    return Failure(turn.id, turn.chat, turn.attempt, retry_at, dead=False)


def _give_up(
    tx: Tx,
    turn: Turn,
    trouble: failures.Trouble,
    verdict: failures.Verdict,
    *,
    terms: failures.Terms,
) -> Failure:
    """A turn will not be tried again: it ends, and that is said in the same transaction."""
    error = f"{trouble.kind}: {trouble.message}"[:2000]
    tx.execute(
        "UPDATE turns SET attempt = ?, error = ?, waits_for = NULL WHERE id = ?",
        (turn.attempt, error, turn.id),
    )
    _end(tx, turn.id, "dead", outcome=error)
    if turn.kind == "task":
        task_rows.pause_if_failing(tx, turn.id)
    if turn.kind != "delegate":  # its parent is told, by the handle it waits on
        words = failures.given_up(
            trouble, verdict, spoke=turn.spoke, bought=turn.bought, now=tx.now, terms=terms
        )
        notices.tell(tx, turn.chat, words, turn=turn.id)
        notices.forget(tx, turn.chat, trouble.kind)  # whoever asks again is told anew
        if turn.folder != "main" and failures.row_of(trouble.kind).main:
            words = failures.given_up_for_main(
                folder=turn.folder, kind=trouble.kind, error=trouble.message
            )
            cause = f"given up in {turn.folder}: {trouble.kind}"
            if (chat := groups.main_chat(tx, but=turn.chat)) is not None:
                notices.tell_once(tx, chat, cause, words)
    return Failure(turn.id, turn.chat, turn.attempt, None, dead=True)


def _in_order(tx: Tx, turn: Turn, retry_at: Micros) -> Micros:
    """When a turn may be tried again if nothing of its chat is to overtake anything: not before what
    is older, and what is newer not before it. Nobody is put off for longer than until the next look: what is held
    back for longer is parked then, and let go with what holds it."""
    if turn.kind not in _RUN_KINDS["session"]:
        return retry_at
    older = tx.execute(
        "SELECT max(retry_at) FROM turns WHERE chat = ? AND id < ? AND ended_at IS NULL "
        "AND state = 'waiting' AND kind IN ('message', 'notice')",
        (turn.chat, turn.id),
    ).fetchone()[0]
    most = after(tx.now, failures.LONGEST_WAIT)
    own, retry_at = retry_at, max(retry_at, min(older or retry_at, most))
    tx.execute(
        "UPDATE turns SET retry_at = ?1 WHERE chat = ?2 AND id > ?3 AND ended_at IS NULL "
        "AND state = 'waiting' AND kind IN ('message', 'notice') AND retry_at < ?1",
        (min(retry_at, most), turn.chat, turn.id),
    )
    return max(own, retry_at)


def cancel(
    tx: Tx, folder: GroupId, *, chat: ChatId | None = None, all_of_it: bool = False
) -> list[Turn]:
    """A person stopped it: what is running, and what waits to be tried again, is over.

    Messages that no run has been given yet stay, and so does, but for ``all_of_it``, what waits for its
    first try. Whatever the run still says about the cancelled is dropped by `commit`.
    """
    rows = tx.execute(
        f"SELECT {COLUMNS} FROM turns WHERE folder = ?1 AND ended_at IS NULL "
        "AND state IN ('waiting', 'claimed') AND (?2 IS NULL OR chat = ?2) "
        "AND (?3 OR state = 'claimed' OR attempt > 0 OR interrupted > 0 "
        "OR kind IN ('message', 'delegate')) ORDER BY id",
        (folder, chat, all_of_it),
    ).fetchall()
    found = [to_value(Turn, row) for row in rows]
    for turn in found:
        _end(tx, turn.id, "cancelled")
    holds.nobody_waits(tx)
    return found


def cancel_one(tx: Tx, turn: TurnId) -> bool:
    """This turn is not wanted any more; False if it has ended."""
    row = tx.execute("SELECT ended_at FROM turns WHERE id = ?", (turn,)).fetchone()
    if row is None or row[0] is not None:
        return False
    _end(tx, turn, "cancelled")
    return True


def give_up(tx: Tx, turn: TurnId, error: str | None) -> None:
    """End a turn that will not be tried again, in silence: whoever waits for it looks at it. Without
    ``error`` what it failed with last stands."""
    tx.execute("UPDATE turns SET error = coalesce(?, error) WHERE id = ?", (error, turn))
    _end(tx, turn, "dead")


def count_waiting(db: Database) -> int:
    """How many turns wait for another try."""
    row = db.execute(
        "SELECT count(*) FROM turns WHERE ended_at IS NULL AND state = 'waiting'"
    ).fetchone()
    return int(row[0])


def retried(db: Database, *, limit: int) -> list[dict[str, Any]]:
    """The turns that failed and are tried again, the next one first; with why, when, and what they wait for."""
    rows = db.query(
        "SELECT id AS turn, folder, chat, attempt, retry_at AS at, give_up_at AS until, error, "
        "waits_for AS held_by FROM turns "
        "WHERE ended_at IS NULL AND state = 'waiting' AND error IS NOT NULL "
        "ORDER BY retry_at, id LIMIT ?",
        (limit,),
    )
    return list(rows)


def held(db: Database, run: RunId) -> list[Turn]:
    """The turns a run has claimed and not ended, oldest first."""
    return _held(db, run)


def _held(db: Database, run: RunId) -> list[Turn]:
    rows = db.execute(
        f"SELECT {COLUMNS} FROM turns WHERE run_id = ? AND state = 'claimed' ORDER BY id", (run,)
    )
    return [to_value(Turn, row) for row in rows]


def _end(tx: Tx, turn: TurnId, state: str, *, outcome: str | None = None) -> None:
    row = tx.execute(
        "UPDATE turns SET state = ?, ended_at = ? WHERE id = ? RETURNING chat, kind",
        (state, tx.now, turn),
    ).fetchone()
    if row[1] == "message":
        groups.settle_cursor(tx, ChatId(row[0]))
    elif row[1] == "task":
        task_rows.settle(tx, turn, state)
    _close_attempt(tx, turn, outcome or state)


def _close_attempt(tx: Tx, turn: TurnId, outcome: str) -> None:
    tx.execute(
        "UPDATE attempts SET ended_at = ?, outcome = ? WHERE ended_at IS NULL "
        "AND prompt_id = (SELECT prompt_id FROM turns WHERE id = ?)",
        (tx.now, outcome, turn),
    )


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
