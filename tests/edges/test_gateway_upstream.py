"""The model API with the real HTTP client: the key, errors, streams, clients that vanish, budgets."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from pynchy.gateway.exchange import RunIdentity, Usage
from pynchy.gateway.meter import FASTEST
from pynchy.gateway.shared import Tell
from pynchy.gateway.upstream import ApiKey, OAuthToken, open_anthropic, try_credential
from pynchy.gateway.way import Way
from pynchy.logs import logger
from tests.edges.gateway_world import (
    END,
    KEY,
    START,
    TOKEN,
    WHO,
    Answering,
    Api,
    Book,
    Seen,
    Send,
    api,
    call,
    chunk,
    exchange,
    parse,
    post,
    read_all,
    response,
    served,
    sse,
    stream_head,
)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Everything that is logged, at any level."""
    kept: list[str] = []
    sink = logger.add(
        lambda message: kept.append(str(message)), level=0, format="{message}{exception}"
    )
    yield kept
    logger.remove(sink)


@asynccontextmanager
async def world(
    directory: Path,
    answering: Answering,
    *,
    credential: ApiKey | OAuthToken | None = None,
    book: Book | None = None,
    tell: Tell | None = None,
    patience: float = 5.0,
) -> AsyncIterator[tuple[Path, Api]]:
    """A gateway in front of an API on loopback."""
    with trio.fail_after(30):
        async with (
            api(answering) as found,
            open_anthropic(
                credential or ApiKey(KEY), base_url=found.base_url, patience=patience
            ) as upstream,
            served(directory, upstream, ledger=book, tell=tell) as path,
        ):
            yield path, found


async def answers_plainly(seen: Seen, send: Send) -> None:
    usage = {"input_tokens": 7, "output_tokens": 9}
    await send(response(json.dumps({"type": "message", "usage": usage}).encode()))


async def test_the_key_is_put_in_on_the_host(tmp_path: Path) -> None:  # threat K1, N3
    async with world(tmp_path, answers_plainly) as (path, found):
        more = (
            f"x-api-key: {TOKEN}\r\nanthropic-beta: effort-2025-11-24,files-api-2025-04-14\r\n"
            "anthropic-version: 2023-06-01\r\ncookie: c\r\naccept-encoding: gzip, br\r\n"
            "connection: close\r\n"
        )
        answer = parse(await exchange(path, post(call("hi"), more=more)))
    assert answer.status == 200
    (seen,) = found.seen
    assert seen.target == "/v1/messages?beta=true"
    assert seen.headers["x-api-key"] == KEY
    assert "authorization" not in seen.headers
    assert seen.headers["anthropic-beta"] == "effort-2025-11-24"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.headers["accept-encoding"] == "identity"
    assert "cookie" not in seen.headers
    assert TOKEN not in str(seen)


async def test_an_oauth_token_goes_with_its_beta(tmp_path: Path) -> None:
    async with world(tmp_path, answers_plainly, credential=OAuthToken(KEY)) as (path, found):
        more = "anthropic-beta: effort-2025-11-24,oauth-2025-04-20\r\nconnection: close\r\n"
        await exchange(path, post(call("hi"), more=more))
        await exchange(path, post(call("hi")))
    assert [seen.headers["authorization"] for seen in found.seen] == [f"Bearer {KEY}"] * 2
    assert "x-api-key" not in found.seen[0].headers
    assert [seen.headers["anthropic-beta"] for seen in found.seen] == [
        "effort-2025-11-24,oauth-2025-04-20",
        "oauth-2025-04-20",
    ]


async def test_what_was_checked_is_what_arrives(tmp_path: Path) -> None:
    document = call("é\n", metadata={"user_id": "device"}, temperature=0.5, unknown=1)
    async with world(tmp_path, answers_plainly) as (path, found):
        await exchange(path, post(document))
        await exchange(path, post(document, path="/v1/messages/count_tokens"))
    sent = found.seen[0].document
    assert len(sent.pop("metadata")["user_id"]) == 32
    assert sent == call("é\n", temperature=0.5)
    assert found.seen[1].target == "/v1/messages/count_tokens"


