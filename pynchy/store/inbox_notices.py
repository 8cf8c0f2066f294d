"""What the host tells the agent of a chat, with its next prompt."""

from __future__ import annotations

from pynchy.model import ChatId
from pynchy.store.database import Tx


def add_notice(tx: Tx, chat: ChatId, *, id: str, text: str) -> None:
    """Something the agent of a chat is to know with its next prompt. It wakes nobody; once per ``id``."""
    tx.execute(
        "INSERT OR IGNORE INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, "
        "kind, text, triggers, own) SELECT chat, 'pynchy', '', ?2, ?3, ?3, 'notice', ?4, 0, 0 "
        "FROM chats WHERE chat = ?1 AND folder IS NOT NULL",
        (chat, id, tx.now, text),
    )
