"""Turns and runs: how work is claimed, answered once, tried again, given up, stopped."""

from __future__ import annotations

import sqlite3

import pytest

from pynchy.limits import RETRIES
from pynchy.model import HOUR, ChatId, GroupId, Micros, RunId
from pynchy.policy.failures import Trouble
from pynchy.store import (
    claims,
    groups,
    messages,
    notices,
    runs,
    serving,
    turn_failures,
    turns,
)
from pynchy.store.database import Tx
from pynchy.text.reply import NOTICE_PREFIX
from tests.rules.store_world import ANNA, CHAT, FAMILY, MAIN, MAIN_CONSOLE, World
from tests.transactions import held_notices, open_entries


def asked(text: str = "@Pynchy hi") -> tuple[World, RunId, claims.Claimed]:
    world = World.with_family()
    world.hear(text)
    run = world.begin()
    return world, run, world.claim(run)


class TestAnswers:
    def test_one_commit_moves_everything(self) -> None:  # invariants 1, 17, 20
        world, run, claimed = asked()
        assert world.cursor() == 0
        committed = world.commit(run, claimed, say=["one", "two"], session="s1")
        assert committed.turns == (claimed.turn,)
        assert committed.chat == CHAT
        assert world.cursor() == 1
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert group.session == "s1"
        assert world.send_all() == [(CHAT, "one"), (CHAT, "two")]

    def test_nothing_to_say_is_an_answer(self) -> None:  # invariants 8, 106
        world, run, claimed = asked()
        committed = world.commit(run, claimed)
        assert committed.turns == (claimed.turn,)
        assert committed.outbox == ()
        assert world.end(run) == []
        assert world.waiting() == []
        assert world.cursor() == 1

    def test_a_second_result_for_a_prompt_says_nothing(self) -> None:  # invariant 22
        world, run, claimed = asked()
        world.commit(run, claimed, say=["one"])
        again = world.commit(run, claimed, say=["one"])
        assert (again.turns, again.outbox, again.unknown) == ((), (), (claimed.prompt_id,))
        assert world.send_all() == [(CHAT, "one")]

    def test_a_result_answers_what_it_names_and_no_more(self) -> None:  # invariant 18
        world, run, first = asked()
        world.hear("@Pynchy more")
        second = world.claim(run)
        world.commit(run, first, say=["one"])
        assert world.cursor() == 1
        world.end(run)
        assert world.waiting() == [FAMILY]
        run = world.begin()
        again = world.claim(run)
        assert again.turn == second.turn
        assert again.prompt_id != second.prompt_id
        assert [each.text for each in again.messages] == ["@Pynchy more"]

    def test_one_result_may_answer_several(self) -> None:
        world, run, first = asked()
        world.hear("@Pynchy more")
        second = world.claim(run)
        world.commit(run, first, second, say=["both"])
        assert world.cursor() == 2
        assert world.send_all() == [(CHAT, "both")]

    def test_the_cursor_waits_for_the_older_turn(self) -> None:  # invariant 6
        world, run, first = asked()
        world.hear("@Pynchy more")
        second = world.claim(run)
        world.commit(run, second, say=["two"])
        assert world.cursor() == 0
        world.commit(run, first, say=["one"])
        assert world.cursor() == 2

    def test_and_for_the_oldest_of_several(self) -> None:  # invariant 6
        world, run, first = asked()
        claims = []
        for text in ("@Pynchy two", "@Pynchy three"):
            world.hear(text)
            claims.append(world.claim(run))
        world.commit(run, claims[1])
        assert world.cursor() == 0
        world.commit(run, first)
        assert world.cursor() == 1
        world.commit(run, claims[0])
        assert world.cursor() == 3

    def test_the_prompt_of_another_run_is_not_answered(self) -> None:  # threat S1
        world, run, claimed = asked()
        world.end(run)
        other = world.begin()
        late = world.commit(other, claimed, say=["late"])
        assert (late.turns, late.outbox) == ((), ())

    def test_an_afterthought_goes_to_the_chat_of_the_last_turn(self) -> None:
        world, run, claimed = asked()
        world.commit(run, claimed, say=["one"])
        after = world.commit(run, say=["and the background job is done"])
        assert after.chat == CHAT
        assert len(after.outbox) == 1

    def test_a_run_without_a_turn_has_nobody_to_talk_to(self) -> None:
        world = World.with_family()
        assert world.commit(world.begin(), say=["hello?"]).outbox == ()

    def test_a_delegate_answers_its_parent_and_no_chat(self) -> None:
        world = World.with_family()
        turn = turns.add(
            Tx(world.db, world.now),
            turns.Work(folder=FAMILY, chat=CHAT, kind="delegate", prompt="count"),
        )
        run = world.begin(kind="delegate")
        assert world.try_claim(run) is None
        claimed = claims.claim(Tx(world.db, world.now, world.new_id), run, turn=turn)
        assert claimed is not None
        assert claimed.isolated
        assert world.commit(run, claimed, say=["4", "2"], session="s9").outbox == ()
        ended = turns.get(world.db, turn)
        assert ended is not None
        assert (ended.state, ended.result) == ("done", "4\n\n2")
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert group.session is None


