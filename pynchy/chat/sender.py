"""Send what is in the outbox to the channels.

In each chat in order and one at a time; no chat waits for another, but all chats of one account
share its pace. The rule that keeps it so: the outbox has the work and its state, this loop only
carries entries to their channel and writes down what the channel said. It sleeps until something
is due or until it is told. Only a run's answer may take a shorter way: where nothing is in front of it, its
commit takes it, too, and it is handed over here (`Sender.free`, `Sender.carry`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import attrs
import trio

from pynchy.chat.channel import Channel, NotConnected, SendRefused, SendUncertain
from pynchy.limits import SENDING
from pynchy.logs import logger
from pynchy.model import MINUTE, SECOND, ChatId, Micros, Outgoing, channel_of
from pynchy.store import outbox
from pynchy.store.database import Store, Tx

LANES: Final = 32  # entries of one channel on their way at once
LONGEST_SLEEP: Final = (
    6 * MINUTE
)  # a bit over the longest backoff: a wait beyond it is a clock's jump
DOWN_FIRST: Final = 2 * SECOND  # a channel that is not connected is tried again after this …
DOWN_LAST: Final = MINUTE  # … then after ever longer, up to this


@attrs.frozen
class Pace:
    """How fast an account may send: a burst, then a rate."""

    burst: int
    rate: float


class _Bucket:
    """The token bucket of one account; first come, first served."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tokens = float(pace.burst)
        self._at = trio.current_time()
        self._line = trio.Lock()

    def ready(self) -> bool:
        """Whether `take` would take at once."""
        self._refill()
        return self._tokens >= 1.0 and not self._line.locked()

    async def take(self) -> None:
        async with self._line:
            self._refill()
            if self._tokens < 1.0:
                await trio.sleep((1.0 - self._tokens) / self._pace.rate)
                self._refill()
            self._tokens = max(0.0, self._tokens - 1.0)

    def _refill(self) -> None:
        moment = trio.current_time()
        self._tokens += (moment - self._at) * self._pace.rate
        self._tokens = min(self._tokens, float(self._pace.burst))
        self._at = moment


@attrs.frozen
class _Survey:
    """The state of the outbox: entries given up just now, entries due, and when the next falls due."""

    given_up: list[outbox.Failed]
    heads: list[outbox.Head]
    due: Micros | None


def _take(tx: Tx, entry: int, moment: Micros) -> Outgoing | None:
    """Take an entry that was due at ``moment``, as the clock may have been set back since."""
    return outbox.take(tx.at(max(moment, tx.now)), entry)


def _survey(tx: Tx, *, moment: Micros) -> _Survey:
    return _Survey(
        given_up=outbox.expire(tx.at(max(tx.now, moment))),
        heads=outbox.heads(tx.at(moment)),
        due=outbox.next_due(tx.at(moment)),
    )


@attrs.define
class _Down:
    """A channel that was not connected at the last try."""

    until: float  # trio's time
    wait: float


