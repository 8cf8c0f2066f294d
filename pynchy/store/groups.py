"""Groups, and the chats that belong to them.

The rule: a folder's name identifies a group for good. Removing a group deletes its row and keeps its history;
registering the folder again starts at a higher epoch, so that nothing late from before is accepted.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from pynchy.model import (
    MAIN,
    MAIN_CONSOLE,
    ChatId,
    Group,
    GroupId,
    Micros,
    RunId,
    SenderId,
    channel_of,
    folder_of,
)
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, number, read_all, read_one, scalar, scalars


class CannotRegister(ValueError):
    """The registration asks for something that is taken or not allowed. Nothing was changed."""


@attrs.frozen
class Chat:
    """A chat that was seen. ``folder``: the group that it is registered for, if it is."""

    chat: ChatId
    name: str
    last_at: Micros | None
    folder: GroupId | None


@attrs.frozen
class Present:
    """A group's chats with their names, and the names of who spoke in them, the newest of each person."""

    chats: tuple[tuple[ChatId, str], ...]
    people: tuple[str, ...]


#: Messages of each chat in which people are looked for.
LOOKED_AT: Final = 500


def register(
    tx: Tx,
    *,
    folder: GroupId,
    name: str,
    chats: tuple[ChatId, ...],
    trigger: str,
    requires_trigger: bool,
) -> Group:
    """Make a group with its chats. Raises `CannotRegister` if the folder or a chat is taken, or none."""
    if folder_of(folder) is None:
        raise CannotRegister(f"{folder[:80]!r} is no name for a folder: a-z, 0-9 and -, 63 at most")
    if get(tx, folder) is not None:
        raise CannotRegister(f"folder {folder} is registered already")
    for chat in chats:  # before anything is written
        _check_free(tx, folder, chat)
    tx.insert(
        "groups",
        folder=folder,
        name=name,
        trigger=trigger,
        requires_trigger=requires_trigger,
        is_main=folder == MAIN,
        paused=False,
        epoch=number(tx, "SELECT max(epoch) + 1 FROM runs WHERE folder = ?", (folder,)),
        settings="{}",
        created_at=tx.now,
    )
    for chat in chats:
        add_chat(tx, folder, chat)
    found = get(tx, folder)
    assert found is not None  # it was written in this transaction
    return found


def ensure_main(tx: Tx, *, name: str, trigger: str) -> Group:
    """The main group, made with `console:main` if this is the first start."""
    found = get(tx, MAIN)
    if found is not None:
        return found
    return register(
        tx, folder=MAIN, name=name, chats=(MAIN_CONSOLE,), trigger=trigger, requires_trigger=False
    )


def add_chat(db: Database, folder: GroupId, chat: ChatId) -> None:
    """Register one more chat for a group; main has at most one per channel."""
    if _check_free(db, folder, chat):
        return
    if folder == MAIN and any(channel_of(c) == channel_of(chat) for c in chats_of(db, folder)):
        raise CannotRegister(f"main has a chat on {channel_of(chat)} already")
    db.execute(
        "INSERT INTO chats (chat, folder) VALUES (?, ?) "
        "ON CONFLICT (chat) DO UPDATE SET folder = excluded.folder",
        (chat, folder),
    )


def _check_free(db: Database, folder: GroupId, chat: ChatId) -> bool:
    """Raise `CannotRegister` if a chat is another group's; whether it is this one's already."""
    row = db.execute("SELECT folder FROM chats WHERE chat = ?", (chat,)).fetchone()
    if row is None or row[0] is None:
        return False
    if row[0] != folder:
        raise CannotRegister(f"chat {chat} belongs to {row[0]} already")
    return True


def remove_chat(db: Database, chat: ChatId) -> None:
    """A chat is no longer answered; what was pending in it is passed over."""
    db.execute(
        "UPDATE chats SET folder = NULL, "
        "claimed_seq = max(claimed_seq, coalesce("
        "(SELECT max(seq) FROM inbox WHERE inbox.chat = chats.chat), 0)) WHERE chat = ?",
        (chat,),
    )
    settle_cursor(db, chat)


def settle_cursor(db: Database, chat: ChatId) -> None:
    """Move ``done_seq`` up to the first thing of the chat that has not ended."""
    db.execute(
        "UPDATE chats SET done_seq = coalesce("
        "(SELECT min(lo) FROM turns WHERE turns.chat = chats.chat AND ended_at IS NULL), "
        "claimed_seq) WHERE chat = ?",
        (chat,),
    )


def settle_wanted(db: Database, chat: ChatId) -> None:
    """Move ``wanted_seq`` down to the newest message of the chat that still asks for an answer."""
    db.execute(
        "UPDATE chats SET wanted_seq = coalesce((SELECT max(seq) FROM inbox WHERE "
        "inbox.chat = chats.chat AND triggers = 1 AND gone IS NULL AND seq > claimed_seq), 0) "
        "WHERE chat = ? AND wanted_seq > claimed_seq",
        (chat,),
    )


