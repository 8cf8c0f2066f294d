"""Whether a model API searches the web: asked once, without cost, and believed until it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.gateway.searching import Searching
from pynchy.gateway.upstream import ApiKey, open_anthropic
from tests.edges.gateway_world import (
    KEY,
    TOKEN,
    WHO,
    Seen,
    Send,
    api,
    call,
    exchange,
    parse,
    post,
    response,
)

COUNT = json.dumps({"input_tokens": 12}).encode()
REFUSED = json.dumps(
    {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "tools.0: web_search is not enabled"},
    }
).encode()


@pytest.mark.parametrize(
    ("status", "is_there", "asked"),
    [(200, True, 1), (400, False, 1), (404, False, 1), (529, False, 2), (401, False, 2)],
)
async def test_another_api_is_asked_until_it_has_said(
    status: int, is_there: bool, asked: int
) -> None:
    async def answering(_: Seen, send: Send) -> None:
        await send(response(COUNT if status == 200 else REFUSED, status=status))

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
    ):
        searching = Searching(upstream, known=None, model="their-model")
        assert [await searching.is_there(), await searching.is_there()] == [is_there, is_there]
        assert len(found.seen) == asked
        [question, *_] = found.seen
        assert question.target == "/v1/messages/count_tokens"
        assert question.document["model"] == "their-model"
        assert question.document["tools"][0]["name"] == "web_search"


async def test_who_does_not_answer_is_not_said_to_search() -> None:
    async with open_anthropic(ApiKey(KEY), base_url="http://127.0.0.1:1") as upstream:
        searching = Searching(upstream, known=None)
        assert not await searching.is_there()
        assert not searching.is_missing  # nobody has said so


async def test_a_search_that_the_api_refuses_is_not_offered_again(tmp_path: Path) -> None:
    async def answering(_: Seen, send: Send) -> None:
        await send(response(REFUSED, status=400))

    tool: dict[str, Any] = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    who = RunIdentity(WHO.run, WHO.group, TOKEN, server_tools=frozenset({"web_search"}))
    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
    ):
        gateway = Gateway(upstream=upstream, searching=Searching(upstream, known=True))
        async with gateway.open_run(who, tmp_path / "run"):
            socket = tmp_path / "run" / SOCKET
            await exchange(socket, post(call("no search")))  # refused as well, and not for that
            assert await gateway.searches()
            told = parse(await exchange(socket, post(call("search", tools=[tool]))))
            assert (told.status, b"not enabled" in told.body) == (400, True)
            assert not await gateway.searches()
            assert gateway.has_no_search