async def test_a_base_url_may_have_a_path(tmp_path: Path) -> None:
    async with api(answers_plainly) as found:
        upstream = open_anthropic(ApiKey(KEY), base_url=f"{found.base_url}/anthropic/")
        async with upstream as model, served(tmp_path, model) as path:
            await exchange(path, post(call("hi")))
    assert found.seen[0].target == "/anthropic/v1/messages?beta=true"


async def test_response_headers_pass_a_list(tmp_path: Path, lines: list[str]) -> None:  # threat K3
    async def answering(seen: Seen, send: Send) -> None:
        more = (
            f"request-id: req_1\r\nset-cookie: a\r\nx-api-key: {KEY}\r\nserver: s\r\n"
            f"anthropic-organization-id: o\r\nanthropic-ratelimit-requests-remaining: 5\r\n"
            f"anthropic-ratelimit-echo: {KEY}\r\nconnection: close\r\n"
        )
        await send(response(b"{}", more=more))

    async with world(tmp_path, answering) as (path, _):
        answer = parse(await exchange(path, post(call("hi"))))
    assert set(answer.headers) - {"connection", "transfer-encoding"} == {
        "content-type",
        "request-id",
        "anthropic-ratelimit-requests-remaining",
    }
    assert KEY not in str(answer) + str(lines)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 502, 529])
async def test_errors_pass_through_without_the_key(  # threat K3
    tmp_path: Path, status: int, lines: list[str]
) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        error = {
            "type": "error",
            "error": {"type": "x_error", "message": f"key {KEY} {seen.headers}"},
        }
        await send(response(json.dumps(error).encode(), status=status, more="retry-after: 7\r\n"))

    book = Book()
    async with world(tmp_path, answering, book=book) as (path, _):
        answer = parse(await exchange(path, post(call("hi", stream=True))))
    assert (answer.status, answer.error) == (status, "x_error")
    assert answer.headers["retry-after"] == "7"
    assert KEY.encode() not in answer.body
    assert b"[removed]" in answer.body
    assert KEY not in str(lines)
    assert book.settled == [Usage()]


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_an_error_in_other_words_is_told_in_ours(tmp_path: Path, kind: str) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        page = f"<html>{KEY}" + ("x" * 600_000 if kind == "application/json" else "")
        await send(response(page.encode(), status=503, kind=kind))

    async with world(tmp_path, answering) as (path, _):
        answer = parse(await exchange(path, post(call("hi"))))
    assert (answer.status, answer.error) == (503, "api_error")
    assert KEY.encode() not in answer.body


async def test_a_redirect_takes_the_key_nowhere(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(b"{}", status=307, more="location: http://127.0.0.1:1/steal\r\n"))

    async with world(tmp_path, answering) as (path, found):
        answer = parse(await exchange(path, post(call("hi"))))
    assert answer.status == 307
    assert "location" not in answer.headers
    assert len(found.seen) == 1


async def test_an_api_that_is_not_there(tmp_path: Path, lines: list[str]) -> None:  # threat K4
    book = Book()
    async with (
        open_anthropic(ApiKey(KEY), base_url="http://127.0.0.1:1") as upstream,
        served(tmp_path, upstream, ledger=book) as path,
    ):
        answer = parse(await exchange(path, post(call("hi"))))
    assert (answer.status, answer.error) == (502, "api_error")
    assert b"did not answer" in answer.body
    assert KEY not in str(answer) + str(lines)
    assert book.settled == [Usage()]


async def test_an_api_that_falls_silent(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await trio.sleep_forever()

    async with world(tmp_path, answering, patience=0.2) as (path, _):
        answer = parse(await exchange(path, post(call("hi"))))
    assert answer.status == 502


# --- streams -------------------------------------------------------------------------------------


async def test_a_stream_is_passed_on_piece_by_piece(tmp_path: Path) -> None:
    go_on = trio.Event()

    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head() + chunk(START))
        await go_on.wait()
        await send(chunk(END) + b"0\r\n\r\n")

    book = Book()
    async with (
        world(tmp_path, answering, book=book) as (path, _),
        await trio.open_unix_socket(str(path)) as stream,
    ):
        await stream.send_all(post(call("hi", stream=True)))
        answer = b""
        while START not in answer:  # it is here although nothing follows yet
            answer += await stream.receive_some()
        assert book.settled == []
        go_on.set()
        answer += await read_all(stream)
    assert parse(answer).body == START + END
    assert book.settled == [Usage(input=7, output=50)]