def remove(db: Database, folder: GroupId) -> bool:
    """Forget a group's row; its files and history stay. Its turns must have ended (`turns.cancel`
    with ``all_of_it``). Its tasks are over: nothing late from before can speak."""
    if folder == MAIN:
        raise CannotRegister("main cannot be removed")
    db.execute(
        "UPDATE tasks SET state = 'cancelled', next_run = NULL, reason = 'its group was removed' "
        "WHERE folder = ? AND state IN ('active', 'paused')",
        (folder,),
    )
    for chat in chats_of(db, folder):
        remove_chat(db, chat)
    return db.execute("DELETE FROM groups WHERE folder = ?", (folder,)).rowcount == 1


def registered_chats(db: Database) -> list[tuple[ChatId, GroupId]]:
    """Every chat that is answered, with its group."""
    return db.execute(
        "SELECT chat, folder FROM chats WHERE folder IS NOT NULL ORDER BY chat"
    ).fetchall()


def get(db: Database, folder: GroupId) -> Group | None:
    """The group of this folder."""
    return read_one(db, Group, "FROM groups WHERE folder = ?", (folder,))


def is_since(db: Database, folder: GroupId, moment: Micros) -> bool:
    """Whether there is a group of this folder, and it is the one that was there at that moment."""
    return exists(db, "SELECT 1 FROM groups WHERE folder = ? AND created_at <= ?", (folder, moment))


def by_chat(db: Database, chat: ChatId) -> Group | None:
    """The group that a chat is registered for."""
    rest = "FROM groups WHERE folder = (SELECT folder FROM chats WHERE chat = ?)"
    return read_one(db, Group, rest, (chat,))


def list_groups(db: Database) -> list[Group]:
    """All groups, main first, then by folder."""
    return read_all(db, Group, "FROM groups ORDER BY is_main DESC, folder")


def unregistered_chats(db: Database, *, limit: int) -> tuple[list[Chat], int]:
    """Chats that were seen and belong to no group, the latest active first; and how many there are in all."""
    rest = "FROM chats WHERE folder IS NULL ORDER BY last_at IS NULL, last_at DESC, chat LIMIT ?"
    count = number(db, "SELECT count(*) FROM chats WHERE folder IS NULL")
    return read_all(db, Chat, rest, (limit,)), count


def seen_chat(db: Database, chat: ChatId) -> Chat | None:
    """A chat that was seen, registered or not."""
    return read_one(db, Chat, "FROM chats WHERE chat = ?", (chat,))


def chats_of(db: Database, folder: GroupId) -> list[ChatId]:
    """The registered chats of a group."""
    return scalars(db, ChatId, "SELECT chat FROM chats WHERE folder = ? ORDER BY chat", (folder,))


def present(db: Database, folder: GroupId) -> Present:
    """The chats of a group, and who was seen in them lately. Looks back a bounded number of messages."""
    names: dict[SenderId, str] = {}
    chats = chats_of(db, folder)
    for chat in chats:
        rows = db.execute(
            "SELECT sender, sender_name FROM (SELECT seq, kind, sender, sender_name FROM inbox "
            "WHERE chat = ? AND kind <> 'command' AND gone IS NULL ORDER BY seq DESC LIMIT ?) "
            "WHERE kind = 'text' AND sender_name <> '' ORDER BY seq",
            (chat, LOOKED_AT),
        )
        names.update(rows.fetchall())
    return Present(
        tuple((chat, chat_name(db, chat)) for chat in chats), tuple(sorted(set(names.values())))
    )


def spoke_last(db: Database, *, limit: int) -> list[GroupId]:
    """Groups that were last given an answer, the latest first. Looks back a bounded number of turns."""
    sql = (
        "SELECT folder FROM (SELECT id, folder, kind FROM turns ORDER BY id DESC LIMIT 1000) "
        "JOIN groups USING (folder) WHERE kind = 'message' "
        "GROUP BY folder ORDER BY max(id) DESC LIMIT ?"
    )
    return scalars(db, GroupId, sql, (limit,))


def chat_name(db: Database, chat: ChatId) -> str:
    """The name a chat was last seen with, or nothing."""
    return scalar(db, str, "SELECT name FROM chats WHERE chat = ?", (chat,)) or ""


def main_chat(db: Database, *, but: ChatId | None = None) -> ChatId | None:
    """Where to tell main something: its messenger chat if it has one, else the console."""
    found = [chat for chat in chats_of(db, MAIN) if chat != but]
    found.sort(key=lambda chat: channel_of(chat) == "console")
    return found[0] if found else None


def see_chat(db: Database, chat: ChatId, *, name: str) -> None:
    """A chat exists and is called so. Its time of last activity is left alone."""
    db.execute(
        "INSERT INTO chats (chat, name) VALUES (?, ?) "
        "ON CONFLICT (chat) DO UPDATE SET name = excluded.name WHERE excluded.name <> ''",
        (chat, name),
    )


