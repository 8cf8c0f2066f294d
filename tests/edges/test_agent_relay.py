"""The relay in a container: every byte comes through in order, and it hears why the gateway refused."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pynchy_agent import relay

REFUSED = b"HTTP/1.1 403 no\r\ncontent-length: 9\r\n\r\n"
WORDS = json.dumps({"error": {"message": "pynchy gateway: x.org is not on the list"}}).encode()
THEIRS = json.dumps({"error": {"message": "pynchy is not welcome"}}).encode()
TUNNEL, FETCH = b"CONNECT x.org:443 HTTP/1.1\r\n\r\n", b"GET http://x.org/ HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def relayed(
    tmp_path: Path, refusals: relay.Refusals
) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """A client's connection, and the gateway's end of it."""
    outer = trio.socket.socket(trio.socket.AF_UNIX)
    await outer.bind(str(tmp_path / "gateway.sock"))
    outer.listen()
    listener = socket.create_server(("127.0.0.1", 0))
    with outer, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run, str(tmp_path / "gateway.sock"), listener, refusals)
            async with await trio.open_tcp_stream(*listener.getsockname()) as client:
                gateway, _ = await outer.accept()
                async with trio.SocketStream(gateway) as stream:
                    yield client, stream
            nursery.cancel_scope.cancel()


async def test_a_refused_tunnel_is_known_before_who_asked_hears_of_it(tmp_path: Path) -> None:
    refusals = relay.Refusals()
    async with relayed(tmp_path, refusals) as (client, gateway):
        await client.send_all(TUNNEL)
        await gateway.receive_some()
        await gateway.send_all(REFUSED)
        await trio.testing.wait_all_tasks_blocked(0.05)  # the relay has it
        await gateway.send_all(WORDS)
        assert await client.receive_some() == REFUSED + WORDS
        assert refusals.take() == ["x.org is not on the list"]
        assert refusals.take() == []


@pytest.mark.parametrize("asked", [TUNNEL, FETCH, b"POST /v1/messages HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize(
    "answer",
    [
        [REFUSED, WORDS],
        [REFUSED, THEIRS],
        [REFUSED, b"cut"],
        [b"HTTP/1.1 404 ", b"no\r\n\r\n", b"x" * 40_000],
        [b"HTTP/1.1 200 OK\r\n\r\n", b"CONNECT me", b"\x00\xff"],
    ],
)
async def test_every_answer_comes_through_whole(
    tmp_path: Path, asked: bytes, answer: list[bytes]
) -> None:
    refusals = relay.Refusals()
    async with relayed(tmp_path, refusals) as (client, gateway):
        await client.send_all(asked)
        assert await gateway.receive_some() == asked
        for piece in answer:
            await gateway.send_all(piece)
        await gateway.send_eof()
        came = b"".join([bytes(piece) async for piece in client])
        assert came == b"".join(answer)
    assert bool(refusals.take()) == (answer[-1] == WORDS and not asked.startswith(b"POST"))
