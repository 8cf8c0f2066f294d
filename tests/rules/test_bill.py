"""What a group pays: the model, the day's budgets, and what a message costs."""

from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pynchy.actions import usage
from pynchy.actions.actor import OWNER
from pynchy.config.settings import Budget as Settings
from pynchy.gateway.caching import PastCall, hour_pays, next_message
from pynchy.gateway.exchange import Reserved, RunIdentity, Usage, Wanted
from pynchy.gateway.prices import ALIASES, PRICES, asked_of, cost, price_of, resolved
from pynchy.model import HOUR, MINUTE, GroupId, Micros, RunId, after
from pynchy.policy.allowance import Budget
from pynchy.schedule.times import spell
from pynchy.store import groups, ledger
from pynchy.store.database import Tx
from tests.rules.store_world import FAMILY, World

SONNET: Final = "claude-sonnet-5-5"
DOLLAR: Final = 1_000_000
TERMS: Final = usage.Terms(
    "sonnet", "UTC", lambda: Budget(all_money=15 * DOLLAR, day_money=5 * DOLLAR)
)


def at_a_pace(*gaps: float, size: int = 40_000, new: int = 2_000) -> list[PastCall]:
    """Calls of a conversation that grows by ``new`` tokens with each, so many seconds after the one before."""
    at, calls = Micros(0), [PastCall(Micros(0), SONNET, size, 0)]
    for number, gap in enumerate(gaps, start=1):
        at = after(at, gap)
        calls.append(PastCall(at, SONNET, size + number * new, 0))
    return calls


@pytest.mark.parametrize(
    ("gaps", "pays"),
    [
        ([MINUTE] * 20, False),  # never lets it go cold: the dearer writing buys nothing
        ([20 * MINUTE] * 20, True),  # always cold after five minutes, never after an hour
        ([3 * HOUR] * 20, False),  # always cold: it is only written, and an hour is dearer
        ([24 * HOUR] * 20, False),  # a task every morning
        (
            [MINUTE, MINUTE, 20 * MINUTE, 3 * HOUR] * 5,
            True,
        ),  # a family's day: as many 20 min as 3 h
        ([MINUTE, 20 * MINUTE, 3 * HOUR, 3 * HOUR] * 5, False),  # twice as many long ones
        ([], False),
    ],
)
def test_the_pace_decides_how_long_a_conversation_stays_cached(
    gaps: list[float], pays: bool
) -> None:
    assert hour_pays(at_a_pace(*gaps)) == pays


@given(
    short=st.integers(0, 30),
    middle=st.integers(0, 30),
    long=st.integers(0, 30),
    size=st.integers(20_000, 150_000),
)
def test_the_rule_is_the_arithmetic_that_is_written_down(
    short: int, middle: int, long: int, size: int
) -> None:
    """docs/costs.md: with reading at r of the price of input, an hour pays if middle * (1.25 - r) * S is more than
    0.75 * (long * S + S, for the first)."""
    price = price_of(SONNET)
    saved = middle * (1.25 - price.cache_read / price.input)
    lost = 0.75 * (long + 1)
    assume(abs(saved - lost) > 0.01)
    gaps = [MINUTE] * short + [20 * MINUTE] * middle + [3 * HOUR] * long
    assert hour_pays(at_a_pace(*gaps, size=size, new=0)) == (saved > lost)


def test_the_pace_is_that_of_the_group_s_own_conversation() -> None:
    world = World.with_family()
    session = world.begin()
    helper = world.begin(kind="delegate")
    for _ in range(8):
        world.passes(20 * MINUTE)
        call(world, session, Usage(cache_read=38_000, cache_write=2_000), limits=Budget())
    assert usage.keeps_an_hour(Tx(world.db, world.now), FAMILY)
    assert not usage.keeps_an_hour(Tx(world.db, world.now), GroupId("work"))
    assert not usage.keeps_an_hour(Tx(world.db, world.passes(8 * 24 * HOUR)), FAMILY)
    for _ in range(8):
        world.passes(20 * MINUTE)
        call(world, helper, Usage(cache_read=38_000, cache_write=2_000), limits=Budget())
    assert not usage.keeps_an_hour(Tx(world.db, world.now), FAMILY)


def test_a_helper_in_between_does_not_make_the_conversation_look_cold() -> None:
    calls = at_a_pace(*[20 * MINUTE] * 6)
    small = [PastCall(after(call.at, 1), SONNET, 300, 0) for call in calls]
    assert hour_pays(sorted([*calls, *small], key=lambda call: call.at))


@pytest.mark.parametrize("model", PRICES)
def test_a_message_is_dearer_once_nothing_is_cached_and_by_the_one_table(model: str) -> None:
    warm, cold = next_message(model, 40_000, hour=False)
    assert 0 < warm < cold
    reading = cost(model, Usage(cache_write=40_000)) - cost(model, Usage(cache_read=40_000))
    assert abs(cold - warm - reading) <= 3  # each of them is rounded up
    assert next_message(model, 40_000, hour=True)[1] > cold


def test_every_alias_has_a_price() -> None:
    for alias, model in ALIASES.items():
        assert resolved(alias) == model
        assert model in PRICES
    assert resolved("claude-x-1") == "claude-x-1"
    assert resolved("sonnet[1m]") == SONNET


def test_a_household_with_a_key_has_a_limit_and_a_subscription_has_none() -> None:
    assert usage.budget_of(Settings(), billed=True) == Budget(
        all_money=15 * DOLLAR, day_money=5 * DOLLAR
    )
    assert usage.budget_of(Settings(), billed=False) == Budget()
    mine = Settings(day_dollars=0, total_day_dollars=2.5)
    for billed in (True, False):  # what the owner said holds with either
        assert usage.budget_of(mine, billed=billed) == Budget(all_money=2_500_000)


