"""What is to be said: in order, once as far as people can see, and never silently dropped."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.limits import SENDING
from pynchy.model import ChatId, Micros, Outgoing
from pynchy.policy import retries
from pynchy.store import groups, journal, outbox
from pynchy.store.database import Tx
from tests.rules.store_world import ANNA, CHAT, FAMILY, MAIN, MAIN_CONSOLE, World
from tests.transactions import entry_of, held_notices, open_entries

OTHER = ChatId("4919@s.whatsapp.net")


def take(world: World, entry: int) -> None:
    assert outbox.take(Tx(world.db, world.now), entry) is not None


def refuse(world: World, entry: int, *, permanent: bool = False) -> outbox.Failed | None:
    return outbox.refused(
        Tx(world.db, world.now, world.new_id), entry, reason="no", permanent=permanent, jitter=0.0
    )


def doubt(world: World, entry: int) -> outbox.Failed | None:
    return outbox.uncertain(
        Tx(world.db, world.now, world.new_id), entry, reason="timeout", jitter=0.0
    )


def state(world: World, entry: int) -> str:
    row = entry_of(world.db, entry)
    assert row is not None
    return str(row["state"])


def heads(world: World) -> list[int]:
    return [head.out.id for head in outbox.heads(Tx(world.db, world.now))]


def test_a_chat_is_sent_to_in_order_one_at_a_time() -> None:  # invariants 35, 40
    world = World.with_family()
    first, second = world.say("one"), world.say("two")
    assert heads(world) == [first]
    assert outbox.take(Tx(world.db, world.now), second) is None
    take(world, first)
    assert heads(world) == []
    assert outbox.take(Tx(world.db, world.now), first) is None
    assert outbox.take(Tx(world.db, world.now), second) is None
    outbox.sent(Tx(world.db, world.now), first)
    assert heads(world) == [second]


def test_chats_do_not_wait_for_each_other() -> None:  # invariant 186
    world = World.with_family()
    first, second = world.say("one"), world.say("two", chat=OTHER)
    take(world, first)
    assert heads(world) == [second]


def test_an_entry_leaves_only_by_the_channels_word() -> None:  # invariant 38
    world = World.with_family()
    entry = world.say("one")
    take(world, entry)
    assert open_entries(world.db) == 1
    assert outbox.sent(Tx(world.db, world.now), entry)
    assert not outbox.sent(Tx(world.db, world.now), entry)
    assert open_entries(world.db) == 0


def test_what_was_in_flight_when_we_died_is_tried_again_under_its_id() -> None:  # invariant 40
    world = World.with_family()
    entry = world.say("one")
    before = outbox.take(Tx(world.db, world.now), entry)
    assert before is not None
    world.restart()
    (head,) = outbox.heads(Tx(world.db, world.now))
    assert head.uncertain
    assert head.attempt == 1
    assert head.out.message_id == before.message_id


def test_a_refusal_waits_longer_each_time() -> None:  # invariant 189
    world = World.with_family()
    entry = world.say("one")
    waits = []
    for _ in range(3):
        take(world, entry)
        assert refuse(world, entry) is None
        assert heads(world) == []
        due = outbox.next_due(Tx(world.db, world.now))
        assert due is not None
        waits.append((due - world.now) / 1e6)
        world.now = due
    assert waits == [2.0, 4.0, 8.0]


def test_doubt_keeps_the_id_and_the_place() -> None:
    world = World.with_family()
    first, second = world.say("one"), world.say("two")
    take(world, first)
    assert doubt(world, first) is None
    assert heads(world) == []
    assert outbox.take(Tx(world.db, world.now), second) is None
    world.passes(10)
    (head,) = outbox.heads(Tx(world.db, world.now))
    assert (head.out.id, head.uncertain) == (first, True)
    assert outbox.sent(Tx(world.db, world.now), first)  # asked, the channel knew it
    assert heads(world) == [second]


def test_what_was_not_tried_does_not_count() -> None:
    world = World.with_family()
    entry = world.say("one")
    for _ in range(50):
        take(world, entry)
        outbox.postponed(world.db, entry, until=world.passes(60))
    (head,) = outbox.heads(Tx(world.db, world.now))
    assert (head.attempt, head.uncertain) == (0, False)


def test_doubt_stays_doubt_when_the_next_try_was_none() -> None:
    world = World.with_family()
    entry = world.say("one")
    take(world, entry)
    doubt(world, entry)
    world.passes(10)
    take(world, entry)
    outbox.postponed(world.db, entry, until=world.now)
    (head,) = outbox.heads(Tx(world.db, world.now))
    assert (head.attempt, head.uncertain) == (1, True)


class TestPoison:
    def test_bad_formatting_is_sent_plain(self) -> None:  # invariant 41
        world = World.with_family()
        entry = world.say("*one")
        take(world, entry)
        assert refuse(world, entry, permanent=True) is None
        (head,) = outbox.heads(Tx(world.db, world.now))
        assert head.out.plain

    def test_and_after_some_refusals_too(self) -> None:  # invariant 41
        world = World.with_family()
        entry = world.say("*one")
        for _ in range(SENDING.plain):
            (head,) = outbox.heads(Tx(world.db, world.now))
            assert not head.out.plain
            take(world, entry)
            refuse(world, entry)
            world.passes(600)
        (head,) = outbox.heads(Tx(world.db, world.now))
        assert head.out.plain

    def test_it_is_given_up_and_the_next_goes(self) -> None:  # invariants 41, 47
        world = World.with_family()
        entry, after = world.say("bad"), world.say("good")
        tries = 0
        while state(world, entry) != "failed":
            take(world, entry)
            tries += 1
            given_up = refuse(world, entry)
            world.passes(600)
        assert tries == SENDING.attempts
        assert given_up is not None
        assert given_up.chat == CHAT
        assert after in heads(world)

    def test_refused_for_good(self) -> None:
        world = World.with_family()
        tx = Tx(world.db, world.now, world.new_id)
        entry = outbox.send_file(tx, outbox.Author(FAMILY, CHAT), "/x/a.pdf")
        take(world, entry)
        assert refuse(world, entry, permanent=True) is not None
        assert state(world, entry) == "failed"

    def test_doubt_does_not_last_for_ever(self) -> None:
        world = World.with_family()
        entry = world.say("one")
        tries = 0
        while state(world, entry) != "failed":
            take(world, entry)
            tries += 1
            doubt(world, entry)
            world.passes(301)
        assert tries == SENDING.uncertain


class TestGivenUp:
    def test_agent_and_main_are_told(self) -> None:  # invariant 47
        world = World.with_family()
        world.hear("@Pynchy hi")
        run = world.begin()
        claimed = world.claim(run)
        (entry,) = world.commit(run, claimed, say=["the answer"]).outbox
        world.passes(SENDING.expiry)
        (gone,) = outbox.expire(Tx(world.db, world.now, world.new_id))
        assert (gone.id, gone.chat) == (entry, CHAT)
        assert world.waiting() == []  # the notice wakes nobody
        assert [chat for chat, _ in world.send_all()] == [MAIN_CONSOLE]
        world.hear("@Pynchy hello?")
        (notice,) = world.claim(run).notices
        assert "the answer" in notice

    def test_a_notice_about_a_notice_is_none(self) -> None:
        world = World.with_family()
        for _ in range(3):
            world.say("x", chat=OTHER)
        for _ in range(6):
            world.passes(SENDING.expiry)
            while outbox.expire(Tx(world.db, world.now, world.new_id)):
                pass
        assert open_entries(world.db) == 0
        row = world.db.execute("SELECT count(*), sum(notice) FROM outbox").fetchone()
        assert row == (4, 1)

    def test_a_thousand_given_up_are_one_line_for_main(self) -> None:  # invariant 49
        world = World.with_family()
        for _ in range(1000):
            world.say("x")
        world.passes(SENDING.expiry)
        gone = 0
        while found := outbox.expire(Tx(world.db, world.now, world.new_id)):
            gone += len(found)
        assert gone == 1000
        assert [chat for chat, _ in world.send_all()] == [MAIN_CONSOLE]
        assert held_notices(world.db) == 999

    def test_what_is_in_flight_does_not_expire(self) -> None:
        world = World.with_family()
        entry = world.say("one")
        take(world, entry)
        world.passes(SENDING.expiry)
        assert outbox.expire(Tx(world.db, world.now, world.new_id)) == []
        assert outbox.next_due(Tx(world.db, world.now)) is None
        assert outbox.sent(Tx(world.db, world.now), entry)

    def test_the_end_of_its_day_is_known_ahead(self) -> None:
        world = World.with_family()
        begun = world.now
        world.say("one")
        world.say("two")
        due = outbox.next_due(Tx(world.db, world.passes(1)))
        assert due == begun + SENDING.expiry * 1e6
        assert outbox.expire(Tx(world.db, Micros(due - 1), world.new_id)) == []
        assert len(outbox.expire(Tx(world.db, due, world.new_id))) == 2

    def test_a_retry_never_outlives_the_day(self) -> None:
        world = World.with_family()
        entry = world.say("one")
        world.passes(SENDING.expiry - 1)
        take(world, entry)
        world.passes(2)
        assert refuse(world, entry) is not None

    def test_the_trouble_of_main_is_told_in_its_other_chat(self) -> None:
        world = World.with_family()
        main_chat = ChatId("main@g.us")
        groups.add_chat(world.db, MAIN, main_chat)
        entry = world.say("x", chat=main_chat)
        outbox.failed(Tx(world.db, world.now, world.new_id), entry, reason="no")
        assert [chat for chat, _ in world.send_all()] == [MAIN_CONSOLE]


class TestTheDatabaseHolds:
    def test_an_id_is_fixed(self) -> None:
        world = World.with_family()
        world.say("one")
        with pytest.raises(sqlite3.IntegrityError, match="id or a chat"):
            world.db.execute("UPDATE outbox SET message_id = 'other'")

    def test_one_in_flight_per_chat(self) -> None:
        world = World.with_family()
        world.say("one")
        world.say("two")
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("UPDATE outbox SET state = 'sending'")

    def test_sent_is_the_end(self) -> None:
        world = World.with_family()
        entry = world.say("one")
        take(world, entry)
        outbox.sent(Tx(world.db, world.now), entry)
        with pytest.raises(sqlite3.IntegrityError):
            world.db.execute("UPDATE outbox SET state = 'pending', sent_at = NULL")

    def test_a_file_has_a_path_and_a_reaction_a_target(self) -> None:  # invariant 44
        world = World.with_family()
        for kind in ("file", "reaction", "poem"):
            with pytest.raises(sqlite3.IntegrityError):
                world.db.execute(
                    "INSERT INTO outbox (folder, chat, message_id, kind, text, state, next_at, "
                    "created_at) VALUES ('family', 'c', 'm', ?, '', 'pending', 0, 0)",
                    (kind,),
                )


def test_files_and_reactions_keep_what_they_are() -> None:
    world = World.with_family()
    tx = Tx(world.db, world.now, world.new_id)
    outbox.send_file(tx, outbox.Author(FAMILY, CHAT), "/x/a.pdf", caption="look")
    outbox.react(tx, outbox.Author(FAMILY, OTHER), "👍", to="M1")
    file, reaction = (head.out for head in outbox.heads(Tx(world.db, world.now)))
    assert (file.kind, file.path, file.text, file.target) == ("file", "/x/a.pdf", "look", None)
    assert (reaction.kind, reaction.target, reaction.text) == ("reaction", "M1", "👍")


def test_what_is_quoted_comes_with_its_sender_and_its_words() -> None:
    """Of an edited message the words are the new ones, and the id is the one that phones know."""
    world = World.with_family()
    world.hear("old words", id="FIRST")
    world.hear("new words", id="EDIT", edits="FIRST")

    def quoted(target: str) -> Outgoing:
        outbox.enqueue(
            Tx(world.db, world.now, world.new_id),
            outbox.Author(FAMILY, CHAT),
            ["so?"],
            quotes=target,
        )
        (head,) = outbox.heads(Tx(world.db, world.now))
        take(world, head.out.id)
        outbox.sent(Tx(world.db, world.now), head.out.id)
        return head.out

    found = quoted("EDIT")
    assert (found.target, found.target_text) == ("FIRST", "new words")
    assert found.target_sender == ANNA
    gone = quoted("unknown")
    assert (gone.target, gone.target_sender, gone.target_text) == ("unknown", None, "")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["say", "sent", "refuse", "doubt", "postpone", "restart", "wait"]),
            st.sampled_from([CHAT, OTHER]),
        ),
        max_size=60,
    )
)
def test_whatever_happens_people_hear_each_thing_once_and_in_order(
    happenings: list[tuple[str, ChatId]],
) -> None:  # invariants 38, 39, 40, 41
    """A server that drops repeated ids, a channel that refuses, doubts and dies at will."""
    world = World.with_family()
    heard: dict[ChatId, list[str]] = {CHAT: [], OTHER: []}
    seen: set[str] = set()
    said: dict[ChatId, list[str]] = {CHAT: [], OTHER: []}
    flying: dict[ChatId, int] = {}

    def arrives(entry: int) -> None:
        row = entry_of(world.db, entry)
        assert row is not None
        if row["message_id"] not in seen:
            seen.add(row["message_id"])
            heard[row["chat"]].append(row["text"])

    for what, chat in happenings:
        world.passes(5)
        if what == "say":
            said[chat].append(f"{len(said[chat])}")
            world.say(said[chat][-1], chat=chat)
        elif what == "wait":
            world.passes(400)
        elif what == "restart":
            for entry in flying.values():
                arrives(entry)
            flying.clear()
            world.restart()
        if chat not in flying:
            for head in outbox.heads(Tx(world.db, world.now)):
                if head.out.chat == chat:
                    take(world, head.out.id)
                    flying[chat] = head.out.id
        if chat not in flying:
            continue
        entry = flying[chat]
        if what == "sent":
            arrives(entry)
            outbox.sent(Tx(world.db, world.now), entry)
        elif what == "refuse":
            refuse(world, entry)
        elif what == "doubt":
            arrives(entry)
            doubt(world, entry)
        elif what == "postpone":
            outbox.postponed(world.db, entry, until=world.now)
        else:
            continue
        del flying[chat]
    for entry in flying.values():
        refuse(world, entry)
    failed = {row[0] for row in world.db.execute("SELECT text FROM outbox WHERE state = 'failed'")}
    for _ in range(400):
        world.passes(400)
        for head in outbox.heads(Tx(world.db, world.now)):
            take(world, head.out.id)
            arrives(head.out.id)
            outbox.sent(Tx(world.db, world.now), head.out.id)
    assert open_entries(world.db) == 0
    for chat in (CHAT, OTHER):
        if not failed:
            assert heard[chat] == said[chat]
        assert heard[chat] == sorted(heard[chat], key=int)


@given(st.integers(1, 10_000), st.floats(-1, 1))
def test_waits_for_the_channel_are_bounded(attempt: int, jitter: float) -> None:
    at = retries.send_retry(attempt=attempt, now=Micros(0), jitter=jitter)
    assert 1e6 <= at <= 1.2 * SENDING.longest * 1e6


class TestJournal:
    def test_a_command_that_comes_again_gets_its_answer_again(self) -> None:
        world = World.with_family()
        assert journal.answered(world.db, FAMILY, "c1", "hash") is None
        journal.record(Tx(world.db, world.now), FAMILY, "c1", "hash", ok=True, text="done")
        assert journal.answered(world.db, FAMILY, "c1", "hash") == journal.Answered(True, "done")

    def test_other_bytes_under_its_id_are_refused(self) -> None:
        world = World.with_family()
        journal.record(Tx(world.db, world.now), FAMILY, "c1", "hash", ok=True, text="done")
        assert journal.answered(world.db, FAMILY, "c1", "other") == journal.Conflict()
        assert journal.answered(world.db, MAIN, "c1", "other") is None
        with pytest.raises(sqlite3.IntegrityError):
            journal.record(Tx(world.db, world.now), FAMILY, "c1", "other", ok=True, text="x")

    def test_answers_are_kept_for_a_week(self) -> None:
        world = World.with_family()
        journal.record(Tx(world.db, world.now), FAMILY, "c1", "hash", ok=True, text="done")
        assert journal.prune(Tx(world.db, world.passes(6 * 86400))) == 0
        assert journal.prune(Tx(world.db, world.passes(2 * 86400))) == 1
