"""What is held back, and by what: a row for each trouble that concerns more than one turn.

The rule: while a row stands, nobody in its scope begins anything but the one run that tries for all. What waits has the
row's name in ``turns.waits_for`` and its moment in ``turns.retry_at``, so a crash forgets neither. The first success
removes the row and makes all of them due at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from pynchy.model import GroupId, Micros, RunId, after
from pynchy.policy import failures
from pynchy.store.database import Database

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


_COLUMNS: Final = "scope, kind, since, tries, probe_at, until, prober, reason"


def over(db: Database, folder: GroupId) -> list[Hold]:
    """What holds this group back."""
    row = db.execute("SELECT model FROM groups WHERE folder = ?", (folder,)).fetchone()
    scopes = failures.scopes_over(folder, None if row is None else row[0])
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM holds WHERE scope IN (?, ?, ?, ?) ORDER BY scope", scopes
    )
    return [_hold(each) for each in rows]


def everything(db: Database) -> list[Hold]:
    """All there are, the oldest first."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM holds ORDER BY since, scope")
    return [_hold(row) for row in rows]


def is_on(db: Database, scope: str) -> bool:
    """Whether this is held back."""
    return db.execute("SELECT 1 FROM holds WHERE scope = ?", (scope,)).fetchone() is not None


def closed(held: Sequence[Hold], *, now: Micros) -> Hold | None:
    """The hold that lasts longest of those that nobody may try yet; None if the group may go on or try.

    One that began in the future is of a clock that was wrong, and binds nobody.
    """
    bind = [each for each in held if each.since <= now < each.probe_at]
    return max(bind, key=lambda each: each.probe_at, default=None)


def enter(
    db: Database,
    scope: str,
    run: RunId,
    trouble: failures.Trouble,
    *,
    now: Micros,
    jitter: float,
    terms: failures.Terms,
    end: Micros | None = None,
) -> Hold:
    """A run has met this trouble: hold its scope back, or go on doing so.

    The next try is no later than the end of whoever waits: ``end`` is that of the turn that failed. Only the run that
    tried for all moves the next try; one that was under way when the trouble began does not.
    """
    row = db.execute(f"SELECT {_COLUMNS} FROM holds WHERE scope = ?", (scope,)).fetchone()
    before = None if row is None else _hold(row)
    if before is not None and before.kind == trouble.kind and before.prober not in (None, run):
        return before
    same = before is not None and before.kind == trouble.kind
    tries = before.tries + 1 if before is not None and same else 1
    if before is not None and same and before.probe_at > now and before.prober is None:
        return before  # somebody who was under way: the next try stands
    past = failures.Past(same=tries, since=now)
    verdict = failures.decide(trouble, past, now=now, jitter=jitter, terms=terms)
    ends = db.execute(
        "SELECT min(give_up_at) FROM turns WHERE waits_for = ? AND state = 'waiting' AND give_up_at > ?",
        (scope, now),
    ).fetchone()[0]
    at = now if verdict.retry_at is None else verdict.retry_at
    at = min(at, *(each for each in (ends, end) if each is not None and each > now), at)
    hold = Hold(
        scope=scope,
        kind=trouble.kind,
        since=before.since if before is not None and same else now,
        tries=tries,
        probe_at=at,
        until=verdict.until if named(trouble.kind, trouble.moment) else None,
        prober=None,
        reason=trouble.message[:500],
    )
    db.execute(
        f"INSERT OR REPLACE INTO holds ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        attrs.astuple(hold),
    )
    _move(db, scope, hold.probe_at, now=now)
    return hold


def named(kind: str, moment: Micros | None) -> bool:
    """Whether it is known when a trouble of this kind is over."""
    again = failures.row_of(kind).again
    return again is failures.Again.DAY or (again is failures.Again.MOMENT and moment is not None)


def take(db: Database, held: Sequence[Hold], run: RunId, *, now: Micros) -> tuple[str, ...]:
    """This run tries for all whom these hold back; everybody else goes on waiting. The names of the holds."""
    for hold in held:
        lease = after(now, failures.PROBE_LEASE)
        db.execute(
            "UPDATE holds SET prober = ?, probe_at = ? WHERE scope = ?", (run, lease, hold.scope)
        )
        _move(db, hold.scope, lease, now=now)
    return tuple(hold.scope for hold in held)


def lift(db: Database, scopes: Sequence[str], *, now: Micros) -> list[GroupId]:
    """These are well again: what waited for them is due now. The groups that have to be rung."""
    found: set[str] = set()
    for scope in scopes:
        if db.execute("DELETE FROM holds WHERE scope = ?", (scope,)).rowcount == 0:
            continue
        rows = db.execute(
            "UPDATE turns SET retry_at = min(retry_at, ?2), waits_for = NULL, freed = freed + 1 "
            "WHERE waits_for = ?1 AND state = 'waiting' RETURNING folder, chat",
            (scope, now),
        ).fetchall()
        found.update(folder for folder, _ in rows)
        keep_order(db, {chat for _, chat in rows}, now=now)
    return [GroupId(folder) for folder in sorted(found)]


