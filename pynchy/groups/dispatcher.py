"""Feed events to the queue and carry out its decisions.

Its law: **it awaits nothing but its inbox.** Runs are started through a function that returns at
once, bells are rung without waiting, timers are a deadline on the next receive. So a run that
reports back can never wait for a dispatcher that waits for a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import attrs
import trio

from pynchy.groups.queue import (
    Arrived,
    Busy,
    Close,
    Decision,
    DelegateEnded,
    DelegateId,
    Drained,
    Ended,
    Event,
    GroupQueue,
    Idle,
    Kind,
    Later,
    Ring,
    Start,
    TaskDue,
)
from pynchy.model import GroupId


@attrs.frozen(eq=False)
class RunHandle:
    """What a run needs to know of the queue, and how it reports to it.

    A run owes the queue this: it looks at its rows once after the start and once after each ring
    that it takes from ``bell``; it says `idle` when a look found nothing and it has nothing else to
    do, `busy` when it took work after that; and it says `ended` exactly once, last, when its
    container is gone. When ``close`` is set it finishes what is owed, takes nothing more and ends; if
    ``abandoned`` is set with it, nobody is there for what it owes, and it ends at once.
    Only a session is rung, and only a session may be idle.
    """

    group: GroupId
    kind: Kind
    delegate: DelegateId | None
    prewarm: bool
    bell: trio.MemoryReceiveChannel[None]
    close: trio.Event
    abandoned: trio.Event
    _inbox: trio.MemorySendChannel[Event] = attrs.field(alias="inbox", repr=False)

    async def busy(self) -> None:
        """Work was taken."""
        await self._inbox.send(Busy(self.group))

    async def idle(self, *, retry_after: float | None = None) -> None:
        """The last look found nothing (but a turn that may be tried again in so many seconds)."""
        await self._inbox.send(Idle(self.group, retry_after=retry_after))

    async def ended(self, *, again: bool = False, retry_after: float | None = None) -> None:
        """The run is over and its container gone; ``again`` if its last look may have left work."""
        event: Event = Ended(self.group, again=again, retry_after=retry_after)
        if self.delegate is not None:
            event = DelegateEnded(self.delegate)
        await self._inbox.send(event)


_Key = tuple[GroupId, DelegateId | None]


@attrs.frozen(eq=False)
class _Live:
    ring: trio.MemorySendChannel[None]
    handle: RunHandle


async def run(
    inbox: trio.MemoryReceiveChannel[Event],
    reports: trio.MemorySendChannel[Event],
    *,
    queue: GroupQueue,
    start: Callable[[Start, RunHandle], None],
    drained: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Feed the queue from ``inbox`` and carry out what it decides. Runs until cancelled.

    ``reports`` is the other end of ``inbox`` (capacity 0), handed on to each run. ``start`` must
    return at once, having seen to it that the run is on its way. ``drained`` is set when, after
    `Draining`, the last run has ended.
    """
    live: dict[_Key, _Live] = {}
    timers: dict[Arrived | TaskDue, float] = {}  # what to feed back, and when

    def carry_out(decision: Decision) -> None:
        match decision:
            case Start(group, kind, delegate, prewarm):
                ring, bell = trio.open_memory_channel[None](1)
                handle = RunHandle(
                    group=group,
                    kind=kind,
                    delegate=delegate,
                    prewarm=prewarm,
                    bell=bell,
                    close=trio.Event(),
                    abandoned=trio.Event(),
                    inbox=reports,
                )
                live[group, delegate] = _Live(ring, handle)
                start(decision, handle)
            case Ring(group):
                # Already rung means the same; a run that closed its end is about to say `ended`,
                # and the queue keeps the group in line until somebody has looked.
                with suppress(trio.WouldBlock, trio.BrokenResourceError):
                    live[group, None].ring.send_nowait(None)
            case Close(group, delegate, abandoned):
                handle = live[group, delegate].handle
                if abandoned:
                    handle.abandoned.set()
                handle.close.set()
            case Later(event, seconds):
                timers[event] = trio.current_time() + seconds
            case Drained():
                drained.set()

    def settled(event: Event) -> Event:
        """The event as the queue should see it, now that nobody else can run in between."""
        match event:
            case Idle(group) if live[group, None].ring.statistics().current_buffer_used:
                return attrs.evolve(event, heard=False)
            case Ended(group):
                live.pop((group, None)).ring.close()
            case DelegateEnded(id):
                for key in [key for key in live if key[1] == id]:
                    live.pop(key).ring.close()
            case _:
                pass
        return event

    def feed(event: Event) -> None:
        for decision in queue.feed(settled(event)):
            carry_out(decision)

    task_status.started()
    while True:
        with trio.move_on_at(min(timers.values(), default=math.inf)):
            feed(await inbox.receive())
        now = trio.current_time()
        for due in [each for each, at in timers.items() if at <= now]:
            del timers[due]
            feed(due)