def set_paused(db: Database, folder: GroupId, *, paused: bool) -> bool:
    """Pause or resume a group; whether that changed anything."""
    changed = db.execute(
        "UPDATE groups SET paused = ? WHERE folder = ? AND paused <> ?", (paused, folder, paused)
    )
    return changed.rowcount == 1


def update(
    db: Database,
    folder: GroupId,
    *,
    name: str | None = None,
    trigger: str | None = None,
    requires_trigger: bool | None = None,
    called_by: str | None = None,
) -> Group | None:
    """Change what is given, keep the rest; None if there is no such group."""
    db.execute(
        "UPDATE groups SET name = coalesce(?, name), trigger = coalesce(?, trigger), "
        "requires_trigger = coalesce(?, requires_trigger), called_by = coalesce(?, called_by) WHERE folder = ?",
        (name, trigger, requires_trigger, called_by, folder),
    )
    return get(db, folder)


def set_model(db: Database, folder: GroupId, model: str | None) -> None:
    """The model for the group's next runs; None for the default."""
    db.execute("UPDATE groups SET model = ? WHERE folder = ?", (model, folder))


def model_of(db: Database, folder: GroupId) -> str | None:
    """The model that a group has of its own."""
    return scalar(db, str, "SELECT model FROM groups WHERE folder = ?", (folder,))


def set_allowed_senders(
    db: Database, folder: GroupId, senders: tuple[SenderId, ...] | None
) -> None:
    """Who may ask; None for everybody."""
    listed = None if senders is None else json.dumps(senders)
    db.execute("UPDATE groups SET allowed_senders = ? WHERE folder = ?", (listed, folder))


def settings(db: Database, folder: GroupId) -> dict[str, Any]:
    """What else is set for a group: limits, mounts, egress. Empty where the defaults hold."""
    sql = "SELECT settings FROM groups WHERE folder = ?"
    return scalar(db, json.loads, sql, (folder,)) or {}


def with_mounts(db: Database) -> dict[GroupId, dict[str, Any]]:
    """What else is set for each group that has mounts."""
    rows = db.execute(
        "SELECT folder, settings FROM groups WHERE json_extract(settings, '$.mounts') <> '[]'"
    )
    return {GroupId(folder): json.loads(text) for folder, text in rows}


def set_settings(db: Database, folder: GroupId, settings: dict[str, Any]) -> None:
    """Replace what else is set for a group."""
    db.execute("UPDATE groups SET settings = ? WHERE folder = ?", (json.dumps(settings), folder))


def set_session(db: Database, run: RunId, session: str) -> bool:
    """Keep the session a run has just begun or resumed; False if the run is superseded, or has a
    session of its own.

    Called as soon as the agent names it, so that a turn which dies can be resumed in it.
    """
    changed = db.execute(
        "UPDATE groups SET session = ?1 WHERE (folder, epoch) = ("
        "  SELECT folder, epoch FROM runs WHERE id = ?2 AND kind <> 'delegate') "
        "AND NOT EXISTS (SELECT 1 FROM turns WHERE run_id = ?2 AND isolated = 1)",
        (session, run),
    )
    if changed.rowcount:  # it has archived what was over before it
        db.execute(
            "DELETE FROM ended_sessions WHERE folder = (SELECT folder FROM runs WHERE id = ?)",
            (run,),
        )
    return changed.rowcount == 1


def clear_session(db: Database, folder: GroupId, *, session: str) -> bool:
    """Forget a session that cannot be resumed; whether it was still the one in use.

    True exactly once for each stale session, so the caller can say it exactly once.
    """
    if exists(db, "SELECT 1 FROM groups WHERE folder = ? AND session = ?", (folder, session)):
        _end_session(db, folder)
    changed = db.execute(
        "UPDATE groups SET session = NULL WHERE folder = ? AND session = ?", (folder, session)
    )
    return changed.rowcount == 1


def new_session(db: Database, folder: GroupId) -> None:
    """Start afresh: whatever an older run still says about its session is refused from now on."""
    _end_session(db, folder)
    db.execute("UPDATE groups SET epoch = epoch + 1, session = NULL WHERE folder = ?", (folder,))


def _end_session(db: Database, folder: GroupId) -> None:
    """Note that a group's conversation is over, for its next run to archive."""
    db.execute(
        "INSERT OR IGNORE INTO ended_sessions SELECT folder, session FROM groups "
        "WHERE folder = ? AND session IS NOT NULL",
        (folder,),
    )


def ended_sessions(db: Database, folder: GroupId) -> tuple[str, ...]:
    """The conversations of a group that are over and were not archived yet; the newest few."""
    sql = "SELECT session FROM ended_sessions WHERE folder = ? LIMIT 20"
    return tuple(scalars(db, str, sql, (folder,)))