def lift_over(db: Database, folder: GroupId, *, now: Micros) -> list[GroupId]:
    """The model has answered this group: whatever held it back is well again."""
    return lift(db, [each.scope for each in over(db, folder)], now=now)


def lift_kind(
    db: Database, kind: str, *, now: Micros, folder: GroupId | None = None
) -> list[GroupId]:
    """What this kind of trouble waits for has changed (a credential, a group's budget): try at once."""
    scopes = [
        each.scope
        for each in everything(db)
        if each.kind == kind and (folder is None or each.scope == f"group:{folder}")
    ]
    return lift(db, scopes, now=now)


def nobody_waits(db: Database, *, now: Micros) -> None:
    """People have stopped what waited: where that was all, whoever asks next tries at once."""
    db.execute(
        "UPDATE holds SET probe_at = min(probe_at, ?) WHERE prober IS NULL AND NOT EXISTS ("
        "  SELECT 1 FROM turns WHERE waits_for = scope AND state = 'waiting')",
        (now,),
    )


def waiting_for(db: Database, scopes: Sequence[str]) -> list[GroupId]:
    """Groups with something that waits for one of these."""
    found = {
        folder
        for scope in scopes
        for (folder,) in db.execute(
            "SELECT DISTINCT folder FROM turns WHERE waits_for = ? AND state = 'waiting'", (scope,)
        )
    }
    return [GroupId(folder) for folder in sorted(found)]


def run_ended(db: Database, run: RunId, *, now: Micros) -> None:
    """A run that tried for all ended without an answer to that: somebody else may try."""
    rows = db.execute("SELECT scope FROM holds WHERE prober = ?", (run,)).fetchall()
    for (scope,) in rows:
        db.execute("UPDATE holds SET prober = NULL, probe_at = ? WHERE scope = ?", (now, scope))
        _move(db, scope, now, now=now)


def recover(db: Database, *, now: Micros) -> None:
    """At a start: nobody tries any more, and what a start may have mended is tried at once."""
    for hold in everything(db):
        if hold.prober is not None or hold.kind in MENDED_BY_A_START or hold.since > now:
            db.execute(
                "UPDATE holds SET prober = NULL, probe_at = ?1, since = min(since, ?1) "
                "WHERE scope = ?2",
                (now, hold.scope),
            )
            _move(db, hold.scope, now, now=now)


def correct(db: Database, *, now: Micros) -> None:
    """The clock was wrong: what began in the future begins now, and nothing waits longer than it can be told to."""
    for hold in everything(db):
        longest = failures.longest_hold(hold.kind)
        if hold.since > now or (longest is not None and hold.probe_at > after(now, longest)):
            db.execute(
                "UPDATE holds SET since = min(since, ?1), probe_at = ?1 WHERE scope = ?2",
                (now, hold.scope),
            )
            _move(db, hold.scope, now, now=now)
    db.execute(
        "UPDATE turns SET give_up_at = give_up_at - failing_since + ?1, failing_since = ?1, "
        "retry_at = min(retry_at, ?1) WHERE state = 'waiting' AND failing_since > ?1",
        (now,),
    )


def _move(db: Database, scope: str, at: Micros, *, now: Micros) -> None:
    """What waits is looked at again at this moment, or when it is to be given up."""
    rows = db.execute(
        "UPDATE turns SET retry_at = min(?1, coalesce(give_up_at, ?1)) "
        "WHERE waits_for = ?2 AND state = 'waiting' RETURNING chat",
        (at, scope),
    ).fetchall()
    keep_order(db, {chat for (chat,) in rows}, now=now)


def keep_order(db: Database, chats: Iterable[str], *, now: Micros) -> None:
    """Nothing of a chat is due before what is older and waits, too. What is not held back itself is put off until the
    next look at most: it is parked then."""
    most = after(now, failures.LONGEST_WAIT)
    for chat in chats:
        db.execute(
            "UPDATE turns SET retry_at = max(retry_at, min("
            "  (SELECT max(older.retry_at) FROM turns AS older "
            "   WHERE older.chat = ?1 AND older.id <= turns.id AND older.ended_at IS NULL "
            "   AND older.state = 'waiting' AND older.kind IN ('message', 'notice')), "
            "  iif(waits_for IS NULL, ?2, retry_at + (1 << 60)))) "
            "WHERE chat = ?1 AND ended_at IS NULL AND state = 'waiting' "
            "AND kind IN ('message', 'notice')",
            (chat, most),
        )


def _hold(row: tuple[Any, ...]) -> Hold:
    return Hold(*row)
