"""What happens to a message from its receipt to its turn."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.limits import BOTS
from pynchy.model import Attachment, ChatId, Message, Micros, Quoted, SenderId
from pynchy.store import claims, groups, inbox_notices, messages
from pynchy.store.database import Tx
from tests.rules.store_world import ANNA, CHAT, FAMILY, MAIN, MAIN_CONSOLE, World

BERT = SenderId("4918@s.whatsapp.net")
STRANGER = SenderId("4920@s.whatsapp.net")
STRANGE = ChatId("999@g.us")


def texts(claimed: claims.Claimed) -> list[str]:
    return [message.text for message in claimed.messages]


def test_a_message_delivered_again_is_the_same_message() -> None:  # invariant 30
    world = World.with_family()
    assert world.hear("@Pynchy hi", id="A").wakes
    again = world.hear("@Pynchy hi", id="A")
    assert again.seq is None
    assert not again.wakes
    assert texts(world.claim(world.begin())) == ["@Pynchy hi"]


def test_the_same_id_of_two_senders_or_chats_is_two_messages() -> None:  # invariant 30; threat D9
    world = World.with_family()
    assert world.hear("one", id="A").seq is not None
    assert world.hear("two", id="A", sender=BERT).seq is not None
    assert world.hear("three", id="A", chat=MAIN_CONSOLE).seq is not None


def test_a_chat_that_is_not_registered_leaves_a_name_and_a_time_only() -> None:
    world = World.with_family()
    stranger = Message(
        STRANGE, "A", ANNA, "Anna", world.now, "@Pynchy a secret", chat_name="Others"
    )
    assert messages.receive(Tx(world.db, world.now), stranger).seq is None
    chat = groups.seen_chat(world.db, STRANGE)
    assert chat is not None
    assert (chat.name, chat.folder) == ("Others", None)
    assert "secret" not in "\n".join(world.db.iterdump())


def test_learning_a_name_is_no_activity() -> None:  # invariant 78
    world = World.with_family()
    world.hear("hello")
    before = groups.seen_chat(world.db, CHAT)
    groups.see_chat(world.db, CHAT, name="Family chat")
    groups.see_chat(world.db, CHAT, name="")
    after = groups.seen_chat(world.db, CHAT)
    assert before is not None
    assert after is not None
    assert after.last_at == before.last_at
    assert groups.chat_name(world.db, CHAT) == "Family chat"


def test_a_clock_from_the_future_does_not_stay_on_top() -> None:
    world = World.with_family()
    world.hear("hello", sent_at=Micros(world.now * 100))
    chat = groups.seen_chat(world.db, CHAT)
    assert chat is not None
    assert chat.last_at is not None
    assert chat.last_at <= world.now


def test_what_does_not_ask_waits_as_context() -> None:
    world = World.with_family()
    assert not world.hear("just talking").wakes
    assert world.waiting() == []
    assert world.try_claim(world.begin()) is None
    assert world.hear("@Pynchy what was that?").wakes
    assert world.waiting() == [FAMILY]


def test_a_turn_has_everything_unanswered_in_order_whatever_the_times_say() -> None:  # invariant 13
    # invariant 181
    world = World.with_family()
    moment = world.now
    for text in ("one", "@Pynchy two", "three"):
        world.hear(text, sent_at=moment)
    world.hear("from the past", sent_at=Micros(1))
    claimed = world.claim(world.begin())
    assert texts(claimed) == ["one", "@Pynchy two", "three", "from the past"]
    assert [each.triggers for each in claimed.messages] == [False, True, False, False]
    assert world.waiting() == []


def test_a_message_is_handed_over_once() -> None:  # invariant 5
    world = World.with_family()
    world.hear("@Pynchy one")
    run = world.begin()
    first = world.claim(run)
    world.hear("@Pynchy two")
    second = world.claim(run)
    assert texts(second) == ["@Pynchy two"]
    assert world.try_claim(run) is None
    assert first.prompt_id != second.prompt_id


@pytest.mark.parametrize("text", ["", "   \n"])
def test_nothing_is_no_message(text: str) -> None:  # invariant 62
    world = World.with_family(requires_trigger=False)
    assert world.hear(text).seq is None
    assert world.waiting() == []


def test_an_attachment_alone_is_a_message_and_comes_back_whole() -> None:  # invariant 63
    world = World.with_family(requires_trigger=False)
    photo = Attachment("a/b.jpg", "image/jpeg", 17, "b.jpg")
    quoted = Quoted("Q", "Bert", "look & see")
    message = Message(CHAT, "A", ANNA, "Anna", world.now, "", quoted=quoted, attachments=(photo,))
    assert messages.receive(Tx(world.db, world.now), message).wakes
    (seen,) = world.claim(world.begin()).messages
    assert (seen.attachments, seen.quoted, seen.id) == ((photo,), quoted, "A")


def test_who_is_there_is_who_spoke_lately_under_the_newest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World.with_family()

    def says(name: str, sender: SenderId, text: str = "hello", *, command: bool = False) -> None:
        message = Message(CHAT, world.new_id(), sender, name, world.now, text)
        messages.receive(Tx(world.db, world.passes(1)), message, command=command)

    assert groups.present(world.db, FAMILY) == groups.Present(((CHAT, ""),), ())
    groups.see_chat(world.db, CHAT, name="The Millers")
    says("Zoe", STRANGER)
    says("Annie", ANNA)
    says("Anna", ANNA)
    says("Bert", BERT)
    says("Nobody", SenderId("4919@s.whatsapp.net"), "/status", command=True)
    there = groups.present(world.db, FAMILY)
    assert there == groups.Present(((CHAT, "The Millers"),), ("Anna", "Bert", "Zoe"))
    assert groups.present(world.db, MAIN).people == ()  # what is said in a group stays there
    monkeypatch.setattr(groups, "LOOKED_AT", 3)  # the command is none of them
    assert groups.present(world.db, FAMILY).people == ("Anna", "Bert")


def test_a_reply_to_what_we_sent_asks_and_to_what_a_person_said_does_not() -> None:
    world = World.with_family()
    entry = world.say("It is sunny.")
    (sent,) = world.db.execute("SELECT message_id FROM outbox WHERE id = ?", (entry,)).fetchone()

    def reply(id: str, quotes: str) -> messages.Received:
        quoted = Quoted(quotes, "whoever they say it is", "It is sunny.")
        said = Message(CHAT, id, ANNA, "Anna", world.now, "and tomorrow?", quoted=quoted)
        return messages.receive(Tx(world.db, world.passes(1)), said)

    # On a number that is shared with its owner both are the account's: only an id that we chose counts.
    assert not reply("A", "3EB0C0FFEE").wakes
    assert reply("B", sent).wakes
    groups.update(world.db, FAMILY, called_by="mention")
    assert not reply("C", sent).wakes


def test_our_own_output_is_never_input() -> None:  # invariant 25; threat I8
    world = World.with_family(requires_trigger=False)
    entry = world.say("@Pynchy said the bot")
    sent_id = world.db.execute("SELECT message_id FROM outbox WHERE id = ?", (entry,)).fetchone()
    assert world.hear("@Pynchy said the bot", id=sent_id[0], from_me=True).seq is None
    assert world.waiting() == []


def test_a_person_may_begin_a_line_with_the_name_of_the_bot() -> None:  # invariant 26
    world = World.with_family(requires_trigger=False)
    world.hear("Pynchy: I am no bot")
    assert texts(world.claim(world.begin())) == ["Pynchy: I am no bot"]


def test_a_command_is_known_once_and_never_seen_by_the_agent() -> None:  # invariant 29
    world = World.with_family(requires_trigger=False)
    assert world.hear("/stop", id="A", command=True).seq is not None
    assert world.hear("/stop", id="A", command=True).seq is None
    world.hear("hello")
    assert texts(world.claim(world.begin())) == ["hello"]


def test_a_notice_wakes_nobody_and_comes_with_the_next_prompt() -> None:  # invariant 23
    world = World.with_family(requires_trigger=False)
    inbox_notices.add_notice(Tx(world.db, world.now), CHAT, id="n1", text="it was not delivered")
    inbox_notices.add_notice(Tx(world.db, world.now), CHAT, id="n1", text="it was not delivered")
    assert world.waiting() == []
    world.hear("hello")
    claimed = world.claim(world.begin())
    assert texts(claimed) == ["hello"]
    assert claimed.notices == ("it was not delivered",)


def test_a_paused_group_keeps_its_messages_for_later() -> None:
    world = World.with_family()
    groups.set_paused(world.db, FAMILY, paused=True)
    assert not world.hear("@Pynchy hi").wakes
    assert world.waiting() == []
    assert world.try_claim(world.begin()) is None
    groups.set_paused(world.db, FAMILY, paused=False)
    assert world.waiting() == [FAMILY]


class TestEdits:
    def test_an_edit_takes_the_place_of_what_was_not_answered(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        assert world.hear("@Pynchy two", id="B", edits="A").wakes
        claimed = world.claim(world.begin())
        assert texts(claimed) == ["@Pynchy two"]
        assert claimed.messages[0].edited

    def test_an_edit_that_asks_no_more_takes_the_question_back(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy hi", id="A")
        world.hear("never mind", id="B", edits="A")
        assert world.waiting() == []

    def test_an_edit_that_begins_to_ask_is_answered(self) -> None:
        world = World.with_family()
        world.hear("Pynchy hi", id="A")
        assert world.hear("@Pynchy hi", id="B", edits="A").wakes
        assert texts(world.claim(world.begin())) == ["@Pynchy hi"]

    def test_an_edit_of_what_a_run_has_is_a_follow_up(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        run = world.begin()
        world.claim(run)
        assert world.hear("@Pynchy two", id="B", edits="A").wakes
        assert texts(world.claim(run)) == ["@Pynchy two"]

    def test_an_edit_of_what_was_answered_is_context(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        run = world.begin()
        world.commit(run, world.claim(run), say=["four"])
        assert not world.hear("@Pynchy two", id="B", edits="A").wakes
        assert world.waiting() == []

    def test_an_edit_of_an_edit_is_the_last_word(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        world.hear("@Pynchy too", id="B", edits="A")
        assert world.hear("@Pynchy two", id="C", edits="A").wakes
        assert texts(world.claim(world.begin())) == ["@Pynchy two"]

    def test_of_a_question_that_was_passed_over_asks_nothing(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one", id="A")
        groups.remove_chat(world.db, CHAT)
        groups.add_chat(world.db, FAMILY, CHAT)
        assert not world.hear("@Pynchy two", id="B", edits="A").wakes

    def test_an_edit_that_asks_for_the_first_time_asks(self) -> None:
        world = World.with_family()
        world.hear("hi", id="A")
        world.hear("@Pynchy hello")
        run = world.begin()
        world.commit(run, world.claim(run))
        assert world.hear("@Pynchy, hi", id="B", edits="A").wakes

    def test_an_edit_of_what_was_taken_back_is_taken_back(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        world.hear("", id="R", revokes="A")
        assert world.hear("@Pynchy two", id="B", edits="A").seq is None
        assert world.waiting() == []

    def test_an_edit_of_what_we_never_saw_is_a_message(self) -> None:
        world = World.with_family()
        assert world.hear("@Pynchy two", id="B", edits="A").wakes

    def test_nobody_edits_the_words_of_another(self) -> None:  # threat P5
        world = World.with_family()
        world.hear("@Pynchy hi", id="A")
        world.hear("@Pynchy bye", id="B", edits="A", sender=BERT)
        assert texts(world.claim(world.begin())) == ["@Pynchy hi", "@Pynchy bye"]

    def test_an_edit_while_it_waits_for_its_retry(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        run = world.begin()
        world.claim(run)
        world.fail(run)
        world.hear("@Pynchy two", id="B", edits="A")
        world.passes(10)
        assert texts(world.claim(run)) == ["@Pynchy two"]
        assert world.try_claim(run) is None


class TestTakenBack:
    def test_a_pending_message_is_gone_with_its_text(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy my secret", id="A")
        world.hear("", id="R", revokes="A")
        assert world.waiting() == []
        assert world.try_claim(world.begin()) is None
        assert "my secret" not in "\n".join(world.db.iterdump())

    def test_the_other_questions_stay(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one", id="A")
        world.hear("@Pynchy two", id="B")
        world.hear("", id="R", revokes="B")
        assert texts(world.claim(world.begin())) == ["@Pynchy one"]

    def test_what_a_run_has_stays(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one", id="A")
        run = world.begin()
        claimed = world.claim(run)
        world.hear("", id="R", revokes="A")
        assert world.commit(run, claimed, say=["done"]).turns == (claimed.turn,)

    def test_a_retry_of_nothing_is_no_retry(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one", id="A")
        run = world.begin()
        world.claim(run)
        world.fail(run)
        world.hear("", id="R", revokes="A")
        world.passes(10)
        assert world.try_claim(run) is None
        assert world.waiting() == []
        assert world.cursor() == 1

    def test_an_edited_message_goes_with_its_edits(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy tow", id="A")
        world.hear("@Pynchy two", id="B", edits="A")
        world.hear("", id="R", revokes="A")
        assert world.waiting() == []

    def test_it_may_come_before_what_it_takes_back(self) -> None:
        world = World.with_family()
        world.hear("", id="R", revokes="A")
        assert not world.hear("@Pynchy one", id="A").wakes
        assert world.waiting() == []

    def test_only_by_its_sender(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one", id="A")
        world.hear("", id="R", revokes="A", sender=BERT)
        assert texts(world.claim(world.begin())) == ["@Pynchy one"]


class TestLimits:
    def test_old_context_is_left_out_and_counted(self) -> None:  # invariants 10, 11, 12
        world = World.with_family()
        for number in range(300):
            world.hear(f"talk {number}")
        world.hear("@Pynchy well?")
        claimed = world.claim(world.begin())
        assert texts(claimed)[:1] == ["talk 100"]
        assert texts(claimed)[-2:] == ["talk 299", "@Pynchy well?"]
        assert claimed.omitted == 100

    def test_what_was_taken_back_takes_no_room(self) -> None:
        # invariant 121
        world = World.with_family()
        for number in range(200):
            world.hear(f"talk {number}")
        for number in range(5):
            world.hear(f"sorry {number}", id=f"S{number}")
            world.hear("", id="R", revokes=f"S{number}")
        world.hear("@Pynchy well?")
        claimed = world.claim(world.begin())
        assert len(claimed.messages) == 201
        assert claimed.omitted == 0

    def test_what_was_left_out_does_not_come_back(self) -> None:  # invariant 7
        world = World.with_family()
        for number in range(300):
            world.hear(f"talk {number}")
        world.hear("@Pynchy well?")
        run = world.begin()
        world.commit(run, world.claim(run))
        world.hear("@Pynchy and?")
        assert texts(world.claim(run)) == ["@Pynchy and?"]

    def test_no_question_is_left_out(self) -> None:  # invariant 12
        world = World.with_family()
        for number in range(450):
            world.hear(f"@Pynchy {number}")
        run = world.begin()
        sizes = []
        seen: list[str] = []
        while (claimed := world.try_claim(run)) is not None:
            sizes.append(len(claimed.messages))
            seen += texts(claimed)
            world.commit(run, claimed)
        assert sizes == [200, 200, 50]
        assert seen == [f"@Pynchy {number}" for number in range(450)]

    def test_context_between_the_questions_goes_with_them(self) -> None:
        world = World.with_family()
        for number in range(201):
            world.hear(f"@Pynchy {number}")
            world.hear(f"after {number}")
        run = world.begin()
        first = world.claim(run)
        assert texts(first)[-1] == "@Pynchy 199"
        assert texts(world.claim(run)) == ["after 199", "@Pynchy 200", "after 200"]

    def test_bytes_count_too(self) -> None:
        world = World.with_family()
        for _ in range(10):
            world.hear("x" * 20_000)
        world.hear("@Pynchy well?")
        claimed = world.claim(world.begin())
        assert len(claimed.messages) == 3 + 1
        assert claimed.omitted == 7

    def test_a_question_of_any_size_is_asked(self) -> None:
        world = World.with_family()
        for _ in range(3):
            world.hear("@Pynchy " + "ü" * 140_000)
        run = world.begin()
        assert len(world.claim(run).messages) == 1
        assert len(world.claim(run).messages) == 1


def test_the_chat_that_asked_first_is_first_and_each_has_its_own_cursor() -> None:
    world = World.with_family(requires_trigger=False)
    other = ChatId("console:family")
    groups.add_chat(world.db, FAMILY, other)
    world.hear("one", chat=other)
    world.hear("two")
    run = world.begin()
    first = world.claim(run)
    assert first.chat == other
    assert world.claim(run).chat == CHAT
    world.commit(run, first, say=["reply"])
    assert world.send_all() == [(other, "reply")]
    assert (world.cursor(other), world.cursor(CHAT)) == (1, 0)


def test_a_follow_up_is_taken_from_the_one_chat_that_is_asked_for() -> None:
    world = World.with_family(requires_trigger=False)
    other = ChatId("console:family")
    groups.add_chat(world.db, FAMILY, other)
    run = world.begin()
    world.hear("one", chat=other)
    assert world.try_claim(run, chat=CHAT) is None
    world.hear("two")
    assert texts(world.claim(run, chat=CHAT)) == ["two"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=40,
    )
)
def test_every_message_is_seen_once_whatever_is_delivered_again(
    said: list[tuple[str, bool, int]],
) -> None:  # invariants 5, 7, 12
    """However often messages come, and whenever runs take them: each is seen once, in order."""
    world = World.with_family()
    run = world.begin()
    seen: list[str] = []
    expected: list[str] = []
    known: set[str] = set()
    for letter, asks, looks in said:
        text = f"@Pynchy {letter}" if asks else letter
        world.hear(text, id=f"{letter}{asks}")
        if f"{letter}{asks}" not in known:
            known.add(f"{letter}{asks}")
            expected.append(text)
        for _ in range(looks):
            if (claimed := world.try_claim(run)) is not None:
                seen += texts(claimed)
    world.hear("@Pynchy last", id="last")
    seen += texts(world.claim(run))
    assert seen == [*expected, "@Pynchy last"]


class TestTheDatabaseHolds:
    """The constraints refuse what a bug might try."""

    def test_a_cursor_never_goes_back(self) -> None:  # invariant 6
        world = World.with_family()
        world.hear("@Pynchy one")
        run = world.begin()
        world.commit(run, world.claim(run))
        for sql in ("UPDATE chats SET done_seq = 0", "UPDATE chats SET claimed_seq = 0"):
            with pytest.raises(sqlite3.IntegrityError, match="cursor went back"):
                world.db.execute(sql)

    def test_a_message_is_in_one_turn(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one")
        run = world.begin()
        claimed = world.claim(run)
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("INSERT INTO turn_inputs VALUES (1, ?)", (claimed.turn,))

    def test_turns_of_a_chat_join_without_gap_or_overlap(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one")
        world.claim(world.begin())
        for lo in (0, 2):
            with pytest.raises(sqlite3.IntegrityError, match="does not begin where"):
                world.db.execute(
                    "INSERT INTO turns (folder, chat, kind, state, lo, hi, retry_at, created_at) "
                    "VALUES (?, ?, 'message', 'waiting', ?, 9, 0, 0)",
                    (FAMILY, CHAT, lo),
                )

    def test_a_group_has_one_live_container(self) -> None:  # invariant 37
        world = World.with_family()
        run = world.begin()
        with pytest.raises(sqlite3.IntegrityError):
            world.begin()
        with pytest.raises(sqlite3.IntegrityError):
            world.begin(kind="task")
        world.begin(kind="delegate")
        world.begin(MAIN)
        world.end(run)
        world.begin(kind="task")

    @pytest.mark.parametrize(
        "folder", ["", "-a", "A", "a/b", "..", "a b", "a_b", "ä", "a" * 64, "main2/"]
    )
    def test_a_folder_has_a_name_that_can_harm_nobody(self, folder: str) -> None:  # invariant 149
        # threat L13, M1
        with pytest.raises(sqlite3.IntegrityError):
            World.with_family().db.execute(
                "INSERT INTO groups VALUES (?, 'n', 't', 1, 0, 0, NULL, NULL, 0, NULL, '{}', 0, 'name')",
                (folder,),
            )

    def test_only_main_is_main(self) -> None:
        world = World.with_family()
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("UPDATE groups SET is_main = 1 WHERE folder = 'family'")
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("UPDATE groups SET is_main = 0 WHERE folder = 'main'")

    def test_a_turn_ends_once(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy one")
        run = world.begin()
        claimed = world.claim(run)
        world.commit(run, claimed)
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("UPDATE turns SET state = 'dead' WHERE id = ?", (claimed.turn,))

    def test_the_audit_trail_only_grows(self) -> None:
        from pynchy.store import audit

        world = World.with_family()
        audit.record(Tx(world.db, world.now), actor="owner", action="pause", detail={"a": 1})
        for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                world.db.execute(sql)
        assert audit.recent(world.db)[0]["detail"] == {"a": 1}


class TestLoops:  # threat I8
    """A program that answers us, and the two would never stop."""

    def answered(self, world: World, seconds: float, *, sender: SenderId = ANNA) -> bool:
        """Somebody asks this long after our last answer: whether they get one."""
        world.passes(seconds)
        received = world.hear("@Pynchy and you?", sender=sender)
        if not received.wakes:
            return False
        run = world.begin()
        world.commit(run, world.claim(run), say=["and you?"])
        world.end(run)
        return True

    def test_who_is_always_quicker_than_people_is_not_answered_for_a_while(self) -> None:
        world = World.with_family()
        assert all(self.answered(world, 3) for _ in range(BOTS.most))
        world.passes(3)
        last = world.hear("@Pynchy and you?")
        assert (last.wakes, last.loops, last.seq is not None) == (False, True, True)
        again = world.hear("@Pynchy and you?")
        assert (again.wakes, again.loops) == (False, False)  # the chat is told once
        assert self.answered(world, 3, sender=SenderId("bob@s.whatsapp.net"))
        assert not self.answered(world, BOTS.hold - 60)
        assert self.answered(world, 120)

    def test_one_slow_answer_is_a_persons(self) -> None:
        world = World.with_family()
        for _ in range(3):
            assert all(self.answered(world, 3) for _ in range(BOTS.most - 1))
            assert self.answered(world, 60)

    def test_what_comes_while_we_work_counts_neither_way(self) -> None:
        world = World.with_family()
        assert self.answered(world, 3)
        run = world.begin()
        for _ in range(BOTS.most * 2):
            assert world.hear("@Pynchy more").wakes
            world.try_claim(run)

    def test_what_comes_at_once_after_an_outage_is_no_row_of_answers(self) -> None:
        world = World.with_family()
        assert self.answered(world, 3)
        world.passes(3)
        assert all(world.hear(f"@Pynchy {number}").wakes for number in range(BOTS.most * 2))

    def test_the_owner_is_as_quick_as_they_like(self) -> None:
        world = World.with_family()
        for _ in range(BOTS.most + 5):
            assert world.hear("@Pynchy go", from_me=True).wakes
            run = world.begin()
            world.commit(run, world.claim(run), say=["gone"])
            world.end(run)
