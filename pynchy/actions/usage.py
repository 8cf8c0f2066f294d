"""What model calls cost, by the ledger: the same figures, and the same words, whoever asks.

Procedure. A day is the budget's day, in the people's own time zone. A group is told of its own use; the owner, and
main, of everybody's. What has not happened yet is an estimate, and is called "about".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done
from pynchy.actions.refused import Refused
from pynchy.config.settings import DAY_DOLLARS, TOTAL_DAY_DOLLARS
from pynchy.config.settings import Budget as Settings
from pynchy.gateway.budgets import Standing
from pynchy.gateway.caching import FRESH, LONG, SHORT, hour_pays, next_message
from pynchy.gateway.prices import ALIASES, asked_of, resolved
from pynchy.limits import LISTS
from pynchy.model import DAY, Group, GroupId, after
from pynchy.policy import group_settings
from pynchy.policy.allowance import Budget
from pynchy.schedule.times import spell
from pynchy.store import groups, ledger
from pynchy.store.database import Tx


@attrs.frozen
class Total:
    """What calls came to together. Money is in micro-dollars, as in `ledger.Line`."""

    calls: int
    tokens: int  # of all kinds, those that were found in a cache included
    cost: int
    estimated: int


def used(
    tx: Tx, actor: Actor, folder: GroupId | None, *, days: int, timezone: str
) -> list[ledger.Line]:
    """Usage by group, day and model, today's first; of all groups with None. One day is today alone."""
    if not (actor.reaches_all if folder is None else actor.reaches(folder)):
        raise Refused("only main may see what other groups used")
    first = spell(after(tx.now, -DAY * (days - 1)), timezone)[:10]
    return ledger.used(tx, group=folder, since=first)


def total(lines: Iterable[ledger.Line]) -> Total:
    """What these come to together."""
    found = list(lines)
    return Total(
        calls=sum(each.calls for each in found),
        tokens=sum(each.input + each.output + each.cache_read + each.cache_write for each in found),
        cost=sum(each.cost for each in found),
        estimated=sum(each.estimated for each in found),
    )


# --- what a group pays ---------------------------------------------------------------------------

PACE: Final = 7 * DAY  # how far back the pace of a group is looked at
CALLS: Final = 200  # and at most so many calls of the model


def keeps_an_hour(tx: Tx, folder: GroupId) -> bool:
    """Whether this group's conversation is cheaper if it stays cached for an hour, by its pace until now."""
    return hour_pays(ledger.calls_of(tx, folder, since=after(tx.now, -PACE), most=CALLS))


def budget_of(settings: Settings, *, billed: bool) -> Budget:
    """What a group without figures of its own may spend. ``billed``: what calls cost is on a bill."""
    day, all_day = settings.day_dollars, settings.total_day_dollars
    if billed:
        day = DAY_DOLLARS if day is None else day
        all_day = TOTAL_DAY_DOLLARS if all_day is None else all_day
    return Budget(
        all_money=round((all_day or 0) * 1_000_000) or None,
        day_money=round((day or 0) * 1_000_000) or None,
        day_tokens=settings.day_tokens or None,
        run_money=round(settings.run_dollars * 1_000_000) or None,
        run_tokens=settings.run_tokens or None,
    )


@attrs.frozen
class Terms:
    """What holds for all groups: the model asked for, the time zone, what a group may spend that has no figures of
    its own, whether calls are ``free``, and whether they are on a bill: with a subscription they are not."""

    model: str = ""
    timezone: str = "UTC"
    budget: Callable[[], Budget] = Budget
    free: bool = False
    billed: Callable[[], bool] = lambda: True


NO_TERMS: Final = Terms()


@attrs.frozen
class Spent:
    """A budget of today, and what is spent of it. Money in micro-dollars; ``limit`` None: there is none."""

    limit: int | None
    used: int
    token_limit: int | None
    tokens: int

    @property
    def left(self) -> int | None:
        """What may still be spent."""
        return None if self.limit is None else max(0, self.limit - self.used)


@attrs.frozen
class Bill:
    """What a group pays. ``resolved`` is the model that answers, ``seen`` whether a call has shown that.

    ``message`` is about what a short message costs now; ``later`` the same once what is cached of the conversation is
    not any more, None if nothing is.
    """

    group: GroupId
    model: str
    resolved: str
    seen: bool
    free: bool
    billed: bool
    today: Spent
    of_all: Spent
    estimated: int  # of today: the most that calls can have cost of which not all is known
    conversation: int  # tokens
    message: int
    later: int | None
    cached_until: str | None  # hours and minutes where the people are