class TestRetries:
    def test_an_outage_is_waited_for_and_told_twice(self) -> None:  # invariants 2, 3, 9
        world, run, _ = asked()
        waits = []
        began = world.now
        for attempt in range(1, 100):
            (failure,) = world.fail(run, "outage")
            world.end(run, "failed")
            assert failure.attempt == attempt
            if failure.dead:
                break
            assert failure.retry_at is not None
            waits.append((failure.retry_at - world.now) / 1e6)
            assert world.waiting() == []
            assert messages.next_retry(world.db, FAMILY) == failure.retry_at
            run = world.begin()
            assert world.try_claim(run) is None
            world.now = failure.retry_at
            assert world.waiting() == [FAMILY]
            again = world.claim(run)
            assert again.attempt == attempt + 1
            assert not again.resume
        assert waits[:5] == pytest.approx([5, 10, 20, 40, 80], abs=0.01)
        assert waits[5:-1] == pytest.approx([300] * (len(waits) - 6), abs=0.01)
        assert (world.now - began) / 1e6 == pytest.approx(6 * HOUR, abs=5)
        assert world.cursor() == 1
        assert world.waiting() == []
        said = world.send_all()
        assert [chat for chat, _ in said] == [CHAT, MAIN_CONSOLE, CHAT]
        assert all(text.startswith(NOTICE_PREFIX) for _, text in said)
        assert "I go on trying until" in said[0][1]
        assert "I gave up" in said[2][1]

    def test_what_nobody_knows_is_tried_once_more(self) -> None:
        world, run, _ = asked()
        (failure,) = world.fail(run)
        assert not failure.dead
        world.passes(10)
        world.claim(run)
        (failure,) = world.fail(run, message="the wheel came off")
        assert failure.dead
        assert [chat for chat, _ in world.send_all()] == [CHAT, MAIN_CONSOLE]
        (told,) = world.db.execute("SELECT text FROM outbox WHERE chat = ?", (CHAT,)).fetchall()
        assert told[0] == f"{NOTICE_PREFIX}I could not answer that: the wheel came off."

    @pytest.mark.parametrize(("jitter", "wait"), [(-1.0, 4.0), (0.0, 5.0), (1.0, 6.0)])
    def test_the_wait_is_spread_by_a_fifth(self, jitter: float, wait: float) -> None:
        world, run, _ = asked()
        (failure,) = world.fail(run, jitter=jitter)
        assert failure.retry_at is not None
        assert failure.retry_at - world.now == pytest.approx(wait * 1e6)

    def test_jitter_is_a_fraction(self) -> None:
        world, run, _ = asked()
        with pytest.raises(ValueError, match="between -1 and 1"):
            world.fail(run, jitter=2.0)

    def test_nothing_newer_of_the_chat_goes_before_a_retry(self) -> None:  # invariant 40
        world, run, first = asked()
        world.fail(run)
        world.hear("@Pynchy later")
        assert world.waiting() == []
        assert world.try_claim(run) is None
        world.passes(10)
        assert world.claim(run).turn == first.turn
        assert [each.text for each in world.claim(run).messages] == ["@Pynchy later"]

    def test_another_chat_does_not_wait_for_it(self) -> None:
        world, run, _ = asked()
        other = ChatId("console:family")
        groups.add_chat(world.db, FAMILY, other)
        world.fail(run)
        world.hear("@Pynchy here", chat=other)
        assert world.waiting() == [FAMILY]
        assert world.claim(run).chat == other

    def test_a_retry_has_the_same_messages(self) -> None:
        world, run, first = asked()
        world.hear("more talk")
        world.fail(run)
        world.passes(10)
        assert world.claim(run).messages == first.messages

    def test_an_attempt_is_one_that_was_made(self) -> None:  # invariant 118
        world, run, _ = asked()
        world.end(run)
        for _ in range(10):
            run = world.begin()
            assert world.claim(run).attempt == 1
            world.end(run)

    def test_what_a_run_never_gets_to_is_given_up_in_the_end(self) -> None:
        world, run, claimed = asked()
        for _ in range(RETRIES.interruptions):
            world.end(run)
            run = world.begin()
            claimed = world.claim(run)
        (failure,) = world.end(run)
        assert failure.dead
        assert failure.turn == claimed.turn
        assert len(world.send_all()) == 2

    def test_only_the_prompts_that_failed(self) -> None:
        world, run, first = asked()
        world.hear("@Pynchy more")
        second = world.claim(run)
        failures = turn_failures.fail(
            Tx(world.db, world.now, world.new_id),
            run,
            Trouble("agent", "x"),
            jitter=0.0,
            prompts=[first.prompt_id],
        )
        assert [each.turn for each in failures] == [first.turn]
        assert [each.id for each in turns.held(world.db, run)] == [second.turn]

    def test_a_dead_turn_of_main_is_told_there_once(self) -> None:
        world = World.with_family()
        world.hear("hi", chat=MAIN_CONSOLE)
        run = world.begin(MAIN)
        for _ in range(2):
            world.claim(run, MAIN)
            world.fail(run)
            world.passes(200)
        assert [chat for chat, _ in world.send_all()] == [MAIN_CONSOLE]


