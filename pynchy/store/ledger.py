"""The ledger of model costs: reserve before a call, settle after it, report usage.

Plain queries over the table ``usage``, and `StoreLedger`, which asks them through the store. A row is
written before the call is made, so nothing can be spent that is not in the book; a row that nobody
settles (a crash, a power cut) counts in full for its day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from pynchy.gateway.exchange import OverBudget, Reserved, RunIdentity, Usage, Wanted
from pynchy.gateway.prices import SEARCH, cost, input_bound, output_bound, output_for
from pynchy.model import GroupId, Micros
from pynchy.store.database import Database, Store, Tx

USEFUL: Final = 1_024  # tokens of output; a budget that affords fewer is used up

LITTLE: Final = 20  # a budget of which less than a twentieth is left is used up

_STANDS = """
    COALESCE(SUM(CASE state WHEN 'reserved' THEN reserved_cost ELSE cost END), 0),
    COALESCE(SUM(CASE state WHEN 'reserved' THEN reserved_tokens ELSE
        input_tokens + output_tokens + cache_read_tokens + cache_write_tokens END), 0)
"""


def reserve(tx: Tx, who: RunIdentity, wanted: Wanted, *, day: str) -> Reserved | OverBudget:
    """Reserve for one call, or say which budget is used up.

    A budget that affords some output but not all that is wanted grants what it affords: the limit is
    hard, and yet its last dollar can be used.
    """
    budget = who.budget
    output = wanted.output
    input_cost = input_bound(wanted.model, wanted.input) + wanted.searches * SEARCH
    for period, money, tokens, clause, key in (
        (f"day {day} of all", budget.all_money, None, "day = ?", (day,)),
        (f"run {who.run}", budget.run_money, budget.run_tokens, "run_id = ?", (who.run,)),
        (
            f"day {day}",
            budget.day_money,
            budget.day_tokens,
            "folder = ? AND day = ?",
            (who.group, day),
        ),
    ):
        if money is None and tokens is None:
            continue
        spent, used = tx.execute(
            f"SELECT {_STANDS} FROM usage WHERE {clause}", key
        ).fetchone()  # constants above
        affords = wanted.output
        if money is not None and not wanted.free:
            left = money - spent - input_cost
            affords = min(affords, output_for(wanted.model, left, input=wanted.input))
        if tokens is not None:
            affords = min(affords, tokens - used - wanted.input)
        if affords < (wanted.output if wanted.whole else min(wanted.output, USEFUL)):
            parts = []  # of each limit: how much there is, and how much of it is left
            if money is not None and not wanted.free:
                parts.append((money, money - spent))
            if tokens is not None:
                parts.append((tokens, tokens - used))
            used_up = any(left * LITTLE < whole for whole, left in parts)
            words = _spelled(period, money, tokens)
            return OverBudget(
                f"{words} is used up" if used_up else _too_dear(words, wanted, input_cost),
                period,
                used_up,
            )
        output = min(output, affords)
    reserved_cost = (
        0 if wanted.free else input_cost + output_bound(wanted.model, output, input=wanted.input)
    )
    row = tx.execute(
        "INSERT INTO usage (folder, run_id, model, day, state, reserved_tokens, reserved_cost,"
        " created_at) VALUES (?, ?, ?, ?, 'reserved', ?, ?, ?) RETURNING id",
        (who.group, who.run, wanted.model, day, wanted.input + output, reserved_cost, tx.now),
    ).fetchone()
    return Reserved(row[0], wanted.model, output, wanted.free)


def _spelled(period: str, money: int | None, tokens: int | None) -> str:
    what = " and ".join(
        part
        for part in (
            f"${money / 1e6:.2f}" if money is not None else "",
            f"{tokens:,} tokens" if tokens is not None else "",
        )
        if part
    )
    kind = "this run" if period.startswith("run") else "today"
    if period.endswith("of all"):
        kind = "all groups today"
    return f"the budget of {what} for {kind}"


def _too_dear(words: str, wanted: Wanted, input_cost: int) -> str:
    output = min(wanted.output, USEFUL)
    most = input_cost + output_bound(wanted.model, output, input=wanted.input)
    it = f"${most / 1e6:.2f} or {wanted.input + output:,} tokens"
    return f"what is left of {words} does not pay for this call, which may come to {it}"


def settle(tx: Tx, reserved: Reserved, usage: Usage) -> None:
    """Replace a reservation by what was used. A second settlement changes nothing."""
    tx.execute(
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


@attrs.frozen
class Line:
    """What one group used of one model on one day. Money is in micro-dollars."""

    group: GroupId
    day: str
    model: str
    calls: int
    open: int  # of them reserved and not settled
    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: int  # reservations that stand included
    estimated: int  # of it: the most that calls can have cost of which the API did not tell all


def used(db: Database, *, group: GroupId | None = None, since: str = "") -> list[Line]:
    """Usage by group, day and model, from the day ``since`` on, newest day first."""
    rows = db.execute(
        "SELECT folder, day, model, COUNT(*), SUM(state = 'reserved'), SUM(input_tokens),"
        " SUM(output_tokens), SUM(cache_read_tokens), SUM(cache_write_tokens),"
        " SUM(CASE state WHEN 'reserved' THEN reserved_cost ELSE cost END),"
        " SUM(CASE WHEN state = 'reserved' THEN reserved_cost WHEN estimated THEN cost ELSE 0 END)"
        " FROM usage WHERE day >= ? AND (? IS NULL OR folder = ?)"
        " GROUP BY folder, day, model ORDER BY day DESC, folder, model LIMIT 10000",
        (since, group, group),
    )
    return [Line(*row) for row in rows]


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
