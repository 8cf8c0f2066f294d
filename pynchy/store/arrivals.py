"""Insert messages of an imported home as history.

The rule: what was answered there asks for nothing here, and what was not, does. A cursor moves over
what was answered, and never over a message that still waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from pynchy.model import ChatId, GroupId, Micros, SenderId, Seq
from pynchy.store import groups, search
from pynchy.store.database import Database


def seq_of(db: Database, chat: ChatId, sender: SenderId, message_id: str) -> Seq | None:
    """The row of a message, if it was kept."""
    row = db.execute(
        "SELECT seq FROM inbox WHERE chat = ? AND sender = ? AND message_id = ?",
        (chat, sender, message_id),
    ).fetchone()
    return None if row is None else Seq(row[0])


def add_sent(
    db: Database, *, folder: GroupId, chat: ChatId, message_id: str, text: str, at: Micros
) -> bool:
    """Keep something that the assistant said elsewhere; whether it was new."""
    row = db.execute(
        "INSERT OR IGNORE INTO outbox (folder, chat, message_id, kind, text, state, next_at, "
        "created_at, tried_at, sent_at) VALUES (?1, ?2, ?3, 'text', ?4, 'sent', ?5, ?5, ?5, ?5) "
        "RETURNING id",
        (folder, chat, message_id, text, at),
    ).fetchone()
    if row is not None:
        search.add(db, "outbox_fts", row[0], text)
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
    row = db.execute(
        "SELECT min(seq) FROM inbox WHERE chat = ?1 AND triggers = 1 AND gone IS NULL "
        "AND seq > (SELECT claimed_seq FROM chats WHERE chat = ?1)",
        (chat,),
    ).fetchone()
    last = max(answered, default=0)
    upto = last if row[0] is None else min(last, row[0] - 1)
    db.execute(
        "UPDATE chats SET claimed_seq = ?2 WHERE chat = ?1 AND claimed_seq < ?2", (chat, upto)
    )
    db.execute(
        "UPDATE chats SET wanted_seq = coalesce((SELECT max(seq) FROM inbox WHERE "
        "inbox.chat = chats.chat AND triggers = 1 AND gone IS NULL AND seq > claimed_seq), 0) "
        "WHERE chat = ? AND wanted_seq > claimed_seq",
        (chat,),
    )
    groups.settle_cursor(db, chat)


def waiting(db: Database, chat: ChatId) -> int:
    """How many messages of a chat ask for an answer that nobody has begun."""
    row = db.execute(
        "SELECT count(*) FROM inbox WHERE chat = ?1 AND triggers = 1 AND gone IS NULL "
        "AND seq > (SELECT claimed_seq FROM chats WHERE chat = ?1)",
        (chat,),
    ).fetchone()
    return int(row[0])


def keep_session(db: Database, folder: GroupId, session: str) -> bool:
    """Go on with a conversation of elsewhere, if the group has none yet and never had a run."""
    changed = db.execute(
        "UPDATE groups SET session = ?2 WHERE folder = ?1 AND session IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM runs WHERE folder = ?1)",
        (folder, session),
    )
    return changed.rowcount == 1
