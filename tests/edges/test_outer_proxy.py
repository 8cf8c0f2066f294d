"""The proxy of the owner's on the way to the internet: what it may answer, in clear and in TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from pynchy.gateway.egress import Outside, connect
from pynchy.gateway.hosts import Destination
from pynchy.gateway.outer_proxy import refuses
from pynchy.gateway.policy import Refusal
from pynchy.gateway.way import Way
from pynchy.policy.allowance import Egress
from tests.edges.gateway_world import WHO

TO = Destination("www.example.org", 443)
PUBLIC = attrs.evolve(WHO, egress=Egress("public"))
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Nowhere:
    """A network without a name server, and without hosts."""

    async def resolve(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return []

    async def dial(self, address: str, port: int) -> trio.abc.HalfCloseableStream:
        raise AssertionError("dialled past the proxy")


@asynccontextmanager
async def proxy(
    answer: bytes, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy on loopback that answers each request with this, and then with what it is sent."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        inside: trio.abc.Stream = stream
        if tls is not None:
            inside = trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            async with inside:
                asked.append(bytes(await inside.receive_some()))
                await inside.send_all(answer)
                while answer == OPEN and (piece := await inside.receive_some()):
                    await inside.send_all(piece)

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        with trio.fail_after(20):
            yield listeners[0].socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_tunnel_is_opened_by_name(tmp_path: Path, scheme: str) -> None:
    ca_file, tls = None, None
    if scheme == "https":
        authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
        ca_file = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(ca_file))
    async with proxy(OPEN, tls) as (port, asked):
        way = Way(f"{scheme}://localhost:{port}", ca_file)
        async with await connect(PUBLIC, Outside(Nowhere(), way), TO) as stream:
            await stream.send_all(b"to and fro")
            assert await stream.receive_some() == b"to and fro"
            await stream.send_eof()
    assert asked == [b"CONNECT www.example.org:443 HTTP/1.1\r\nhost: www.example.org:443\r\n\r\n"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 403 Blocked by policy\r\n\r\n",
            "refuses www.example.org:443: 403 Blocked by policy",
        ),
        (b"HTTP/1.1 403 X\r\ncontent-length: 5\r\n\r\nnever", "refuses www.example.org:443: 403 X"),
        (
            b"HTTP/1.1 407 Who are you\r\n\r\n",
            "lets nobody to www.example.org:443 without a password",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nwho speaks first?", "gives no answer for www.example.org"),
        (b"SSH-2.0-x\r\n", "gives no answer for www.example.org"),
        (b"", "gives no answer for www.example.org"),
    ],
)
async def test_what_a_proxy_refuses_is_said(answer: bytes, words: str) -> None:
    async with proxy(answer) as (port, _):
        way = Way(f"http://127.0.0.1:{port}")
        with pytest.raises(Refusal) as caught:
            await connect(PUBLIC, Outside(Nowhere(), way), TO)
    assert words in caught.value.message
    assert "gateway.proxy" in caught.value.message
    assert caught.value.status == 502


async def test_what_a_group_may_not_reach_is_not_asked_of_the_proxy() -> None:
    async with proxy(OPEN) as (port, asked):
        outside = Outside(Nowhere(), Way(f"http://127.0.0.1:{port}"))
        for egress in (Egress("none"), Egress("allowlist", ("example.org",))):
            with pytest.raises(Refusal, match=r"egress is none|list of hosts"):
                await connect(attrs.evolve(WHO, egress=egress), outside, TO)
    assert asked == []


@pytest.mark.parametrize(
    ("answer", "no"),
    [(b"HTTP/1.1 403 X\r\n\r\n", True), (b"HTTP/1.1 503 X\r\n\r\n", False), (OPEN, False)],
)
async def test_a_proxy_refuses_or_tries(answer: bytes, no: bool) -> None:
    async with proxy(answer) as (port, _):
        way = Way(f"http://127.0.0.1:{port}")
        assert await refuses(way, way.proxy, Destination("10.0.0.1", 443)) is no
