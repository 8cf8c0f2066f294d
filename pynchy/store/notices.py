"""Notices from the host to people: one per chat and kind of trouble within a cooldown.

The rule: whatever is given up is told in the transaction that gives it up. People hear of each trouble, and never
a thousand times.
"""

from __future__ import annotations

from pynchy.limits import RETRIES
from pynchy.model import ChatId, GroupId, Micros, TurnId
from pynchy.store import cooldown, groups, outbox
from pynchy.store.database import Database, Tx


def tell(tx: Tx, chat: ChatId, text: str, *, turn: TurnId | None = None) -> int:
    """Say something to a chat, in the host's name."""
    group = groups.by_chat(tx, chat)
    folder = group.folder if group is not None else GroupId("")
    (entry,) = outbox.enqueue(tx, outbox.Author(folder, chat, turn, notice=True), (text,))
    return entry


def tell_once(tx: Tx, chat: ChatId, kind: str, text: str, *, since: Micros | None = None) -> bool:
    """Say something unless the chat heard of this class within the cooldown; whether it was said.

    ``since``: when its cause began. Of one cause a chat hears once, however long it lasts.
    """
    lasted = 0.0 if since is None else (tx.now - since) / 1e6 + 1.0
    wait = max(RETRIES.notice, lasted)
    if not cooldown.may_tell(tx, chat, kind, cooldown=wait):
        return False
    tell(tx, chat, text)
    return True


def forget(db: Database, chat: ChatId, kind: str) -> None:
    """What this class of trouble came to is said: the next of it is told anew."""
    db.execute("DELETE FROM notices WHERE chat = ? AND class = ?", (chat, kind))


def tell_main_once(tx: Tx, kind: str, text: str, *, since: Micros | None = None) -> bool:
    """Say something to main unless it heard of this class within the cooldown; whether it was said. ``since``: see
    `tell_once`."""
    chat = groups.main_chat(tx)
    return chat is not None and tell_once(tx, chat, kind, text, since=since)


def tell_main(tx: Tx, text: str, *, but: ChatId | None = None) -> bool:
    """Say something to main, in another chat than ``but``; False if there is none."""
    chat = groups.main_chat(tx, but=but)
    if chat is None:
        return False
    tell(tx, chat, text)
    return True
