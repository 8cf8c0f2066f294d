"""When a chat was last told of a kind of trouble.

The rule: a chat is told once within a cooldown, and what was held back meanwhile is counted.
"""

from __future__ import annotations

from pynchy.limits import RETRIES
from pynchy.model import ChatId, after
from pynchy.store.database import Tx


def may_tell(tx: Tx, chat: ChatId, kind: str, *, cooldown: float = RETRIES.notice) -> bool:
    """Whether to say it now; a yes begins the cooldown, a no is counted."""
    said = tx.execute(
        "INSERT INTO notices (chat, class, last_at) VALUES (?1, ?2, ?3) "
        "ON CONFLICT (chat, class) DO UPDATE SET last_at = ?3, held = 0 "
        "WHERE last_at <= ?4 OR last_at > ?3",
        (chat, kind, tx.now, after(tx.now, -cooldown)),
    )
    if said.rowcount == 1:
        return True
    tx.execute("UPDATE notices SET held = held + 1 WHERE chat = ? AND class = ?", (chat, kind))
    return False
