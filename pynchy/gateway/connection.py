"""Serve one run's HTTP connections to the gateway.

What passes is read in one place (`http1`), and nothing is forwarded that was not parsed. What may pass
is decided in `policy`, `body` and `hosts`; here is only how it passes, and how much of it for each run.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import h11
import trio

from pynchy.gateway import body, egress, hosts, policy, prices
from pynchy.gateway.exchange import (
    COUNT_TOKENS,
    Ledger,
    OverBudget,
    Reserved,
    RunIdentity,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamUnreachable,
    Usage,
    Wanted,
)
from pynchy.gateway.http1 import PIECE, ClientGone, Http
from pynchy.gateway.meter import Meter
from pynchy.gateway.policy import Admitted, Head, Refusal
from pynchy.limits import GATEWAY
from pynchy.logs import logger
from pynchy.policy import failures
from pynchy.reader_budget import Reader, TooManyPieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pynchy.gateway.shared import Shared, Stream

MAX_CONNECTIONS: Final = GATEWAY.connections
COUNT_ABOVE: Final = 16_000  # tokens of input; the API may be asked to count what can be more
COUNT_TIME: Final = 15.0  # seconds for its answer
MAX_REFUSALS: Final = 32  # kinds of refusals that are told apart
PAUSE_ABOVE: Final = 1 << 20  # bytes of a body that is read in one go
SETTLE_TIME: Final = 10.0  # for a settlement that a cancel must not lose

T = TypeVar("T")


class Run:
    """A run as the gateway knows it: its identity and its limits."""

    def __init__(self, gateway: Shared, who: RunIdentity) -> None:
        self.gateway = gateway
        self.who = who
        self.outside = egress.Outside(gateway.network or egress.Internet(), gateway.way)
        self.refused: dict[str, int] = {}
        self.connections = 0
        self.buffered = 0
        self.calls = trio.CapacityLimiter(GATEWAY.calls)
        self.tunnels = trio.CapacityLimiter(GATEWAY.tunnels)
        self.large = trio.CapacityLimiter(1)  # large bodies are decoded in turn: each takes memory

    async def serve(self, stream: Stream) -> None:
        """Serve one connection from its first byte to its last."""
        async with stream:
            if self.connections >= MAX_CONNECTIONS:
                return
            self.connections += 1
            connection = _Connection(self, stream)
            try:
                await connection.serve()
            except* (ClientGone, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client went away: its right
            except* Exception as error:  # contained here, and only here: one connection's trouble
                # The types alone: a message could hold what passed through.
                logger.error("gateway: {} in a connection of run {}", _types(error), self.who.run)
            finally:
                self.connections -= 1
                self.buffered -= connection.buffered

    def saw(self, call: failures.CallResult) -> None:
        """Remember how the run's newest call of the model ended."""
        before = self.gateway.calls.get(self.who.run)
        same = before is not None and (before.kind, before.message) == (call.kind, call.message)
        if same and call.kind is not None:
            call = attrs.evolve(call, repeated=True)
        self.gateway.calls[self.who.run] = call

    def count(self, refusal: Refusal) -> None:
        """Remember what was refused for want of authority, by its words; only so many of them."""
        if refusal.closed or refusal.status in _AUTHORITY:
            known = refusal.message in self.refused or len(self.refused) < MAX_REFUSALS
            words = refusal.message if known else "other things"
            self.refused[words] = self.refused.get(words, 0) + 1


_AUTHORITY: Final = (401, 403)


def _types(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}({', '.join(_types(inner) for inner in error.exceptions)})"
    return type(error).__name__


class _Bill:
    """What a call that is passed on has used so far."""

    def __init__(self, call: body.Call, wanted: Wanted) -> None:
        self.call = call
        self.wanted = wanted
        self.meter = Meter(stream=call.stream)
        self.due = False  # nothing is, before it is sent and after it was refused
        self.began = self.heard = trio.current_time()

    def used(self) -> Usage:
        """What is settled: what the answer told, or the most that it can be."""
        if not self.due:
            return Usage()
        if self.meter.final:
            return self.meter.usage
        since = self.began if self.call.thinks else self.heard
        return self.meter.bound(
            input=self.wanted.input,
            output=self.call.max_tokens,
            seconds=trio.current_time() - since,
            searches=self.wanted.searches,
        )