async def test_every_byte_comes_through_as_it_was(tmp_path: Path) -> None:
    text = sse("content_block_delta", delta={"text": "é" * 40_000}).replace(
        b"\\u00e9", "é".encode()
    )
    pieces = [text[at : at + 7_001] for at in range(0, len(text), 7_001)]

    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head())
        for piece in [START, *pieces, END]:
            await send(chunk(piece))
        await send(b"0\r\n\r\n")

    async with world(tmp_path, answering) as (path, _):
        answer = parse(await exchange(path, post(call("hi", stream=True))))
    assert answer.body == START + text + END


async def test_half_an_answer_is_not_made_to_look_whole(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head() + chunk(START))

    book = Book()
    async with world(tmp_path, answering, book=book) as (path, _):
        answer = parse(await exchange(path, post(call("hi", stream=True))))
    assert (answer.status, answer.whole, answer.body) == (200, False, START)
    (usage,) = book.settled
    assert usage.input == 7
    assert FASTEST <= usage.output <= 2_000


async def test_a_client_that_vanishes_ends_its_call(tmp_path: Path) -> None:  # threat N8
    gone = trio.Event()

    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head() + chunk(START))
        await seen.gone.wait()

    book = Book()
    async with world(tmp_path, answering, book=book) as (path, found):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(post(call("hi", stream=True)))
        await stream.receive_some()
        await stream.aclose()
        await found.seen[0].gone.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        # What it may have written in that time is charged: nothing said what it had.
        (usage,) = book.settled
        assert usage.input == 7
        assert usage.output >= FASTEST
        gone.set()