class TestAfterOutput:
    def test_it_is_resumed_once_and_never_replayed(self) -> None:  # invariant 4
        world, run, claimed = asked()
        world.say("half of it", turn=claimed)
        (failure,) = world.fail(run)
        assert failure.retry_at == world.now
        again = world.claim(run)
        assert again.resume
        assert again.said == ("half of it",)
        (failure,) = world.fail(run)
        assert failure.dead
        assert world.waiting() == []
        said = world.send_all()
        assert [chat for chat, _ in said] == [CHAT, MAIN_CONSOLE, CHAT]
        assert "stands" in said[-1][1]

    def test_a_resumed_turn_may_still_succeed(self) -> None:
        world, run, claimed = asked()
        world.say("half of it", turn=claimed)
        world.fail(run)
        world.commit(run, world.claim(run), say=["the rest"])
        assert [text for _, text in world.send_all()] == ["half of it", "the rest"]

    def test_a_death_of_the_daemon_counts_as_a_resume_too(self) -> None:
        world, _, claimed = asked()
        world.say("half of it", turn=claimed)
        world.restart()
        assert world.claim(world.begin()).resume
        world.restart()
        assert world.waiting() == []
        assert world.cursor() == 1

    def test_our_own_notice_is_not_output_of_the_agent(self) -> None:
        world, run, _ = asked()
        (failure,) = world.fail(run, "outage")
        assert not failure.dead
        world.passes(10)
        again = world.claim(run)
        assert not again.resume
        assert again.said == ()


