"""Find out whether the model API searches the web, so that only what it has is offered.

Anthropic's does. Another one that speaks its language is asked, once in a daemon's life, by a count of tokens, which
costs nothing: who does not know the tool refuses it. What the API refuses later counts more than what it said.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import trio

from pynchy.gateway.exchange import (
    COUNT_TOKENS,
    Upstream,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamUnreachable,
)
from pynchy.policy.allowance import SEARCH

PATIENCE: Final = 5.0  # seconds for an answer; a run waits for it
MODEL: Final = "claude-sonnet-5-5"  # to ask with, where the settings name none
_TOOL: Final = {"type": "web_search_20250305", "name": SEARCH}
_TRANSIENT: Final = (401, 403, 408, 429)  # says nothing of the tool


class Searching:
    """Whether one model API searches the web. ``known`` None: ask it, with ``model``."""

    def __init__(self, upstream: Upstream, *, known: bool | None, model: str = "") -> None:
        self._upstream = upstream
        self._known = known
        self._model = (
            MODEL if not model or model.isalpha() else model
        )  # "sonnet" is a name of the CLI's
        self._asking = trio.Lock()

    async def is_there(self) -> bool:
        """False also while it cannot be asked."""
        async with self._asking:
            if self._known is None:
                self._known = await self._ask()
        return self._known is True

    @property
    def is_missing(self) -> bool:
        """Whether it is known not to."""
        return self._known is False

    def saw(self, status: int, body: bytes) -> None:
        """Take what the API answered to a call that wanted to search, if it was an error."""
        if status == 400 and (SEARCH.encode() in body or b"web search" in body.lower()):
            self._known = False

    async def _ask(self) -> bool | None:
        document = {
            "model": self._model,
            "messages": [{"role": "user", "content": "?"}],
            "tools": [_TOOL],
        }
        headers = (("content-type", "application/json"), ("anthropic-version", "2023-06-01"))
        asked = UpstreamRequest(
            COUNT_TOKENS, COUNT_TOKENS, headers, json.dumps(document).encode(), document
        )
        with trio.move_on_after(PATIENCE), suppress(UpstreamUnreachable):
            async with self._upstream.send(asked) as answer:
                if not isinstance(answer, UpstreamFailure):
                    return True
                return None if answer.status >= 500 or answer.status in _TRANSIENT else False
        return None
