"""Clients of the gateway that take their time, on a clock that costs none."""

import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from pynchy.gateway import egress
from pynchy.gateway.connection import MAX_CONNECTIONS, Run
from pynchy.gateway.exchange import OverBudget, Reserved, RunIdentity, Usage, Wanted
from pynchy.gateway.hosts import Destination
from pynchy.gateway.http1 import BODY_TIME, HEAD_TIME, IDLE_TIME, LINGER_TIME, WRITE_TIME
from pynchy.gateway.meter import FASTEST
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.proxy import Gateway
from pynchy.model import GroupId, RunId
from pynchy.policy.allowance import Egress

WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), "t", egress=Egress("public"))
CALL = {"model": "m", "max_tokens": 90_000, "stream": True}


def request(text: str, **more: Any) -> bytes:
    document = {**CALL, "messages": [{"role": "user", "content": text}], **more}
    body = json.dumps(document).encode()
    head = (
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: t\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Book:
    """A ledger that takes a second for everything."""

    def __init__(self) -> None:
        self.settled: list[Usage] = []

    async def reserve(self, who: RunIdentity, wanted: Wanted) -> Reserved | OverBudget:
        await trio.sleep(1)
        return Reserved(1, wanted.model, wanted.output, wanted.free)

    async def settle(self, reserved: Reserved, usage: Usage) -> None:
        await trio.sleep(1)
        self.settled.append(usage)


def simulate(
    client: Callable[[trio.StapledStream[Any, Any]], Awaitable[None]],
    *,
    book: Book | None = None,
    lockstep: bool = False,
) -> float:
    """Serve one client, and say when the gateway was done with it."""

    async def main() -> float:
        pair = trio.testing.lockstep_stream_pair if lockstep else trio.testing.memory_stream_pair
        ours, theirs = pair()
        gateway = Gateway(upstream=OfflineModel(), ledger=book)
        ended = 0.0

        async def serve() -> None:
            nonlocal ended
            await Run(gateway, WHO).serve(ours)
            ended = trio.current_time()

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(client, theirs)
        return ended - began

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def drip(stream: trio.abc.SendStream, data: bytes) -> None:
    """One byte every two seconds, for as long as somebody listens."""
    try:
        for at in range(len(data)):
            await stream.send_all(data[at : at + 1])
            await trio.sleep(2)
    except trio.BrokenResourceError:
        pass


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    answer = b""
    while part := await stream.receive_some():
        answer += part
    return answer


def test_who_says_nothing_is_hung_up_on() -> None:  # threat N8
    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        assert await everything(stream) == b""

    assert simulate(client) == pytest.approx(HEAD_TIME)


def test_a_head_that_drips_in_has_its_time() -> None:  # threat N8
    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        await drip(stream, request("echo x"))
        assert b" 408 " in await everything(stream)

    assert simulate(client) == pytest.approx(HEAD_TIME, abs=3)


def test_a_body_that_drips_in_has_its_time() -> None:  # threat N8
    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        head, _, body = request("echo x").partition(b"\r\n\r\n")
        await stream.send_all(head + b"\r\n\r\n")
        await drip(stream, body)
        assert b" 408 " in await everything(stream)

    assert simulate(client) == pytest.approx(BODY_TIME + LINGER_TIME, abs=3)


def test_a_connection_may_rest_between_calls() -> None:
    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        await stream.send_all(request("echo one"))
        await trio.sleep(IDLE_TIME - 1)
        await stream.send_all(request("echo two"))
        answer = await everything(stream)
        assert answer.count(b"HTTP/1.1 200") == 2

    assert simulate(client) == pytest.approx(2 * IDLE_TIME - 1, abs=2)


def test_who_asks_and_does_not_read_is_hung_up_on() -> None:  # threat N8
    book = Book()

    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        await stream.send_all(request("long 100000"))
        await stream.receive_some(10)
        await trio.sleep(2 * WRITE_TIME)

    assert simulate(client, book=book, lockstep=True) == pytest.approx(WRITE_TIME, abs=5)
    (usage,) = book.settled
    assert usage.output == 90_000  # all that it was allowed: 120 seconds are enough to write it


def test_who_vanishes_pays_for_the_time() -> None:  # threat N8
    book = Book()

    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        await stream.send_all(request("slow 1000"))
        await trio.sleep(11)  # one of them is the ledger's
        await stream.aclose()

    assert simulate(client, book=book) == pytest.approx(12, abs=0.5)
    (usage,) = book.settled
    assert usage.output == pytest.approx(11 * FASTEST, abs=FASTEST)


def test_who_vanishes_while_it_is_booked_pays_nothing() -> None:
    book = Book()

    async def client(stream: trio.StapledStream[Any, Any]) -> None:
        await stream.send_all(request("slow 1000"))
        await trio.sleep(0.5)
        await stream.aclose()

    simulate(client, book=book)
    assert [usage.tokens for usage in book.settled] == [0]


def test_a_cancelled_run_settles_what_it_began() -> None:
    book = Book()

    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        gateway = Gateway(upstream=OfflineModel(), ledger=book)
        with trio.move_on_after(31):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(Run(gateway, WHO).serve, ours)
                await theirs.send_all(request("slow 1000"))
        assert len(book.settled) == 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_those_that_are_too_many_are_hung_up_on_and_the_others_not() -> None:  # threat N8
    async def storm(gateway: Gateway) -> None:
        server = Run(gateway, WHO).serve
        async with trio.open_nursery() as nursery:
            streams = []
            for _ in range(1_000):
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(server, ours)
                streams.append(theirs)
            await trio.testing.wait_all_tasks_blocked()
            answered = 0
            for stream in streams:
                try:
                    await stream.send_all(request("echo x"))
                    answered += b"HTTP/1.1 200" in await stream.receive_some()
                except trio.BrokenResourceError:
                    pass
            assert answered == MAX_CONNECTIONS
            nursery.cancel_scope.cancel()

    async def main() -> None:
        gateway = Gateway(upstream=OfflineModel())
        await storm(gateway)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def hello(name: str) -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def quiet(client: trio.abc.Stream, far: trio.abc.Stream) -> None:
    """A client that says nothing at all."""


async def slow(client: trio.abc.Stream, far: trio.abc.Stream) -> None:
    """A long download: something comes through now and then, and not for ever."""
    await client.send_all(hello("example.org"))
    assert await far.receive_some()
    for _ in range(5):
        await trio.sleep(egress.IDLE_TIME - 1)
        await far.send_all(b"x")
        assert await client.receive_some() == b"x"


@pytest.mark.parametrize(
    ("use", "lasts"),
    [(quiet, egress.HELLO_TIME), (slow, 6 * egress.IDLE_TIME - 5)],
)
def test_a_tunnel_lasts_while_something_passes(
    use: Callable[[trio.abc.Stream, trio.abc.Stream], Awaitable[None]], lasts: float
) -> None:
    async def main() -> float:
        client, ours = trio.testing.memory_stream_pair()
        remote, far = trio.testing.memory_stream_pair()
        began = trio.current_time()
        to = Destination("example.org", 443)
        with trio.fail_after(2 * lasts):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(egress.tunnel, WHO, to, ours, remote, b"")
                await use(client, far)
        return trio.current_time() - began

    taken = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert taken == pytest.approx(lasts, abs=1)
