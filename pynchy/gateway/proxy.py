"""The socket that a container talks to: one per run, and its only way out.

HTTP/1.1 by h11 over trio, so that what passes is read in one place and nothing is forwarded that
was not parsed. Identity is the socket a connection came in on; the run token is compared as well.
What may pass is decided in `policy` and `body`; here is only how it passes, and how much of it:
every wait on a client has a limit, every buffer a size, every run a number of connections.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import attrs
import h11
import trio
from loguru import logger

from pynchy.gateway import body, policy
from pynchy.gateway.exchange import (
    COUNT_TOKENS,
    Headers,
    Ledger,
    RunIdentity,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamUnreachable,
)
from pynchy.gateway.policy import Head, Refusal

SOCKET: Final = "gateway.sock"
MAX_HEAD: Final = 64 << 10  # bytes of a request's head
MAX_CONNECTIONS: Final = 64  # of one run at a time; more are hung up on
MAX_CALLS: Final = 16  # model calls of one run at a time; more wait
HEAD_TIME: Final = 20.0  # seconds for a head, once its first byte is in or its connection is new
BODY_TIME: Final = 60.0  # for a body
IDLE_TIME: Final = 300.0  # between two requests of a connection
WRITE_TIME: Final = 120.0  # for a client to take what it asked for


@asynccontextmanager
async def open_gateway(
    *, upstream: Upstream, ledger: Ledger | None = None
) -> AsyncIterator[Gateway]:
    """The gateway, for the length of the block; it serves nobody until `Gateway.open_run`.

    Without a ``ledger`` nothing is counted and nothing limited.
    """
    yield Gateway(upstream, ledger)


@attrs.frozen
class Gateway:
    """What all runs share: the model API and the book of what was spent."""

    upstream: Upstream
    ledger: Ledger | None

    @asynccontextmanager
    async def open_run(
        self, who: RunIdentity, directory: Path, *, owner: tuple[int, int] | None = None
    ) -> AsyncIterator[None]:
        """Serve ``directory/gateway.sock`` for one run while the block lasts.

        The directory is made, private to ``owner`` (user and group id as the host sees them; ours
        by default). Calls under way end with the block, and the socket is gone after it. What the
        block raises comes out in an exception group: there is a nursery around it.
        """
        listener = _listen(directory, owner)
        run = _Run(who, self.upstream, self.ledger)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, run.serve, [listener])
                try:
                    yield
                finally:
                    nursery.cancel_scope.cancel("the run is over")
        finally:
            with suppress(FileNotFoundError):
                (directory / SOCKET).unlink()


def _listen(directory: Path, owner: tuple[int, int] | None) -> trio.SocketListener:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / SOCKET
    path.unlink(missing_ok=True)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.bind(str(path))
        path.chmod(0o600)
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            os.chown(path, *owner)
            os.chown(directory, *owner)
        raw.listen(MAX_CONNECTIONS)
        raw.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    except BaseException:
        raw.close()
        raise


class _Run:
    """One run's side of the gateway: its identity and its bounds."""

    def __init__(self, who: RunIdentity, upstream: Upstream, ledger: Ledger | None) -> None:
        self.who = who
        self.upstream = upstream
        self.ledger = ledger
        self.connections = 0
        self.calls = trio.CapacityLimiter(MAX_CALLS)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, from its first byte to its last."""
        async with stream:
            if self.connections >= MAX_CONNECTIONS:
                return
            self.connections += 1
            try:
                await _Connection(self, stream).serve()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client went away: its right
            except Exception as error:  # contained here, and only here: one connection's trouble
                # The type alone: a message could hold what passed through.
                logger.error(
                    "gateway: {} in a connection of run {}", type(error).__name__, self.who.run
                )
            finally:
                self.connections -= 1


class _ClientGone(Exception):
    """The client went away, or fell silent, in the middle of something."""


class _Connection:
    """HTTP/1.1 with one client: requests one after the other."""

    def __init__(self, run: _Run, stream: trio.SocketStream) -> None:
        self.run = run
        self.stream = stream
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def serve(self) -> None:
        with suppress(_ClientGone):
            while await self.one_request():
                pass

    async def one_request(self) -> bool:
        """Answer one request; whether another may follow on this connection."""
        try:
            request = await self.receive_head()
            if request is None:
                return False
            await self.answer(request)
        except h11.RemoteProtocolError as error:
            hint = error.error_status_hint
            status = hint if 400 <= hint <= 599 else 400
            await self.refuse(Refusal(status, "invalid_request_error", "this is not HTTP"))
            return False
        except Refusal as refusal:
            await self.refuse(refusal)
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    async def answer(self, request: h11.Request) -> None:
        run, who = self.run, self.run.who
        head = Head(request.method, request.target, tuple(request.headers))
        admitted = policy.admit(who, head)
        counting = admitted.path.startswith(COUNT_TOKENS)
        call = body.check(who, await self.receive_body(), counting=counting)
        outgoing = UpstreamRequest(
            admitted.path.partition("?")[0],
            admitted.path,
            admitted.headers,
            call.encode(),
            call.document,
        )
        async with run.calls:
            await self.while_connected(outgoing)

    async def while_connected(self, outgoing: UpstreamRequest) -> None:
        """Pass one call on and its answer back; a client that vanishes ends both."""
        gone = False
        refusal: Refusal | None = None

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal gone
            # More than the end may come, from a client that does not wait for its answer: h11
            # keeps it for the next round, and this much of it is enough.
            more = await self.stream.receive_some(MAX_HEAD)
            self.http.receive_data(more)
            if not more:
                gone = True
                scope.cancel("the client has gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            # Caught in here: what leaves a nursery leaves it in a group.
            try:
                await self.forward(outgoing)
            except Refusal as error:
                refusal = error
            except (_ClientGone, trio.BrokenResourceError):
                gone = True
            nursery.cancel_scope.cancel("answered")
        if gone:
            raise _ClientGone
        if refusal is not None:
            raise refusal

    async def forward(self, outgoing: UpstreamRequest) -> None:
        try:
            async with self.run.upstream.send(outgoing) as response:
                await self.send_head(response)
                async for chunk in response.chunks:
                    if chunk:
                        await self.send(h11.Data(data=chunk))
                await self.send(h11.EndOfMessage())
        except UpstreamUnreachable as error:
            if self.http.our_state is h11.SEND_BODY:
                raise _ClientGone from None  # half an answer is out: only hanging up says so
            raise Refusal(502, "api_error", str(error)) from None

    async def send_head(self, response: UpstreamResponse) -> None:
        await self.send(
            h11.Response(
                status_code=response.status,
                headers=[*_plain(response.headers), ("transfer-encoding", "chunked")],
            )
        )

    async def refuse(self, refusal: Refusal) -> None:
        """Say no, where it can still be said, and end the connection: its rest is unread."""
        if self.http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        text = refusal.body()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(text))),
            ("x-should-retry", "false"),
            ("connection", "close"),
        ]
        await self.send(h11.Response(status_code=refusal.status, headers=headers))
        await self.send(h11.Data(data=text))
        await self.send(h11.EndOfMessage())

    # --- bytes -----------------------------------------------------------------------------------

    async def receive_head(self) -> h11.Request | None:
        """The next request's head, or None if the client is done."""
        fresh = self.http.trailing_data[0] == b""
        if fresh:
            with trio.move_on_after(IDLE_TIME) as idle:
                self.http.receive_data(await self.stream.receive_some(MAX_HEAD))
            if idle.cancelled_caught:
                return None
        with trio.move_on_after(HEAD_TIME):
            event = await self.next_event()
            if isinstance(event, h11.Request):
                return event
            return None
        raise Refusal(408, "timeout_error", f"no request within {HEAD_TIME:g} seconds")

    async def receive_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        with trio.move_on_after(BODY_TIME):
            while True:
                event = await self.next_event()
                if isinstance(event, h11.EndOfMessage):
                    return b"".join(parts)
                if not isinstance(event, h11.Data):
                    raise _ClientGone
                size += len(event.data)
                if size > policy.MAX_BODY:
                    raise Refusal(413, "request_too_large", "the body is too large")
                parts.append(bytes(event.data))
        raise Refusal(408, "timeout_error", f"no whole body within {BODY_TIME:g} seconds")

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # NEED_DATA is ruled out
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.stream.receive_some(MAX_HEAD))

    async def send(self, event: h11.Event) -> None:
        data = self.http.send(event)
        if not data:
            return
        with trio.move_on_after(WRITE_TIME):
            await self.stream.send_all(data)
            return
        raise _ClientGone


def _plain(headers: Headers) -> list[tuple[str, str]]:
    """Without what belongs to the connection itself."""
    ours = {"transfer-encoding", "content-length", "connection"}
    return [(name, value) for name, value in headers if name not in ours]
