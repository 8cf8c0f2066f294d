"""What is kept for good, and what is found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.model import ChatId, GroupId, Message, Micros, SenderId
from pynchy.store import groups, memory, messages
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory

NOW = Micros(1_780_000_000_000_000)
FAMILY, WORK = GroupId("family"), GroupId("work")


@pytest.fixture
def db() -> Connection:
    db = open_memory()
    for folder in (FAMILY, WORK):
        groups.register(
            Tx(db, NOW),
            folder=folder,
            name=folder,
            chats=(ChatId(f"console:{folder}"),),
            trigger="Pynchy",
            requires_trigger=True,
        )
    return db


def keep(db: Connection, folder: GroupId | None, text: str) -> str:
    id = f"{abs(hash((folder, text))):032x}"[:32]
    return memory.remember(Tx(db, NOW), folder, text, id=id).id


def recall(db: Connection, folder: GroupId, question: str) -> list[str]:
    return [each.text for each in memory.recall(db, folder, question, limit=10)]


def test_the_best_fit_comes_first_and_other_groups_are_not_seen(db: Connection) -> None:
    # invariant 157
    keep(db, FAMILY, "Anna likes cherry cake")
    keep(db, FAMILY, "the cake shop closes at six")
    keep(db, WORK, "Anna wants cherry cake for the review")  # threat K5
    keep(db, None, "cake is spelled c a k e")
    assert recall(db, FAMILY, "cherry cake")[0] == "Anna likes cherry cake"
    assert set(recall(db, FAMILY, "Anna cake")) == {
        "Anna likes cherry cake",
        "the cake shop closes at six",
        "cake is spelled c a k e",
    }


def test_a_fact_is_forgotten_by_its_own_group_alone(db: Connection) -> None:
    id = keep(db, FAMILY, "the door code is 4711")
    shared = keep(db, None, "the sky is blue")
    assert not memory.forget(db, WORK, id, shared_too=True)
    assert not memory.forget(db, FAMILY, shared, shared_too=False)
    assert memory.forget(db, FAMILY, id, shared_too=False)
    assert recall(db, FAMILY, "door code") == []
    assert memory.forget(db, FAMILY, shared, shared_too=True)


def test_accents_do_not_matter_and_twice_is_once(db: Connection) -> None:
    keep(db, FAMILY, "José brings the café")
    keep(db, FAMILY, "José brings the café")
    assert recall(db, FAMILY, "jose cafe") == ["José brings the café"]


def say(db: Connection, text: str, *, id: str, **more: str) -> None:
    message = Message(
        chat=ChatId("console:family"),
        id=id,
        sender=SenderId("console:anna"),
        sender_name="Anna",
        sent_at=NOW,
        text=text,
        **more,  # type: ignore[arg-type]  # edits or revokes
    )
    messages.receive(Tx(db, NOW), message)


def test_history_forgets_what_was_taken_back(db: Connection) -> None:
    say(db, "the surprise party is on Friday", id="1")
    assert [each.text for each in memory.said(db, FAMILY, "party friday", limit=5)] == [
        "the surprise party is on Friday"
    ]
    assert memory.said(db, WORK, "party", limit=5) == []
    say(db, "", id="2", revokes="1")
    assert memory.said(db, FAMILY, "party", limit=5) == []


@given(question=st.text(max_size=200))
def test_no_question_is_an_error(question: str) -> None:
    db = open_memory()
    keep(db, None, "anything at all")
    memory.recall(db, FAMILY, question, limit=5)
    memory.said(db, FAMILY, question, limit=5)


def test_operators_are_words(db: Connection) -> None:
    keep(db, FAMILY, "rock AND roll NOT jazz")
    for question in ('"', "roll NOT rock", "text:roll", "ro*", "NEAR(rock roll)", "^rock", "-roll"):
        memory.recall(db, FAMILY, question, limit=5)
    assert recall(db, FAMILY, "roll NOT rock") == ["rock AND roll NOT jazz"]