class TestSaidAlready:
    """What was sent by a tool is not said again at the end."""  # invariant 56

    def test_the_same_words_at_the_end_are_an_echo(self) -> None:
        world, run, claimed = asked()
        world.say("It is *four*\no'clock.", turn=claimed)
        committed = world.commit(run, claimed, say=["It is *four* o'clock. "])
        assert committed.turns == (claimed.turn,)
        assert committed.outbox == ()
        assert [text for _, text in world.send_all()] == ["It is *four*\no'clock."]

    def test_all_pieces_count_in_their_order(self) -> None:
        world, run, claimed = asked()
        for text in ("one moment", "first half", "second half"):
            world.say(text, turn=claimed)
        assert world.commit(run, claimed, say=["first half", "second half"]).outbox == ()

    @pytest.mark.parametrize(
        "pieces", [["done", "and more"], ["and more"], ["Done"], ["done", "done"]]
    )
    def test_more_or_other_words_are_said(self, pieces: list[str]) -> None:
        world, run, claimed = asked()
        world.say("done", turn=claimed)
        assert len(world.commit(run, claimed, say=pieces).outbox) == len(pieces)

    def test_what_an_earlier_turn_said_is_no_echo(self) -> None:
        world, run, first = asked()
        world.say("done", turn=first)
        world.commit(run, first)
        world.hear("@Pynchy once more")
        second = world.claim(run)
        assert len(world.commit(run, second, say=["done"]).outbox) == 1

    def test_what_was_said_elsewhere_is_no_echo(self) -> None:
        world, run, claimed = asked()
        world.say("done", turn=claimed, chat=MAIN_CONSOLE)
        assert len(world.commit(run, claimed, say=["done"]).outbox) == 1

    def test_what_could_not_be_sent_is_said(self) -> None:
        world, run, claimed = asked()
        entry = world.say("done", turn=claimed)
        world.db.execute(
            "UPDATE outbox SET state = 'failed', failed_at = ?, error = 'x' WHERE id = ?",
            (world.now, entry),
        )
        assert len(world.commit(run, claimed, say=["done"]).outbox) == 1


class TestTooMuchRoom:
    """A failure that another try would repeat: a group whose files are too many."""

    def test_it_is_not_tried_again_and_the_chat_is_told_why(self) -> None:  # threat L11
        world, run, claimed = asked()
        world.say("half of it", turn=claimed)
        (failure,) = world.fail(run, "quota")
        assert failure.dead
        assert world.waiting() == []
        assert any("I had to stop: it broke." in text for _, text in world.send_all())

    def test_it_is_told_though_nothing_was_owed(self) -> None:
        world, run, claimed = asked()
        world.commit(run, claimed)
        assert world.fail(run, "quota") == []
        ((chat, text),) = world.send_all()
        assert chat == CHAT
        assert "I had to stop" in text

    def test_a_run_that_never_worked_tells_nobody(self) -> None:
        world = World.with_family()
        assert world.fail(world.begin(), "quota") == []
        assert world.send_all() == []


class TestTrouble:
    def test_a_chat_hears_of_each_kind_once_in_a_while(self) -> None:  # invariants 48, 49, 50
        world, run, _ = asked()
        for _ in range(3):
            world.fail(run, "machine")
            world.passes(100)
            world.claim(run)
        world.fail(run, "rate_limit")
        assert len(world.send_all()) == 2

    def test_and_again_when_it_lasts(self) -> None:
        world = World.with_family()
        told = []
        for _ in range(4):
            told.append(
                notices.tell_once(Tx(world.db, world.now, world.new_id), CHAT, "outage", "no")
            )
            world.passes(RETRIES.notice / 2)
        assert told == [True, False, True, False]
        assert held_notices(world.db) == 1

    def test_a_clock_that_went_back_does_not_silence_us(self) -> None:  # threat D5
        world = World.with_family()
        notices.tell_once(Tx(world.db, world.now, world.new_id), CHAT, "x", "no")
        past = Micros(world.now - 10**12)
        assert notices.tell_once(Tx(world.db, past, world.new_id), CHAT, "x", "no")

    def test_each_chat_hears_for_itself(self) -> None:
        world = World.with_family()
        for chat in (CHAT, MAIN_CONSOLE):
            assert notices.tell_once(Tx(world.db, world.now, world.new_id), chat, "x", "no")


