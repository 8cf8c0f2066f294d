"""Speak HTTP/1.1 with one client of the gateway: bytes into events and back, by h11 over trio.

What may pass is not decided here. Every wait on a client has a limit, and every buffer a size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import h11
import trio

from pynchy.gateway import policy
from pynchy.gateway.exchange import Headers
from pynchy.gateway.policy import Refusal
from pynchy.limits import GATEWAY
from pynchy.reader_budget import Reader

PIECE: Final = 64 << 10  # bytes that are read at a time
SMALLEST: Final = 256  # bytes of a body's pieces, on average, once they are many
HEAD_TIME: Final = GATEWAY.head_time
BODY_TIME: Final = GATEWAY.body_time
IDLE_TIME: Final = GATEWAY.idle
WRITE_TIME: Final = GATEWAY.unread
LINGER_TIME: Final = 2.0  # for a client to finish saying what is refused


class ClientGone(Exception):
    """The client disconnected, or timed out, in the middle of a request."""


class Http:
    """One HTTP/1.1 connection, as the server of it."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.reader = Reader("the request", SMALLEST)
        self._fresh = True
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=policy.MAX_HEAD)

    # --- what it is at ---------------------------------------------------------------------------

    @property
    def half_answered(self) -> bool:
        """Whether a part of an answer is out, and only hanging up can say that it is not whole."""
        return self._http.our_state is h11.SEND_BODY

    @property
    def early(self) -> bytes:
        """What came after the request."""
        return bytes(self._http.trailing_data[0])

    def start_again(self) -> bool:
        """Be ready for another request, if both sides are done with this one; False if they are not."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._fresh = False
        return True

    # --- requests --------------------------------------------------------------------------------

    async def receive_head(self) -> h11.Request | None:
        """The next request's head, or None if the client is done."""
        self.reader.start_again()
        if not self._http.trailing_data[0]:
            with trio.move_on_after(HEAD_TIME if self._fresh else IDLE_TIME) as idle:
                self._http.receive_data(bytes(await self.stream.receive_some(PIECE)))
            if idle.cancelled_caught:
                return None
        with trio.move_on_after(HEAD_TIME):
            event = await self.next_event()
            return event if isinstance(event, h11.Request) else None
        raise Refusal(408, "timeout_error", f"no request within {HEAD_TIME:g} seconds")

    async def receive_body(self, keep: Callable[[int], None]) -> bytes:
        """The whole body. ``keep`` hears of each part before more is read, and may refuse it."""
        whole = bytearray()
        with trio.move_on_after(BODY_TIME):
            while True:
                event = await self.next_event()
                if isinstance(event, h11.EndOfMessage):
                    return bytes(whole)
                if not isinstance(event, h11.Data):
                    raise ClientGone
                whole += event.data
                keep(len(event.data))
        raise Refusal(408, "timeout_error", f"no whole body within {BODY_TIME:g} seconds")

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                await self.reader.took(len(event.data) if isinstance(event, h11.Data) else 0)
                return event  # type: ignore[return-value]  # NEED_DATA is ruled out
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(bytes(await self.stream.receive_some(PIECE)))
            await self.reader.worked()

    async def has_gone(self) -> bool:
        """Wait for a client that waits for its answer; True if it disconnects, False if more comes from it.

        What comes is kept for the next request, and this much of it is enough.
        """
        with suppress(trio.BrokenResourceError):
            if more := await self.stream.receive_some(PIECE):
                self._http.receive_data(bytes(more))
                return False
        return True

    # --- answers ---------------------------------------------------------------------------------

    async def send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if not data:
            return
        with trio.move_on_after(WRITE_TIME):
            await self.stream.send_all(data)
            return
        raise ClientGone

    async def send_head(self, status: int, headers: Headers) -> None:
        await self.send(h11.Response(status_code=status, headers=list(headers)))

    async def refuse(self, refusal: Refusal) -> None:
        """Refuse, if an answer can still be sent, and close the connection."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        text = refusal.body()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(text))),
            ("connection", "close"),
        ]
        if refusal.status < 500:
            headers.append(("x-should-retry", "false"))
        unread = self._http.their_state is h11.SEND_BODY
        await self.send(
            h11.Response(status_code=refusal.status, headers=headers, reason=refusal.phrase())
        )
        await self.send(h11.Data(data=text))
        await self.send(h11.EndOfMessage())
        if unread:
            # Most clients write their body to its end before they look at the answer, and one that
            # is cut off in that never looks.
            with trio.move_on_after(LINGER_TIME):
                await self.stream.send_eof()
                while await self.stream.receive_some(PIECE):
                    await self.reader.worked()
