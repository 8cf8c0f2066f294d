"""Incoming messages: store them, and find the groups that have something to answer.

The rule: identity is (chat, sender, id), order is ``seq``; a time is never compared. Whether a message
is pending, done or dead is not written on it but follows from its chat's cursors and its turn, so the
two cannot disagree.
"""

from __future__ import annotations

import json

import attrs

from pynchy.model import (
    Attachment,
    ChatId,
    GroupId,
    Message,
    Micros,
    Quoted,
    SenderId,
    Seq,
    TurnId,
)
from pynchy.store import bot_loop, groups, languages, questions, search
from pynchy.store.database import Database, Tx
from pynchy.store.rows import column, exists, read_all, scalar, scalars
from pynchy.text.triggers import is_allowed, is_empty, is_trigger


@attrs.frozen
class Received:
    """What became of a message. ``seq`` is None if nothing was stored: known already, of a chat that is
    not registered, empty, our own output, or taken back. ``wakes``: a turn is wanted for it.
    ``answers`` names the question that it was taken for the answer to. ``loops``: its sender is taken
    for a program from now on, and is not answered for a while; the chat is to be told."""

    seq: Seq | None
    folder: GroupId | None
    wakes: bool
    answers: str | None = None
    loops: bool = False


def _quoted(text: str | None) -> Quoted | None:
    return None if text is None else Quoted(**json.loads(text))


def _attachments(text: str | None) -> tuple[Attachment, ...]:
    return () if text is None else tuple(Attachment(**each) for each in json.loads(text))


@attrs.frozen
class Stored:
    """A message as it was kept. ``edited``: it replaces one that was sent before."""

    seq: Seq = attrs.field(metadata=column("inbox.seq"))
    chat: ChatId = attrs.field(metadata=column("inbox.chat"))
    sender: SenderId
    sender_name: str
    id: str = attrs.field(metadata=column("message_id"))
    sent_at: Micros
    text: str
    triggers: bool
    own: bool
    quoted: Quoted | None = attrs.field(metadata=column(read=_quoted))
    attachments: tuple[Attachment, ...] = attrs.field(metadata=column(read=_attachments))
    edited: bool = attrs.field(metadata=column("edits IS NOT NULL"))
    kind: str  # "text", "notice" or "command"


def receive(tx: Tx, message: Message, *, command: bool = False) -> Received:
    """Keep a message once, however often it comes.

    ``command``: it is a chat command, kept for its identity alone; the agent never sees it. A second
    delivery has ``seq`` None, so what a command does can be done in the same transaction, once.
    """
    group = groups.by_chat(tx, message.chat)
    tx.execute(
        "INSERT INTO chats (chat, name, last_at) VALUES (?1, ?2, ?3) ON CONFLICT (chat) DO UPDATE "
        "SET name = CASE ?2 WHEN '' THEN name ELSE ?2 END, last_at = max(coalesce(last_at, 0), ?3)",
        (message.chat, message.chat_name or "", min(message.sent_at, tx.now)),
    )
    if group is None:
        return Received(None, None, wakes=False)
    nothing = Received(None, group.folder, wakes=False)
    if not is_allowed(message, group) and _ignores_others(tx, group.folder):
        return nothing
    if message.revokes is not None:
        _revoke(tx, message, message.revokes)
        return nothing
    if is_empty(message) or is_own_output(tx, message.id):
        return nothing

    replies = message.quoted is not None and is_own_output(tx, message.quoted.id)
    triggers = not command and is_trigger(message, group, replies=replies)
    if message.edits is not None:
        may_ask = _edit(tx, message, message.edits)
        if may_ask is None:
            return nothing
        triggers = triggers and may_ask
    asked = None
    if not command:
        asked = questions.fitting(tx, message, group, triggers=triggers)
    seq = _insert(tx, message, triggers=triggers and asked is None, command=command)
    if seq is None:
        return nothing
    if not command:
        search.put(tx, "inbox_fts", seq, message.text, group.folder)
        if languages.learn(tx, group.folder, message.text):
            search.refresh_newest(tx, group.folder)
    if asked is not None:
        answered = questions.answer(tx, asked, message, group)
        if answered is not None:
            wakes = answered.wakes and not group.paused
            return Received(seq, group.folder, wakes=wakes, answers=answered.question)
        tx.execute("UPDATE inbox SET triggers = ? WHERE seq = ?", (triggers, seq))
    if triggers and (found := bot_loop.judge(tx, message, seq=seq)) != "human":
        tx.execute("UPDATE inbox SET triggers = 0 WHERE seq = ?", (seq,))
        return Received(seq, group.folder, wakes=False, loops=found == "begins")
    if triggers:
        tx.execute("UPDATE chats SET wanted_seq = ? WHERE chat = ?", (seq, message.chat))
    return Received(seq, group.folder, wakes=triggers and not group.paused)