class TestStop:
    def test_what_runs_is_cancelled_and_its_late_output_dropped(self) -> None:  # invariant 29
        world, run, claimed = asked()
        stopped = turns.cancel(Tx(world.db, world.now), FAMILY)
        assert [each.id for each in stopped] == [claimed.turn]
        assert world.cursor() == 1
        late = world.commit(run, claimed, say=["late"])
        assert (late.turns, late.outbox) == ((), ())
        assert world.commit(run, say=["later"]).outbox == ()
        assert world.end(run) == []
        assert world.waiting() == []

    def test_what_came_later_stays(self) -> None:
        world, run, _ = asked()
        world.hear("@Pynchy next")
        turns.cancel(Tx(world.db, world.now), FAMILY)
        assert world.waiting() == [FAMILY]
        assert [each.text for each in world.claim(run).messages] == ["@Pynchy next"]

    def test_a_retry_is_stopped_too(self) -> None:
        world, run, _ = asked()
        world.fail(run)
        assert len(turns.cancel(Tx(world.db, world.now), FAMILY)) == 1
        assert messages.next_retry(world.db, FAMILY) is None

    def test_a_task_that_has_not_begun_is_not(self) -> None:
        world = World.with_family()
        turns.add(
            Tx(world.db, world.now), turns.Work(folder=FAMILY, chat=CHAT, kind="task", prompt="x")
        )
        assert turns.cancel(Tx(world.db, world.now), FAMILY) == []
        assert serving.left(Tx(world.db, world.now), FAMILY, kind="task").ready

    def test_other_groups_go_on(self) -> None:
        world, _, _ = asked()
        world.hear("hi", chat=MAIN_CONSOLE)
        world.claim(world.begin(MAIN), MAIN)
        assert len(turns.cancel(Tx(world.db, world.now), FAMILY)) == 1


class TestSessions:
    def test_a_run_of_an_older_epoch_writes_nothing_more(self) -> None:  # invariant 29
        world, run, claimed = asked()
        turns.cancel(Tx(world.db, world.now), FAMILY)
        groups.new_session(world.db, FAMILY)
        late = world.commit(run, claimed, say=["late"], session="old")
        assert late.superseded
        assert not groups.set_session(world.db, run, "old")
        assert world.try_claim(run) is None
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert (group.session, group.epoch) == (None, 1)
        assert world.send_all() == []

    def test_a_session_is_kept_as_soon_as_it_has_a_name(self) -> None:  # invariant 98
        world = World.with_family()
        assert groups.set_session(world.db, world.begin(), "s1")
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert group.session == "s1"

    def test_a_conversation_that_is_over_is_handed_on_until_a_run_has_archived_it(self) -> None:
        world = World.with_family()
        first = world.begin()
        assert groups.set_session(world.db, first, "s1")
        world.end(first)
        groups.new_session(world.db, FAMILY)
        groups.new_session(world.db, FAMILY)  # a second time there is nothing to end
        assert groups.ended_sessions(world.db, FAMILY) == ("s1",)
        second = world.begin()  # one that dies before it can say anything changes nothing
        world.end(second)
        assert groups.ended_sessions(world.db, FAMILY) == ("s1",)
        third = world.begin()
        assert groups.set_session(world.db, third, "s2")
        assert groups.ended_sessions(world.db, FAMILY) == ()
        assert not groups.clear_session(world.db, FAMILY, session="s1")
        assert groups.clear_session(world.db, FAMILY, session="s2")
        assert groups.ended_sessions(world.db, FAMILY) == ("s2",)

    def test_an_isolated_task_does_not_touch_the_groups_session(self) -> None:
        world = World.with_family()
        turns.add(
            Tx(world.db, world.now),
            turns.Work(folder=FAMILY, chat=CHAT, kind="task", prompt="x", isolated=True),
        )
        run = world.begin(kind="task")
        claimed = world.claim(run)
        world.commit(run, claimed, say=["done"], session="its own")
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert group.session is None
        assert world.send_all() == [(CHAT, "done")]

    def test_a_group_registered_again_does_not_hear_its_former_life(self) -> None:
        world, run, claimed = asked()
        turns.cancel(Tx(world.db, world.now), FAMILY)
        groups.remove(world.db, FAMILY)
        world.register(FAMILY, CHAT)
        assert world.commit(run, claimed, say=["late"], session="old").superseded
        assert world.waiting() == []


