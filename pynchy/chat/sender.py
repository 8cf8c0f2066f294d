"""What is to be said goes out: from the outbox to the channels.

In each chat in order and one at a time; no chat waits for another, but all chats of one account
share its pace. The rule that keeps it so: the outbox has the work and its state, this loop only
carries entries to their channel and writes down what the channel said. It sleeps until something
is due or until it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NoReturn

import attrs
import trio

from pynchy.chat.channel import Channel, NotConnected, SendRefused, SendUncertain
from pynchy.logs import logger
from pynchy.model import MINUTE, SECOND, ChatId, Micros, channel_of
from pynchy.store import outbox
from pynchy.store.database import Database, Store

LANES: Final = 32  # entries of one channel on their way at once
SEND_LIMIT: Final = 2 * MINUTE  # a channel that gave no word by then gave none
LONGEST_SLEEP: Final = (
    6 * MINUTE
)  # a bit over the longest backoff: a wait beyond it is a clock's jump
DOWN_FIRST: Final = 2 * SECOND  # a channel that is not connected is tried again after this …
DOWN_LAST: Final = MINUTE  # … then after ever longer, up to this


@attrs.frozen
class Pace:
    """How fast an account may send: so many at once, then so many a second."""

    burst: int
    rate: float


async def run(
    channels: Mapping[str, Channel],
    store: Store,
    bell: trio.MemoryReceiveChannel[None],
    *,
    now: Callable[[], Micros],
    new_id: Callable[[], str],
    jitter: Callable[[], float],
    paces: Mapping[str, Pace],
    connected: trio.MemoryReceiveChannel[str] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Send what is in the outbox. Runs until cancelled.

    ``bell`` says that there may be more. ``connected`` brings the names of channels that are
    connected again, so that what waited for them need not wait for its next try. A channel that
    is not in ``paces`` is not paced. What was on its way when an earlier daemon died is uncertain
    first. A try that is cancelled here is left as it is, for the next start to find.
    """
    await store.call(outbox.recover, now=now())
    async with trio.open_nursery() as nursery:
        service = _Sender(
            channels=channels,
            store=store,
            now=now,
            new_id=new_id,
            jitter=jitter,
            buckets={name: _Bucket(pace) for name, pace in paces.items()},
            nursery=nursery,
        )
        nursery.start_soon(service.listen, bell, name="outbox bell")
        if connected is not None:
            nursery.start_soon(service.listen_for_links, connected, name="outbox links")
        task_status.started()
        await service.serve()
    raise AssertionError("unreachable")


