"""A conversation is shown in the order in which it was said, from both sides, and no more of it than was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from pynchy.model import MAIN, Attachment, ChatId, GroupId, Message, Micros, SenderId
from pynchy.store import groups, messages, outbox, transcript
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory

FAMILY = GroupId("family")
HERE, THERE = ChatId("console:family"), ChatId("console:garden")
END = Micros(1_000)


@pytest.fixture
def db() -> Connection:
    db = open_memory()
    groups.register(
        Tx(db, Micros(1)), folder=FAMILY, name="Family", chats=(HERE, THERE), trigger="Pynchy",
        requires_trigger=False,
    )  # fmt: skip
    return db


def say(db: Connection, text: str, at: int, chat: ChatId = HERE, **more: Any) -> None:
    sender = SenderId("console:anna")
    given = {"id": f"{chat}{at}", "sender": sender, "sender_name": "Anna", **more}
    said = Message(chat=chat, sent_at=Micros(at), text=text, **given)
    messages.receive(Tx(db, Micros(at)), said, command=text.startswith("/"))


def answer(db: Connection, text: str, at: int, *, sent: bool = True) -> None:
    tx = Tx(db, Micros(at), lambda: f"out{at}")
    [entry] = outbox.enqueue(tx, outbox.Author(FAMILY, HERE), [text])
    if sent:
        db.execute("UPDATE outbox SET state = 'sent', sent_at = ? WHERE id = ?", (at, entry))


def texts(db: Connection, start: int = 0, end: int = END, *, limit: int = 50) -> list[str]:
    chats = transcript.chats_named(db, FAMILY)
    found = transcript.between(db, chats, Micros(start), Micros(end), limit=limit)
    return [each.text for each in found]


def test_both_sides_and_all_chats_are_in_the_order_of_their_moments(db: Connection) -> None:
    say(db, "good morning", 100)
    answer(db, "Good morning!", 110)
    say(db, "from the garden", 105, THERE)
    say(db, "at the same moment", 110)
    say(db, "/status", 120)
    answer(db, "not sent yet", 130, sent=False)
    assert texts(db) == ["good morning", "from the garden", "at the same moment", "Good morning!"]
    found = transcript.between(db, [HERE], Micros(0), END, limit=9)
    assert [each.who for each in found] == ["Anna", "Anna", None]


def test_a_range_has_its_beginning_and_not_its_end(db: Connection) -> None:
    for at in (100, 200, 300):
        say(db, str(at), at)
    assert texts(db, 100, 300) == ["100", "200"]
    assert texts(db, limit=2) == ["200", "300"]  # the newest, in their order


def test_what_was_taken_back_is_not_shown_and_an_edit_is_its_last_text(db: Connection) -> None:
    say(db, "a secret", 100, id="1")
    say(db, "", 110, id="2", revokes="1")
    say(db, "tea", 120, id="3")
    say(db, "coffee", 130, id="4", edits="3")
    assert texts(db) == ["coffee"]


def test_files_are_named(db: Connection) -> None:
    file = Attachment("in/1/a.pdf", "application/pdf", 9, "bill.pdf")
    say(db, "", 100, attachments=(file, Attachment("in/1/b.jpg", "image/jpeg", 9)))
    [line] = transcript.between(db, [HERE], Micros(0), END, limit=9)
    assert line.files == ("bill.pdf", "b.jpg")


def test_a_name_means_a_group_a_chat_or_a_console(db: Connection) -> None:
    assert transcript.chats_named(db, "family") == [HERE, THERE]
    assert transcript.chats_named(db, "garden") == [THERE]
    assert transcript.chats_named(db, "console:garden") == [THERE]
    assert transcript.chats_named(db, MAIN) == groups.chats_of(db, MAIN)
    assert transcript.chats_named(db, "tickets") == []