@attrs.define(eq=False)
class Sender:
    """Sends what is in the outbox, while it runs.

    ``connected`` brings the names of channels that are connected again, so that what waited for them need not wait
    for its next try. A channel that is not in ``paces`` is not paced.
    """

    _channels: Mapping[str, Channel]
    _store: Store
    _now: Callable[[], Micros]
    _jitter: Callable[[], float]
    _paces: Mapping[str, Pace]
    _connected: trio.MemoryReceiveChannel[str] | None = None
    _buckets: dict[str, _Bucket] = attrs.field(init=False)
    _busy: defaultdict[str, set[ChatId]] = attrs.field(init=False, factory=lambda: defaultdict(set))
    _down: dict[str, _Down] = attrs.field(init=False, factory=dict)
    _told: trio.Event = attrs.field(init=False, factory=trio.Event)
    _nursery: trio.Nursery | None = attrs.field(init=False, default=None)  # while it runs

    def __attrs_post_init__(self) -> None:
        self._buckets = {name: _Bucket(pace) for name, pace in self._paces.items()}

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Runs until cancelled. A cancelled try stays "in flight", for the next start to recover."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                if self._connected is not None:
                    nursery.start_soon(self._listen, self._connected, name="outbox links")
                task_status.started()
                await self._serve(nursery)
            finally:
                self._nursery = None
        raise AssertionError("unreachable")

    def ring(self) -> None:
        """Look again: there may be more to send."""
        self._told.set()

    def free(self, chat: ChatId) -> bool:
        """Whether an entry of this chat could go at once, as far as is known here: whoever enqueues one may take it
        in the same transaction then (`outbox.take`), and hand it to `carry`."""
        name = channel_of(chat)
        return (
            self._nursery is not None
            and name in self._channels
            and not self._has_no_lane(name, chat)
            and name not in self._down
            and (name not in self._buckets or self._buckets[name].ready())
        )

    def carry(self, out: Outgoing) -> None:
        """Send an entry that was taken for it."""
        if self._nursery is None:
            return  # as if its try had been cancelled: the next start finds it
        name = channel_of(out.chat)
        self._busy[name].add(out.chat)
        self._nursery.start_soon(self._carried, name, out, name=f"outbox {out.chat}")

    async def _listen(self, connected: trio.MemoryReceiveChannel[str]) -> None:
        async for name in connected:
            if self._down.pop(name, None) is not None:
                self._told.set()

    async def _serve(self, nursery: trio.Nursery) -> NoReturn:
        moment = self._now()
        while True:
            self._told = trio.Event()  # before looking: who rings from here on is heard
            wake_at, due = await self._look(moment, nursery)
            with trio.move_on_at(wake_at) as sleep:
                await self._told.wait()
            moment = self._now()
            if sleep.cancelled_caught and due is not None:
                # Slept the whole wait: it is due, whatever a clock says that was set back.
                moment = max(moment, due)

    async def _look(self, moment: Micros, nursery: trio.Nursery) -> tuple[float, Micros | None]:
        """Start sending what may go. Returns when to wake up, on trio's clock and on the wall clock."""
        survey = await self._store.call(_survey, moment=moment)
        for each in survey.given_up:
            self._log(each)
            self._told.set()  # there is a next one in its chat, and a line to main
        blocked: set[str] = set()
        for head in survey.heads:
            name = channel_of(head.out.chat)
            if self._has_no_lane(name, head.out.chat):
                continue  # that lane looks again when it ends
            if name in self._down and trio.current_time() < self._down[name].until:
                blocked.add(name)
                continue
            self._busy[name].add(head.out.chat)
            nursery.start_soon(self._lane, name, head, moment, name=f"outbox {head.out.chat}")
        wake_at = min((self._down[name].until for name in blocked), default=float("inf"))
        if survey.due is not None:
            wait = min((survey.due - moment) / 1_000_000, LONGEST_SLEEP)
            if trio.current_time() + wait < wake_at:
                return trio.current_time() + wait, survey.due
        return wake_at, None

    def _has_no_lane(self, name: str, chat: ChatId) -> bool:
        """Whether an entry must wait for one that is being sent."""
        lanes = self._busy[name]
        return chat in lanes or len(lanes) >= LANES

    async def _lane(self, name: str, head: outbox.Head, moment: Micros) -> None:
        """Send one entry, then look again."""
        with self._in_lane(name, head.out.chat):
            channel = self._channels.get(name)
            if channel is None:
                await self._record(outbox.failed, head.out.id, f"there is no channel {name}")
                return
            if head.uncertain and await self._was_sent(channel, head):
                return
            await self._pace(name)
            out = await self._store.call(_take, head.out.id, moment)
            if out is not None:
                await self._try(channel, out)

    async def _carried(self, name: str, out: Outgoing) -> None:
        """Send one entry that is already taken."""
        with self._in_lane(name, out.chat):
            await self._pace(name)
            await self._try(self._channels[name], out)

    @contextmanager
    def _in_lane(self, name: str, chat: ChatId) -> Iterator[None]:
        try:
            yield
        finally:
            self._busy[name].discard(chat)
            self._told.set()

    async def _was_sent(self, channel: Channel, head: outbox.Head) -> bool:
        known: bool | None = None
        with trio.move_on_after(SENDING.silent):
            known = await channel.was_sent(head.out.message_id)
        if known:
            await self._store.call(outbox.sent, head.out.id)
            logger.info("outbox {}: had been sent", head.out.id)
        return bool(known)

    async def _pace(self, name: str) -> None:
        if name in self._buckets:
            await self._buckets[name].take()

    async def _try(self, channel: Channel, out: Outgoing) -> None:
        entry = out.id
        try:
            with trio.move_on_after(SENDING.silent) as limit:
                await channel.send(out)
            if limit.cancelled_caught:
                raise SendUncertain(f"no word within {SENDING.silent:.0f} s")
        except NotConnected:
            await self._store.call(outbox.postponed, entry, until=self._now())
            self._mark_down(channel.name)
        except SendUncertain as error:
            logger.warning("outbox {}: uncertain: {}", entry, error.reason)
            await self._record(outbox.uncertain, entry, error.reason, jitter=self._jitter())
        except SendRefused as error:
            if error.hopeless:
                await self._record(outbox.failed, entry, error.reason)
            else:
                await self._refused(entry, error.reason, permanent=error.permanent)
        except Exception as error:  # contained here, and only here: one message's trouble
            # Perhaps it was sent, perhaps it can never be. Under its fixed id another try does no
            # harm, and as a refusal the number of tries has an end.
            logger.exception("outbox {}: the {} channel failed", entry, channel.name)
            await self._refused(entry, type(error).__name__, permanent=False)
        else:
            await self._store.call(outbox.sent, entry)
            self._down.pop(channel.name, None)
            logger.info("outbox {}: sent by {}", entry, channel.name)

    async def _refused(self, entry: int, reason: str, *, permanent: bool) -> None:
        logger.warning("outbox {}: refused: {}", entry, reason)
        jitter = self._jitter()
        await self._record(outbox.refused, entry, reason, permanent=permanent, jitter=jitter)

    async def _record(
        self, what: Callable[..., outbox.Failed | None], entry: int, reason: str, **how: Any
    ) -> None:
        """Write down how a try ended, and log it if it was the last."""
        self._log(await self._store.call(what, entry, reason=reason, **how))

    def _mark_down(self, name: str) -> None:
        """Pause a channel for a while; once, even if several entries found it down."""
        known = self._down.get(name)
        moment = trio.current_time()
        if known is not None and moment < known.until:
            return
        wait = DOWN_FIRST if known is None else min(2 * known.wait, DOWN_LAST)
        self._down[name] = _Down(until=moment + wait, wait=wait)
        logger.info("outbox: {} is not connected, next try in {:.0f} s", name, wait)

    @staticmethod
    def _log(failed: outbox.Failed | None) -> None:
        if failed is not None:
            logger.error("outbox {}: given up: {}", failed.id, failed.reason)
