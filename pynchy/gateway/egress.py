"""Outgoing network connections (CONNECT and plain HTTP) for groups that are allowed them.

A name is looked up once, here on the host, and the connection goes to an address that was looked
at. A tunnel carries TLS that names the host it was opened for, and nothing else. Every connection
leaves a line in the log with its group, host and bytes.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs
import h11
import trio

from pynchy.gateway import hosts
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.hello import server_name
from pynchy.gateway.hosts import Destination
from pynchy.gateway.outer_proxy import dial_proxy, open_tunnel
from pynchy.gateway.policy import Head, Refusal
from pynchy.gateway.way import DIRECT, Way
from pynchy.limits import GATEWAY
from pynchy.logs import logger
from pynchy.reader_budget import Reader, TooManyPieces

HELLO_TIME: Final = 10.0
LOOK_UP: Final = (
    2.0  # seconds for a name that a proxy looks up too: behind one there may be no name server
)
IDLE_TIME: Final = GATEWAY.idle
ADDRESSES: Final = 4  # of one name that are tried
HELLO_PIECES: Final = 64  # reads in which a whole hello has come
SMALLEST: Final = 16  # bytes of what comes through, on average, piece by piece
_PIECE: Final = 64 << 10

Stream = trio.abc.HalfCloseableStream
Receive = Callable[[], Awaitable[h11.Event | type[h11.PAUSED]]]
Send = Callable[[h11.Event], Awaitable[None]]


class Network(Protocol):
    """The outside, as far as egress needs it."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a name; none if it has none."""
        ...

    async def dial(self, address: str, port: int) -> Stream:
        """Connect to an address; raises OSError."""
        ...


class Internet:
    """The real `Network`."""

    def __init__(self, *, lookups: int = 8) -> None:
        # Lookups of its own: a name server that hangs must not keep others' threads.
        self._limiter = trio.CapacityLimiter(lookups)

    async def resolve(self, host: str, port: int) -> list[str]:
        def look_up() -> list[str]:
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError:
                return []
            return [str(entry[4][0]) for entry in found]

        return await trio.to_thread.run_sync(look_up, limiter=self._limiter, abandon_on_cancel=True)

    async def dial(self, address: str, port: int) -> Stream:
        return await trio.open_tcp_stream(address, port)


@attrs.frozen
class Outside:
    """The internet and the way there."""

    network: Network = attrs.field(factory=Internet)
    way: Way = DIRECT


async def connect(
    who: RunIdentity, outside: Outside, to: Destination, *, tunnel: bool = True
) -> Stream:
    """Open a connection that ``who`` is allowed; raises `Refusal`. Where a proxy is on the way and no ``tunnel`` is
    wanted, it is one to the proxy.

    A proxy looks the name up again. So what it leads to is the proxy's to refuse; but a name that already here leads
    inside goes no further, and one that is not known here may be known there.
    """
    hosts.check_destination(who.egress, to)
    network, way = outside.network, outside.way
    proxy = way.proxy_for(to.host)
    addresses: list[str] = []
    with trio.move_on_after(LOOK_UP if proxy else GATEWAY.dial):
        addresses = await network.resolve(to.host, to.port)
    if proxy:
        if addresses:
            hosts.check_addresses(to, addresses)
        return await (open_tunnel(way, proxy, to) if tunnel else dial_proxy(way, proxy))
    for address in hosts.check_addresses(to, addresses)[:ADDRESSES]:
        with trio.move_on_after(GATEWAY.dial):
            try:
                return await network.dial(address, to.port)
            except OSError:
                continue
    raise Refusal(502, "api_error", f"{to.host} does not answer")


@contextmanager
def _logged(who: RunIdentity, to: Destination) -> Iterator[Counter[str]]:
    """Count the bytes "sent" and "received" while the block lasts, and leave a line in the log."""
    passed = Counter[str]()
    try:
        yield passed
    finally:
        logger.info(
            "egress: {} {}:{} sent {} received {} bytes",
            who.group,
            to.host,
            to.port,
            passed["sent"],
            passed["received"],
        )


async def tunnel(
    who: RunIdentity,
    to: Destination,
    client: Stream,
    remote: Stream,
    early: bytes,
) -> None:
    """Relay TLS between both sides until they are done. ``early`` is data that the client already sent.

    Raises `Refusal`; the client only sees a closed connection, since TLS has begun for it.
    """
    with _logged(who, to) as passed:
        if hello := await _hello(to, client, early):
            await _both_ways(who, to, client, remote, hello, passed)


