"""What is kept for good, and what is found again."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.actions import memory as acts
from pynchy.actions.actor import Actor
from pynchy.actions.refused import Refused
from pynchy.model import MAIN, ChatId, GroupId, Message, Micros, SenderId
from pynchy.policy import group_settings
from pynchy.store import groups, languages, memory, messages, search
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory
from pynchy.text import terms

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


def test_where_nothing_fits_a_part_of_a_longer_word_is_enough(db: Connection) -> None:
    groups.set_settings(Tx(db, NOW), FAMILY, {"language": "de"})
    keep(db, FAMILY, "Anna hat eine Nussallergie")
    keep(db, FAMILY, "Oma hat montags Wassergymnastik")
    keep(db, WORK, "Milchallergie im Team")  # threat K5
    assert recall(db, FAMILY, "Allergien") == ["Anna hat eine Nussallergie"]
    assert recall(db, FAMILY, "Wann ist die Gymnastik?") == ["Oma hat montags Wassergymnastik"]
    assert recall(db, FAMILY, "Masse") == []
    assert recall(db, FAMILY, "uss") == [], "it is too short to tell anything"
    keep(db, FAMILY, "eine Allergie")
    assert recall(db, FAMILY, "Allergie") == ["eine Allergie"], "and no more where one fits"


def test_a_fact_is_forgotten_by_its_own_group_alone(db: Connection) -> None:
    id = keep(db, FAMILY, "the door code is 4711")
    shared = keep(db, None, "the sky is blue")
    for actor, fact in ((agent(WORK), id), (agent(MAIN), id), (agent(FAMILY), shared)):
        with pytest.raises(Refused):
            acts.forget(Tx(db, NOW), actor, fact)
        with pytest.raises(Refused):
            acts.change(Tx(db, NOW), actor, fact, "it is 0815")
    acts.forget(Tx(db, NOW), agent(FAMILY), id)
    assert recall(db, FAMILY, "door code") == []
    acts.forget(Tx(db, NOW), agent(MAIN), shared)
    assert recall(db, FAMILY, "blue sky") == []


def test_accents_do_not_matter_and_twice_is_once(db: Connection) -> None:
    keep(db, FAMILY, "José brings the café")
    keep(db, FAMILY, "José brings the café")
    assert recall(db, FAMILY, "jose cafe") == ["José brings the café"]


def agent(folder: GroupId) -> Actor:
    is_main = folder == MAIN
    return Actor("agent", f"agent of {folder}", folder=folder, is_main=is_main, trusted=is_main)


def say(db: Connection, text: str, *, id: str, sent_at: Micros = NOW, **more: str) -> None:
    message = Message(
        chat=ChatId("console:family"),
        id=id,
        sender=SenderId("console:anna"),
        sender_name="Anna",
        sent_at=sent_at,
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


# --- what finds what -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "fact", "question"),
    [
        ("en", "Anna is allergic to hazelnuts", "allergies"),
        ("en", "two cities on the way", "city"),
        ("en", "the meeting is moved", "meetings"),
        ("de", "Häuser mit Garten", "Haus"),
        ("de", "die Straße ist gesperrt", "Strasse"),
        ("de", "Geburtstagskuchen bestellt", "Geburtstag"),
        ("es", "Ana comió con nosotros", "comer"),
        ("es", "Ana es alérgica a las nueces", "alergias"),
        ("fr", "il a mangé les chevaux", "manger cheval"),
        ("ru", "аллергия на орехи", "аллергии"),
        ("tr", "evlerimiz geldi", "evler"),
        ("fi", "kissoilla on ruokaa", "kissat"),
        ("hi", "अन्ना को एलर्जी है", "एलर्जी"),
        ("zh", "安娜对花生过敏", "过敏"),
        ("zh", "安娜对花生过敏", "安娜对什么过敏"),
        ("ja", "アンナはピーナッツアレルギーです", "アレルギー"),
        ("ja", "明日は雨", "雨"),
        ("ko", "안나는 땅콩 알레르기가 있다", "알레르기"),
        ("th", "แอนนาแพ้ถั่ว", "แพ้ถั่ว"),
    ],
)
def test_a_word_is_found_in_another_form(
    db: Connection, language: str, fact: str, question: str
) -> None:
    # Each is one that may be set, also those whose words have no stems.
    settings = group_settings.with_value({}, "language", language)
    groups.set_settings(Tx(db, NOW), FAMILY, settings)
    keep(db, FAMILY, fact)
    keep(db, FAMILY, "something else: чай, tee, 茶, 차, ชา")
    assert recall(db, FAMILY, question) == [fact]
    say(db, fact, id="1")
    assert [each.text for each in memory.said(db, FAMILY, question, limit=5)] == [fact]


def test_stop_words_decide_nothing(db: Connection) -> None:
    keep(db, FAMILY, "what I said about the car is that it is the one for us")
    keep(db, FAMILY, "Anna: allergic to nuts")
    assert recall(db, FAMILY, "what is it that Anna said about her allergies?") == [
        "Anna: allergic to nuts"
    ]
    assert len(recall(db, FAMILY, "the")) == 1  # where there is nothing else


def test_the_newest_is_first_among_equals(db: Connection) -> None:
    texts = [
        "Anna is allergic",
        "I wonder whether Anna is still as allergic as she was when we all went to the lake",
        "allergic, allergic: Anna",
    ]
    for number, text in enumerate(texts):
        say(db, text, id=str(number), sent_at=Micros(NOW + number))
    found = memory.said(db, FAMILY, "Anna's allergies", limit=5)
    assert [each.text for each in found] == texts[::-1]
    assert memory.said(db, FAMILY, "Anna's allergies", limit=1) == found[:1]


def test_a_rare_word_counts_more_than_a_frequent_one(db: Connection) -> None:
    say(db, "the kiln costs too much", id="kiln")
    for number in range(20):
        say(db, f"the cake of day {number}", id=str(number))
    assert memory.said(db, FAMILY, "cake or kiln", limit=1)[0].text == "the kiln costs too much"


def test_a_group_is_searched_in_the_language_that_it_writes(db: Connection) -> None:
    keep(db, FAMILY, "Kaffee in der Straße")
    assert recall(db, FAMILY, "Strassen") == []
    for number in range(8):
        say(
            db,
            "Wann kommst du denn heute nach Hause, und was wollen wir dann noch essen?",
            id=str(number),
        )
    assert languages.of(db, FAMILY) == "de"
    assert recall(db, FAMILY, "Strassen") == [
        "Kaffee in der Straße"
    ]  # what was there was indexed anew
    assert languages.of(db, WORK) == "en"


def test_another_language_is_indexed_a_window_at_a_time(db: Connection) -> None:
    for number in range(search.WINDOW + 3):
        say(db, f"Straße {number}", id=str(number))
    groups.set_settings(Tx(db, NOW), FAMILY, {"language": "de"})
    assert (
        memory.said(
            db,
            FAMILY,
            "Strassen",
            limit=500,
        )
        == []
    )
    first, onwards = search.refresh(db, "inbox_fts")
    assert (first, onwards is not None) == (search.WINDOW, True)
    assert search.refresh(db, "inbox_fts", onwards=onwards or 0) == (3, None)
    assert len(memory.said(db, FAMILY, "Strassen", limit=500)) == search.WINDOW + 3
    assert search.refresh(db, "inbox_fts")[0] == 0  # and then there is nothing to do


def test_a_changed_fact_is_found_by_its_new_words_alone(db: Connection) -> None:
    id = keep(db, FAMILY, "the bins are emptied on Tuesdays")
    memory.change(Tx(db, NOW), id, "the bins are emptied on Fridays")
    assert recall(db, FAMILY, "tuesday") == []
    assert recall(db, FAMILY, "friday") == ["the bins are emptied on Fridays"]


@functools.cache
def one_text() -> Connection:
    return open_memory()


def matches(text: str, question: str, language: str = "en") -> bool:
    """Whether a text that is indexed is found by a question; it is taken out again, without a trace."""
    db = one_text()
    db.execute("INSERT INTO memories_fts VALUES (?, ?)", (terms.indexed(text, language), language))
    found = [
        db.execute(
            "SELECT 1 FROM memories_fts WHERE memories_fts MATCH ?", (term.wider,)
        ).fetchall()
        for term in terms.read(question, (language,))
    ]
    search.drop(db, "memories_fts", 1)
    db.execute("INSERT INTO memories_fts (memories_fts) VALUES ('integrity-check')")
    assert db.execute("SELECT count(*) FROM memories_fts").fetchone() == (0,)
    return any(found)


@given(text=st.text(max_size=300), language=st.sampled_from([*terms.LANGUAGES, "xx"]))
def test_any_text_can_be_indexed_looked_for_and_taken_out_again(text: str, language: str) -> None:
    matches(text, text, language)


@pytest.mark.parametrize("word", ["过敏", "잔디", "ねこ", "แมว"])
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_unspaced_words_are_found_wherever_they_stand(word: str, before: str, after: str) -> None:
    assert matches(f"{before}{word}{after}", word)
