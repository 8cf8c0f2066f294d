"""The ledger of model costs: reserve before a call, settle after it, report usage.

Plain queries over the table ``usage``, and `StoreLedger`, which asks them through the store. A row is
written before the call is made, so nothing can be spent that is not in the book; a row that nobody
settles (a crash, a power cut) counts in full for its day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from pynchy.gateway.budgets import Standing, cost_bound, grant
from pynchy.gateway.caching import PastCall
from pynchy.gateway.exchange import OverBudget, Reserved, RunIdentity, Usage, Wanted
from pynchy.gateway.prices import cost
from pynchy.model import GroupId, Micros
from pynchy.policy import wording
from pynchy.policy.allowance import Budget
from pynchy.store import notices
from pynchy.store.database import Database, Store, Tx
from pynchy.store.rows import column, read_all, scalar

_SPENT: Final = """
    COALESCE(SUM(CASE state WHEN 'reserved' THEN reserved_cost ELSE cost END), 0),
    COALESCE(SUM(CASE state WHEN 'reserved' THEN reserved_tokens ELSE
        input_tokens + output_tokens + cache_read_tokens + cache_write_tokens END), 0)
"""


def reserve(tx: Tx, who: RunIdentity, wanted: Wanted, *, day: str) -> Reserved | OverBudget:
    """Reserve for one call, or say which budget is used up."""
    granted = grant(wanted, _budgets(tx, who, day))
    if isinstance(granted, OverBudget):
        return granted
    row = tx.insert(
        "usage",
        folder=who.group,
        run_id=who.run,
        model=wanted.model,
        day=day,
        state="reserved",
        reserved_tokens=wanted.input + granted,
        reserved_cost=0 if wanted.free else cost_bound(wanted, granted),
        created_at=tx.now,
    )
    return Reserved(row, wanted.model, granted, wanted.free, who)


def _budgets(db: Database, who: RunIdentity, day: str) -> Iterator[Standing]:
    """The budgets that there are, each with what was spent of it."""
    limits = who.budget
    of_all, of_group = days(db, who.group, limits, day) if limits.by_day else (None, None)
    if of_all is not None and limits.all_money is not None:
        yield of_all
    run = (limits.run_money, limits.run_tokens)
    if run != (None, None):
        yield Standing(f"run {who.run}", "this run", *run, *_spent(db, "run_id = ?", who.run))
    if of_group is not None and (limits.day_money, limits.day_tokens) != (None, None):
        yield of_group


def days(
    db: Database, group: GroupId, limits: Budget, day: str, *, and_reserved: bool = True
) -> tuple[Standing, Standing]:
    """What all groups together, and what one of them has spent in a day, beside what each may."""
    which = "" if and_reserved else " AND state = 'settled'"
    spent_by_all = _spent(db, f"day = ?{which}", day)
    spent = _spent(db, f"folder = ? AND day = ?{which}", group, day)
    return (
        Standing(f"day {day} of all", "all groups today", limits.all_money, None, *spent_by_all),
        Standing(f"day {day}", "today", limits.day_money, limits.day_tokens, *spent),
    )


def _spent(db: Database, where: str, *key: str) -> tuple[int, int]:
    money, tokens = db.execute(f"SELECT {_SPENT} FROM usage WHERE {where}", key).fetchone()
    return money, tokens


def settle(tx: Tx, reserved: Reserved, usage: Usage) -> None:
    """Replace a reservation by what was used. A second settlement changes nothing. Main is told, once a day and
    budget, that a day's budget is nearly used up."""
    settled = tx.execute(
        "UPDATE usage SET state = 'settled', input_tokens = ?, output_tokens = ?,"
        " cache_read_tokens = ?, cache_write_tokens = ?, cost = ?, estimated = ?, settled_at = ?"
        " WHERE id = ? AND state = 'reserved'",
        (
            usage.input,
            usage.output,
            usage.cache_read,
            usage.cache_write + usage.cache_write_hour,
            0 if reserved.free else cost(reserved.model, usage),
            usage.estimated,
            tx.now,
            reserved.id,
        ),
    )
    who = reserved.who
    if settled.rowcount and not reserved.free and who is not None and who.budget.by_day:
        _warn(tx, who, reserved.id)


