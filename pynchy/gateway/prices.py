"""What a model call costs, and the most that a call about to be made can cost.

Pure. Prices are the public list prices in dollars for a million tokens, as the CLI that we ship
knows them; money here is whole micro-dollars, rounded up. A model that is not in the table has the
dearest price: a wrong guess then refuses too early, never too late.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from functools import lru_cache
from typing import Final

import attrs

from pynchy.gateway.exchange import Usage


@attrs.frozen
class Price:
    """Dollars for a million tokens, which is micro-dollars for one. Reading from the cache costs a tenth of the input
    where no other price is known. ``long``: see `for_prompt`."""

    input: float
    output: float
    cache_read: float = attrs.field()
    long: bool = attrs.field(default=False, kw_only=True)

    @cache_read.default
    def _a_tenth(self) -> float:
        return self.input / 10

    @property
    def cache_write(self) -> float:
        return self.input * 1.25

    @property
    def cache_write_hour(self) -> float:
        return self.input * 2

    def for_prompt(self, tokens: int) -> Price:
        """The price of a call with so many tokens of input, of all kinds: a long prompt costs twice with some models,
        and its answer half as much again."""
        if not self.long or tokens <= LONG:
            return self
        return Price(self.input * 2, self.output * 1.5, self.cache_read * 2)


#: When these prices were looked up. `pynchy doctor` says so once they are old.
PRICED: Final = date(2026, 11, 24)

LONG: Final = 200_000  # tokens; a prompt of more is long
WINDOW: Final = 1_000_000  # tokens that the API reads at most
# Models that read no more than this, unless they are asked for more by a beta.
SMALL_WINDOW: Final = 200_000
_SMALL: Final = (
    "claude-3-5-haiku",
    "claude-3-5-sonnet",
    "claude-3-7-sonnet",
    "claude-haiku-4-5",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-20250514",
    "claude-opus-4-5",
    "claude-sonnet-4-0",
    "claude-sonnet-4-20250514",
    "claude-sonnet-4-5",
)
LONG_BETA: Final = "context-1m"

SEARCH: Final = 10_000  # micro-dollars for one search at the provider

DEAREST: Final = Price(15, 75)

# The longest prefix of a model's name that is here has its price.
PRICES: Final[dict[str, Price]] = {
    "claude-3-5-haiku": Price(0.8, 4),
    "claude-haiku-4-5": Price(1, 5),
    "claude-haiku-5-5": Price(0.5, 2.5),  # its price for long prompts; short ones cost a fifth
    "claude-3-5-sonnet": Price(3, 15),
    "claude-3-7-sonnet": Price(3, 15),
    "claude-sonnet-4": Price(3, 15, long=True),
    "claude-sonnet-5": Price(2, 10),
    "claude-sonnet-5-5": Price(2, 10, 0.1),
    "claude-opus-4": Price(15, 75),
    "claude-opus-4-5": Price(5, 25),
    "claude-opus-4-6": Price(5, 25, long=True),
    "claude-opus-4-7": Price(5, 25),
    "claude-opus-4-8": Price(5, 25),
    "claude-opus-5": Price(5, 25),
    "claude-opus-5-5": Price(4, 20, 0.2),
    "claude-fable-5": Price(10, 50),
    "claude-fable-5-1": Price(10, 50, 0.25),
    "claude-fable-5-2": Price(8, 40, 0.2),
    "claude-mythos-5": Price(10, 50),
    "claude-mythos-5-1": Price(10, 50, 0.25),
    "claude-mythos-5-2": Price(8, 40, 0.2),
}

#: What the agent that ships makes of its aliases. A call shows what it was: this is for before the first.
ALIASES: Final = {
    "": "claude-opus-5-5",
    "default": "claude-opus-5-5",
    "best": "claude-opus-5-5",
    "fable": "claude-fable-5-2",
    "haiku": "claude-haiku-5-5",
    "opus": "claude-opus-5-5",
    "opusplan": "claude-sonnet-5-5",
    "sonnet": "claude-sonnet-5-5",
}


def resolved(asked: str) -> str:
    """The model that an alias stands for, as far as is known; any other name is its own."""
    return ALIASES.get(asked.partition("[")[0], asked)


def permits(models: Collection[str], model: str) -> bool:
    """Whether a list of models, in which aliases may stand, has this one. An empty list has all."""
    return not models or any(
        model in (each, resolved(each)) or _called(each, model) for each in models
    )


def _called(alias: str, model: str) -> bool:
    return alias in ALIASES and alias in model.split("-")


def asked_of(models: Sequence[str], usual: str) -> str:
    """The model to ask for in a group that is held to these: the usual one if it is among them, or else the first."""
    return usual if permits(models, resolved(usual)) or usual in models else models[0]


@lru_cache(64)  # names are an agent's to choose
def price_of(model: str) -> Price:
    """The price of a model, `DEAREST` if it is not known."""
    known = [prefix for prefix in PRICES if model == prefix or model.startswith(f"{prefix}-")]
    return PRICES[max(known, key=len)] if known else DEAREST


def cost(model: str, usage: Usage) -> int:
    """What a call came to, in micro-dollars."""
    price = price_of(model).for_prompt(usage.tokens - usage.output)
    money = (
        usage.input * price.input
        + usage.output * price.output
        + usage.cache_read * price.cache_read
        + usage.cache_write * price.cache_write
        + usage.cache_write_hour * price.cache_write_hour
    )
    return _up(money) + usage.searches * SEARCH


def input_bound(model: str, tokens: int) -> int:
    """The most that so much input can cost: all of it written to the cache for an hour."""
    return _up(tokens * price_of(model).for_prompt(tokens).cache_write_hour)


def output_bound(model: str, tokens: int, *, input: int) -> int:
    """The most that so much output can cost, after ``input`` tokens at most."""
    return _up(tokens * price_of(model).for_prompt(input).output)


def output_for(model: str, money: int, *, input: int) -> int:
    """How many tokens of output so much money buys, after ``input`` tokens at most."""
    return max(0, int(money / price_of(model).for_prompt(input).output))


def window_of(model: str, betas: str) -> int:
    """How many tokens of input the model reads at most; the API refuses more."""
    small = any(model == name or model.startswith(f"{name}-") for name in _SMALL)
    return SMALL_WINDOW if small and LONG_BETA not in betas else WINDOW


def _up(money: float) -> int:
    whole = int(money)
    return whole if whole == money else whole + 1
