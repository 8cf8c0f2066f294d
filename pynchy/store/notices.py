"""The host's own words to people: one for each chat and class of trouble within a cooldown.

The rule: whatever is given up is said here, in the transaction that gives it up. Never thousands,
never silence.
"""

from __future__ import annotations

from pynchy.model import ChatId, GroupId, Micros, TurnId
from pynchy.policy import failures
from pynchy.store import cooldown, groups, outbox
from pynchy.store.database import Database, NewId


def tell(
    db: Database,
    chat: ChatId,
    text: str,
    *,
    now: Micros,
    new_id: NewId,
    turn: TurnId | None = None,
) -> int:
    """Say something to a chat, in the host's name."""
    group = groups.by_chat(db, chat)
    folder = group.folder if group is not None else GroupId("")
    (entry,) = outbox.enqueue(
        db,
        folder=folder,
        chat=chat,
        texts=(text,),
        turn=turn,
        notice=True,
        now=now,
        new_id=new_id,
    )
    return entry


def tell_once(
    db: Database,
    chat: ChatId,
    kind: str,
    text: str,
    *,
    now: Micros,
    new_id: NewId,
    since: Micros | None = None,
) -> bool:
    """Say something unless the chat heard of this class within the cooldown; whether it was said.

    ``since``: when its cause began. Of one cause a chat hears once, however long it lasts.
    """
    lasted = 0.0 if since is None else (now - since) / 1e6 + 1.0
    wait = max(failures.NOTICE_COOLDOWN, lasted)
    if not cooldown.may_tell(db, chat, kind, now=now, cooldown=wait):
        return False
    tell(db, chat, text, now=now, new_id=new_id)
    return True


def forget(db: Database, chat: ChatId, kind: str) -> None:
    """What this class of trouble came to is said: the next of it is told anew."""
    db.execute("DELETE FROM notices WHERE chat = ? AND class = ?", (chat, kind))


def tell_main_once(db: Database, kind: str, text: str, *, now: Micros, new_id: NewId) -> bool:
    """Say something to main unless it heard of this class within the cooldown; whether it was said."""
    chat = groups.main_chat(db)
    return chat is not None and tell_once(db, chat, kind, text, now=now, new_id=new_id)


def tell_main(
    db: Database, text: str, *, now: Micros, new_id: NewId, but: ChatId | None = None
) -> bool:
    """Say something to main, in another chat than ``but``; False if there is none."""
    chat = groups.main_chat(db, but=but)
    if chat is None:
        return False
    tell(db, chat, text, now=now, new_id=new_id)
    return True
