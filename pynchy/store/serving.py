"""The transactions at a run's start and end, which join runs, turns and sessions.

The rule that keeps it so: each function here is one moment of a run's life, and so one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from pynchy.model import DAY, Group, GroupId, RunId, TurnId, after
from pynchy.policy import failures
from pynchy.store import claims, groups, holds, notices, runs, turn_failures, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, scalars

#: Failures that are the daemon's doing and not an attempt that failed.
UNCOUNTED: Final = frozenset({"interrupted", "superseded"})


@attrs.frozen
class Begun:
    """A run that is announced, with its first turn. None of one only if it is pre-warmed. ``ended``: conversations
    of before, which a session's run archives."""

    group: Group
    claimed: claims.Claimed | None
    ended: tuple[str, ...] = ()


@attrs.frozen
class Left:
    """What a group's next run of the same kind would find: something now, or after ``retry_after`` seconds."""

    ready: bool
    retry_after: float | None


@attrs.frozen
class Settled:
    """How a run's end was written down: what of its turns goes back or is given up, what the owner was told and is to
    be told elsewhere, too, which groups have to look again when they may be tried, and what is left for the next."""

    failures: list[turn_failures.Failure]
    alert: str
    look_again: list[GroupId]
    left: Left


@attrs.frozen
class RunEnd:
    """A run whose container is gone. ``trouble`` is why, if what it owes has failed; ``accepted`` are the prompts
    that its agent took. ``probes``: the holds that it tried for all, and did not find well."""

    folder: GroupId
    kind: runs.Kind
    reason: str
    trouble: failures.Trouble | None
    accepted: Sequence[str]
    session: str | None
    probes: Sequence[str] = ()


def begin(
    tx: Tx,
    start: runs.RunStart,
    *,
    turn: TurnId | None,
    prewarm: bool,
    terms: failures.Terms = failures.USUAL,
) -> Begun | None:
    """Announce a run and claim its first turn; None, and no trace, if there is nothing for it to do, or if what it
    would do is held back."""
    group = groups.get(tx, start.folder)
    if group is None or (group.paused and start.kind != "delegate"):
        return None
    runs.begin(tx, start)
    claimed = claims.claim(tx, start.run, turn=turn, terms=terms)
    if claimed is None and (not prewarm or claims.is_held(tx, start.folder)):
        tx.execute("DELETE FROM runs WHERE id = ?", (start.run,))
        return None
    ended = groups.ended_sessions(tx, start.folder) if start.kind == "session" else ()
    return Begun(group, claimed, ended)


def settle(
    tx: Tx, run: RunId, end: RunEnd, *, jitter: float, terms: failures.Terms = failures.USUAL
) -> Settled:
    """Write down a run's end, and fail what it owes if it ended in trouble.

    Prompts it never took are not counted as tried, unless it took none at all. Where the table of failures says so, the
    session is forgotten, and the chats are told that a new conversation begins.
    """
    failed: list[turn_failures.Failure] = []
    trouble = end.trouble
    if trouble is not None and trouble.kind not in UNCOUNTED:
        failed = turn_failures.fail(
            tx, run, trouble, prompts=list(end.accepted) or None, jitter=jitter, terms=terms
        )
        anew = [each for each in failed if each.anew]
        if (
            anew
            and end.session is not None
            and groups.clear_session(tx, end.folder, session=end.session)
        ):
            for chat in dict.fromkeys(each.chat for each in anew):
                notices.tell(tx, chat, failures.begun_anew(trouble.kind))
    alert = next((each.alert for each in failed if each.alert), "")
    failed += runs.end(tx, run, reason=end.reason)
    look_again = [each for each in holds.waiting_for(tx, end.probes) if each != end.folder]
    return Settled(failed, alert, look_again, left(tx, end.folder, kind=end.kind))


def left(tx: Tx, folder: GroupId, *, kind: runs.Kind) -> Left:
    """What waits for the group's next session or task run, asked when one has ended or rests. Nothing waits for a
    helper's: each is asked for by name."""
    if kind == "delegate":
        return Left(ready=False, retry_after=None)
    if not exists(tx, "SELECT 1 FROM groups WHERE folder = ? AND paused = 0", (folder,)):
        return Left(ready=False, retry_after=None)  # paused or gone: nothing is to be served
    ready, ahead = tx.execute(
        "SELECT count(*) FILTER (WHERE retry_at <= ?2), min(retry_at) FILTER (WHERE retry_at > ?2) "
        "FROM turns WHERE folder = ?1 AND state = 'waiting' AND kind IN (?3, ?4)",
        (folder, tx.now, *turns.OF_RUN[kind]),
    ).fetchone()
    if kind == "session" and not ready:
        ready = exists(
            tx,
            "SELECT 1 FROM chats INDEXED BY chats_waiting WHERE folder = ? AND folder IS NOT NULL "
            "AND wanted_seq > claimed_seq AND NOT EXISTS ("
            "  SELECT 1 FROM turns INDEXED BY turns_live"
            "  WHERE turns.chat = chats.chat AND ended_at IS NULL"
            "  AND state = 'waiting' AND kind = 'message') LIMIT 1",
            (folder,),
        )
    if ahead is None or ahead > after(tx.now, 2 * DAY):
        return Left(bool(ready), None)  # nothing but a change outside ends that, and it rings
    # What waits is due by the wall clock and waited for by the other one: look again after a while, for
    # the clock may be set.
    return Left(bool(ready), min((ahead - tx.now) / 1_000_000, failures.LONGEST_WAIT))


def woken(tx: Tx, folder: GroupId) -> bool:
    """Whether the end of a run left word for the group's session, which nobody else rings: a helper
    that never began, an answer that its turn did not live to use."""
    return exists(
        tx,
        "SELECT 1 FROM turns WHERE folder = ? AND state = 'waiting' AND kind = 'notice' "
        "AND retry_at <= ? LIMIT 1",
        (folder, tx.now),
    )


def paused(db: Database) -> list[GroupId]:
    """Groups that are not to be served for now."""
    return scalars(db, GroupId, "SELECT folder FROM groups WHERE paused = 1 ORDER BY folder")


def unfinished(db: Database) -> tuple[list[GroupId], list[GroupId]]:
    """At start: groups with anything for a session to do, now or later, and groups with a task's turn to run."""
    sessions = scalars(
        db,
        GroupId,
        "SELECT folder FROM groups WHERE paused = 0 AND folder IN ("
        "  SELECT folder FROM chats INDEXED BY chats_waiting"
        "  WHERE folder IS NOT NULL AND wanted_seq > claimed_seq"
        "  UNION SELECT folder FROM turns WHERE state = 'waiting' AND kind IN ('message', 'notice')"
        ") ORDER BY folder",
    )
    tasks = scalars(
        db,
        GroupId,
        "SELECT DISTINCT folder FROM turns JOIN groups USING (folder) "
        "WHERE state = 'waiting' AND kind = 'task' AND paused = 0 ORDER BY folder",
    )
    return sessions, tasks