async def _hello(to: Destination, client: trio.abc.ReceiveStream, early: bytes) -> bytes:
    """What the client begins with, once that names the host it asked for; nothing if it leaves or is too slow."""
    hello = bytearray(early)
    pieces = 0
    with trio.move_on_after(HELLO_TIME):
        while (name := server_name(bytes(hello))) is None:
            if not (more := await client.receive_some(_PIECE)):
                return b""
            hello += more
            pieces += 1
            if pieces > HELLO_PIECES:
                raise Refusal(403, "permission_error", "TLS that begins in too many pieces")
        if name != to.host:
            words = f"a tunnel to {to.host} was used for another host"
            raise Refusal(403, "permission_error", words)
        return bytes(hello)
    return b""


async def _both_ways(
    who: RunIdentity,
    to: Destination,
    client: Stream,
    remote: Stream,
    hello: bytes,
    passed: Counter[str],
) -> None:
    with trio.CancelScope(deadline=trio.current_time() + IDLE_TIME) as scope:
        await remote.send_all(hello)
        passed["sent"] += len(hello)

        async def carry(source: Stream, sink: Stream, way: str) -> None:
            reader = Reader(f"the tunnel to {to.host}", SMALLEST)
            try:
                while piece := await source.receive_some(_PIECE):
                    await reader.took(len(piece))
                    scope.deadline = trio.current_time() + IDLE_TIME
                    await sink.send_all(piece)
                    passed[way] += len(piece)
                await sink.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                scope.cancel("one side broke off")
            except TooManyPieces as error:
                logger.warning("egress: {}: {}", who.group, error)
                scope.cancel(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry, client, remote, "sent")
            nursery.start_soon(carry, remote, client, "received")


# What belongs to one connection, or is meant for us.
_HOP: Final = frozenset({
    b"connection",
    b"host",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
})  # fmt: skip


async def fetch(
    who: RunIdentity,
    outside: Outside,
    head: Head,
    *,
    receive: Receive,
    send: Send,
) -> None:
    """Pass one plain-HTTP request on and its answer back; raises `Refusal` before it began."""
    to, path = hosts.parse_url(head.target)
    remote = await connect(who, outside, to, tunnel=False)
    token = who.token.encode()
    named = b",".join(head.values(b"connection")).lower()
    hop = _HOP | ({name.strip() for name in named.split(b",")} - {b"content-length"})
    headers = [
        (name, value) for name, value in head.headers if name not in hop and token not in value
    ]
    if head.values(b"transfer-encoding"):
        headers.append((b"transfer-encoding", b"chunked"))
    host = to.host if to.port == 80 else f"{to.host}:{to.port}"
    headers = [(b"host", host.encode()), *headers, (b"connection", b"close")]
    target = b"http://" + host.encode() + path if outside.way.proxy_for(to.host) else path
    request = h11.Request(method=head.method, target=target, headers=headers)
    http = h11.Connection(h11.CLIENT)
    try:
        with _logged(who, to) as passed:
            async with remote:
                with trio.fail_after(IDLE_TIME):
                    await _give(http, remote, request)
                while isinstance(event := await receive(), h11.Data):
                    passed["sent"] += len(event.data)
                    await _give(http, remote, event)
                if isinstance(event, h11.EndOfMessage):
                    await _give(http, remote, h11.EndOfMessage())
                    await _pass_back(
                        http, remote, send, passed, Reader(f"the answer of {to.host}", SMALLEST)
                    )
    except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError) as error:
        raise Refusal(502, "api_error", f"{to.host} broke off ({type(error).__name__})") from None
    except TooManyPieces as error:
        raise Refusal(502, "api_error", str(error)) from None


async def _pass_back(
    http: h11.Connection,
    remote: trio.abc.ReceiveStream,
    send: Send,
    passed: Counter[str],
    reader: Reader,
) -> None:
    while True:
        with trio.fail_after(IDLE_TIME):
            answer = await _take(http, remote)
        match answer:
            case h11.InformationalResponse():
                pass
            case h11.Response():
                kept = [pair for pair in answer.headers if pair[0] not in _HOP]
                await send(
                    h11.Response(status_code=answer.status_code, headers=kept, reason=answer.reason)
                )
            case h11.Data():
                await reader.took(len(answer.data))
                passed["received"] += len(answer.data)
                await send(h11.Data(data=bytes(answer.data)))
            case h11.EndOfMessage():
                await send(h11.EndOfMessage())
                return
            case _:
                return


async def _give(http: h11.Connection, remote: trio.abc.SendStream, event: h11.Event) -> None:
    data = http.send(event)
    if data:
        await remote.send_all(data)


async def _take(
    http: h11.Connection, remote: trio.abc.ReceiveStream
) -> h11.Event | type[h11.PAUSED]:
    while True:
        event = http.next_event()
        if event is not h11.NEED_DATA:
            return event  # type: ignore[return-value]  # NEED_DATA is ruled out
        http.receive_data(bytes(await remote.receive_some(_PIECE)))