class _Bucket:
    """Tokens of one account; who comes first is served first."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tokens = float(pace.burst)
        self._at = trio.current_time()
        self._line = trio.Lock()

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
    """What the outbox holds: given up just now, due, and when something falls due after that."""

    given_up: list[outbox.Failed]
    heads: list[outbox.Head]
    due: Micros | None


def _survey(db: Database, *, now: Micros, moment: Micros, new_id: Callable[[], str]) -> _Survey:
    return _Survey(
        given_up=outbox.expire(db, now=max(now, moment), new_id=new_id),
        heads=outbox.heads(db, now=moment),
        due=outbox.next_due(db, now=moment),
    )


@attrs.define
class _Down:
    """A channel that was not connected when it was tried."""

    until: float  # trio's time
    wait: float


@attrs.define(eq=False)
class _Sender:
    channels: Mapping[str, Channel]
    store: Store
    now: Callable[[], Micros]
    new_id: Callable[[], str]
    jitter: Callable[[], float]
    buckets: dict[str, _Bucket]
    nursery: trio.Nursery
    busy: dict[str, set[ChatId]] = attrs.field(init=False, factory=dict)
    down: dict[str, _Down] = attrs.field(init=False, factory=dict)
    told: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def listen(self, bell: trio.MemoryReceiveChannel[None]) -> None:
        async for _ in bell:
            self.told.set()

    async def listen_for_links(self, connected: trio.MemoryReceiveChannel[str]) -> None:
        async for name in connected:
            if self.down.pop(name, None) is not None:
                self.told.set()

    async def serve(self) -> NoReturn:
        moment = self.now()
        while True:
            self.told = trio.Event()  # before looking: who rings from here on is heard
            wake_at, due = await self._look(moment)
            with trio.move_on_at(wake_at) as sleep:
                await self.told.wait()
            moment = self.now()
            if sleep.cancelled_caught and due is not None:
                # Slept the whole wait: it is due, whatever a clock says that was set back.
                moment = max(moment, due)

    async def _look(self, moment: Micros) -> tuple[float, Micros | None]:
        """Start what may go. Returns until when to sleep, and what falls due then by the wall."""
        survey = await self.store.call(_survey, now=self.now(), moment=moment, new_id=self.new_id)
        for each in survey.given_up:
            self._log(each)
            self.told.set()  # there is a next one in its chat, and a line to main
        blocked: set[str] = set()
        for head in survey.heads:
            name = channel_of(head.out.chat)
            lanes = self.busy.setdefault(name, set())
            if head.out.chat in lanes or len(lanes) >= LANES:
                continue  # that lane looks again when it ends
            if name in self.down and trio.current_time() < self.down[name].until:
                blocked.add(name)
                continue
            lanes.add(head.out.chat)
            self.nursery.start_soon(self._lane, name, head, moment, name=f"outbox {head.out.chat}")
        wake_at = min((self.down[name].until for name in blocked), default=float("inf"))
        if survey.due is not None:
            wait = min((survey.due - moment) / 1_000_000, LONGEST_SLEEP)
            if trio.current_time() + wait < wake_at:
                return trio.current_time() + wait, survey.due
        return wake_at, None

    async def _lane(self, name: str, head: outbox.Head, moment: Micros) -> None:
        """One entry to its channel. Then it is time to look again."""
        try:
            channel = self.channels.get(name)
            if channel is None:
                await self._fail(head.out.id, f"there is no channel {name}")
                return
            if head.uncertain and await self._was_sent(channel, head):
                return
            if name in self.buckets:
                await self.buckets[name].take()
            await self._try(channel, head, moment)
        finally:
            self.busy[name].discard(head.out.chat)
            self.told.set()

    async def _was_sent(self, channel: Channel, head: outbox.Head) -> bool:
        known: bool | None = None
        with trio.move_on_after(SEND_LIMIT):
            known = await channel.was_sent(head.out.message_id)
        if known:
            await self.store.call(outbox.sent, head.out.id, now=self.now())
            logger.info("outbox {}: had been sent", head.out.id)
        return bool(known)

    async def _try(self, channel: Channel, head: outbox.Head, moment: Micros) -> None:
        out = await self.store.call(outbox.take, head.out.id, now=max(moment, self.now()))
        if out is None:
            return
        entry = out.id
        try:
            reason = f"no word within {SEND_LIMIT:.0f} s"
            with trio.move_on_after(SEND_LIMIT) as limit:
                await channel.send(out)
            if limit.cancelled_caught:
                await self._uncertain(entry, reason)
                return
        except NotConnected:
            await self.store.call(outbox.postponed, entry, until=self.now())
            self._mark_down(channel.name)
            return
        except SendUncertain as error:
            await self._uncertain(entry, error.reason)
            return
        except SendRefused as error:
            if error.hopeless:
                await self._fail(entry, error.reason)
                return
            await self._refused(entry, error.reason, permanent=error.permanent)
            return
        except Exception as error:  # contained here, and only here: one message's trouble
            # Perhaps it was sent, perhaps it can never be. Under its fixed id another try does no
            # harm, and as a refusal the number of tries has an end.
            logger.exception("outbox {}: the {} channel failed", entry, channel.name)
            await self._refused(entry, type(error).__name__, permanent=False)
            return
        await self.store.call(outbox.sent, entry, now=self.now())
        self.down.pop(channel.name, None)
        logger.info("outbox {}: sent by {}", entry, channel.name)

    async def _uncertain(self, entry: int, reason: str) -> None:
        failed = await self.store.call(
            outbox.uncertain,
            entry,
            reason=reason,
            now=self.now(),
            jitter=self.jitter(),
            new_id=self.new_id,
        )
        logger.warning("outbox {}: uncertain: {}", entry, reason)
        self._log(failed)

    async def _refused(self, entry: int, reason: str, *, permanent: bool) -> None:
        failed = await self.store.call(
            outbox.refused,
            entry,
            reason=reason,
            permanent=permanent,
            now=self.now(),
            jitter=self.jitter(),
            new_id=self.new_id,
        )
        logger.warning("outbox {}: refused: {}", entry, reason)
        self._log(failed)

    async def _fail(self, entry: int, reason: str) -> None:
        failed = await self.store.call(
            outbox.failed, entry, reason=reason, now=self.now(), new_id=self.new_id
        )
        self._log(failed)

    def _mark_down(self, name: str) -> None:
        """Leave a channel alone for a while; once, however many entries found it down together."""
        known = self.down.get(name)
        moment = trio.current_time()
        if known is not None and moment < known.until:
            return
        wait = DOWN_FIRST if known is None else min(2 * known.wait, DOWN_LAST)
        self.down[name] = _Down(until=moment + wait, wait=wait)
        logger.info("outbox: {} is not connected, next try in {:.0f} s", name, wait)

    @staticmethod
    def _log(failed: outbox.Failed | None) -> None:
        if failed is not None:
            logger.error("outbox {}: given up: {}", failed.id, failed.reason)
