"""Questions that agents ask in a chat, and the message that answers each.

The rule: a message is taken for an answer in the transaction that stores it, and that transaction also
decides whom it reaches: the call that still waits, or a new turn which it wakes. So an answer is neither
lost nor given twice, whatever dies when.

    waiting -> answered          within `PATIENCE`, by the call of a run that lives
    waiting -> open              the call waits no longer, or its run ended
    waiting, open -> answered    by a turn of its own, ``woke``
    waiting, open -> dropped     a newer question, /stop, /new
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import attrs

from pynchy.limits import QUESTIONS
from pynchy.model import (
    MINUTE,
    ChatId,
    Group,
    GroupId,
    Message,
    Micros,
    RunId,
    TurnId,
    after,
)
from pynchy.policy import wording
from pynchy.policy.authority import Asker
from pynchy.policy.tools import Caller
from pynchy.store import turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, exists, number, read_one, scalar, scalars
from pynchy.text.triggers import after_name, chosen, is_allowed

PATIENCE: Final = QUESTIONS.wait
KEEP: Final = QUESTIONS.open


@attrs.frozen
class Question:
    """A question as it stands. ``options`` may be empty: any text answers it then."""

    id: str
    folder: GroupId
    chat: ChatId
    run: RunId = attrs.field(metadata=column("run_id"))
    turn: TurnId = attrs.field(metadata=column("turn_id"))
    message_id: str
    question: str
    options: tuple[str, ...]
    state: str
    asked_at: Micros
    sender_name: str | None
    answer: str | None
    woke: TurnId | None


@attrs.frozen
class Answered:
    """A message answered ``question``. ``wakes``: a turn was made of it, for nobody waits."""

    question: str
    wakes: bool


def ask(tx: Tx, caller: Caller, question: str, options: Sequence[str], *, entry: int) -> str:
    """Keep a question that was said in the caller's chat, by this ``entry`` of the outbox; its id. It takes the
    place of one that was open there."""
    tx.execute(
        "UPDATE questions SET state = 'dropped' WHERE chat = ? AND state IN ('waiting', 'open')",
        (caller.chat,),
    )
    id = tx.new_id()
    tx.insert(
        "questions",
        id=id,
        folder=caller.folder,
        chat=caller.chat,
        epoch=number(tx, "SELECT epoch FROM groups WHERE folder = ?", (caller.folder,)),
        run_id=caller.run,
        turn_id=caller.turn,
        message_id=scalar(tx, str, "SELECT message_id FROM outbox WHERE id = ?", (entry,)),
        question=question,
        options=json.dumps(list(options)),
        state="waiting",
        asked_at=tx.now,
    )
    return id


def get(db: Database, id: str) -> Question | None:
    """One question."""
    return read_one(db, Question, "FROM questions WHERE id = ?", (id,))


def fitting(db: Database, message: Message, group: Group, *, triggers: bool) -> Question | None:
    """The open question that a new message answers, if it does.

    Its sender must be somebody the group listens to. A number or an option's words fit always; other
    text where it would have asked the agent something (``triggers``), or quotes the question. What
    quotes something else is about that.
    """
    if message.edits is not None or message.remark or not message.text.strip():
        return None
    if not is_allowed(message, group):
        return None
    found = read_one(
        db,
        Question,
        "FROM questions WHERE chat = ? AND folder = ? AND epoch = ? AND state IN ('waiting', 'open')",
        (message.chat, group.folder, group.epoch),
    )
    if found is None:
        return None
    if message.sent_at < found.asked_at - round(MINUTE * 1e6):
        return None  # written before it was asked, and late to come in; clocks may differ a little
    if message.quoted is not None:
        return found if message.quoted.id == found.message_id else None
    exact = chosen(after_name(message.text, group.trigger), found.options)
    return found if triggers or exact is not None else None


def answer(tx: Tx, question: Question, message: Message, group: Group) -> Answered | None:
    """Take ``message`` for the answer; None if the question is too old for one.

    The call that asked gets it if it still waits, else the agent is woken with it.
    """
    if tx.now > after(question.asked_at, KEEP):
        tx.execute("UPDATE questions SET state = 'dropped' WHERE id = ?", (question.id,))
        return None
    text = after_name(message.text, group.trigger).strip() or message.text.strip()
    said = chosen(text, question.options) or text
    tx.execute(
        "UPDATE questions SET state = 'answered', answer = ?, answered_at = ?, sender = ?, "
        "sender_name = ?, own = ? WHERE id = ?",
        (said, tx.now, message.sender, message.sender_name, message.from_me, question.id),
    )
    live = exists(tx, "SELECT 1 FROM runs WHERE id = ? AND state <> 'gone'", (question.run,))
    waits = question.state == "waiting" and tx.now < after(question.asked_at, PATIENCE)
    if live and waits:
        return Answered(question.id, wakes=False)
    _wake(tx, question.id)
    return Answered(question.id, wakes=True)


def wait_no_longer(db: Database, id: str) -> Question | None:
    """The call gives up waiting, unless the answer came just now: how the question stands."""
    db.execute("UPDATE questions SET state = 'open' WHERE id = ? AND state = 'waiting'", (id,))
    return get(db, id)


def run_ended(tx: Tx, run: RunId) -> None:
    """The run that asked is gone. An answer that reached it in a turn which it did not finish wakes
    the agent; one yet to come will."""
    tx.execute("UPDATE questions SET state = 'open' WHERE run_id = ? AND state = 'waiting'", (run,))
    unheard = (
        "SELECT questions.id FROM questions JOIN turns ON turns.id = turn_id WHERE questions.run_id = ? "
        "AND questions.state = 'answered' AND woke IS NULL AND turns.state IN ('waiting', 'dead') "
        "ORDER BY answered_at"
    )
    for id in scalars(tx, str, unheard, (run,)):
        _wake(tx, id)


def drop(db: Database, folder: GroupId) -> list[str]:
    """Nobody wants to know any more; the questions that were open."""
    sql = "UPDATE questions SET state = 'dropped' WHERE folder = ? AND state IN ('waiting', 'open') RETURNING id"
    return scalars(db, str, sql, (folder,))


def answerer(db: Database, turn: TurnId) -> Asker | None:
    """Whose answer woke a turn, if one did."""
    return read_one(db, Asker, "FROM questions WHERE woke = ?", (turn,))


def _wake(tx: Tx, id: str) -> None:
    asked = get(tx, id)
    assert asked is not None
    turn = turns.add(
        tx,
        turns.Work(
            folder=asked.folder,
            chat=asked.chat,
            kind="notice",
            prompt=wording.question_answered(asked.question, asked.sender_name, asked.answer or ""),
            source="question",
            steps=0,
        ),
    )
    tx.execute("UPDATE questions SET woke = ? WHERE id = ?", (turn, id))
