"""What agents wait for, in the store: which message answers a question and whom it reaches; helpers' ends."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.actions.call import Call
from pynchy.actions.refused import Refused
from pynchy.actions.waiting import HANDLERS
from pynchy.limits import HELPERS
from pynchy.model import ChatId, GroupId, Message, Quoted, RunId, SenderId, TurnId
from pynchy.policy.tools import Caller
from pynchy.policy.wording import Outcome
from pynchy.store import (
    authority,
    claims,
    delegates,
    groups,
    messages,
    outbox,
    questions,
    runs,
    serving,
    turns,
)
from pynchy.store.database import Tx
from pynchy.text.triggers import chosen
from tests.rules.store_world import ANNA, CHAT, FAMILY, World

BEN = SenderId("4918@s.whatsapp.net")


@attrs.define
class Asking:
    """A group in a turn whose agent has asked something."""

    world: World
    run: RunId
    claimed: claims.Claimed
    id: str
    message_id: str

    def hear(
        self, text: str, *, sender: SenderId = ANNA, quotes: str | None = None
    ) -> messages.Received:
        quoted = None if quotes is None else Quoted(id=quotes, sender_name="", text="")
        message = Message(
            chat=CHAT,
            id=self.world.new_id(),
            sender=sender,
            sender_name="Anna",
            sent_at=self.world.passes(1),
            text=text,
            quoted=quoted,
        )
        return messages.receive(Tx(self.world.db, self.world.now), message)

    def now(self) -> questions.Question:
        found = questions.get(self.world.db, self.id)
        assert found is not None
        return found

    def notices(self) -> list[str]:
        rows = self.world.db.execute("SELECT prompt FROM turns WHERE kind = 'notice' ORDER BY id")
        return [row[0] for row in rows]


def caller_of(world: World, run: RunId, folder: GroupId = FAMILY) -> Caller:
    found = authority.caller_of(world.db, folder, run)
    assert found is not None
    return found


def ask(*options: str, requires_trigger: bool = True) -> Asking:
    world = World.with_family(requires_trigger=requires_trigger)
    world.hear("@Pynchy hello")
    run = world.begin()
    claimed = world.claim(run)
    entry = world.say("Which?", turn=claimed)
    tx = Tx(world.db, world.now, world.new_id)
    id = questions.ask(tx, caller_of(world, run), "Which?", options, entry=entry)
    asked = questions.get(world.db, id)
    assert asked is not None
    return Asking(world, run, claimed, id, asked.message_id)


@pytest.mark.parametrize(
    "said", ["2", "2.", " 2) ", "coffee", "COFFEE ", "@Pynchy 2", "@pynchy, coffee"]
)
def test_a_number_or_an_options_words_answer_it(said: str) -> None:
    asking = ask("Tea", "Coffee")
    received = asking.hear(said)
    assert received.answers == asking.id
    assert not received.wakes  # the call has it
    assert (asking.now().state, asking.now().answer) == ("answered", "Coffee")


@pytest.mark.parametrize("said", ["3", "0", "coffee please", "I think 2", "tea or coffee"])
def test_what_people_say_to_each_other_is_no_answer_where_a_trigger_is_needed(said: str) -> None:
    asking = ask("Tea", "Coffee")
    assert asking.hear(said).answers is None
    assert asking.now().state == "waiting"


def test_free_text_answers_where_it_would_have_asked_or_quotes_the_question() -> None:
    assert ask("Tea", "Coffee").hear("@Pynchy neither").answers
    asking = ask("Tea", "Coffee")
    assert asking.hear("neither", quotes="something else").answers is None
    assert asking.hear("neither", quotes=asking.message_id).answers == asking.id
    assert asking.now().answer == "neither"
    assert ask(requires_trigger=False).hear("whatever").answers


def test_only_the_next_message_is_the_answer_and_it_asks_for_nothing_else() -> None:
    asking = ask("Tea", "Coffee", requires_trigger=False)
    assert asking.hear("tea").answers
    assert asking.world.try_claim(asking.run) is None
    assert asking.hear("coffee").answers is None
    assert asking.world.claim(asking.run).messages[-1].text == "coffee"


def test_nobody_answers_whom_the_group_does_not_listen_to() -> None:
    asking = ask("Tea", "Coffee")
    groups.set_allowed_senders(asking.world.db, FAMILY, (ANNA,))
    assert asking.hear("1", sender=BEN).answers is None
    assert asking.hear("1", quotes=asking.message_id, sender=BEN).answers is None
    assert asking.hear("1", sender=ANNA).answers


def test_after_two_minutes_the_answer_wakes_the_agent() -> None:
    asking = ask("Tea", "Coffee")
    asking.world.passes(questions.PATIENCE)
    assert asking.hear("1").wakes  # though the call has not noticed yet
    after = questions.wait_no_longer(asking.world.db, asking.id)
    assert after is not None
    assert after.woke is not None  # so the call says that it will be woken, and does not answer too
    assert asking.notices() == ["You asked: Which?\nAnna answered: Tea"]


@pytest.mark.parametrize("restart", [True, False])
def test_an_answer_after_the_run_ended_wakes_the_agent(restart: bool) -> None:
    asking = ask("Tea", "Coffee")
    if restart:
        asking.world.restart()
    else:
        asking.world.commit(asking.run, asking.claimed)
        asking.world.end(asking.run)
    assert asking.now().state == "open"
    assert asking.hear("tea").wakes
    assert len(asking.notices()) == 1
    run = asking.world.begin()
    while (claimed := asking.world.try_claim(run)) is not None and claimed.kind != "notice":
        pass
    assert claimed is not None
    assert claimed.source == "question"


def test_an_answer_that_reached_a_call_which_died_is_not_lost() -> None:
    asking = ask("Tea", "Coffee")
    asking.hear("tea")
    assert asking.notices() == []
    asking.world.restart()
    assert asking.notices() == ["You asked: Which?\nAnna answered: Tea"]
    asking.world.restart()
    assert len(asking.notices()) == 1


def test_an_answer_in_a_turn_that_was_finished_wakes_nobody() -> None:
    asking = ask("Tea", "Coffee")
    asking.hear("tea")
    asking.world.commit(asking.run, asking.claimed)
    asking.world.end(asking.run)
    assert asking.notices() == []


def test_a_stopped_group_and_a_new_conversation_want_no_answer() -> None:
    asking = ask("Tea", "Coffee")
    assert questions.drop(asking.world.db, FAMILY) == [asking.id]
    assert asking.hear("tea").answers is None
    asking = ask("Tea", "Coffee")
    groups.new_session(asking.world.db, FAMILY)
    assert asking.hear("tea").answers is None


def test_a_newer_question_takes_the_place_of_an_older_one() -> None:
    asking = ask("Tea", "Coffee")
    world = asking.world
    entry = world.say("And?", turn=asking.claimed)
    tx = Tx(world.db, world.now, lambda: "newer")
    questions.ask(tx, caller_of(world, asking.run), "And?", (), entry=entry)
    assert asking.now().state == "dropped"
    assert asking.hear("@Pynchy well").answers == "newer"


def test_a_week_old_question_is_no_question_any_more() -> None:
    asking = ask("Tea", "Coffee")
    asking.world.passes(questions.KEEP + 60)
    received = asking.hear("@Pynchy tea")
    assert (received.answers, received.wakes) == (None, True)  # it is a message like any other
    assert asking.now().state == "dropped"


@given(st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_an_option_is_chosen_by_its_number_and_by_its_words(text: str, options: list[str]) -> None:
    # invariant 45
    found = chosen(text, options)
    assert found is None or found in options
    for number, option in enumerate(options, start=1):
        words = {" ".join(each.split()).casefold() for each in options}
        if str(number) not in words and f"{number}." not in words:
            assert chosen(f" {number}.", options) == option


# --- helpers -------------------------------------------------------------------------------------


def delegate(world: World, run: RunId, *, waits: bool = True) -> TurnId:
    return delegates.ask(Tx(world.db, world.now), caller_of(world, run), "work", waits=waits)


def helper(world: World, turn: TurnId) -> tuple[RunId, claims.Claimed]:
    run = world.begin(kind="delegate")
    claimed = claims.claim(Tx(world.db, world.passes(0.001), world.new_id), run, turn=turn)
    assert claimed is not None
    return run, claimed


def test_a_helpers_words_are_its_result_and_not_the_chats() -> None:
    asking = ask()
    turn = delegate(asking.world, asking.run)
    run, claimed = helper(asking.world, turn)
    assert delegates.outcome(asking.world.db, turn) is None
    asking.world.commit(run, claimed, say=["the sum is 4"])
    assert delegates.outcome(asking.world.db, turn) == Outcome(True, "the sum is 4")
    assert [text for _, text in asking.world.send_all()] == ["Which?"]


def test_a_helper_is_tried_once_and_its_failure_is_told() -> None:
    asking = ask()
    turn = delegate(asking.world, asking.run)
    run, _ = helper(asking.world, turn)
    asking.world.fail(run)
    asking.world.end(run)
    came = delegates.outcome(asking.world.db, turn)
    assert came is not None
    assert not came.ok
    assert "it broke" in came.text


@pytest.mark.parametrize("fails", [False, True])
def test_who_does_not_wait_is_woken_once(fails: bool) -> None:
    asking = ask()
    turn = delegate(asking.world, asking.run, waits=False)
    run, claimed = helper(asking.world, turn)
    asking.world.fail(run) if fails else asking.world.commit(run, claimed, say=["done it"])
    asking.world.end(run)
    asking.world.commit(asking.run, asking.claimed)
    asking.world.end(asking.run)
    (told,) = asking.notices()
    assert ("it broke" if fails else "done it") in told


def test_helpers_that_have_not_begun_end_with_the_run_that_asked() -> None:
    asking = ask()
    turn = delegate(asking.world, asking.run)
    quiet = delegate(asking.world, asking.run, waits=False)
    asking.world.restart()
    for each in (turn, quiet):
        came = delegates.outcome(asking.world.db, each)
        assert came is not None
        assert not came.ok
    assert len(asking.notices()) == 1


def test_word_that_the_end_of_a_task_left_is_the_sessions_to_hear() -> None:
    world, run, parent = _task_run()
    delegate(world, run, waits=False)
    world.commit(run, parent, say=["on its way"])
    assert not serving.woken(Tx(world.db, world.now), FAMILY)
    world.end(run)
    # The next task run would find nothing; somebody has to ring the session.
    assert not serving.left(Tx(world.db, world.now), FAMILY, kind="task").ready
    assert serving.woken(Tx(world.db, world.now), FAMILY)
    session = world.begin()
    assert "Helper" in (world.claim(session).prompt or "")
    assert not serving.woken(Tx(world.db, world.now), FAMILY)


def _task_run() -> tuple[World, RunId, claims.Claimed]:
    world = World.with_family()
    turns.add(
        Tx(world.db, world.now),
        turns.Work(folder=FAMILY, chat=CHAT, kind="task", prompt="delegate"),
    )
    run = world.begin(kind="task")
    return world, run, world.claim(run)


def test_a_stop_ends_helpers_and_wakes_nobody() -> None:
    asking = ask()
    turn = delegate(asking.world, asking.run, waits=False)
    turns.cancel(Tx(asking.world.db, asking.world.now), FAMILY)
    asking.world.end(asking.run)
    assert delegates.outcome(asking.world.db, turn) is not None
    assert asking.notices() == []


def test_helpers_go_two_deep_and_are_so_many() -> None:
    asking = ask()
    world = asking.world
    run, _ = helper(world, delegate(world, asking.run))
    below, _ = helper(world, delegate(world, run))
    caller = authority.caller_of(world.db, FAMILY, below)
    assert caller is not None
    assert caller.depth == 2

    def act(run: RunId) -> None:
        tx = Tx(world.db, world.now)
        HANDLERS["delegate"](Call(tx, caller_of(world, run), {"prompt": "work"}))

    with pytest.raises(Refused, match="no helpers of its own"):
        act(below)
    for _ in range(HELPERS.group - 2):
        act(asking.run)
    with pytest.raises(Refused, match="wait for one"):
        act(asking.run)


def test_a_helper_of_main_has_nobodys_authority() -> None:
    world = World.with_family()
    chat, main = ChatId("console:main"), GroupId("main")
    world.hear("hello", chat=chat, sender=SenderId("owner"))
    run = world.begin(main)
    world.claim(run, main)
    caller = authority.caller_of(world.db, main, run)
    assert caller is not None
    assert caller.trusted
    turn = delegates.ask(Tx(world.db, world.now), caller, "x", waits=True)
    helping = world.begin(main, kind="delegate")
    claims.claim(Tx(world.db, world.now, world.new_id), helping, turn=turn)
    caller = authority.caller_of(world.db, main, helping)
    assert caller is not None
    assert not caller.trusted  # decision: a helper looks, and asks for nothing


def test_the_run_of_a_question_is_known_when_it_is_gone() -> None:
    asking = ask()
    assert runs.get(asking.world.db, asking.now().run) is not None
    assert (
        outbox.heads(Tx(asking.world.db, asking.world.now))[0].out.message_id == asking.message_id
    )
