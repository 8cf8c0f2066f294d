"""What the gateway's connections of all runs share: the model API, the network, the ledger, and what people were told.

Below the connections and the socket, so that neither has to know the other.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TYPE_CHECKING

import attrs
import trio

from pynchy.gateway.exchange import Ledger, OverBudget, RunIdentity, Upstream
from pynchy.gateway.way import DIRECT, Way
from pynchy.model import RunId
from pynchy.policy import failures

if TYPE_CHECKING:
    from pynchy.gateway.egress import Network
    from pynchy.gateway.searching import Searching

Stream = trio.abc.HalfCloseableStream
Tell = Callable[[RunIdentity, str], Awaitable[None]]
Report = Callable[[RunIdentity, str, int], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Shared:
    """What all runs share.

    Without ``searching`` the model API is one that does not search the web. Without a ``ledger`` nothing is counted and
    nothing limited. ``network`` is the internet if none is given, and ``way`` how it is reached.
    ``tell`` is called once for each budget that is used up, with a sentence for people. ``report`` is called when a
    run ends, once for each kind of thing it was refused, with how often. ``install`` keeps the user ids that the
    provider sees apart between installations. ``clock`` is in seconds since 1970.
    """

    upstream: Upstream
    ledger: Ledger | None = None
    network: Network | None = None
    searching: Searching | None = None
    way: Way = DIRECT
    tell: Tell | None = None
    report: Report | None = None
    install: str = ""
    clock: Callable[[], float] = time.time
    calls: dict[RunId, failures.CallResult] = attrs.field(factory=dict, init=False, repr=False)
    _told: dict[tuple[str, str, bool], None] = attrs.field(factory=dict, init=False, repr=False)

    def last_call(self, run: RunId) -> failures.CallResult | None:
        """How the newest call of the model in a run that goes on ended; None if there was none."""
        return self.calls.get(run)

    async def searches(self) -> bool:
        """Whether the model API searches the web, as far as is known."""
        return self.searching is not None and await self.searching.is_there()

    @property
    def has_no_search(self) -> bool:
        """Whether the model API is known not to search the web."""
        return self.searching is None or self.searching.is_missing

    async def over_budget(self, who: RunIdentity, over: OverBudget) -> None:
        """Tell people, once for each budget and period."""
        key = (who.group, over.period, over.used_up)
        if self.tell is None or key in self._told:
            return
        self._told[key] = None
        if len(self._told) > 1_000:
            del self._told[next(iter(self._told))]
        await self.tell(who, over.reason)

    def user_of(self, who: RunIdentity) -> str:
        """The user that the provider sees: one for each group, and nothing of its name."""
        return sha256(f"pynchy:{self.install}:{who.group}".encode()).hexdigest()[:32]