class _Connection:
    """One HTTP/1.1 connection: requests are served one after the other."""

    def __init__(self, run: Run, stream: Stream) -> None:
        self.run = run
        self.http = Http(stream)
        self.buffered = 0  # bytes of bodies that this connection keeps

    async def serve(self) -> None:
        while await self.one_request():
            pass

    async def one_request(self) -> bool:
        """Answer one request; whether another may follow on this connection."""
        try:
            request = await self.http.receive_head()
            if request is None:
                return False
            head = Head(request.method, request.target, tuple(request.headers))
            policy.check_framing(head)
            if head.target.startswith(b"/"):
                await self.answer(head)
            elif head.method == b"CONNECT":
                await self.open_tunnel(head)
                return False
            else:
                await self.fetch(head)
        except h11.RemoteProtocolError as error:
            hint = error.error_status_hint
            status = hint if 400 <= hint <= 599 else 400
            await self.http.refuse(Refusal(status, "invalid_request_error", "this is not HTTP"))
            return False
        except TooManyPieces as error:
            await self.http.refuse(
                Refusal(413, "request_too_large", f"{error}; send it in one piece")
            )
            return False
        except Refusal as refusal:
            self.run.count(refusal)
            if self.http.half_answered:
                return False
            await self.http.refuse(refusal)
        return self.http.start_again()

    # --- the model -------------------------------------------------------------------------------

    async def answer(self, head: Head) -> None:
        admitted = policy.admit(self.run.who, head)
        try:
            await self.while_connected(admitted, await self.receive_call(admitted))
        finally:
            self.keep(-self.buffered)

    def keep(self, size: int) -> None:
        """Count the bytes that are kept for this run, and see that they stay bounded."""
        self.buffered += size
        self.run.buffered += size
        if size > 0 and self.run.buffered > GATEWAY.buffered:
            raise Refusal(413, "request_too_large", "too much at once; one after the other, please")
        if self.buffered > policy.MAX_BODY:
            raise Refusal(413, "request_too_large", "the body is too large")

    async def receive_call(self, admitted: Admitted) -> body.Call:
        raw = await self.http.receive_body(self.keep)
        user = self.run.gateway.user_of(self.run.who)
        counting = admitted.path == COUNT_TOKENS
        steps = body.check(self.run.who, raw, counting=counting, user=user)
        try:
            if len(raw) <= PAUSE_ABOVE:
                return await self.paced(steps, len(raw))
            async with self.run.large:
                return await self.paced(steps, len(raw))
        except Refusal as refusal:
            if refusal.closed or refusal.status in _AUTHORITY:
                self.run.saw(failures.CallResult("policy", refusal.message))
            raise

    async def paced(self, steps: body.Steps[T], size: int) -> T:
        """Take the steps, and yield to other tasks between them."""
        while True:
            try:
                next(steps)
            except StopIteration as done:
                result: T = done.value
                return result
            await self.http.reader.worked(size)

    async def while_connected(self, admitted: Admitted, call: body.Call) -> None:
        """Pass one call on and its answer back; if the client disconnects, both end."""
        refusal: Refusal | None = None

        async def watch(scope: trio.CancelScope) -> None:
            if await self.http.has_gone():
                scope.cancel("the client has gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            # Caught in here: what leaves a nursery leaves it in a group.
            try:
                async with self.run.calls:
                    await self.pass_on(admitted, call)
            except Refusal as error:
                refusal = error
            except (ClientGone, trio.BrokenResourceError):
                pass  # the answer is not whole, and so the connection ends
            nursery.cancel_scope.cancel("answered")
        if refusal is not None:
            raise refusal

    async def pass_on(self, admitted: Admitted, call: body.Call) -> None:
        """Reserve, pass on, settle: by the usage that the answer reports, else by its upper bound."""
        gateway = self.run.gateway
        encoded = await self.paced(call.encode(), self.buffered)
        window = prices.window_of(call.model, admitted.betas)
        wanted = Wanted(
            call.model,
            call.most_input(len(encoded), window=window),
            call.max_tokens,
            gateway.upstream.free,
            call.contents.searches,
        )
        if gateway.ledger is None or not call.max_tokens:
            await self.forward(admitted, encoded, _Bill(call, wanted))
            return
        reserved, wanted = await self.reserve(gateway.ledger, admitted, call, wanted)
        bill = _Bill(call, wanted)
        try:
            if reserved.output < call.max_tokens:
                bill.call = call.affording(reserved.output)
                encoded = await self.paced(bill.call.encode(), self.buffered)
            await self.forward(admitted, encoded, bill)
        finally:
            with trio.move_on_after(SETTLE_TIME, shield=True):
                await gateway.ledger.settle(reserved, bill.used())

    async def forward(self, admitted: Admitted, encoded: bytes, bill: _Bill) -> None:
        """Send a call on and its answer back; raises `Refusal` where none comes."""
        call = bill.call
        outgoing = UpstreamRequest(
            admitted.path, admitted.target, admitted.headers, encoded, call.document
        )
        await self.run.gateway.upstream.prepare()
        # The last moment at which it costs nothing.
        await trio.lowlevel.checkpoint_if_cancelled()
        bill.due = True
        try:
            async with self.run.gateway.upstream.send(outgoing) as response:
                if isinstance(response, UpstreamFailure):
                    bill.due = False
                    if call.contents.searches and self.run.gateway.searching is not None:
                        self.run.gateway.searching.saw(response.status, response.body)
                    await self.pass_failure(response)
                else:
                    await self.pass_answer(response, bill, counting=admitted.path == COUNT_TOKENS)
        except UpstreamUnreachable as error:
            if error.refused:
                bill.due = False
            whole = not call.stream and self.http.half_answered  # it was written
            bought = bill.meter.answered or whole
            self.run.saw(failures.CallResult("outage", str(error), bought=bought))
            raise Refusal(502, "api_error", str(error)) from None

    async def pass_answer(self, response: UpstreamResponse, bill: _Bill, *, counting: bool) -> None:
        """Pass an answer on as it comes, and read from it what it cost."""
        meter, reader = bill.meter, Reader("the model API's answer")
        if not counting:
            self.run.saw(failures.CallResult(whole=False))
        await self.http.send_head(response.status, response.headers)
        async for chunk in response.chunks:
            await reader.took(len(chunk))
            meter.feed(chunk)
            bill.heard = trio.current_time()
            if chunk:
                await self.http.send(h11.Data(data=chunk))
        meter.end()
        if not counting:
            self.run.saw(self._ended(meter))
        await self.http.send(h11.EndOfMessage())

    def _ended(self, meter: Meter) -> failures.CallResult:
        """What a complete answer means."""
        if meter.error is not None:
            now = self.run.gateway.clock()
            return failures.of_event(meter.error, bought=meter.answered, now=now)
        if not meter.answered:
            return failures.CallResult(
                "outage", "what answers at model.base_url is not the model API, or says nothing"
            )
        return failures.CallResult()

    async def reserve(
        self, ledger: Ledger, admitted: Admitted, call: body.Call, wanted: Wanted
    ) -> tuple[Reserved, Wanted]:
        """Reserve for the most that the call can come to; raises `Refusal` where a budget does not pay for it.

        That most is far above what most calls come to. So where a budget does not pay for all of it, the
        API is asked for a count first, which costs nothing.
        """
        countable = wanted.input > COUNT_ABOVE and not call.contents.fetched
        given = await self.book(ledger, attrs.evolve(wanted, whole=countable))
        if countable and isinstance(given, OverBudget):
            if (told := await self.count_tokens(admitted, call)) is not None:
                window = prices.window_of(call.model, admitted.betas)
                counted = call.counted_input(told, window=window)
                wanted = attrs.evolve(wanted, input=min(wanted.input, counted))
            given = await self.book(ledger, wanted)
        if isinstance(given, OverBudget):
            self.run.saw(failures.of_budget(given.period, given.reason))
            await self.run.gateway.over_budget(self.run.who, given)
            raise Refusal(402, "billing_error", given.reason)
        return given, wanted

    async def book(self, ledger: Ledger, wanted: Wanted) -> Reserved | OverBudget:
        # Shielded, for the store's bounded time: a client that goes away now would leave a
        # reservation that nobody knows of, and so one that stands.
        with trio.CancelScope(shield=True):
            return await ledger.reserve(self.run.who, wanted)
        raise AssertionError("nobody cancels this scope")

    async def count_tokens(self, admitted: Admitted, call: body.Call) -> int | None:
        """The API's count of a call's input tokens; None if it does not say."""
        asked = call.to_count()
        encoded = await self.paced(asked.encode(), self.buffered)
        outgoing = UpstreamRequest(
            COUNT_TOKENS, COUNT_TOKENS, admitted.headers, encoded, asked.document
        )
        told: int | None = None
        with trio.move_on_after(COUNT_TIME), suppress(UpstreamUnreachable):
            async with self.run.gateway.upstream.send(outgoing) as response:
                if isinstance(response, UpstreamResponse):
                    told = body.counted(await self.short(response.chunks))
        return told

    async def short(self, chunks: AsyncIterator[bytes]) -> bytes:
        """An answer that is worth reading if it is short; its beginning if not."""
        answer = bytearray()
        reader = Reader("a count of tokens")
        async for chunk in chunks:
            await reader.took(len(chunk))
            answer += chunk
            if len(answer) > PIECE:
                break
        return bytes(answer)

    async def pass_failure(self, failure: UpstreamFailure) -> None:
        """Pass on an answer that is an error, once it is known what it means: only an outage, and a limit that is
        over in a moment, are worth the client's own tries."""
        now = self.run.gateway.clock()
        call = failures.of_answer(failure.status, failure.headers, failure.body, now=now)
        self.run.saw(call)
        headers = failure.headers
        if not failures.worth_another_try_at_once(call, now=now):
            headers = (
                *(pair for pair in headers if pair[0] != "x-should-retry"),
                ("x-should-retry", "false"),
            )
        await self.http.send_head(failure.status, headers)
        if failure.body:
            await self.http.send(h11.Data(data=failure.body))
        await self.http.send(h11.EndOfMessage())

    # --- the network -----------------------------------------------------------------------------

    async def open_tunnel(self, head: Head) -> None:
        run = self.run
        to = hosts.parse_authority(head.target)
        async with run.tunnels:
            remote = await egress.connect(run.who, run.outside, to)
            async with remote:
                await self.http.next_event()  # the end of the request: CONNECT has no body
                await self.http.send(h11.Response(status_code=200, headers=[]))
                await egress.tunnel(run.who, to, self.http.stream, remote, self.http.early)

    async def fetch(self, head: Head) -> None:
        run = self.run
        async with run.tunnels:
            await egress.fetch(
                run.who, run.outside, head, receive=self.http.next_event, send=self.http.send
            )
