"""The gateway's nouns: who calls, what is passed on, what comes back.

Facts and protocols only; no I/O. The proxy, the upstreams and the ledger meet in these words and
know nothing else of each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import attrs

from pynchy.model import GroupId, Micros, RunId

Headers = tuple[tuple[str, str], ...]  # names in lower case

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"


@attrs.frozen
class Limits:
    """What a group may spend; None where there is no limit. Money is in millionths of a dollar."""

    day_money: int | None = None
    day_tokens: int | None = None
    run_money: int | None = None
    run_tokens: int | None = None


@attrs.frozen
class Egress:
    """Where a container may connect to.

    ``kind`` is "none", "allowlist" or "public". Patterns are host names, or ``*.`` and a host name;
    an empty list under "allowlist" lets nothing through. ``denied`` wins over everything.
    """

    kind: str = "none"
    patterns: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    ports: tuple[int, ...] = (443, 80)


@attrs.frozen
class RunIdentity:
    """Whom one socket serves. The daemon says so; nothing that comes through the socket can."""

    run: RunId
    group: GroupId
    token: str = attrs.field(repr=False)
    models: tuple[str, ...] = ()  # the only models it may ask for; empty: any
    server_tools: frozenset[str] = frozenset()  # families, as policy.SERVER_TOOLS names them
    egress: Egress = Egress()
    limits: Limits = Limits()


@attrs.frozen
class UpstreamRequest:
    """A request that policy let through, credentials removed. ``document`` is ``body`` decoded."""

    path: str  # MESSAGES or COUNT_TOKENS
    target: str  # the same with its query
    headers: Headers
    body: bytes = attrs.field(repr=False)
    document: dict[str, Any] = attrs.field(repr=False)


@attrs.frozen
class UpstreamResponse:
    """The answer's head, and its body as it arrives."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class Upstream(Protocol):
    """Something that speaks the Messages API."""

    @property
    def name(self) -> str: ...

    @property
    def free(self) -> bool:
        """Whether a call costs nothing: it is counted all the same."""
        ...

    def send(self, request: UpstreamRequest) -> AbstractAsyncContextManager[UpstreamResponse]:
        """Make one call. The call is over when the block is; raises `UpstreamUnreachable`."""
        ...


class UpstreamUnreachable(Exception):
    """No answer came from the model API: the world's fault. Its text is safe to show."""


# --- spending ------------------------------------------------------------------------------------


@attrs.frozen
class Usage:
    """What one call used, in tokens."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def tokens(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


@attrs.frozen
class Reserved:
    """A reservation that stands until it is settled. ``output`` is how many tokens it affords."""

    id: str
    output: int


@attrs.frozen
class OverBudget:
    """Why nothing was reserved: a sentence for the agent and for people."""

    reason: str


class Ledger(Protocol):
    """Reserve before, settle after. A reservation that is never settled counts in full."""

    async def reserve(
        self, who: RunIdentity, *, model: str, input: int, output: int, free: bool
    ) -> Reserved | OverBudget:
        """Reserve for ``input`` tokens and up to ``output`` more, or say why not."""
        ...

    async def settle(self, reserved: Reserved, usage: Usage, *, exact: bool) -> None:
        """Replace a reservation by what was used; ``exact`` is False for a bound."""
        ...


Clock = Callable[[], Micros]