def _warn(tx: Tx, who: RunIdentity, call: int) -> None:
    """Tell main of each budget of the day of which most is used now. What is reserved may yet come to less."""
    day = scalar(tx, str, "SELECT day FROM usage WHERE id = ?", (call,)) or ""
    of_all, of_group = days(tx, who.group, who.budget, day, and_reserved=False)
    for budget, folder in ((of_all, None), (of_group, who.group)):
        if budget.nearly_used_up:
            text = wording.budget_nearly_used_up(budget.shown, budget.spent, folder)
            # "*" is no group's name. Since the beginning of time: this day is told of once.
            notices.tell_main_once(tx, f"budget {day} {folder or '*'}", text, since=Micros(0))


def calls_of(db: Database, folder: GroupId, *, since: Micros, most: int) -> list[PastCall]:
    """The newest calls of a group's conversation since a moment, the oldest first."""
    rest = (
        "FROM (SELECT * FROM usage INDEXED BY usage_hour WHERE folder = ?1 AND created_at >= ?2 "
        "ORDER BY created_at DESC LIMIT ?3) AS usage JOIN runs ON runs.id = run_id "
        "WHERE runs.kind = 'session' AND usage.state = 'settled' ORDER BY usage.created_at"
    )
    return read_all(db, PastCall, rest, (folder, since, most))


def conversation(db: Database, folder: GroupId) -> list[PastCall]:
    """The last calls of the conversation that a group has now, the oldest first; none if it begins anew."""
    rest = (
        "FROM (SELECT * FROM usage INDEXED BY usage_hour WHERE folder = ?1 "
        "ORDER BY created_at DESC LIMIT 50) AS usage JOIN runs ON runs.id = run_id "
        "JOIN groups ON groups.folder = runs.folder WHERE runs.kind = 'session' AND usage.state = 'settled' "
        "AND runs.epoch = groups.epoch AND groups.session NOTNULL ORDER BY usage.created_at DESC LIMIT 3"
    )
    return read_all(db, PastCall, rest, (folder,))[::-1]


@attrs.frozen
class Line:
    """What one group used of one model on one day. Money is in micro-dollars."""

    group: GroupId = attrs.field(metadata=column("folder"))
    day: str
    model: str
    calls: int = attrs.field(metadata=column("count(*)"))
    #: Of them reserved and not settled.
    open: int = attrs.field(metadata=column("sum(state = 'reserved')"))
    input: int = attrs.field(metadata=column("sum(input_tokens)"))
    output: int = attrs.field(metadata=column("sum(output_tokens)"))
    cache_read: int = attrs.field(metadata=column("sum(cache_read_tokens)"))
    cache_write: int = attrs.field(metadata=column("sum(cache_write_tokens)"))
    #: Reservations that stand included.
    cost: int = attrs.field(metadata=column("sum(iif(state = 'reserved', reserved_cost, cost))"))
    #: Of it: the most that calls can have cost of which the API did not tell all.
    estimated: int = attrs.field(
        metadata=column("sum(iif(state = 'reserved', reserved_cost, iif(estimated, cost, 0)))")
    )


def used(db: Database, *, group: GroupId | None = None, since: str = "") -> list[Line]:
    """Usage by group, day and model, from the day ``since`` on, newest day first."""
    whose, key = ("", (since,)) if group is None else (" AND folder = ?", (since, group))
    rest = (
        f"FROM usage WHERE day >= ?{whose}"
        " GROUP BY folder, day, model ORDER BY day DESC, folder, model LIMIT 10000"
    )
    return read_all(db, Line, rest, key)


def prune(db: Database, *, before: str) -> int:
    """Forget the days before ``before``; how many calls that were."""
    return db.execute("DELETE FROM usage WHERE day < ?", (before,)).rowcount


class StoreLedger:
    """The ledger that the daemon keeps, as a `Ledger`. ``day_of`` says which day a moment is in."""

    def __init__(
        self, store: Store, *, now: Callable[[], Micros], day_of: Callable[[Micros], str]
    ) -> None:
        self._store = store
        self._now = now
        self._day_of = day_of

    async def reserve(self, who: RunIdentity, wanted: Wanted) -> Reserved | OverBudget:
        now = self._now()
        return await self._store.call(reserve, who, wanted, day=self._day_of(now))

    async def settle(self, reserved: Reserved, usage: Usage) -> None:
        await self._store.call(settle, reserved, usage)
