"""Insert messages of an imported home as history.

The rule: what was answered there needs no answer here, and what was not, does. A chat's cursor moves past
what was answered, and never past a message that still waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from pynchy.model import ChatId, GroupId, SenderId, Seq
from pynchy.store import groups, search
from pynchy.store.database import Database, Tx
from pynchy.store.rows import number, scalar


def seq_of(db: Database, chat: ChatId, sender: SenderId, message_id: str) -> Seq | None:
    """The row of a message, if it was kept."""
    sql = "SELECT seq FROM inbox WHERE chat = ? AND sender = ? AND message_id = ?"
    return scalar(db, Seq, sql, (chat, sender, message_id))


def add_sent(tx: Tx, folder: GroupId, chat: ChatId, message_id: str, text: str) -> bool:
    """Keep something that the assistant said elsewhere; whether it was new."""
    row = tx.insert_new(
        "outbox",
        folder=folder,
        chat=chat,
        message_id=message_id,
        kind="text",
        text=text,
        state="sent",
        next_at=tx.now,
        created_at=tx.now,
        tried_at=tx.now,
        sent_at=tx.now,
    )
    if row is not None:
        search.put(tx, "outbox_fts", row, text, folder)
    return row is not None


def settle(db: Database, chat: ChatId, answered: Sequence[Seq]) -> None:
    """These messages were answered elsewhere: they ask no more, and the chat's cursor moves past them
    as far as no message that waits is in between. One that a turn here has is that turn's."""
    for seq in answered:
        db.execute(
            "UPDATE inbox SET triggers = 0 WHERE seq = ?1 AND triggers = 1 AND chat = ?2 "
            "AND seq > (SELECT claimed_seq FROM chats WHERE chat = ?2)",
            (seq, chat),
        )
    unanswered = (
        "SELECT min(seq) FROM inbox WHERE chat = ?1 AND triggers = 1 AND gone IS NULL "
        "AND seq > (SELECT claimed_seq FROM chats WHERE chat = ?1)"
    )
    first = scalar(db, Seq, unanswered, (chat,))
    last = max(answered, default=0)
    upto = last if first is None else min(last, first - 1)
    db.execute(
        "UPDATE chats SET claimed_seq = ?2 WHERE chat = ?1 AND claimed_seq < ?2", (chat, upto)
    )
    groups.settle_wanted(db, chat)
    groups.settle_cursor(db, chat)


def waiting(db: Database, chat: ChatId) -> int:
    """How many messages of a chat ask for an answer that nobody has begun."""
    sql = (
        "SELECT count(*) FROM inbox WHERE chat = ?1 AND triggers = 1 AND gone IS NULL "
        "AND seq > (SELECT claimed_seq FROM chats WHERE chat = ?1)"
    )
    return number(db, sql, (chat,))


def keep_session(db: Database, folder: GroupId, session: str) -> bool:
    """Go on with a conversation of elsewhere, if the group has none yet and never had a run."""
    changed = db.execute(
        "UPDATE groups SET session = ?2 WHERE folder = ?1 AND session IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM runs WHERE folder = ?1)",
        (folder, session),
    )
    return changed.rowcount == 1
