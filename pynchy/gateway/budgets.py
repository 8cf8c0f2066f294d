"""What a budget affords of a call, and what the agent is told where it affords too little.

The rule that keeps it so: pure; what was spent is for the ledger to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from pynchy.gateway.exchange import OverBudget, Wanted
from pynchy.gateway.prices import SEARCH, input_bound, output_bound, output_for
from pynchy.policy.allowance import WARN_AT

USEFUL: Final = 1_024  # tokens of output; a budget that affords fewer is used up

LITTLE: Final = 20  # a budget of which less than a twentieth is left is used up


@attrs.frozen
class Standing:
    """A budget of one period, and what is spent of it. Money is in micro-dollars; None where there is no limit."""

    period: str
    name: str  # of the period, for the agent
    money: int | None
    tokens: int | None
    money_spent: int
    tokens_spent: int

    def affords(self, wanted: Wanted) -> int:
        """How many tokens of output, at most what is wanted."""
        output = wanted.output
        if self.money is not None and not wanted.free:
            left = self.money - self.money_spent - _input_cost(wanted)
            output = min(output, output_for(wanted.model, left, input=wanted.input))
        if self.tokens is not None:
            output = min(output, self.tokens - self.tokens_spent - wanted.input)
        return output

    @property
    def shown(self) -> str:
        """What may be spent, in words; nothing where there is no limit."""
        return self._spelled(self.money or 0, self.tokens or 0)

    @property
    def spent(self) -> str:
        """What was spent, in the same words."""
        return self._spelled(self.money_spent, self.tokens_spent)

    def _spelled(self, money: int, tokens: int) -> str:
        """These, as far as this budget counts them."""
        parts = []
        if self.money is not None:
            parts.append(f"${money / 1e6:.2f}")
        if self.tokens is not None:
            parts.append(f"{tokens:,} tokens")
        return " and ".join(parts)

    @property
    def nearly_used_up(self) -> bool:
        """Whether so much is spent that people should hear of it."""
        return any(
            most is not None and spent >= WARN_AT * most
            for most, spent in ((self.money, self.money_spent), (self.tokens, self.tokens_spent))
        )

    def too_little(self, wanted: Wanted) -> OverBudget:
        """That it does not afford the call, and why."""
        used_up = False
        if self.money is not None:
            used_up = not wanted.free and _is_little(self.money - self.money_spent, self.money)
        if self.tokens is not None:
            used_up |= _is_little(self.tokens - self.tokens_spent, self.tokens)
        words = f"the budget of {self.shown} for {self.name}"
        if used_up:
            return OverBudget(f"{words} is used up", self.period)
        output = min(wanted.output, USEFUL)
        most = f"${cost_bound(wanted, output) / 1e6:.2f} or {wanted.input + output:,} tokens"
        reason = f"what is left of {words} does not pay for this call, which may come to {most}"
        return OverBudget(reason, self.period, used_up=False)


def grant(wanted: Wanted, budgets: Iterable[Standing]) -> int | OverBudget:
    """How many tokens of output all budgets afford, or the first that affords too little.

    A budget that affords some output but not all that is wanted grants what it affords: the limit is
    hard, and yet its last dollar can be used.
    """
    granted = wanted.output
    least = wanted.output if wanted.whole else min(wanted.output, USEFUL)
    for budget in budgets:
        affords = budget.affords(wanted)
        if affords < least:
            return budget.too_little(wanted)
        granted = min(granted, affords)
    return granted


def cost_bound(wanted: Wanted, output: int) -> int:
    """The most that a call can cost with so many tokens of output."""
    return _input_cost(wanted) + output_bound(wanted.model, output, input=wanted.input)


def _input_cost(wanted: Wanted) -> int:
    return input_bound(wanted.model, wanted.input) + wanted.searches * SEARCH


def _is_little(left: int, whole: int) -> bool:
    return left * LITTLE < whole
