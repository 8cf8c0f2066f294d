"""What is held back and why: one row for each trouble that affects more than one turn.

The rule: while a row stands, nobody in its scope begins anything but the one run that tries for all. What waits has the
row's name in ``turns.waits_for`` and its moment in ``turns.retry_at``, so a crash forgets neither. The first success
removes the row and makes all of them due at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from pynchy.model import GroupId, Micros, RunId, after
from pynchy.policy import failures
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, from_value, number, read_all, read_one, scalar, scalars

#: What a new start may have changed: settings, credentials, the engine. It is tried again at once.
MENDED_BY_A_START: Final = ("credential", "billing", "budget", "budget_of_all", "machine")


@attrs.frozen
class Hold:
    """One trouble. ``probe_at``: when somebody may try again. ``until``: when it is over, where that was named."""

    scope: str
    kind: str
    since: Micros
    tries: int
    probe_at: Micros
    until: Micros | None
    prober: RunId | None
    reason: str


def over(db: Database, folder: GroupId) -> list[Hold]:
    """What holds this group back."""
    model = scalar(db, str, "SELECT model FROM groups WHERE folder = ?", (folder,))
    scopes = failures.scopes_over(folder, model)
    return read_all(db, Hold, "FROM holds WHERE scope IN (?, ?, ?, ?) ORDER BY scope", scopes)


def everything(db: Database) -> list[Hold]:
    """All there are, the oldest first."""
    return read_all(db, Hold, "FROM holds ORDER BY since, scope")


def is_on(db: Database, scope: str) -> bool:
    """Whether this is held back."""
    return exists(db, "SELECT 1 FROM holds WHERE scope = ?", (scope,))


def closed(held: Sequence[Hold], *, now: Micros) -> Hold | None:
    """The hold that lasts longest of those that nobody may try yet; None if the group may go on or try.

    One that began in the future is of a clock that was wrong, and binds nobody.
    """
    bind = [each for each in held if each.since <= now < each.probe_at]
    return max(bind, key=lambda each: each.probe_at, default=None)


def enter(
    tx: Tx,
    scope: str,
    run: RunId,
    trouble: failures.Trouble,
    *,
    deciding: failures.Deciding,
    end: Micros | None = None,
) -> Hold:
    """A run has met this trouble: hold its scope back, or go on doing so.

    The next try is no later than the end of whoever waits: ``end`` is that of the turn that failed. Only the run that
    tried for all moves the next try; one that was under way when the trouble began does not.
    """
    before = read_one(tx, Hold, "FROM holds WHERE scope = ?", (scope,))
    if before is not None and before.kind != trouble.kind:
        before = None
    if before is not None and before.prober not in (None, run):
        return before
    if before is not None and before.probe_at > tx.now and before.prober is None:
        return before  # somebody who was under way: the next try stands
    tries = 1 if before is None else before.tries + 1
    past = failures.Past(same=tries, since=tx.now)
    verdict = failures.decide(trouble, past, deciding, now=tx.now)
    ends = number(
        tx,
        "SELECT min(give_up_at) FROM turns WHERE waits_for = ? AND state = 'waiting' AND give_up_at > ?",
        (scope, tx.now),
    )
    at = tx.now if verdict.retry_at is None else verdict.retry_at
    at = min([at, *(Micros(each) for each in (ends, end or 0) if each > tx.now)])
    hold = Hold(
        scope=scope,
        kind=trouble.kind,
        since=tx.now if before is None else before.since,
        tries=tries,
        probe_at=at,
        until=verdict.until if named(trouble.kind, trouble.moment) else None,
        prober=None,
        reason=trouble.message[:500],
    )
    tx.replace("holds", **from_value(hold))
    _move(tx, scope, hold.probe_at)
    return hold


def named(kind: str, moment: Micros | None) -> bool:
    """Whether it is known when a trouble of this kind is over."""
    again = failures.row_of(kind).again
    return again is failures.Again.DAY or (again is failures.Again.MOMENT and moment is not None)


def take(tx: Tx, held: Sequence[Hold], run: RunId) -> tuple[str, ...]:
    """This run tries for all whom these hold back; everybody else goes on waiting. The names of the holds."""
    for hold in held:
        _try_at(tx, hold.scope, after(tx.now, failures.PROBE_LEASE), prober=run)
    return tuple(hold.scope for hold in held)


def lift(tx: Tx, scopes: Sequence[str]) -> list[GroupId]:
    """These are well again: what waited for them is due now. The groups that have to be rung."""
    found: set[str] = set()
    for scope in scopes:
        if tx.execute("DELETE FROM holds WHERE scope = ?", (scope,)).rowcount == 0:
            continue
        rows = tx.execute(
            "UPDATE turns SET retry_at = min(retry_at, ?2), waits_for = NULL, freed = freed + 1 "
            "WHERE waits_for = ?1 AND state = 'waiting' RETURNING folder, chat",
            (scope, tx.now),
        ).fetchall()
        found.update(folder for folder, _ in rows)
        keep_order(tx, {chat for _, chat in rows})
    return [GroupId(folder) for folder in sorted(found)]


def lift_over(tx: Tx, folder: GroupId) -> list[GroupId]:
    """The model has answered this group: whatever held it back is well again."""
    return lift(tx, [each.scope for each in over(tx, folder)])


def lift_kind(tx: Tx, kind: str, *, folder: GroupId | None = None) -> list[GroupId]:
    """What this kind of trouble waits for has changed (a credential, a group's budget): try at once."""
    scopes = [
        each.scope
        for each in everything(tx)
        if each.kind == kind and (folder is None or each.scope == f"group:{folder}")
    ]
    return lift(tx, scopes)


def nobody_waits(tx: Tx) -> None:
    """People have stopped what waited: where that was all, whoever asks next tries at once."""
    tx.execute(
        "UPDATE holds SET probe_at = min(probe_at, ?) WHERE prober IS NULL AND NOT EXISTS ("
        "  SELECT 1 FROM turns WHERE waits_for = scope AND state = 'waiting')",
        (tx.now,),
    )


def waiting_for(db: Database, scopes: Sequence[str]) -> list[GroupId]:
    """Groups with something that waits for one of these."""
    sql = "SELECT folder FROM turns WHERE waits_for = ? AND state = 'waiting'"
    return sorted({folder for scope in scopes for folder in scalars(db, GroupId, sql, (scope,))})


def run_ended(tx: Tx, run: RunId) -> None:
    """A run that tried for all ended without an answer to that: somebody else may try."""
    for scope in scalars(tx, str, "SELECT scope FROM holds WHERE prober = ?", (run,)):
        _try_at(tx, scope, tx.now)


def recover(tx: Tx) -> None:
    """At a start: nobody tries any more, and what a start may have mended is tried at once."""
    for hold in everything(tx):
        if hold.prober is not None or hold.kind in MENDED_BY_A_START or hold.since > tx.now:
            _try_at(tx, hold.scope, tx.now)


def correct(tx: Tx) -> None:
    """The clock was wrong: what began in the future begins now, and nothing waits longer than it can be told to."""
    for hold in everything(tx):
        longest = failures.longest_hold(hold.kind)
        if hold.since > tx.now or (longest is not None and hold.probe_at > after(tx.now, longest)):
            _try_at(tx, hold.scope, tx.now, prober=hold.prober)
    tx.execute(
        "UPDATE turns SET give_up_at = give_up_at - failing_since + ?1, failing_since = ?1, "
        "retry_at = min(retry_at, ?1) WHERE state = 'waiting' AND failing_since > ?1",
        (tx.now,),
    )


def _try_at(tx: Tx, scope: str, at: Micros, *, prober: RunId | None = None) -> None:
    """Whoever may try (None: anybody) does so at this moment, or does so until then."""
    tx.execute(
        "UPDATE holds SET prober = ?, probe_at = ?, since = min(since, ?) WHERE scope = ?",
        (prober, at, tx.now, scope),
    )
    _move(tx, scope, at)


def _move(tx: Tx, scope: str, at: Micros) -> None:
    """What waits is looked at again at this moment, or when it is to be given up."""
    rows = tx.execute(
        "UPDATE turns SET retry_at = min(?1, coalesce(give_up_at, ?1)) "
        "WHERE waits_for = ?2 AND state = 'waiting' RETURNING chat",
        (at, scope),
    ).fetchall()
    keep_order(tx, {chat for (chat,) in rows})


def keep_order(tx: Tx, chats: Iterable[str]) -> None:
    """Nothing of a chat is due before what is older and waits, too. What is not held back itself is put off until the
    next look at most: it is parked then."""
    most = after(tx.now, failures.LONGEST_WAIT)
    for chat in chats:
        tx.execute(
            "UPDATE turns SET retry_at = max(retry_at, min("
            "  (SELECT max(older.retry_at) FROM turns AS older "
            "   WHERE older.chat = ?1 AND older.id <= turns.id AND older.ended_at IS NULL "
            "   AND older.state = 'waiting' AND older.kind IN ('message', 'notice')), "
            "  iif(waits_for IS NULL, ?2, retry_at + (1 << 60)))) "
            "WHERE chat = ?1 AND ended_at IS NULL AND state = 'waiting' "
            "AND kind IN ('message', 'notice')",
            (chat, most),
        )