def _ignores_others(db: Database, folder: GroupId) -> bool:
    return groups.settings(db, folder).get("others") == "ignored"


def is_own_output(db: Database, message_id: str) -> bool:
    """Whether we chose this id for something we sent: it is never taken for input."""
    return exists(db, "SELECT 1 FROM outbox WHERE message_id = ?", (message_id,))


def is_in(db: Database, chat: ChatId, message_id: str) -> bool:
    """Whether a message of this id was said in this chat."""
    sql = "SELECT 1 FROM inbox WHERE message_id = ? AND chat = ? AND kind = 'text' AND gone IS NULL"
    return exists(db, sql, (message_id, chat))


def last_asked(db: Database, turn: TurnId) -> str | None:
    """The id of the newest message that a turn is to answer."""
    sql = (
        "SELECT message_id FROM turn_inputs JOIN inbox USING (seq) "
        "WHERE turn_id = ? AND triggers = 1 AND gone IS NULL ORDER BY seq DESC LIMIT 1"
    )
    return scalar(db, str, sql, (turn,))


def waiting_groups(tx: Tx) -> list[GroupId]:
    """Groups with something for a session to do now: unanswered triggers, due retries, notices.

    One indexed question, however many groups and messages there are. Paused groups are left out, and
    chats whose oldest turn waits for its retry: see `next_retry`.
    """
    sql = (
        "SELECT folder FROM groups WHERE paused = 0 AND folder IN ("
        "  SELECT folder FROM chats INDEXED BY chats_waiting"
        "  WHERE folder IS NOT NULL AND wanted_seq > claimed_seq AND NOT EXISTS ("
        "    SELECT 1 FROM turns INDEXED BY turns_live WHERE turns.chat = chats.chat"
        "    AND ended_at IS NULL AND state = 'waiting' AND kind = 'message')"
        "  UNION SELECT folder FROM turns WHERE state = 'waiting' AND retry_at <= ?"
        "  AND kind IN ('message', 'notice')"
        ") ORDER BY folder"
    )
    return scalars(tx, GroupId, sql, (tx.now,))


def next_retry(db: Database, folder: GroupId) -> Micros | None:
    """When the first waiting turn of a group's session falls due, if one waits."""
    sql = (
        "SELECT min(retry_at) FROM turns WHERE folder = ? AND state = 'waiting' "
        "AND kind IN ('message', 'notice')"
    )
    return scalar(db, Micros, sql, (folder,))


def history(db: Database, chat: ChatId, *, limit: int, before: Seq | None = None) -> list[Stored]:
    """The newest messages of a chat, oldest first."""
    found = read_all(
        db,
        Stored,
        "FROM inbox WHERE chat = ? AND kind <> 'command' AND gone IS NULL "
        "AND kind = 'text' AND seq < ? ORDER BY seq DESC LIMIT ?",
        (chat, before if before is not None else 1 << 62, limit),
    )
    return found[::-1]


