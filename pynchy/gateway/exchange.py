"""The gateway's types: the caller, the request passed on, the response.

Facts and protocols only; no I/O. The proxy, the upstreams and the ledger meet in these words and
know nothing else of each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import attrs

from pynchy.model import GroupId, RunId
from pynchy.policy.allowance import Budget, Egress

Headers = tuple[tuple[str, str], ...]  # names in lower case

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"


@attrs.frozen
class RunIdentity:
    """Whom one socket serves, as the daemon knows it; nothing sent through the socket changes it."""

    run: RunId
    group: GroupId
    token: str = attrs.field(repr=False)
    models: tuple[str, ...] = ()  # the only models it may ask for; empty: any
    server_tools: frozenset[str] = frozenset()  # families, as `SERVER_TOOLS` names them
    egress: Egress = attrs.field(factory=Egress)
    budget: Budget = attrs.field(factory=Budget)


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


@attrs.frozen
class UpstreamFailure:
    """An answer that is an error, whole. The body is safe to pass on."""

    status: int
    headers: Headers
    body: bytes


class Upstream(Protocol):
    """Something that speaks the Messages API."""

    @property
    def name(self) -> str: ...

    @property
    def free(self) -> bool:
        """Whether a call costs nothing: it is counted all the same."""
        ...

    @property
    def billed(self) -> bool:
        """Whether what a call costs is on a bill: with a subscription it is paid already."""
        ...

    async def prepare(self) -> None:
        """Do in advance what the first call would wait for. Optional, and harmless twice."""
        ...

    def send(
        self, request: UpstreamRequest
    ) -> AbstractAsyncContextManager[UpstreamResponse | UpstreamFailure]:
        """Make one call. The call is over when the block is; raises `UpstreamUnreachable`."""
        ...


class UpstreamUnreachable(Exception):
    """No answer came, or only half of one. The text is safe to show.

    ``refused``: the request never arrived, so nothing was spent.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


# --- spending ------------------------------------------------------------------------------------


@attrs.frozen
class Usage:
    """What one call used: tokens by kind, and searches made at the provider."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0  # kept for five minutes
    cache_write_hour: int = 0
    searches: int = 0
    estimated: bool = False  # the answer did not tell all of it: what is here is the most it can be

    @property
    def tokens(self) -> int:
        """All of them. A cached token is cheap, but it is one."""
        return self.input + self.output + self.cache_read + self.cache_write + self.cache_write_hour


@attrs.frozen
class Wanted:
    """The most that a call can come to: its model, its input, the output that it asks for.

    ``whole``: less output than that will not do.
    """

    model: str
    input: int
    output: int
    free: bool = False
    searches: int = 0
    whole: bool = False


@attrs.frozen
class Reserved:
    """A reservation. ``output`` is how many tokens it affords, at most what was wanted; ``who`` is to spend it."""

    id: int
    model: str
    output: int
    free: bool
    who: RunIdentity | None = None


@attrs.frozen
class OverBudget:
    """Nothing was reserved, and why. ``period`` names the budget that is used up, for telling
    people once: "run 01ab…", "day 2026-01-31"."""

    reason: str
    period: str
    used_up: bool = True  # or something is left, and it does not pay for this call


class Ledger(Protocol):
    """Reserve before, settle after. What is never settled counts in full."""

    async def reserve(self, who: RunIdentity, wanted: Wanted) -> Reserved | OverBudget: ...

    async def settle(self, reserved: Reserved, usage: Usage) -> None: ...
