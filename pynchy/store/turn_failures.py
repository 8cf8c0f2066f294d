"""What becomes of turns that failed: another try, a wait with others, or their end; and who is told.

The rule: what is decided stands in `policy.failures`, and what follows is one transaction: the turn, those
whom the same trouble concerns, and the notices to people.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from pynchy.limits import RETRIES
from pynchy.model import MAIN_CONSOLE, ChatId, Micros, RunId, TurnId, after
from pynchy.policy import failures
from pynchy.store import groups, holds, notices, task_rows, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import number, scalar
from pynchy.store.turns import OF_RUN, Turn


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
    for turn in turns.held(tx, run):
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
    since = _since(turn, trouble.kind, tx.now)
    past = failures.Past(
        same=turn.same + 1 if turn.failing == trouble.kind else 1,
        since=since,
        strikes=turn.strikes + (not row.again.waits),
        attempts=turn.attempt + 1,
        bought=turn.bought + trouble.bought,
        spoke=turn.spoke,
        resumed=turn.resumed,
    )
    verdict = failures.decide(trouble, past, deciding, now=tx.now)
    tx.execute(
        "UPDATE turns SET attempt = ?, failing = ?, failing_since = ?, same = ?, strikes = ?, bought = ?, "
        "give_up_at = NULL, waits_for = NULL WHERE id = ?",
        (past.attempts, trouble.kind, since, past.same, past.strikes, past.bought, turn.id),
    )
    turn = attrs.evolve(
        turn,
        attempt=past.attempts,
        bought=past.bought,
        failing=trouble.kind,
        failing_since=since,
    )
    if verdict.retry_at is None:
        return _give_up(tx, turn, trouble, verdict, terms=deciding.terms)
    if not row.again.waits:
        failed = _wait(tx, turn, trouble, verdict.retry_at, resumes=True)
        return attrs.evolve(failed, anew=verdict.anew)
    return _hold_back(tx, turn, trouble, verdict, deciding)


def _since(turn: Turn, kind: str, now: Micros) -> Micros:
    """Since when a turn fails for this reason, or waits for it."""
    return now if turn.failing != kind or turn.failing_since is None else turn.failing_since


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
    since, terms = _since(turn, trouble.kind, tx.now), deciding.terms
    assert verdict.retry_at is not None
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
        told = notices.tell_once(tx, where, f"owner: {trouble.kind}{group}", owner, since=cause)
    return attrs.evolve(failed, alert=owner if told else "")


def park(tx: Tx, turn: Turn, hold: holds.Hold, *, terms: failures.Terms) -> None:
    """A turn that is due waits for what holds its group back, and its chat is told so, once. It is given up if it
    has waited for as long as it was told it would."""
    since = _since(turn, hold.kind, tx.now)
    end = failures.give_up_at(hold.kind, since, named=hold.until is not None, terms=terms)
    trouble = failures.Trouble(hold.kind, hold.reason)
    if end is not None and end <= tx.now and hold.prober is None:
        _give_up(tx, turn, trouble, failures.Verdict(None, until=end), terms=terms)
        return
    at = hold.probe_at if end is None or end <= tx.now else min(hold.probe_at, end)
    tx.execute(
        "UPDATE turns SET retry_at = ?, waits_for = ?, failing = ?, failing_since = ?, give_up_at = ?, "
        "error = coalesce(error, ?) WHERE id = ?",
        (at, hold.scope, hold.kind, since, end, _error(trouble), turn.id),
    )
    wait = _Wait(hold.kind, hold.since, hold.until or end, named=hold.until is not None)
    _tell_waiting(tx, turn, wait, terms=terms)


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
    return scalar(
        db,
        ChatId,
        "SELECT chat FROM attempts JOIN turns ON turns.id = turn_id WHERE attempts.run_id = ? "
        "ORDER BY attempts.claimed_at DESC, turns.id DESC LIMIT 1",
        (run,),
    )


def release(
    tx: Tx,
    run: RunId,
    *,
    message: str = "the run ended before it answered",
) -> list[Failure]:
    """Give back what a run held when it ended through no fault of its own: a shutdown, a closed
    container, the death of the daemon. It is due again at once.

    That is no failed attempt of a turn that said nothing; only a turn that this happens to again and
    again is given up, since it may be the cause. One that spoke is resumed once, as after any failure.
    """
    released = []
    for turn in turns.held(tx, run):
        times = number(
            tx,
            "UPDATE turns SET interrupted = interrupted + 1 WHERE id = ? RETURNING interrupted",
            (turn.id,),
        )
        lost = turn.resumed if turn.spoke else times > RETRIES.interruptions
        trouble = failures.Trouble("interrupted", message)
        released.append(
            _give_up(tx, turn, trouble, failures.Verdict(None), terms=failures.USUAL)
            if lost
            else _wait(tx, turn, trouble, tx.now, resumes=True)
        )
    return released


def _wait(
    tx: Tx, turn: Turn, trouble: failures.Trouble, retry_at: Micros, *, resumes: bool
) -> Failure:
    """A turn waits for its next try. ``resumes``: that is the one time that a turn which spoke is resumed."""
    error = _error(trouble)
    retry_at = _in_order(tx, turn, retry_at)
    tx.execute(
        "UPDATE turns SET state = 'waiting', attempt = ?, retry_at = ?, error = ?, "
        "resumed = max(resumed, spoke AND ?) WHERE id = ?",
        (turn.attempt, retry_at, error, resumes, turn.id),
    )
    turns.close_attempt(tx, turn.id, error)
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
    error = _error(trouble)
    tx.execute(
        "UPDATE turns SET attempt = ?, error = ?, waits_for = NULL WHERE id = ?",
        (turn.attempt, error, turn.id),
    )
    turns.end(tx, turn.id, "dead", outcome=error)
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


def _error(trouble: failures.Trouble) -> str:
    """What stands in the row of a turn."""
    return f"{trouble.kind}: {trouble.message}"[:2000]


def _in_order(tx: Tx, turn: Turn, retry_at: Micros) -> Micros:
    """When a turn may be tried again if nothing of its chat is to overtake anything: not before what
    is older, and what is newer not before it. Nobody is put off for longer than until the next look: what is held
    back for longer is parked then, and let go with what holds it."""
    if turn.kind not in OF_RUN["session"]:
        return retry_at
    older = number(
        tx,
        "SELECT max(retry_at) FROM turns WHERE chat = ? AND id < ? AND ended_at IS NULL "
        "AND state = 'waiting' AND kind IN ('message', 'notice')",
        (turn.chat, turn.id),
    )
    most = after(tx.now, failures.LONGEST_WAIT)
    own, retry_at = retry_at, max(retry_at, min(Micros(older) or retry_at, most))
    tx.execute(
        "UPDATE turns SET retry_at = ?1 WHERE chat = ?2 AND id > ?3 AND ended_at IS NULL "
        "AND state = 'waiting' AND kind IN ('message', 'notice') AND retry_at < ?1",
        (min(retry_at, most), turn.chat, turn.id),
    )
    return max(own, retry_at)
