"""The book of what models cost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pynchy.actions import usage
from pynchy.gateway.budgets import USEFUL
from pynchy.gateway.exchange import OverBudget, Reserved, RunIdentity, Usage, Wanted
from pynchy.gateway.prices import cost, input_bound
from pynchy.model import GroupId, Micros, RunId
from pynchy.policy.allowance import Budget
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory
from pynchy.store.ledger import prune, reserve, settle, used

NOW = Micros(1_000_000)
MODEL = "claude-opus-5-5"  # $20 for a million tokens of output, $8 at most for input
CALL = Wanted(MODEL, input=1_000, output=10_000)


def who(limits: Budget, *, group: str = "family", run: str = "0123456789abcdef") -> RunIdentity:
    return RunIdentity(RunId(run), GroupId(group), "t", budget=limits)


def take(db: Connection, wanted: Wanted = CALL, day: str = "2026-01-01", **limits: int) -> Reserved:
    given = reserve(Tx(db, NOW), who(Budget(**limits)), wanted, day=day)
    assert isinstance(given, Reserved)
    return given


def over(
    db: Connection, wanted: Wanted = CALL, day: str = "2026-01-01", **limits: int
) -> OverBudget:
    given = reserve(Tx(db, NOW), who(Budget(**limits)), wanted, day=day)
    assert isinstance(given, OverBudget)
    return given


@pytest.fixture
def db() -> Connection:
    return open_memory()


def test_a_call_is_booked_before_it_is_made(db: Connection) -> None:
    take(db)
    (line,) = used(db)
    assert (line.calls, line.open, line.output) == (1, 1, 0)
    assert line.cost == 8_000 + 200_000


def test_a_settled_call_counts_for_what_it_used(db: Connection) -> None:
    usage = Usage(input=10, output=50, cache_read=1000, cache_write=100, cache_write_hour=200)
    settle(Tx(db, NOW), take(db), usage)
    (line,) = used(db)
    assert (line.calls, line.open, line.cost) == (1, 0, cost(MODEL, usage))
    assert (line.input, line.output, line.cache_read, line.cache_write) == (10, 50, 1000, 300)


def test_a_second_settlement_changes_nothing(db: Connection) -> None:
    reserved = take(db)
    settle(Tx(db, NOW), reserved, Usage(output=50))
    settle(Tx(db, NOW), reserved, Usage())
    assert used(db)[0].output == 50


def test_what_nobody_settles_counts_in_full(db: Connection) -> None:  # threat N8
    take(db, day_money=300_000)
    # $0.208 of the $0.30 are gone, though nothing was used that anybody knows of.
    assert take(db, day_money=300_000).output == (300_000 - 208_000 - 8_000) // 20
    over(db, day_money=300_000)


def test_a_budget_grants_what_it_still_affords(db: Connection) -> None:
    assert take(db, day_money=8_000 + 20 * USEFUL).output == USEFUL
    assert "$0.03" in over(db, day_money=8_000 + 20 * USEFUL).reason


def test_of_several_budgets_the_smallest_counts(db: Connection) -> None:
    little = 8_000 + 20 * USEFUL
    assert take(db, run_money=little, day_money=300_000).output == USEFUL


def test_a_small_call_may_have_the_last_of_it(db: Connection) -> None:
    assert take(db, Wanted(MODEL, 0, 5), day_money=100).output == 5
    over(db, Wanted(MODEL, 0, 5), day_money=100 + 99)


def test_a_budget_in_tokens(db: Connection) -> None:
    assert take(db, day_tokens=5_000).output == 4_000
    refusal = over(db, day_tokens=5_000)
    assert (refusal.reason, refusal.period) == (
        "the budget of 5,000 tokens for today is used up",
        "day 2026-01-01",
    )


def test_a_run_has_a_budget_of_its_own(db: Connection) -> None:
    take(db, run_tokens=5_000)
    refusal = over(db, run_tokens=5_000)
    assert "this run" in refusal.reason
    other = reserve(
        Tx(db, NOW), who(Budget(run_tokens=5_000), run="f" * 16), CALL, day="2026-01-01"
    )
    assert isinstance(other, Reserved)


def test_groups_and_days_do_not_share(db: Connection) -> None:
    take(db, day_tokens=5_000)
    take(db, day_tokens=5_000, day="2026-01-02")
    assert isinstance(
        reserve(Tx(db, NOW), who(Budget(day_tokens=5_000), group="work"), CALL, day="2026-01-01"),
        Reserved,
    )
    over(db, day_tokens=5_000)


def test_a_call_that_costs_nothing_is_counted_all_the_same(db: Connection) -> None:
    free = Wanted(MODEL, 1_000, 10_000, free=True)
    settle(Tx(db, NOW), take(db, free, day_money=1), Usage(input=5, output=6))
    (line,) = used(db)
    assert (line.cost, line.input, line.output) == (0, 5, 6)
    over(db, free, day_tokens=100)


def test_usage_by_day_and_group(db: Connection) -> None:
    take(db, day="2026-01-01")
    take(db, day="2026-01-02")
    take(db, Wanted("claude-haiku-5-5", 1, 1), day="2026-01-02")
    reserve(Tx(db, NOW), who(Budget(), group="work"), CALL, day="2026-01-02")
    assert [(x.day, x.group, x.model) for x in used(db)] == [
        ("2026-01-02", "family", "claude-haiku-5-5"),
        ("2026-01-02", "family", MODEL),
        ("2026-01-02", "work", MODEL),
        ("2026-01-01", "family", MODEL),
    ]
    assert {x.group for x in used(db, group=GroupId("work"))} == {"work"}
    assert {x.day for x in used(db, since="2026-01-02")} == {"2026-01-02"}
    assert prune(db, before="2026-01-02") == 1
    assert len(used(db)) == 3


class Spending(RuleBasedStateMachine):
    """Whatever is asked for, settled or left lying: no budget is passed by."""

    money = 500_000
    tokens = 90_000

    def __init__(self) -> None:
        super().__init__()
        self.db = open_memory()
        self.open: list[tuple[Reserved, Wanted]] = []
        self.spent = 0
        self.count = 0

    @rule(input=st.integers(0, 5_000), output=st.integers(1, 20_000), run=st.sampled_from("ab"))
    def ask(self, input: int, output: int, run: str) -> None:
        wanted = Wanted(MODEL, input, output)
        asking = who(
            Budget(day_money=self.money, day_tokens=self.tokens, run_tokens=60_000), run=run * 16
        )
        given = reserve(Tx(self.db, NOW), asking, wanted, day="d")
        if isinstance(given, Reserved):
            assert min(output, USEFUL) <= given.output <= output
            self.open.append((given, wanted))
            self.spent += input_bound(MODEL, input) + cost(MODEL, Usage(output=given.output))
            self.count += input + given.output

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        reserved, wanted = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        usage = Usage(
            cache_write_hour=data.draw(st.integers(0, wanted.input)),
            output=data.draw(st.integers(0, reserved.output)),
        )
        settle(Tx(self.db, NOW), reserved, usage)
        self.spent += cost(MODEL, usage)
        self.spent -= input_bound(MODEL, wanted.input) + cost(MODEL, Usage(output=reserved.output))
        self.count += usage.tokens - wanted.input - reserved.output

    @invariant()
    def the_book_is_right_and_within_its_limits(self) -> None:
        lines = used(self.db)
        assert sum(line.cost for line in lines) == self.spent <= self.money
        assert self.count <= self.tokens


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=20, stateful_step_count=30)


def test_all_groups_share_one_budget_for_the_day(db: Connection) -> None:
    shared = Budget(all_money=300_000, day_money=1_000_000)
    reserve(Tx(db, NOW), who(shared, group="work"), CALL, day="2026-01-01")
    assert take(db, all_money=300_000).output == (300_000 - 208_000 - 8_000) // 20
    refusal = over(db, all_money=300_000)
    assert refusal.reason == "the budget of $0.30 for all groups today is used up"
    assert refusal.period == "day 2026-01-01 of all"
    take(db, day="2026-01-02", all_money=300_000)


def test_a_call_that_wants_all_or_nothing_gets_nothing(db: Connection) -> None:
    whole = Wanted(MODEL, 1_000, 10_000, whole=True)
    over(db, whole, day_money=207_999)
    assert take(db, whole, day_money=208_000).output == 10_000


def test_searches_are_paid_for_beforehand(db: Connection) -> None:
    over(db, Wanted(MODEL, 0, 5, searches=3), day_money=30_099)
    take(db, Wanted(MODEL, 0, 5, searches=3), day_money=30_100)


def test_what_is_known_and_what_is_bounded_are_told_apart(db: Connection) -> None:
    settle(Tx(db, NOW), take(db), Usage(input=100, output=10))
    settle(Tx(db, NOW), take(db), Usage(input=50, cache_read=7, output=10, estimated=True))
    take(db)
    (line,) = used(db)
    cut = cost(MODEL, Usage(input=50, cache_read=7, output=10))
    assert line.estimated == 208_000 + cut
    assert line.cost == line.estimated + cost(MODEL, Usage(input=100, output=10))
    day = usage.total(used(db, group=GroupId("family")))
    assert (day.calls, day.tokens, day.cost, day.estimated) == (3, 177, line.cost, line.estimated)
    assert usage.total(used(db, group=GroupId("work"))).calls == 0
    assert usage.total(used(db)) == day


def test_a_call_that_is_too_dear_for_what_is_left_is_told_so(db: Connection) -> None:
    take(db, day_money=1_000_000)
    refusal = over(db, Wanted(MODEL, 500_000, 10_000), day_money=1_000_000)
    assert refusal.reason == (
        "what is left of the budget of $1.00 for today does not pay for this call,"
        " which may come to $4.02 or 501,024 tokens"
    )
    assert not refusal.used_up
    for _ in range(4):
        take(db, day_money=1_000_000)
    assert over(db, day_money=1_000_000).used_up
