"""The gateway with the real ledger in a real store: hard limits, and what a crash leaves behind."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from pynchy.gateway.exchange import RunIdentity, Usage
from pynchy.gateway.prices import cost
from pynchy.gateway.upstream import ApiKey, open_anthropic
from pynchy.model import Micros
from pynchy.policy.allowance import Budget
from pynchy.store.database import open_store
from pynchy.store.ledger import Line, StoreLedger, used
from tests.edges.gateway_world import (
    KEY,
    START,
    WHO,
    Seen,
    Send,
    api,
    call,
    chunk,
    exchange,
    parse,
    post,
    response,
    served,
    stream_head,
)

BUDGET = 3_000_000  # three dollars
POOR = attrs.evolve(WHO, budget=Budget(day_money=BUDGET))


@asynccontextmanager
async def ledger(path: Path) -> AsyncIterator[StoreLedger]:
    async with open_store(path) as store:
        yield StoreLedger(store, now=lambda: Micros(1), day_of=lambda _: "2026-01-01")


async def lines(path: Path) -> list[Line]:
    async with open_store(path) as store:
        return await store.call(used)


async def test_a_storm_of_the_dearest_calls_stays_within_the_budget(  # threat X6
    tmp_path: Path,
) -> None:
    told: list[str] = []

    async def tell(who: RunIdentity, text: str) -> None:
        await trio.lowlevel.checkpoint()
        told.append(text)

    async def answering(seen: Seen, send: Send) -> None:
        usage = {
            "input_tokens": 0,
            "cache_creation_input_tokens": 200,
            "cache_creation": {"ephemeral_1h_input_tokens": 200},  # no prompt is found again
            "output_tokens": seen.document["max_tokens"],
        }
        await send(response(json.dumps({"usage": usage}).encode()))

    statuses: list[int] = []
    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        ledger(tmp_path / "db") as book,
        served(tmp_path / "gw", upstream, POOR, ledger=book, tell=tell) as path,
    ):

        async def caller() -> None:
            for number in range(5):
                document = call(f"{number}" * 600, model="unheard-of", max_tokens=10_000)
                statuses.append(parse(await exchange(path, post(document))).status)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(caller)
    assert set(statuses) == {200, 402}
    (line,) = await lines(tmp_path / "db")
    assert line.open == 0
    assert BUDGET * 0.9 < line.cost <= BUDGET
    assert told == ["the budget of $3.00 for today is used up"]
    assert len(found.seen) == statuses.count(200)


async def test_every_call_is_in_the_book(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(b'{"usage": {"input_tokens": 7, "output_tokens": 9}}'))

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        ledger(tmp_path / "db") as book,
        served(tmp_path / "gw", upstream, ledger=book) as path,
    ):
        for _ in range(10):
            assert parse(await exchange(path, post(call("hi")))).status == 200
    (line,) = await lines(tmp_path / "db")
    assert (line.calls, line.open, line.input, line.output) == (10, 0, 70, 90)
    assert line.cost == 10 * (7 * 4 + 9 * 20)


async def test_a_daemon_that_dies_leaves_its_reservation(tmp_path: Path) -> None:  # threat N8
    class Dying(StoreLedger):
        async def settle(self, *_: object) -> None:  # the process is gone by now
            await trio.lowlevel.checkpoint()

    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head() + chunk(START))

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        open_store(tmp_path / "db") as store,
    ):
        book = Dying(store, now=lambda: Micros(1), day_of=lambda _: "2026-01-01")
        async with served(tmp_path / "gw", upstream, ledger=book) as path:
            await exchange(path, post(call("hi", stream=True)))
    (line,) = await lines(tmp_path / "db")
    assert (line.calls, line.open) == (1, 1)
    assert line.cost > 2_000 * 20


PAGES = base64.b64encode(b"%PDF-1.4 pages that nobody here can count").decode()
DOCUMENT = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": PAGES},
}
INPUT = 48 * 3_100  # tokens that the API makes of it


async def test_documents_and_calls_that_are_cut_off_stay_within_the_budget(  # threat X6
    tmp_path: Path,
) -> None:
    """A budget of four dollars, calls that may cost two, at once, and clients that do not wait."""
    rich = attrs.evolve(WHO, budget=Budget(day_money=4_000_000))
    charged: list[Usage] = []

    async def answering(seen: Seen, send: Send) -> None:
        if seen.target.startswith("/v1/messages/count_tokens"):
            await send(response(b"{}"))
            return
        charged.append(Usage(cache_write_hour=INPUT, output=5))
        await trio.sleep(0.1)  # the clients that hang up do so before this is told
        told = {"input_tokens": 0, "cache_creation": {"ephemeral_1h_input_tokens": INPUT}}
        told["cache_creation_input_tokens"] = INPUT
        begins = {"type": "message_start", "message": {"usage": told}}
        ends = {"type": "message_delta", "usage": {"output_tokens": 5}}
        await send(stream_head())
        for each in (begins, ends):
            await send(chunk(f"data: {json.dumps(each)}\n\n".encode()))
        await send(b"0\r\n\r\n")

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        ledger(tmp_path / "db") as book,
        served(tmp_path / "gw", upstream, rich, ledger=book) as path,
    ):
        asked = call("x", model="claude-opus-4-5", max_tokens=1_024, stream=True)
        asked["messages"] = [{"role": "user", "content": [DOCUMENT]}]

        async def caller(number: int) -> None:
            if number % 2:
                await exchange(path, post(asked))
                return
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(post(asked))
                await trio.sleep(0.05)

        with trio.fail_after(60):
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for number in range(6):
                        nursery.start_soon(caller, number)
                await trio.sleep(0.3)
    assert charged
    assert sum(cost("claude-opus-4-5", each) for each in charged) <= 4_000_000
    (line,) = await lines(tmp_path / "db")
    assert line.open == 0
    assert sum(cost("claude-opus-4-5", each) for each in charged) <= line.cost <= 4_000_000


async def test_a_count_of_the_api_makes_room_in_a_budget(tmp_path: Path) -> None:
    almost = attrs.evolve(WHO, budget=Budget(day_money=500_000))

    async def answering(seen: Seen, send: Send) -> None:
        if seen.target == "/v1/messages/count_tokens":
            assert seen.document.keys() == {"model", "messages"}
            await send(response(b'{"input_tokens": 40000}'))
        else:
            await send(response(b'{"usage": {"input_tokens": 40000, "output_tokens": 9}}'))

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        ledger(tmp_path / "db") as book,
        served(tmp_path / "gw", upstream, almost, ledger=book) as path,
    ):
        # By its bytes it could cost two dollars and more.
        asked = call("word " * 50_000, model="claude-opus-4-5", max_tokens=1_024)
        assert parse(await exchange(path, post(asked))).status == 200
        assert [seen.target for seen in found.seen] == [
            "/v1/messages/count_tokens",
            "/v1/messages?beta=true",
        ]
    (line,) = await lines(tmp_path / "db")
    assert (line.cost, line.estimated) == (40_000 * 5 + 9 * 25, 0)


async def test_what_is_only_bounded_is_told_apart(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(b'{"content": []}'))  # and no word of what it used

    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        ledger(tmp_path / "db") as book,
        served(tmp_path / "gw", upstream, ledger=book) as path,
    ):
        assert parse(await exchange(path, post(call("hi")))).status == 200
    (line,) = await lines(tmp_path / "db")
    assert line.open == 0
    assert 0 < line.estimated == line.cost
