"""Reach hosts through the HTTP proxy that stands between this machine and the internet.

It is asked for a host by its name, and looks the name up by itself: what the name leads to there is the proxy's to
decide.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import attrs
import h11
import trio

from pynchy.gateway.hosts import Destination
from pynchy.gateway.policy import MAX_HEAD, Refusal
from pynchy.gateway.way import Way
from pynchy.limits import GATEWAY

Stream = trio.abc.HalfCloseableStream
TRIED: Final = 5.0  # seconds after which a proxy that has not refused a host is taken to try it
_PIECE: Final = 64 << 10


async def dial_proxy(way: Way, proxy: str) -> Stream:
    """A connection to the proxy itself; raises `Refusal`."""
    url = urlsplit(proxy)
    host, tls = url.hostname or "", url.scheme == "https"
    try:
        with trio.fail_after(GATEWAY.dial):
            stream = await trio.open_tcp_stream(host, url.port or (443 if tls else 80))
            return await _with_tls(stream, host, way) if tls else stream
    except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
        words = f"the proxy (gateway.proxy) does not answer: {type(error).__name__}"
        raise Refusal(502, "api_error", words) from None


async def _with_tls(stream: trio.SocketStream, host: str, way: Way) -> Stream:
    context = await trio.to_thread.run_sync(_context, way)  # some 20 ms: reads all certificates
    secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    await secure.do_handshake()
    return _Encrypted(secure)


def _context(way: Way) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=way.ca_file and str(way.ca_file))
    # Or the keys of our connections are written into the file that SSLKEYLOGFILE names.
    context.keylog_filename = None  # type: ignore[assignment]  # None is what it is without one
    return context


async def open_tunnel(way: Way, proxy: str, to: Destination) -> Stream:
    """A connection to a host through the proxy; raises `Refusal` where that opens none."""
    stream = await dial_proxy(way, proxy)
    try:
        status, reason = await ask(stream, to)
        if not 200 <= status <= 299:
            raise Refusal(502, "api_error", _why_not(status, reason, to))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def refuses(way: Way, proxy: str, to: Destination) -> bool:
    """Whether the proxy says no to a host; False if it tries to reach it. Raises `Refusal` if it does not answer us."""
    stream = await dial_proxy(way, proxy)
    try:
        with trio.move_on_after(TRIED):
            status, _ = await ask(stream, to)
            return 400 <= status <= 499
        return False
    finally:
        await trio.aclose_forcefully(stream)


async def ask(stream: Stream, to: Destination) -> tuple[int, str]:
    """Ask the proxy for a tunnel: the status and the reason of its answer; raises `Refusal` if there is none."""
    try:
        with trio.fail_after(GATEWAY.dial):
            return await _ask(stream, f"{to.host}:{to.port}")
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
        words = f"the proxy (gateway.proxy) gives no answer for {to.host}: {type(error).__name__}"
        raise Refusal(502, "api_error", words) from None


async def _ask(stream: Stream, target: str) -> tuple[int, str]:
    """Ask for a tunnel: the status and the reason of the answer."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    asked = h11.Request(method="CONNECT", target=target, headers=[("host", target)])
    await stream.send_all(http.send(asked) or b"")
    await stream.send_all(http.send(h11.EndOfMessage()) or b"")
    while True:
        event = http.next_event()
        if isinstance(event, h11.Response):
            if event.status_code < 300 and http.trailing_data[0]:  # TLS is begun by who asked
                raise h11.RemoteProtocolError("data before TLS has begun")
            return event.status_code, event.reason.decode("latin-1")
        if event is h11.NEED_DATA:
            http.receive_data(bytes(await stream.receive_some(_PIECE)))
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("no answer")


def _why_not(status: int, reason: str, to: Destination) -> str:
    where = f"{to.host}:{to.port}"
    if status == 407:
        return f"the proxy (gateway.proxy) lets nobody to {where} without a password"
    return f"the proxy (gateway.proxy) refuses {where}: {status} {reason}".rstrip()


@attrs.frozen(eq=False)
class _Encrypted(trio.abc.HalfCloseableStream):
    """TLS as a stream whose ends close one after the other, as those of a tunnel do."""

    stream: trio.SSLStream[trio.SocketStream]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        """TLS has no half of a connection to close: the other side learns of it when all is closed."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await self.stream.aclose()