class TestRestart:
    def test_what_a_run_held_is_due_again_at_once(self) -> None:  # invariants 15, 17, 116
        world, run, claimed = asked()
        assert world.restart() == [f"pynchy-test-{run}"]
        assert world.waiting() == [FAMILY]
        again = world.claim(world.begin())
        assert (again.turn, again.attempt, again.resume) == (claimed.turn, 1, False)
        found = runs.get(world.db, run)
        assert found is not None
        assert (found.state, found.reason) == ("gone", "interrupted")

    def test_a_run_of_this_life_is_left_alone(self) -> None:
        world, run, _ = asked()
        left = runs.interrupt_others(Tx(world.db, world.now, world.new_id), boot=world.boot)
        assert left == []
        assert [each.id for each in runs.live(world.db)] == [run]

    def test_a_retry_keeps_its_time(self) -> None:
        world, run, _ = asked()
        (failure,) = world.fail(run)
        world.restart()
        assert world.waiting() == []
        assert messages.next_retry(world.db, FAMILY) == failure.retry_at

    def test_a_group_with_schedules_only_is_not_woken(self) -> None:  # invariant 27
        world = World.with_family()
        world.hear("nobody asks")
        world.restart()
        assert world.waiting() == []


class TestOtherWork:
    def test_a_session_takes_notices_and_leaves_tasks_to_task_runs(self) -> None:
        world = World.with_family()
        for kind in ("task", "notice"):
            turns.add(
                Tx(world.db, world.now),
                turns.Work(folder=FAMILY, chat=CHAT, kind=kind, prompt=kind),
            )
        assert world.waiting() == [FAMILY]
        assert serving.left(Tx(world.db, world.now), FAMILY, kind="task").ready
        session = world.begin()
        assert world.claim(session).prompt == "notice"
        assert world.try_claim(session) is None
        world.end(session)
        task = world.begin(kind="task")
        assert world.claim(task).prompt == "task"
        assert world.try_claim(task) is None

    def test_a_task_knows_its_slot(self) -> None:
        world = World.with_family()
        turn = turns.add(
            Tx(world.db, world.now),
            turns.Work(folder=FAMILY, chat=CHAT, kind="task", prompt="tidy up"),
        )
        world.db.execute(
            "INSERT INTO tasks (id, folder, chat, name, prompt, kind, value, timezone, context, "
            "creator, state, anchor, created_at) VALUES ('t1', 'family', ?, 'Tidy', 'tidy up', "
            "'cron', '0 9 * * *', 'UTC', 'group', 'anna', 'active', 0, 0)",
            (CHAT,),
        )
        world.db.execute(
            "INSERT INTO fires (task_id, slot, due_at, fired_at, turn_id, missed, state) "
            "VALUES ('t1', '2026-01-01T09:00', 5, 6, ?, 2, 'waiting')",
            (turn,),
        )
        task = world.claim(world.begin(kind="task")).task
        assert task is not None
        assert (task.id, task.name, task.due_at, task.missed) == ("t1", "Tidy", 5, 2)

    def test_a_turn_not_wanted_any_more(self) -> None:
        world = World.with_family()
        turn = turns.add(
            Tx(world.db, world.now), turns.Work(folder=FAMILY, chat=CHAT, kind="task", prompt="x")
        )
        assert turns.cancel_one(Tx(world.db, world.now), turn)
        assert not turns.cancel_one(Tx(world.db, world.now), turn)
        assert not serving.left(Tx(world.db, world.now), FAMILY, kind="task").ready