def call(world: World, run: RunId, used: Usage, *, limits: Budget, group: GroupId = FAMILY) -> None:
    tx = Tx(world.db, world.passes(1))
    who = RunIdentity(run, group, "t", budget=limits)
    reserved = ledger.reserve(tx, who, Wanted(SONNET, 100, 100_000), day="2026-01-01")
    assert isinstance(reserved, Reserved), reserved
    ledger.settle(tx, reserved, used)


def said_in_main(world: World) -> list[str]:
    return [text for (text,) in world.db.execute("SELECT text FROM outbox ORDER BY id")]


def test_main_hears_once_a_day_and_budget_that_most_of_it_is_used() -> None:
    world = World.with_family()
    limits = Budget(day_money=10 * DOLLAR, all_money=20 * DOLLAR)
    run, other, work = world.begin(), RunId("b" * 16), GroupId("work")
    call(world, run, Usage(output=790_000), limits=limits)  # $7.90
    assert said_in_main(world) == []
    call(world, run, Usage(output=20_000), limits=limits)
    call(world, run, Usage(output=20_000), limits=limits)
    (told,) = said_in_main(world)
    assert "$8.10 of today's $10.00 for family is used" in told
    assert "`pynchy groups set family budget.day_dollars AMOUNT`" in told
    call(world, other, Usage(output=790_000), limits=limits, group=work)
    (_, told) = said_in_main(world)
    assert "$16.20 of today's $20.00 for all groups is used" in told
    call(world, other, Usage(output=20_000), limits=limits, group=work)
    assert len(said_in_main(world)) == 3  # its own, too


def test_what_is_only_reserved_is_no_reason_to_warn() -> None:
    world = World.with_family()
    limits, run = Budget(day_money=3 * DOLLAR), world.begin()
    who = RunIdentity(run, FAMILY, "t", budget=limits)
    tx = Tx(world.db, world.now)
    first, second = (
        ledger.reserve(tx, who, Wanted(SONNET, 100, 140_000), day="2026-01-01") for _ in range(2)
    )
    assert isinstance(first, Reserved)
    assert isinstance(second, Reserved)
    ledger.settle(tx, first, Usage(output=1))
    assert said_in_main(world) == []


def bill(
    world: World, *, model: str = "sonnet", free: bool = False, billed: bool = True
) -> usage.Bill:
    family = groups.get(world.db, FAMILY)
    assert family is not None
    given = usage.Terms(model, "UTC", TERMS.budget, free, lambda: billed)
    return usage.bill(Tx(world.db, world.now), OWNER, family, given)


def test_a_bill_before_the_first_call() -> None:
    world = World.with_family()
    found = bill(world)
    assert (found.model, found.resolved, found.seen) == ("sonnet", SONNET, False)
    assert (found.today.limit, found.today.left, found.later) == (5 * DOLLAR, 5 * DOLLAR, None)
    assert "as far as is known" in usage.model_words(found)
    assert usage.message_words(found) == "about $0.03 (a conversation of about 8,000 tokens)"
    groups.set_settings(world.db, FAMILY, {"budget": {"day_dollars": 0}})
    assert usage.budget_words(bill(world), of_all=False) == "$0.00, no limit"
    paid = bill(world, billed=False)
    assert usage.budget_words(paid, of_all=False) == "$0.00, no limit (a subscription)"
    assert usage.message_words(bill(world, free=True)).startswith("nothing")


def test_a_bill_of_a_conversation() -> None:
    world = World.with_family()
    run = world.begin()
    groups.set_session(world.db, run, "s")
    tx = Tx(world.db, world.passes(1))
    day = spell(tx.now, "UTC")[:10]
    who = RunIdentity(run, FAMILY, "t")
    reserved = ledger.reserve(tx, who, Wanted(SONNET, 100, 100), day=day)
    assert isinstance(reserved, Reserved)
    ledger.settle(tx, reserved, Usage(input=3_000, cache_read=36_000, output=1_000, estimated=True))
    found = bill(world)
    assert (found.seen, found.conversation) == (True, 40_000)
    assert (found.message, found.later) == next_message(SONNET, 40_000, hour=False)
    assert found.today.used == found.estimated == cost(SONNET, Usage(3_000, 1_000, 36_000))
    assert usage.model_words(found) == f"sonnet ({SONNET})"
    assert "estimated" in usage.budget_words(found, of_all=False)
    assert found.cached_until is not None
    world.passes(6 * MINUTE)
    assert (bill(world).message, bill(world).later) == (found.later, None)
    groups.new_session(world.db, FAMILY)
    assert bill(world).conversation == 8_000
    assert bill(world, model="opus").resolved == "claude-opus-5-5"
    assert bill(world, model="opus").seen is False


@pytest.mark.parametrize(
    ("models", "usual", "asked"),
    [
        ((), "sonnet", "sonnet"),
        ((), "", ""),
        (("claude-sonnet-5-5", "opus"), "sonnet", "sonnet"),
        (("sonnet",), "sonnet[1m]", "sonnet[1m]"),
        (("opus", "sonnet"), "claude-sonnet-4-6", "claude-sonnet-4-6"),
        (("claude-opus-4-5", "haiku"), "sonnet", "claude-opus-4-5"),
        (("haiku",), "", "haiku"),
        (("gpt-5",), "gpt-5", "gpt-5"),
    ],
)
def test_a_group_held_to_some_models_asks_for_one_of_them(
    models: tuple[str, ...], usual: str, asked: str
) -> None:
    assert asked_of(models, usual) == asked
