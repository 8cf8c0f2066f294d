"""Resolve who is behind a command, from the rows of the run that it came from.

The rule: nothing that a command says about itself is believed. Chat, turn and authority are read here,
in the transaction that carries the command out, so they are those of that moment.
"""

from __future__ import annotations

from pynchy.model import MAIN, ChatId, GroupId, RunId, SenderId, TurnId
from pynchy.policy.authority import OWNER, Asker, is_trusted, may_give_orders
from pynchy.policy.tools import Caller
from pynchy.store import delegates, groups, questions, turns
from pynchy.store.database import Database
from pynchy.store.rows import read_all, scalar


def caller_of(db: Database, folder: GroupId, run: RunId) -> Caller | None:
    """Who speaks for ``run`` of the group ``folder``, or None if nobody does any more.

    Its turn is the oldest that it holds, else its last. A run of an older epoch has no voice, and
    neither has one whose turn was cancelled: what a stopped turn says late is dropped.
    """
    row = db.execute(
        "SELECT turns.id, turns.chat, turns.state FROM runs JOIN groups USING (folder) "
        "JOIN turns ON turns.run_id = runs.id WHERE runs.id = ? AND runs.folder = ? "
        "AND runs.epoch = groups.epoch ORDER BY turns.state <> 'claimed', "
        "CASE turns.state WHEN 'claimed' THEN turns.id ELSE -turns.claimed_at END LIMIT 1",
        (run, folder),
    ).fetchone()
    if row is None or row[2] == "cancelled":
        return None
    turn, chat = TurnId(row[0]), ChatId(row[1])
    return Caller(
        folder=folder,
        is_main=folder == MAIN,
        run=run,
        chat=chat,
        turn=turn,
        trusted=folder == MAIN and _all_trusted(db, run, turn),
        depth=delegates.depth(db, turn),
        steps=turns.steps(db, turn),
    )


def last_run(db: Database, folder: GroupId, *, but: RunId | None = None) -> RunId | None:
    """The run that a command found in the group's folder at start, or before ``but``, came from."""
    sql = (
        "SELECT id FROM runs WHERE folder = ?1 AND kind <> 'delegate' AND id IS NOT ?2 "
        "ORDER BY started_at DESC, id DESC LIMIT 1"
    )
    return scalar(db, RunId, sql, (folder, but))


def creator_of(db: Database, caller: Caller) -> tuple[SenderId, int]:
    """Whose authority a task has that is made in the caller's turn, and how deep it stands.

    A task made by a task has its maker's authority. Of several people who asked it is the least.
    """
    creator = _creator_of_task(db, caller.turn)
    if creator is None and caller.trusted:
        creator = OWNER
    if creator is None and (woken_by := questions.answerer(db, caller.turn)) is not None:
        creator = woken_by.sender
    if creator is None:
        sql = (
            "SELECT sender FROM turn_inputs JOIN inbox USING (seq) "
            "WHERE turn_id = ? AND triggers = 1 ORDER BY seq LIMIT 1"
        )
        creator = scalar(db, SenderId, sql, (caller.turn,))
    return creator or SenderId(""), caller.steps


def _creator_of_task(db: Database, turn: TurnId) -> SenderId | None:
    """Who made the task that a turn is for, if it is for one."""
    sql = "SELECT creator FROM fires JOIN tasks ON tasks.id = task_id WHERE turn_id = ?"
    return scalar(db, SenderId, sql, (turn,))


def _all_trusted(db: Database, run: RunId, turn: TurnId) -> bool:
    had = db.execute(
        "SELECT DISTINCT turns.id, turns.chat, turns.state = 'claimed' AND turns.run_id = ?1 "
        "FROM attempts JOIN turns ON turns.id = turn_id WHERE attempts.run_id = ?1",
        (run,),
    ).fetchall()
    words = {TurnId(id): _is_trusted(db, TurnId(id), ChatId(where)) for id, where, _ in had}
    return may_give_orders(words, [TurnId(id) for id, _, claimed in had if claimed] or [turn])


def _is_trusted(db: Database, turn: TurnId, chat: ChatId) -> bool | None:
    """Whether all who asked in a turn of main may give orders there.

    A scheduled turn has the authority of whoever made the task, one that an answer woke that of who gave
    it. A helper has none.
    """
    creator = _creator_of_task(db, turn)
    if creator is not None:
        return creator == OWNER
    woken_by = questions.answerer(db, turn)
    asked = (
        [woken_by]
        if woken_by is not None
        else read_all(
            db,
            Asker,
            "FROM turn_inputs JOIN inbox USING (seq) WHERE turn_id = ? AND triggers = 1 GROUP BY 1, 2",
            (turn,),
        )
    )
    # Who answered a question of this turn has had a word in it, too.
    asked += read_all(db, Asker, "FROM questions WHERE turn_id = ? AND state = 'answered'", (turn,))
    main = groups.get(db, MAIN)
    named = () if main is None else main.allowed_senders or ()
    return is_trusted(asked, named, chat)
