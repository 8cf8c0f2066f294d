"""What the gateway sees of the calls of a run: how the newest of them ended, and what it tells the client to do."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.gateway.upstream import ApiKey, open_anthropic
from pynchy.policy.failures import CallResult
from tests.edges.gateway_world import (
    END,
    KEY,
    START,
    WHO,
    Answering,
    Book,
    Seen,
    Send,
    api,
    call,
    chunk,
    exchange,
    parse,
    post,
    sse,
    stream_head,
)

NOW = 1_800_000_000.0


async def seen_of(
    directory: Path,
    answering: Answering,
    *,
    times: int = 1,
    book: Book | None = None,
    who: RunIdentity = WHO,
) -> tuple[CallResult | None, dict[str, str]]:
    """What the gateway remembers after so many calls, and the headers of the last answer."""
    headers: dict[str, str] = {}
    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
    ):
        gateway = Gateway(upstream=upstream, ledger=book, clock=lambda: NOW)
        async with gateway.open_run(who, directory):
            assert gateway.last_call(who.run) is None
            for _ in range(times):
                raw = await exchange(directory / SOCKET, post(call("hi", stream=True)))
                headers = parse(raw).headers if raw else {}
            last = gateway.last_call(who.run)
        assert gateway.last_call(who.run) is None, "it is forgotten with the run"
    return last, headers


def failing(status: int, message: str, more: str = "") -> Answering:
    async def answering(seen: Seen, send: Send) -> None:
        error = {"type": "error", "error": {"type": "x", "message": message}}
        body = json.dumps(error).encode()
        head = (
            f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n{more}\r\n"
        )
        await send(head.encode() + body)

    return answering


@pytest.mark.parametrize(
    ("status", "message", "more", "kind", "moment", "again"),
    [
        (429, "slow down", "retry-after: 900\r\n", "rate_limit", NOW + 900, False),
        (429, "slow down", "retry-after: 3\r\n", "rate_limit", NOW + 3, True),
        (401, "invalid x-api-key", "x-should-retry: true\r\n", "credential", None, False),
        (402, "no credit", "", "billing", None, False),
        (400, "prompt is too long: 9 > 8", "", "context", None, False),
        (400, "tool_use ids must be unique", "", "history", None, False),
        (529, "Overloaded", "", "outage", None, True),
    ],
)  # fmt: skip
async def test_an_error_is_known_for_what_it_is(
    tmp_path: Path, status: int, message: str, more: str, kind: str, moment: float | None, again: bool
) -> None:  # fmt: skip
    last, headers = await seen_of(tmp_path, failing(status, message, more))
    assert last == CallResult(kind, message, moment)
    assert (headers.get("x-should-retry") == "false") == (not again)


async def test_the_same_refusal_twice_is_noticed(tmp_path: Path) -> None:
    last, _ = await seen_of(tmp_path, failing(400, "tool_use ids must be unique"), times=2)
    assert last is not None
    assert last.repeated


def streaming(*pieces: bytes, ends: bool = True) -> Answering:
    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head())
        for piece in pieces:
            await send(chunk(piece))
        if ends:
            await send(b"0\r\n\r\n")

    return answering


async def test_an_answer_to_its_end_is_one(tmp_path: Path) -> None:
    last, _ = await seen_of(tmp_path, streaming(START, END))
    assert last == CallResult()


async def test_an_answer_that_breaks_off_was_paid_for(tmp_path: Path) -> None:
    last, _ = await seen_of(tmp_path, streaming(START, ends=False))
    assert last is not None
    assert (last.kind, last.bought) == ("outage", True)


async def test_an_error_in_the_midst_of_an_answer_is_an_outage(tmp_path: Path) -> None:
    broken = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    last, _ = await seen_of(tmp_path, streaming(START, broken[:9], broken[9:]))
    assert last is not None
    assert (last.kind, last.bought) == ("outage", True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("overloaded_error", "outage"),
        ("rate_limit_error", "rate_limit"),
        ("invalid_request_error", "history"),
        ("authentication_error", "credential"),
        ("one that is new to us", "outage"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
async def test_an_error_in_the_place_of_an_answer_is_what_its_status_would_be(
    tmp_path: Path, error: str, kind: str, named: bool
) -> None:
    told = sse("error", error={"type": error, "message": "no"})
    if not named:
        told = told[told.index(b"data:") :]
    last, _ = await seen_of(tmp_path, streaming(told))
    assert last == CallResult(kind, "no")


@pytest.mark.parametrize("body", [b"", b"<html>log in first</html>", b"data: {}\n\n"])
async def test_what_is_no_answer_of_the_model_api_is_an_outage(tmp_path: Path, body: bytes) -> None:
    last, _ = await seen_of(tmp_path, streaming(body))
    assert last is not None
    assert (last.kind, last.bought) == ("outage", False)
    assert "model.base_url" in last.message


async def test_an_answer_that_breaks_off_before_it_begins_was_not_paid_for(tmp_path: Path) -> None:
    last, _ = await seen_of(tmp_path, streaming(b": wait\n", ends=False))
    assert last is not None
    assert (last.kind, last.bought) == ("outage", False)


async def test_a_budget_that_is_used_up_is_ours(tmp_path: Path) -> None:
    last, _ = await seen_of(tmp_path, failing(500, "never asked"), book=Book(grants=None))
    assert last == CallResult("budget", "the budget of $1.00 for today is used up")


async def test_what_a_setting_refuses_is_named(tmp_path: Path) -> None:
    who = attrs.evolve(WHO, models=("claude-haiku",))
    last, _ = await seen_of(tmp_path, failing(500, "never asked"), who=who)
    assert last is not None
    assert last.kind == "policy"
    assert "may not use" in last.message


async def test_nobody_there_is_an_outage(tmp_path: Path) -> None:
    async with open_anthropic(ApiKey(KEY), base_url="http://127.0.0.1:1") as upstream:
        gateway = Gateway(upstream=upstream, clock=lambda: math.inf)
        async with gateway.open_run(WHO, tmp_path):
            await exchange(tmp_path / SOCKET, post(call("hi")))
            last = gateway.last_call(WHO.run)
    assert last is not None
    assert (last.kind, last.bought) == ("outage", False)


async def test_a_renewed_key_goes_with_the_next_call(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await failing(401, "no")(seen, send)

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        Gateway(upstream=upstream).open_run(WHO, tmp_path),
    ):
        await exchange(tmp_path / SOCKET, post(call("hi")))
        upstream.renew(ApiKey("sk-another"))
        await exchange(tmp_path / SOCKET, post(call("hi")))
    assert [seen.headers["x-api-key"] for seen in found.seen] == [KEY, "sk-another"]