def _insert(tx: Tx, message: Message, *, triggers: bool, command: bool) -> Seq | None:
    quoted = None if message.quoted is None else json.dumps(attrs.asdict(message.quoted))
    attachments = json.dumps([attrs.asdict(each) for each in message.attachments])
    seq = tx.insert_new(
        "inbox",
        chat=message.chat,
        sender=message.sender,
        sender_name=message.sender_name,
        message_id=message.id,
        sent_at=message.sent_at,
        received_at=tx.now,
        kind="command" if command else "text",
        text=message.text,
        triggers=triggers,
        own=message.from_me,
        mentions=message.mentions_me,
        edits=message.edits,
        quoted=quoted,
        attachments=attachments if message.attachments else None,
    )
    return None if seq is None else Seq(seq)


@attrs.frozen
class _Version:
    """A message, or an edit of it, and what has become of it."""

    seq: Seq = attrs.field(metadata=column("inbox.seq"))
    gone: str | None
    #: No run has it: it may still be replaced or taken back.
    pending: bool = attrs.field(
        metadata=column("coalesce(turns.state = 'waiting', inbox.seq > claimed_seq)")
    )
    #: It asked, and that has come to an end.
    answered: bool = attrs.field(
        metadata=column(
            "inbox.triggers AND gone IS NULL "
            "AND coalesce(turns.state NOT IN ('waiting', 'claimed'), inbox.seq <= claimed_seq)"
        )
    )


def _versions(db: Database, message: Message, original: str) -> list[_Version]:
    return read_all(
        db,
        _Version,
        "FROM inbox JOIN chats USING (chat) LEFT JOIN turn_inputs USING (seq) "
        "LEFT JOIN turns ON turns.id = turn_inputs.turn_id "
        "WHERE inbox.seq IN ("
        "  SELECT seq FROM inbox WHERE chat = ?1 AND sender = ?2 AND message_id = ?3 UNION ALL "
        "  SELECT seq FROM inbox WHERE chat = ?1 AND sender = ?2 AND edits = ?3) ORDER BY inbox.seq",
        (message.chat, message.sender, original),
    )


def _edit(db: Database, message: Message, original: str) -> bool | None:
    """Let an edit take the place of what it edits; whether it may ask for an answer.

    It may, if what it replaces was not answered yet; else the new text is context. None: what it edits
    was taken back, and so is the edit.
    """
    versions = _versions(db, message, original)
    if any(each.gone == "revoked" for each in versions):
        return None
    asked_again = False
    for each in versions:
        if each.pending and each.gone is None:
            asked_again |= _take_back(db, message.chat, each.seq, gone="edited")
    return asked_again or not any(each.answered for each in versions)


def _revoke(tx: Tx, message: Message, original: str) -> None:
    for each in _versions(tx, message, original):
        if each.pending and each.gone is None:
            _take_back(tx, message.chat, each.seq, gone="revoked")
    # It may come before what it takes back: its place is kept, so that the late one is ignored.
    tx.insert_new(
        "inbox",
        chat=message.chat,
        sender=message.sender,
        sender_name="",
        message_id=original,
        sent_at=message.sent_at,
        received_at=tx.now,
        kind="text",
        text="",
        triggers=False,
        own=False,
        gone="revoked",
    )


def _take_back(db: Database, chat: ChatId, seq: Seq, *, gone: str) -> bool:
    """Hide a message from every later prompt; nothing is owed for it any more. Whether it asked."""
    row = db.execute(
        "UPDATE inbox SET gone = ?1, text = CASE ?1 WHEN 'revoked' THEN '' ELSE text END, "
        "quoted = CASE ?1 WHEN 'revoked' THEN NULL ELSE quoted END, "
        "attachments = CASE ?1 WHEN 'revoked' THEN NULL ELSE attachments END "
        "WHERE seq = ?2 RETURNING triggers",
        (gone, seq),
    ).fetchone()
    if gone == "revoked":
        search.drop(db, "inbox_fts", seq)
    groups.settle_wanted(db, chat)
    return bool(row[0])
