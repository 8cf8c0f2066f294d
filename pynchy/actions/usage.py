"""What model calls cost, by the ledger: the same figures whoever asks.

Procedure. A day is the budget's day, in the people's own time zone. A group is told of its own use; the owner, and
main, of everybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs

from pynchy.actions.actor import Actor
from pynchy.actions.call import Call, Done
from pynchy.actions.refused import Refused
from pynchy.limits import LISTS
from pynchy.model import DAY, GroupId, after
from pynchy.schedule.times import spell
from pynchy.store import ledger
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