async def test_a_client_that_vanishes_before_the_answer_ends_its_call(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await seen.gone.wait()

    book = Book()
    async with world(tmp_path, answering, book=book) as (path, found):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(post(call("hi")))
        while not found.seen:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.aclose()
        await found.seen[0].gone.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        (usage,) = book.settled
        assert usage.tokens > 1_000


async def test_the_end_of_a_run_ends_its_calls(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(stream_head() + chunk(START))
        await seen.gone.wait()

    book = Book()
    async with (
        api(answering) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
    ):
        with trio.fail_after(20):
            async with served(tmp_path, upstream, ledger=book) as path:
                stream = await trio.open_unix_socket(str(path))
                await stream.send_all(post(call("hi", stream=True)))
                await stream.receive_some()
            await found.seen[0].gone.wait()
            assert len(book.settled) == 1
            await stream.aclose()


# --- budgets -------------------------------------------------------------------------------------


async def test_a_call_is_reserved_before_and_settled_after(tmp_path: Path) -> None:
    book = Book()

    async def answering(seen: Seen, send: Send) -> None:
        assert len(book.wanted) == 1
        assert book.settled == []
        await answers_plainly(seen, send)

    async with world(tmp_path, answering, book=book) as (path, _):
        assert parse(await exchange(path, post(call("hi" * 3_000)))).status == 200
    (wanted,) = book.wanted
    assert (wanted.model, wanted.output, wanted.free) == ("claude-opus-5-5", 2_000, False)
    assert 6_000 < wanted.input < 8_000
    assert book.settled == [Usage(input=7, output=9)]


async def test_counting_tokens_costs_nothing(tmp_path: Path) -> None:
    book = Book()
    async with world(tmp_path, answers_plainly, book=book) as (path, _):
        await exchange(path, post(call("hi"), path="/v1/messages/count_tokens"))
    assert book.wanted == []


async def test_over_budget_is_a_word_the_agent_can_read(tmp_path: Path) -> None:  # threat X6
    told: list[str] = []

    async def tell(who: RunIdentity, text: str) -> None:
        await trio.lowlevel.checkpoint()
        told.append(f"{who.group}: {text}")

    book = Book(grants=None)
    async with world(tmp_path, answers_plainly, book=book, tell=tell) as (path, found):
        for _ in range(3):
            answer = parse(await exchange(path, post(call("hi"))))
            assert (answer.status, answer.error) == (402, "billing_error")
            assert b"the budget of $1.00 for today is used up" in answer.body
            assert answer.headers["x-should-retry"] == "false"
    assert found.seen == []
    assert told == [f"{WHO.group}: the budget of $1.00 for today is used up"]


async def test_the_last_of_a_budget_makes_a_shorter_answer(tmp_path: Path) -> None:
    async with world(tmp_path, answers_plainly, book=Book(grants=1_234)) as (path, found):
        await exchange(path, post(call("hi")))
        thinking = {"type": "enabled", "budget_tokens": 1_500}
        answer = parse(await exchange(path, post(call("hi", thinking=thinking))))
    assert found.seen[0].document["max_tokens"] == 1_234
    assert answer.status == 402
    assert len(found.seen) == 1


async def test_many_calls_at_once_are_made_a_few_at_a_time(tmp_path: Path) -> None:  # threat X6
    now = most = 0

    async def answering(seen: Seen, send: Send) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await trio.sleep(0.002)
        now -= 1
        await answers_plainly(seen, send)

    book = Book()
    async with world(tmp_path, answering, book=book) as (path, _):

        async def caller() -> None:
            async with await trio.open_unix_socket(str(path)) as stream:
                for _ in range(5):
                    await stream.send_all(post(call("hi"), more=""))
                    answer = b""
                    while not answer.endswith(b"0\r\n\r\n"):
                        answer += await stream.receive_some()

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(caller)
    assert most <= 16
    assert len(book.settled) == len(book.wanted) == 250


# --- the way to the API --------------------------------------------------------------------------


@asynccontextmanager
async def a_proxy(to: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy on loopback that leads everywhere to one port; what it was asked for."""
    asked: list[bytes] = []

    async def serve(client: trio.SocketStream) -> None:
        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", to) as api,
            trio.open_nursery() as nursery,
        ):
            head = bytes(await client.receive_some())
            asked.append(head.split(b"\r\n")[0])
            if head.startswith(b"CONNECT"):
                await client.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                await api.send_all(head)

            async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                while piece := await source.receive_some():
                    await sink.send_all(piece)
                nursery.cancel_scope.cancel()

            nursery.start_soon(carry, client, api)
            nursery.start_soon(carry, api, client)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


SURROUNDINGS = {
    "ALL_PROXY": "socks5://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "HTTPS_PROXY": "socks://127.0.0.1:1",
    "NO_PROXY": "[",
    "SSL_CERT_FILE": "/nowhere",
    "SSL_CERT_DIR": "/nowhere",
    "REQUESTS_CA_BUNDLE": "/nowhere",
    "NETRC": "/nowhere",
}


async def test_the_environment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    for name, value in {**SURROUNDINGS, "SSLKEYLOGFILE": str(keys)}.items():
        monkeypatch.setenv(name, value)
    async with (
        api(answers_plainly) as found,
        open_anthropic(ApiKey(KEY), base_url=found.base_url) as upstream,
        served(tmp_path / "gw", upstream) as path,
    ):
        assert parse(await exchange(path, post(call("hi")))).status == 200
    async with api(answers_plainly) as found:
        verdict = await try_credential(ApiKey(KEY), base_url=found.base_url, now=0.0)
    assert verdict.status == 200


async def test_a_proxy_is_a_setting_and_not_for_this_machine(tmp_path: Path) -> None:
    async with api(answers_plainly) as found:
        port = urlsplit(found.base_url).port
        assert port is not None
        async with a_proxy(port) as (proxy, asked):
            way = Way(f"http://127.0.0.1:{proxy}")
            for base_url in ("http://api.example", found.base_url):
                async with (
                    open_anthropic(ApiKey(KEY), base_url=base_url, way=way) as upstream,
                    served(tmp_path / "gw", upstream) as path,
                ):
                    assert parse(await exchange(path, post(call("hi")))).status == 200
    assert [line.split(b" ")[1] for line in asked] == [b"http://api.example/v1/messages?beta=true"]


@pytest.mark.parametrize("way", [Way(ca_file=Path("/nowhere")), Way(ca_file=Path("/etc/passwd"))])
async def test_certificates_that_cannot_be_read_are_said(tmp_path: Path, way: Way) -> None:
    async with (
        open_anthropic(ApiKey(KEY), base_url="https://api.example", way=way) as upstream,
        served(tmp_path / "gw", upstream) as path,
    ):
        answer = parse(await exchange(path, post(call("hi"))))
    assert answer.status == 502
    assert b"gateway.ca_file cannot be used" in answer.body
