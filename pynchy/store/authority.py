"""Resolve who is behind a command, from the rows of the run that it came from.

The rule: a command says nothing about itself that counts. Chat, turn and authority are read here,
in the transaction that carries the command out, so they are those of that moment.
"""

from __future__ import annotations

from typing import Final

from pynchy.model import MAIN, ChatId, GroupId, RunId, SenderId, TurnId, after, channel_of
from pynchy.policy.tools import Caller
from pynchy.store import delegates, groups, questions, turns
from pynchy.store.database import Database, Tx


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
        trusted=folder == MAIN and _all_trusted(db, run, turn, chat),
        depth=delegates.depth(db, turn),
        steps=turns.steps(db, turn),
    )


def last_run(db: Database, folder: GroupId, *, but: RunId | None = None) -> RunId | None:
    """The run that a command found in the group's folder at start, or before ``but``, came from."""
    row = db.execute(
        "SELECT id FROM runs WHERE folder = ?1 AND kind <> 'delegate' AND id IS NOT ?2 "
        "ORDER BY started_at DESC, id DESC LIMIT 1",
        (folder, but),
    ).fetchone()
    return None if row is None else RunId(row[0])


OWNER: Final = SenderId("owner")  # whose word it is when everybody who asked has main's trust


def creator_of(db: Database, caller: Caller) -> tuple[SenderId, int]:
    """Whose authority a task has that is made in the caller's turn, and how deep it stands.

    A task made by a task has its maker's authority. Of several people who asked it is the least.
    """
    row = db.execute(
        "SELECT creator FROM fires JOIN tasks ON tasks.id = task_id WHERE turn_id = ?",
        (caller.turn,),
    ).fetchone()
    if row is not None:
        return SenderId(row[0]), caller.steps
    if caller.trusted:
        return OWNER, caller.steps
    woken_by = questions.answerer(db, caller.turn)
    if woken_by is not None:
        return woken_by[0], caller.steps
    row = db.execute(
        "SELECT sender FROM turn_inputs JOIN inbox USING (seq) "
        "WHERE turn_id = ? AND triggers = 1 ORDER BY seq LIMIT 1",
        (caller.turn,),
    ).fetchone()
    return SenderId("" if row is None else row[0]), caller.steps


def last_asked(db: Database, turn: TurnId) -> str | None:
    """The id of the newest message that a turn is to answer."""
    row = db.execute(
        "SELECT message_id FROM turn_inputs JOIN inbox USING (seq) "
        "WHERE turn_id = ? AND triggers = 1 AND gone IS NULL ORDER BY seq DESC LIMIT 1",
        (turn,),
    ).fetchone()
    return None if row is None else str(row[0])


def has_message(db: Database, chat: ChatId, message_id: str) -> bool:
    """Whether a message of this id was said in this chat."""
    row = db.execute(
        "SELECT 1 FROM inbox WHERE message_id = ? AND chat = ? AND kind = 'text' AND gone IS NULL",
        (message_id, chat),
    ).fetchone()
    return row is not None


def count_said(db: Database, turn: TurnId) -> int:
    """How many entries of the outbox a turn has made so far."""
    row = db.execute("SELECT count(*) FROM outbox WHERE turn_id = ?", (turn,)).fetchone()
    return int(row[0])


def count_commands(tx: Tx, folder: GroupId, *, seconds: float) -> int:
    """How many commands a group has given lately. What was given later than now, by a clock that was
    set back since, is not lately."""
    row = tx.execute(
        "SELECT count(*) FROM journal INDEXED BY journal_at WHERE at > ? AND at <= ? AND folder = ?",
        (after(tx.now, -seconds), tx.now, folder),
    ).fetchone()
    return int(row[0])


def open_files(db: Database, folder: GroupId) -> set[str]:
    """The paths of files of a group that are still to be sent."""
    rows = db.execute(
        "SELECT path FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL "
        "AND folder = ? AND path IS NOT NULL",
        (folder,),
    )
    return {str(row[0]) for row in rows}


def _all_trusted(db: Database, run: RunId, turn: TurnId, chat: ChatId) -> bool:
    """Whether every turn that the run has in hand may give orders, and nobody who may not has asked in
    one before.

    Not the present one alone: a follow-up reaches the agent in mid-turn, and a program that somebody
    had the agent start in an earlier turn still runs in the container, and may wait for this one.
    """
    had = db.execute(
        "SELECT DISTINCT turns.id, turns.chat, turns.state = 'claimed' AND turns.run_id = ?1 "
        "FROM attempts JOIN turns ON turns.id = turn_id WHERE attempts.run_id = ?1",
        (run,),
    ).fetchall()
    word = {TurnId(id): _is_trusted(db, TurnId(id), ChatId(where)) for id, where, _ in had}
    held = [TurnId(id) for id, _, claimed in had if claimed] or [turn]
    return False not in word.values() and all(word.get(each) for each in held)


def _is_trusted(db: Database, turn: TurnId, chat: ChatId) -> bool | None:
    """Whether all who asked in a turn of main may give orders there: named senders, or the owner. None if
    nobody did: the host woke the agent.

    A scheduled turn has the authority of whoever made the task, one that an answer woke that of who gave
    it. A helper has none.
    """
    row = db.execute(
        "SELECT creator FROM fires JOIN tasks ON tasks.id = task_id WHERE turn_id = ?", (turn,)
    ).fetchone()
    if row is not None:
        return bool(row[0] == OWNER)
    woken_by = questions.answerer(db, turn)
    asked = (
        [woken_by]
        if woken_by is not None
        else db.execute(
            "SELECT DISTINCT sender, own FROM turn_inputs JOIN inbox USING (seq) "
            "WHERE turn_id = ? AND triggers = 1",
            (turn,),
        ).fetchall()
    )
    # Who answered a question of this turn has had a word in it, too.
    asked += db.execute(
        "SELECT sender, own FROM questions WHERE turn_id = ? AND state = 'answered'", (turn,)
    ).fetchall()
    main = groups.get(db, MAIN)
    named = () if main is None or main.allowed_senders is None else main.allowed_senders
    owners_place = channel_of(chat) == "console"
    if not asked:
        return None
    return all(own or owners_place or sender in named for sender, own in asked)
