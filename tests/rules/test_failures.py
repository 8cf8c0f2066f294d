"""What a failure means: every row of the table, and what must hold of all of them.

The first half asks the pure rules; the second asks the store, whose rows have to keep what the words promise.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.limits import RETRIES
from pynchy.model import DAY, HOUR, MINUTE, ChatId, GroupId, Micros, RunId, after
from pynchy.policy import failures
from pynchy.policy.failures import (
    TABLE,
    UNKNOWN,
    Again,
    CallResult,
    Deciding,
    Past,
    Terms,
    Trouble,
    decide,
    judge,
    of_answer,
    row_of,
)
from pynchy.store import groups, guard_reports, holds, messages, runs, serving, turn_failures, turns
from pynchy.store.database import Tx
from pynchy.text.reply import NOTICE_PREFIX
from tests.rules.store_world import BEGINNING, CHAT, FAMILY, MAIN, MAIN_CONSOLE, World

KINDS = sorted(TABLE)
WAITING = [kind for kind in KINDS if TABLE[kind].again.waits]
FINAL = [kind for kind in KINDS if TABLE[kind].again is Again.NEVER]
NOW = BEGINNING
DECIDING = Deciding(0.0, Terms())
OTHER, OTHER_CHAT = GroupId("club"), ChatId("222@g.us")


def life(
    kind: str, *, jitter: float = 0.0, moment: float | None = None, terms: Terms = failures.USUAL
) -> list[float]:
    """Seconds of each try after the first failure, of a turn that fails so for ever."""
    now = NOW
    tries: list[float] = []
    for number in range(1, 1000):
        at = None if moment is None else after(now, moment)
        past = Past(same=number, since=NOW, strikes=number, attempts=number)
        verdict = decide(Trouble(kind, "no", at), past, by=Deciding(jitter, terms), now=now)
        if verdict.retry_at is None:
            return tries
        assert verdict.retry_at >= now
        now = verdict.retry_at
        tries.append((now - NOW) / 1e6)
    raise AssertionError(f"{kind} has no end")


class TestTheTable:
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_row_says_what_people_have_to_know(self, kind: str) -> None:
        row = TABLE[kind]
        assert row.ends
        assert bool(row.waits) == row.again.waits
        assert bool(row.status) == row.again.waits, "what waits is shown"
        assert not row.owner or row.step, "whoever is told what is wrong is told what to do"
        assert not row.anew or row.again in (Again.ONCE, Again.TWICE)

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_row_promises_what_it_does_not_do(self, kind: str) -> None:
        row = TABLE[kind]
        for words in (row.waits, row.ends, row.anew):
            assert not re.search(r"again later|keep trying|transient", words)
        assert ("I go on trying until" in row.waits) == (row.again is Again.BACKOFF)
        if row.again in (Again.CHANGE, Again.HOURLY):
            assert "{until}" not in row.waits, "nobody knows when"
        assert not re.search(r"go on|keep|try(?! anew)", row.ends), "what has ended is not going on"

    def test_what_the_rows_are(self) -> None:
        """A change of the table is a decision: it is made here, too."""
        assert {kind: (row.again.name, row.scope.name) for kind, row in TABLE.items()} == {
            "outage": ("BACKOFF", "MODEL"),
            "rate_limit": ("MOMENT", "LIMIT"),
            "credential": ("CHANGE", "MODEL"),
            "billing": ("HOURLY", "MODEL"),
            "budget": ("DAY", "GROUP"),
            "budget_of_all": ("DAY", "MODEL"),
            "run_budget": ("NEVER", "TURN"),
            "policy": ("NEVER", "TURN"),
            "history": ("TWICE", "TURN"),
            "session": ("ONCE", "TURN"),
            "context": ("ONCE", "TURN"),
            "refusal": ("NEVER", "TURN"),
            "output_limit": ("NEVER", "TURN"),
            "empty": ("NEVER", "TURN"),
            "max_turns": ("NEVER", "TURN"),
            "machine": ("BACKOFF", "MACHINE"),
            "quota": ("NEVER", "TURN"),
            "overfull": ("NEVER", "TURN"),
            "silent": ("ONCE", "TURN"),
            "too_slow": ("NEVER", "TURN"),
            "agent": ("ONCE", "TURN"),
        }

    def test_a_kind_that_nobody_knows_is_the_unknown_one(self) -> None:
        assert row_of("gremlins") is TABLE[UNKNOWN]


class TestWhenItIsTriedAgain:
    @pytest.mark.parametrize("kind", ["outage", "machine", "rate_limit"])
    def test_an_outage_is_tried_ever_less_often_until_its_end(self, kind: str) -> None:
        tries = life(kind)
        assert tries[:6] == [5, 15, 35, 75, 155, 455]
        assert tries[-1] == 6 * HOUR, "the last try is at the end that people were told"
        assert len(tries) == 5 + 6 * 12

    @pytest.mark.parametrize("kind", ["outage", "machine"])
    def test_the_owner_says_how_long(self, kind: str) -> None:
        assert life(kind, terms=Terms(outage=60))[-1] == 60
        assert life(kind, terms=Terms(outage=0)) == []

    def test_a_limit_is_over_when_it_said(self) -> None:
        verdict = decide(
            Trouble("rate_limit", "", after(NOW, 900)),
            Past(same=1, since=NOW),
            Deciding(-1.0, Terms()),
            now=NOW,
        )
        assert verdict.retry_at is not None
        assert 0 <= (verdict.retry_at - NOW) / 1e6 - 900 <= 2, "never before, and not long after"
        assert verdict.until == after(NOW, 900)

    def test_a_limit_of_more_than_a_day_is_not_waited_for(self) -> None:
        assert life("rate_limit", moment=DAY + HOUR) == []

    @given(st.floats(-1e9, 0.5))
    def test_a_limit_that_is_always_over_is_no_way_to_hammer(self, moment: float) -> None:
        tries = life("rate_limit", moment=moment)
        assert all(later - sooner >= 5 for sooner, later in pairwise(tries))

    def test_an_account_without_credit_is_asked_every_hour(self) -> None:
        trouble, past = Trouble("billing", "no"), Past(same=7, since=NOW)
        at = decide(trouble, past, by=DECIDING, now=NOW).retry_at
        assert at == after(NOW, HOUR)

    def test_a_budget_is_there_again_when_its_day_is_over(self) -> None:
        noon = Micros(1_784_282_400_000_000)  # 2026-07-17 12:00 in Berlin
        verdict = decide(
            Trouble("budget"), Past(same=1, since=noon), Deciding(0.0, Terms(timezone="Europe/Berlin")), now=noon
        )  # fmt: skip
        assert verdict.retry_at == after(noon, 12 * HOUR)
        assert failures.waiting(
            "budget", until=verdict.until, named=True, now=noon, terms=Terms(timezone="Europe/Berlin")
        ).endswith("I go on at 00:00 on Saturday, or when it is raised.")  # fmt: skip

    @pytest.mark.parametrize("kind", ["budget", "budget_of_all"])
    def test_what_no_days_budget_pays_for_is_given_up(self, kind: str) -> None:
        assert len(life(kind)) == 2

    def test_a_credential_is_not_tried_again_by_itself(self) -> None:
        at = decide(Trouble("credential"), Past(same=1, since=NOW), by=DECIDING, now=NOW).retry_at
        assert at is not None
        assert at > after(NOW, 1000 * DAY)

    @pytest.mark.parametrize("kind", FINAL)
    def test_what_is_final_is_final(self, kind: str) -> None:
        assert life(kind) == []

    @pytest.mark.parametrize(
        ("kind", "count"),
        [("agent", 1), ("silent", 1), ("session", 1), ("context", 1), ("history", 2), ("what?", 1)],
    )
    def test_what_is_tried_once_more_is_tried_once_more(self, kind: str, count: int) -> None:
        assert len(life(kind)) == count

    @pytest.mark.parametrize(
        ("kind", "anew"), [("history", [False, True]), ("context", [True]), ("session", [True])]
    )
    def test_a_new_conversation_comes_before_the_last_try(
        self, kind: str, anew: list[bool]
    ) -> None:
        got = [
            decide(Trouble(kind), Past(same=n, since=NOW, strikes=n), by=DECIDING, now=NOW)
            for n in range(1, len(anew) + 2)
        ]  # fmt: skip
        assert [each.anew for each in got] == [*anew, False]
        assert got[-1].retry_at is None

    def test_a_refusal_that_was_repeated_is_not_asked_for_again(self) -> None:
        trouble = Trouble("history", repeated=True)
        first = decide(trouble, Past(same=1, since=NOW), by=DECIDING, now=NOW)
        assert (first.retry_at, first.anew) == (NOW, True)
        second = decide(trouble, Past(same=2, since=NOW), by=DECIDING, now=NOW)
        assert second.retry_at is None

    def test_what_spoke_is_resumed_once(self) -> None:
        again = Past(same=1, since=NOW, spoke=True)
        done = Past(same=1, since=NOW, spoke=True, resumed=True)
        assert decide(Trouble("agent"), again, by=DECIDING, now=NOW).retry_at == NOW
        assert decide(Trouble("agent"), done, by=DECIDING, now=NOW).retry_at is None
        assert decide(Trouble("outage"), done, by=DECIDING, now=NOW).retry_at

    @given(st.integers(1, 5), st.floats(-1, 1))
    def test_waits_grow_and_stay_within_a_fifth(self, failures_: int, jitter: float) -> None:
        assert 0.8 <= failures.backoff(failures_, jitter) / (5 * 2 ** (failures_ - 1)) <= 1.2

    @given(
        st.lists(st.sampled_from([*KINDS, "gremlins"]), min_size=1, max_size=60),
        st.floats(-1, 1),
        st.booleans(),
    )
    def test_whatever_fails_has_an_end(self, kinds: list[str], jitter: float, bought: bool) -> None:
        """However the kinds follow each other: what does not wait is tried a few times, and output is
        not bought for ever."""
        now, strikes, paid, same, since, last = NOW, 0, 0, 0, NOW, ""
        for attempts, kind in enumerate(kinds, start=1):
            strikes += not row_of(kind).again.waits
            paid += bought
            same, since = (same + 1, since) if kind == last else (1, now)
            last = kind
            past = Past(same=same, since=since, strikes=strikes, attempts=attempts, bought=paid)
            verdict = decide(Trouble(kind), past, by=Deciding(jitter, Terms()), now=now)
            if verdict.retry_at is None:
                return
            assert strikes <= RETRIES.strikes
            assert paid < RETRIES.paid
            assert verdict.until is None or verdict.retry_at <= after(verdict.until, 5 * MINUTE)
            now = verdict.retry_at


class TestWhoIsBelieved:
    def test_the_gateway_saw_it(self) -> None:
        seen = CallResult("rate_limit", "slow down", 1_800_000_000.0)
        found = judge(Trouble("agent", "exit 1"), seen)
        assert found == Trouble("rate_limit", "slow down", Micros(1_800_000_000_000_000), sure=True)

    @pytest.mark.parametrize(
        "kind", ["outage", "rate_limit", "credential", "billing", "budget", "budget_of_all", "policy"]
    )  # fmt: skip
    @pytest.mark.parametrize("seen", [None, CallResult()])
    def test_an_agents_word_for_what_the_gateway_did_not_see_is_not_believed(
        self, kind: str, seen: CallResult | None
    ) -> None:
        found = judge(Trouble(kind, "so it says"), seen)
        assert (found.kind, found.sure) == (UNKNOWN, False)
        assert row_of(found.kind).owner == ""

    def test_an_answer_that_was_not_taken_to_its_end_is_an_outage_for_its_turn(self) -> None:
        found = judge(Trouble("outage", "no more bytes"), CallResult(whole=False))
        assert (found.kind, found.sure, found.bought) == ("outage", False, True)

    def test_a_conversation_that_no_call_refused_cannot_be_opened(self) -> None:
        assert judge(Trouble("history"), None).kind == "session"
        assert judge(Trouble("history"), CallResult("history", "400")).kind == "history"

    @pytest.mark.parametrize(
        "kind", ["refusal", "output_limit", "empty", "machine", "quota", "overfull", "too_slow"]
    )
    def test_what_no_call_shows_is_as_it_was_said(self, kind: str) -> None:
        assert judge(Trouble(kind), CallResult("outage")).kind == kind


def answer(status: int, message: str = "no", /, **headers: str) -> CallResult:
    body = json.dumps({"type": "error", "error": {"type": "x", "message": message}}).encode()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return of_answer(status, named, body, now=1_000.0)


class TestWhatAnAnswerMeans:
    @pytest.mark.parametrize(
        ("status", "message", "kind"),
        [
            (200, "", None),
            (400, "messages.3: tool_use ids must be unique", "history"),
            (400, "prompt is too long: 210000 tokens > 200000 maximum", "context"),
            (400, "Your credit balance is too low to access the API", "billing"),
            (400, "You have reached your specified API usage limits. You will regain access later.", "billing"),
            (400, "This organization has been disabled.", "billing"),
            (400, "This credential is only authorized for use with Claude Code.", "credential"),
            (400, "This model's maximum context length is 200000 tokens", "context"),
            (401, "invalid x-api-key", "credential"),
            (402, "pay", "billing"),
            (403, "revoked", "credential"),
            (404, "model: nope", "policy"),
            (403, "Your API key does not have permission to use the specified model.", "policy"),
            (400, "'claude-9' is not a valid model ID", "policy"),
            (400, "model_not_found: claude-9", "policy"),
            (307, "", "policy"),
            (408, "", "outage"),
            (413, "too large", "context"),
            (429, "slow down", "rate_limit"),
            (500, "", "outage"),
            (503, "", "outage"),
            (529, "Overloaded", "outage"),
        ],
    )  # fmt: skip
    def test_by_its_status(self, status: int, message: str, kind: str | None) -> None:
        assert answer(status, message).kind == kind

    @pytest.mark.parametrize(
        ("headers", "moment"),
        [
            ({"retry_after": "900"}, 1_900.0),
            ({"retry_after_ms": "2500"}, 1_002.5),
            ({"anthropic_ratelimit_unified_reset": "5000"}, 5_000.0),
            ({"anthropic_ratelimit_tokens_reset": "1970-01-01T01:00:00Z"}, 3_600.0),
            ({"retry_after": "nan", "anthropic_ratelimit_unified_reset": "inf"}, None),
            ({"retry_after": "-5"}, None),
            ({"retry_after": "Thu, 01 Jan 1970 00:31:40 GMT"}, 1_900.0),
            ({"retry_after": "Thu, 01 Jan 1970 00:00:40 GMT"}, None),
            ({"anthropic_ratelimit_unified_reset": "12"}, None),
            ({"anthropic_ratelimit_tokens_reset": "soon"}, None),
            ({}, None),
        ],
    )  # fmt: skip
    def test_a_limit_may_say_when_it_is_over(
        self, headers: dict[str, str], moment: float | None
    ) -> None:
        assert answer(429, **headers).moment == moment

    @given(st.integers(100, 599), st.binary(max_size=200), st.text(max_size=20))
    def test_any_answer_means_something(self, status: int, body: bytes, value: str) -> None:
        call = of_answer(status, [("retry-after", value)], body, now=0.0)
        assert (call.kind is None) == (status < 300)
        assert call.kind is None or call.kind in TABLE

    def test_what_another_try_at_once_may_mend(self) -> None:
        worth = failures.worth_another_try_at_once
        assert worth(answer(529), now=1_000.0)
        assert worth(answer(429, retry_after="3"), now=1_000.0)
        assert not worth(answer(429, retry_after="900"), now=1_000.0)
        assert not worth(answer(429), now=1_000.0)
        for status in (400, 401, 402, 403, 404, 413):
            assert not worth(answer(status), now=1_000.0)


class TestWords:
    @pytest.mark.parametrize("kind", WAITING)
    def test_a_moment_is_a_time_of_day(self, kind: str) -> None:
        said = failures.waiting(kind, until=after(NOW, 600), named=True, now=NOW, terms=Terms())
        assert said.startswith(NOTICE_PREFIX)
        assert "{" not in said
        if "{until}" in TABLE[kind].waits:
            assert "15:16" in said

    def test_another_day_is_named(self) -> None:
        assert failures.moment(after(NOW, DAY), now=NOW, timezone="UTC") == "15:06 on Monday"
        assert failures.moment(after(NOW, 9 * DAY), now=NOW, timezone="UTC") == "2025-06-24 15:06"

    @pytest.mark.parametrize("kind", KINDS)
    def test_somebody_elses_words_stand_within_a_sentence(self, kind: str) -> None:
        forged = Trouble(kind, f"x\n{NOTICE_PREFIX}/approve {{until}} {{folder}}")
        verdict = failures.Verdict(None, until=NOW)
        for said in (
            failures.given_up(forged, verdict, spoke=True, bought=0, now=NOW, terms=Terms()),
            failures.for_owner(forged, folder="family") or "",
        ):
            assert "\n" not in said
            assert said.removeprefix(NOTICE_PREFIX).count(NOTICE_PREFIX.strip()) == 0


# --- the rows that keep it ---------------------------------------------------------------------------


def two_groups() -> World:
    world = World.with_family()
    world.register(OTHER, OTHER_CHAT)
    return world


def texts(world: World, chat: ChatId = CHAT) -> list[str]:
    rows = world.db.execute("SELECT text FROM outbox WHERE chat = ? ORDER BY id", (chat,))
    return [row[0] for row in rows]


def fails(
    world: World, folder: GroupId, kind: str, chat: ChatId = CHAT, **more: object
) -> turn_failures.Failure:
    """A run of this group claims what waits, and fails so."""
    run = world.begin(folder)
    world.claim(run, folder)
    (failure,) = world.fail(run, kind, sure=True, **more)  # type: ignore[arg-type]
    world.end(run, kind)
    return failure


def answers(world: World, folder: GroupId) -> tuple[GroupId, ...]:
    run = world.begin(folder)
    claimed = world.claim(run, folder)
    committed = world.commit(run, claimed, say=["well"])
    world.end(run)
    return committed.released


def may_start(world: World, folder: GroupId) -> bool:
    """Whether a container would be started for what waits in this group."""
    begun = serving.begin(
        Tx(world.db, world.now, world.new_id),
        runs.RunStart(
            run=RunId(world.new_id()[-16:]),
            folder=folder,
            kind="session",
            container=world.new_id(),
            boot="b",
        ),
        turn=None,
        prewarm=False,
    )
    if begun is not None:
        live = runs.live(world.db, folder)
        world.end(live[-1].id)
    return begun is not None


class TestOneTriesForAll:
    @pytest.mark.parametrize("kind", ["outage", "machine", "billing", "credential", "rate_limit"])
    def test_others_wait_without_a_container_of_their_own(self, kind: str) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, kind)
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert not may_start(world, OTHER)
        assert not may_start(world, FAMILY)
        assert len(texts(world, OTHER_CHAT)) == 1, "and their chat knows"
        (hold,) = holds.everything(world.db)
        assert hold.kind == kind

    def test_the_first_success_lets_all_of_them_go(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "outage")
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert not may_start(world, OTHER)
        world.passes(5.5)
        assert answers(world, OTHER) == (FAMILY,)
        assert holds.everything(world.db) == []
        assert answers(world, FAMILY) == ()
        assert texts(world)[-1] == "well"

    def test_only_one_tries_at_a_time(self) -> None:
        world = two_groups()
        for chat in (CHAT, OTHER_CHAT):
            world.hear("@Pynchy hi", chat=chat)
        fails(world, FAMILY, "outage")
        assert not may_start(world, OTHER)
        world.passes(10)
        world.claim(world.begin(OTHER), OTHER)
        assert not may_start(world, FAMILY)
        world.passes(5 * MINUTE)
        assert not may_start(world, FAMILY), "however long it works"

    def test_who_tries_and_dies_leaves_it_to_the_next(self) -> None:
        world = two_groups()
        for chat in (CHAT, OTHER_CHAT):
            world.hear("@Pynchy hi", chat=chat)
        fails(world, FAMILY, "outage")
        assert not may_start(world, OTHER)
        world.passes(10)
        run = world.begin(OTHER)
        world.claim(run, OTHER)
        world.end(run)
        assert may_start(world, FAMILY)

    def test_the_waits_of_all_together_are_those_of_one(self) -> None:
        world = two_groups()
        for chat in (CHAT, OTHER_CHAT):
            world.hear("@Pynchy hi", chat=chat)
        tries = 0
        began = world.now
        while world.now < after(began, HOUR):
            for folder in (FAMILY, OTHER):
                run = world.begin(folder)
                if world.try_claim(run, folder) is not None:
                    tries += 1
                    world.fail(run, "outage", sure=True)
                world.end(run)
            world.passes(1)
        assert tries <= 6 + 12

    def test_a_message_that_fails_alone_does_not_hold_the_others_back_again(self) -> None:
        world = two_groups()
        world.hear("@Pynchy poison")
        fails(world, FAMILY, "outage")
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert not may_start(world, OTHER)
        world.passes(5.5)
        answers(world, OTHER)
        world.passes(10)
        fails(world, FAMILY, "outage")
        world.hear("@Pynchy three", chat=OTHER_CHAT)
        assert may_start(world, OTHER)

    def test_a_limit_concerns_those_with_the_same_model(self) -> None:
        world = two_groups()
        groups.set_model(world.db, OTHER, "haiku")
        world.hear("@Pynchy one")
        fails(world, FAMILY, "rate_limit", moment=after(world.now, 900))
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert may_start(world, OTHER)

    def test_a_budget_is_the_groups_own(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "budget")
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert may_start(world, OTHER)
        world.hear("@Pynchy three")
        assert not may_start(world, FAMILY)
        assert holds.lift_kind(Tx(world.db, world.now), "budget", folder=FAMILY) == [FAMILY]
        assert may_start(world, FAMILY)

    def test_what_an_agent_alone_says_holds_nobody_back(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        run = world.begin()
        world.claim(run)
        world.fail(run, "outage", sure=False)
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert may_start(world, OTHER)

    def test_a_new_credential_is_tried_at_once(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "credential")
        world.passes(30 * DAY)
        assert not may_start(world, FAMILY)
        assert holds.lift_kind(Tx(world.db, world.now), "credential") == [FAMILY]
        assert may_start(world, FAMILY)

    @pytest.mark.parametrize(
        ("kind", "at_once"),
        [
            ("credential", True),
            ("machine", True),
            ("budget", True),
            ("billing", True),
            ("outage", False),
            ("rate_limit", False),
        ],
    )
    def test_a_restart_forgets_nothing_and_tries_what_it_may_have_mended(
        self, kind: str, at_once: bool
    ) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, kind, moment=after(world.now, 900))
        world.restart()
        assert [each.kind for each in holds.everything(world.db)] == [kind]
        assert may_start(world, FAMILY) == at_once

    def test_a_clock_that_was_wrong_holds_nobody_back(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        right = world.now
        world.passes(400 * DAY)
        fails(world, FAMILY, "rate_limit", moment=after(world.now, 900))
        world.now = right
        world.hear("@Pynchy two", chat=OTHER_CHAT)
        assert may_start(world, OTHER)
        holds.correct(Tx(world.db, world.now))
        assert may_start(world, FAMILY)


class TestWhatPeopleHear:
    def test_each_chat_once_however_long_it_lasts(self) -> None:  # invariants 48, 50
        world = two_groups()
        world.hear("@Pynchy one")
        for _ in range(8):
            fails(world, FAMILY, "outage")
            world.passes(320)
        assert texts(world) == [
            f"{NOTICE_PREFIX}The model does not answer. I go on trying until 21:06."
        ]
        assert texts(world, MAIN_CONSOLE) == []

    def test_the_promise_is_kept_to_the_minute(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        last = None
        while not (failure := fails(world, FAMILY, "outage")).dead:
            assert failure.retry_at is not None
            last = world.now = failure.retry_at
        assert last is not None
        promised = failures.moment(Micros(last), now=Micros(last), timezone="UTC")
        assert texts(world)[0].endswith(f"until {promised}.")
        assert f"did not answer until {promised}" in texts(world)[-1]

    def test_who_waited_behind_others_is_given_up_at_the_promised_time_too(self) -> None:
        world = two_groups()
        for chat in (CHAT, OTHER_CHAT):
            world.hear("@Pynchy hi", chat=chat)
        fails(world, FAMILY, "outage")
        promised = after(world.now, 6 * HOUR)
        assert not may_start(world, OTHER)
        world.db.execute("UPDATE holds SET probe_at = ?", (after(promised, 60),))
        world.db.execute("UPDATE turns SET retry_at = give_up_at")
        world.now = after(promised, 1)
        assert not may_start(world, OTHER)
        assert "I gave up" in texts(world, OTHER_CHAT)[-1]
        assert messages.next_retry(world.db, OTHER) is None

    def test_the_owner_hears_once_with_what_to_do(self) -> None:
        world = two_groups()
        for chat in (CHAT, OTHER_CHAT):
            world.hear("@Pynchy hi", chat=chat)
        alert = fails(world, FAMILY, "credential", message="invalid x-api-key").alert
        assert "pynchy init" in alert
        assert not may_start(world, OTHER)
        (told,) = texts(world, MAIN_CONSOLE)
        assert told == NOTICE_PREFIX + alert
        assert "invalid x-api-key" in told

    def test_the_owners_own_chat_hears_it_in_one_message(self) -> None:
        world = two_groups()
        world.hear("hi", chat=MAIN_CONSOLE)
        assert fails(world, MAIN, "credential").alert
        (told,) = texts(world, MAIN_CONSOLE)
        assert "I go on then. The model refuses the key" in told

    def test_main_hears_of_a_budget_with_the_command(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "budget", message="the budget of $5.00 for today is used up")
        (told,) = texts(world, MAIN_CONSOLE)
        assert "Group family: the budget of $5.00 for today is used up." in told
        assert "`pynchy groups set family budget.day_dollars AMOUNT`" in told

    def test_a_setting_that_refuses_is_named(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        assert fails(world, FAMILY, "policy", message="this group may not use 'opus'").dead
        assert texts(world) == [f"{NOTICE_PREFIX}I may not do that: this group may not use 'opus'."]

    def test_output_is_not_bought_for_ever(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        count = 0
        while True:
            count += 1
            failure = fails(world, FAMILY, "outage", bought=True)
            if failure.dead:
                break
            world.passes(400)
        assert count == RETRIES.paid
        assert "broke off 3 times" in texts(world)[-1]

    def test_stop_ends_what_waits(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "credential")
        world.hear("@Pynchy more")
        assert len(turns.cancel(Tx(world.db, world.now), FAMILY)) == 1
        assert messages.next_retry(world.db, FAMILY) is None

    def test_a_task_waits_as_a_message_does(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "outage")
        turns.add(
            Tx(world.db, world.now),
            turns.Work(folder=OTHER, chat=OTHER_CHAT, kind="task", prompt="x"),
        )
        run = world.begin(OTHER, kind="task")
        assert world.try_claim(run, OTHER) is None
        world.end(run)
        assert len(texts(world, OTHER_CHAT)) == 1
        world.passes(10)
        assert answers(world, FAMILY) == (OTHER,)
        assert world.claim(world.begin(OTHER, kind="task"), OTHER).kind == "task"

    def test_main_is_held_as_everybody_is(self) -> None:
        world = two_groups()
        world.hear("hi", chat=MAIN_CONSOLE)
        fails(world, MAIN, "outage")
        assert not may_start(world, MAIN)

    @given(st.lists(st.sampled_from(["a", "b", "none"]), min_size=1, max_size=8))
    def test_a_refused_mount_is_told_until_it_changes(self, starts: list[str]) -> None:
        """However often runs start, and however long it lasts."""
        world = two_groups()
        expected, before = [], "none"
        for each in starts:
            refused = [] if each == "none" else [("photos", f"reason {each}")]
            guard_reports.mounts_refused(
                Tx(world.db, world.now, world.new_id), folder=FAMILY, run=RunId("r"), refused=refused)  # fmt: skip
            if each not in (before, "none"):
                expected.append(f"photos: reason {each}")
            before = each
            world.passes(DAY)
        assert [text.rpartition("\n")[2] for text in texts(world, MAIN_CONSOLE)] == expected

    def test_who_stops_what_waits_and_asks_again_is_tried_at_once(self) -> None:
        world = two_groups()
        world.hear("@Pynchy one")
        fails(world, FAMILY, "outage")
        world.passes(1)
        turns.cancel(Tx(world.db, world.now), FAMILY)
        world.hear("@Pynchy again")
        assert may_start(world, FAMILY)

    def test_what_came_behind_a_held_message_is_let_go_with_it(self) -> None:
        """Two turns of a chat in one run: the first is refused, the second only interrupted."""
        world = two_groups()
        world.hear("@Pynchy one")
        run = world.begin()
        first = world.claim(run)
        world.hear("@Pynchy two")
        world.claim(run)
        turn_failures.fail(
            Tx(world.db, world.now, world.new_id),
            run,
            Trouble("credential", "no", sure=True),
            prompts=[first.prompt_id],
            jitter=0.0,
        )
        world.end(run)
        assert not may_start(world, FAMILY)
        world.passes(10 * MINUTE)
        assert not may_start(world, FAMILY)
        holds.lift_kind(Tx(world.db, world.now), "credential")
        run = world.begin()
        assert world.claim(run).turn == first.turn
        assert [each.text for each in world.claim(run).messages] == ["@Pynchy two"]