def bill(tx: Tx, actor: Actor, group: Group, terms: Terms) -> Bill:
    """What a group pays now: its model, its budgets, and what a message costs. Raises `Refused`."""
    folder = group.folder
    of_today = total(used(tx, actor, folder, days=1, timezone=terms.timezone))
    try:
        own = group_settings.read(groups.settings(tx, folder))
    except group_settings.BadSettings:
        own = group_settings.CLOSED
    limits = group_settings.budget_of(own, terms.budget())
    day = spell(tx.now, terms.timezone)[:10]
    of_all, today = ledger.days(tx, folder, limits, day)
    asked = asked_of(own.models, group.model or terms.model)
    calls = ledger.conversation(tx, folder)
    shown = [each.model for each in calls if _is_alias_of(asked, each.model)]
    model = shown[-1] if shown else resolved(asked)
    size = max((each.prompt + each.output for each in calls), default=FRESH)
    hour = keeps_an_hour(tx, folder)
    cached, later = (0, 0) if terms.free else next_message(model, size, hour=hour)
    until = after(calls[-1].at, LONG if hour else SHORT) if calls else tx.now
    warm = until > tx.now
    return Bill(
        folder,
        asked or "default",
        model,
        bool(shown),
        terms.free,
        terms.billed(),
        _spent(today),
        _spent(of_all),
        of_today.estimated,
        conversation=size,
        message=cached if warm else later,
        later=later if warm else None,
        cached_until=spell(until, terms.timezone)[11:16] if warm else None,
    )


def _is_alias_of(asked: str, model: str) -> bool:
    """Whether a call of ``model`` may be what came of asking for ``asked``."""
    name = asked.partition("[")[0]
    return model.startswith(name) or (name in ALIASES and name in (*_ANY, *model.split("-")))


_ANY: Final = ("default", "best", "opusplan")


def _spent(found: Standing) -> Spent:
    return Spent(found.money, found.money_spent, found.tokens, found.tokens_spent)


def model_words(found: Bill) -> str:
    """Which model answers."""
    if found.model == found.resolved:
        return found.model
    return f"{found.model} ({found.resolved}{'' if found.seen else ', as far as is known before the first call'})"


def budget_words(found: Bill, *, of_all: bool) -> str:
    """What was used today, of how much, and what is left."""
    kept = found.of_all if of_all else found.today
    apart = ""
    if found.estimated and not of_all:
        apart = f" (at most: {_dollars(found.estimated)} of it is estimated)"
    said = f"{_dollars(kept.used)}{apart}"
    if kept.left is not None:
        said += f" of {_dollars(kept.limit or 0)}, {_dollars(kept.left)} left"
    elif kept.token_limit is None:
        said += ", no limit" if found.billed or found.free else ", no limit (a subscription)"
    if kept.token_limit is not None:
        left = max(0, kept.token_limit - kept.tokens)
        said += f"; {kept.tokens:,} of {kept.token_limit:,} tokens, {left:,} left"
    return said


def message_words(found: Bill) -> str:
    """What a message costs now."""
    size = f"{round(found.conversation, -3):,} tokens"
    if found.free:
        return f"nothing (the built-in model; a conversation of about {size})"
    if found.later is None:
        return f"about {_dollars(found.message)} (a conversation of about {size})"
    until = f"cached until {found.cached_until}, then about {_dollars(found.later)}"
    return f"about {_dollars(found.message)} (a conversation of about {size}, {until})"


def _dollars(micros: int) -> str:
    return f"${micros / 1e6:.2f}" if micros >= 10_000 or not micros else f"${micros / 1e6:.4f}"


# --- the commands of agents ----------------------------------------------------------------------


def _get_usage(call: Call) -> Done:
    folder = None if call.args.get("scope", "group") == "global" else call.caller.folder
    days = call.args.get("days", 1)
    lines = used(call.tx, call.actor, folder, days=days, timezone=call.host.timezone)
    if not lines:
        return Done.now("no call of the model in that time")
    told = [
        f"{each.day}{f' {each.group}' * (folder is None)} {each.model}: {_figures(total([each]))}"
        for each in lines[: LISTS.usage]
    ]
    if len(lines) > LISTS.usage:
        told.append(f"and {len(lines) - LISTS.usage} more lines")
    return Done.now("\n".join([*told, f"together: {_figures(total(lines))}"]))


def _figures(found: Total) -> str:
    said = f"{found.calls} calls, {found.tokens} tokens, ${found.cost / 1e6:.2f}"
    return said + f" (at most: ${found.estimated / 1e6:.2f} of it estimated)" * bool(
        found.estimated
    )


HANDLERS: Final[Mapping[str, Callable[[Call], Done]]] = {"get_usage": _get_usage}