class TestGroups:
    def test_main_is_made_once(self) -> None:
        world = World.with_family()
        again = groups.ensure_main(Tx(world.db, world.now), name="Other", trigger="X")
        assert (again.name, again.is_main) == ("Main", True)
        assert groups.chats_of(world.db, MAIN) == [MAIN_CONSOLE]

    def test_main_has_one_chat_on_each_channel(self) -> None:
        world = World.with_family()
        with pytest.raises(groups.CannotRegister, match="console"):
            groups.add_chat(world.db, MAIN, ChatId("console:second"))
        groups.add_chat(world.db, MAIN, ChatId("main@g.us"))
        assert groups.main_chat(world.db) == "main@g.us"
        assert groups.main_chat(world.db, but=ChatId("main@g.us")) == MAIN_CONSOLE

    def test_a_chat_belongs_to_one_group(self) -> None:
        world = World.with_family()
        with pytest.raises(groups.CannotRegister, match="family"):
            world.register(GroupId("other"), CHAT)
        with pytest.raises(groups.CannotRegister, match="registered already"):
            world.register(FAMILY, ChatId("new@g.us"))

    def test_main_stays(self) -> None:
        world = World.with_family()
        with pytest.raises(groups.CannotRegister):
            groups.remove(world.db, MAIN)

    def test_a_removed_group_owes_nothing(self) -> None:
        world = World.with_family()
        world.hear("@Pynchy hi")
        assert groups.remove(world.db, FAMILY)
        assert world.waiting() == []
        assert world.hear("@Pynchy hi again").seq is None
        assert groups.by_chat(world.db, CHAT) is None
        world.register(FAMILY, CHAT)
        assert world.waiting() == []
        assert world.hear("@Pynchy hello").wakes

    def test_settings_come_back(self) -> None:
        world = World.with_family()
        groups.set_settings(world.db, FAMILY, {"cpus": 2})
        groups.set_model(world.db, FAMILY, "m")
        groups.set_allowed_senders(world.db, FAMILY, (ANNA,))
        groups.update(world.db, FAMILY, name="Us", requires_trigger=False)
        group = groups.get(world.db, FAMILY)
        assert group is not None
        assert (group.name, group.requires_trigger, group.model) == ("Us", False, "m")
        assert group.allowed_senders == (ANNA,)
        assert groups.settings(world.db, FAMILY) == {"cpus": 2}
        assert [each.folder for each in groups.list_groups(world.db)] == [MAIN, FAMILY]

    def test_only_groups_with_mounts_are_looked_at_for_mounts(self) -> None:
        world = World.with_family()
        groups.set_settings(world.db, FAMILY, {"egress": "none"})
        assert groups.with_mounts(world.db) == {}
        wishes = {"mounts": [{"path": "/srv/x", "name": "x"}]}
        groups.set_settings(world.db, FAMILY, wishes)
        assert groups.with_mounts(world.db) == {FAMILY: wishes}


def test_a_run_needs_a_group() -> None:
    with pytest.raises(LookupError):
        World().begin()


def test_a_run_that_is_over_gets_nothing_and_ends_once() -> None:
    world, run, claimed = asked()
    world.end(run)
    assert world.try_claim(run) is None
    world.end(run, "again")
    found = runs.get(world.db, run)
    assert found is not None
    assert found.reason == "closed"
    assert claimed.turn == 1


def test_groups_that_spoke_last_are_known_after_a_restart() -> None:
    world = World.with_family(requires_trigger=False)
    for number, name in enumerate(("ant", "bee", "ant", "cat")):
        folder, chat = GroupId(name), ChatId(f"{name}@g.us")
        if number != 2:
            world.register(folder, chat, requires_trigger=False)
        world.hear("hello", id=f"m{number}", chat=chat)
        run = world.begin(folder)
        world.commit(run, world.claim(run, folder), say=["hi"])
        world.end(run)
    assert groups.spoke_last(world.db, limit=5) == ["cat", "ant", "bee"]
    assert groups.spoke_last(world.db, limit=1) == ["cat"]
    groups.remove(world.db, GroupId("cat"))
    assert groups.spoke_last(world.db, limit=5) == ["ant", "bee"]


def test_a_duplicate_container_name_is_refused() -> None:
    world = World.with_family()
    runs.begin(
        Tx(world.db, world.now),
        runs.RunStart(run=RunId("a"), folder=FAMILY, kind="session", container="c", boot="b"),
    )
    with pytest.raises(sqlite3.IntegrityError):
        runs.begin(
            Tx(world.db, world.now),
            runs.RunStart(run=RunId("b"), folder=MAIN, kind="session", container="c", boot="b"),
        )
    assert open_entries(world.db) == 0
