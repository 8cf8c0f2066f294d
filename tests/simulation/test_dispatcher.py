"""The dispatcher under a clock that jumps: days of groups, runs and retries in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from pynchy.groups import dispatcher
from pynchy.groups.dispatcher import RunHandle
from pynchy.groups.queue import (
    Arrived,
    Draining,
    Event,
    GroupQueue,
    IllegalTransition,
    Kind,
    Start,
    TaskDue,
)
from pynchy.model import MAIN, GroupId

ANT, BEE = GroupId("ant"), GroupId("bee")

Procedure = Callable[[RunHandle], Awaitable[None]]


@attrs.define
class House:
    """A dispatcher at work, and the door to it."""

    inbox: trio.MemorySendChannel[Event]
    queue: GroupQueue
    drained: trio.Event
    nursery: trio.Nursery


async def open_house(nursery: trio.Nursery, procedure: Procedure, *, capacity: int) -> House:
    inbox, events = trio.open_memory_channel[Event](0)
    queue = GroupQueue(capacity=capacity)
    drained = trio.Event()

    def start(decision: Start, handle: RunHandle) -> None:
        nursery.start_soon(procedure, handle, name=f"run {decision.group}")

    await nursery.start(
        partial(dispatcher.run, queue=queue, start=start, drained=drained), events, inbox
    )
    return House(inbox, queue, drained, nursery)


async def test_a_live_session_hears_the_bell_at_once() -> None:
    heard = trio.Event()

    async def procedure(handle: RunHandle) -> None:
        await handle.idle()
        await handle.bell.receive()
        heard.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        house = await open_house(nursery, procedure, capacity=1)
        await house.inbox.send(Arrived(ANT))
        await wait_all_tasks_blocked()
        await house.inbox.send(Arrived(ANT))
        with trio.fail_after(5):
            await heard.wait()
        nursery.cancel_scope.cancel()


async def test_an_idle_word_that_crosses_a_ring_costs_no_session_its_place() -> None:
    """The run says `idle` while a ring is on its way: it must not be told to close."""
    gate = trio.Event()
    handles: list[RunHandle] = []

    async def procedure(handle: RunHandle) -> None:
        handles.append(handle)
        await gate.wait()
        await handle.idle()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        house = await open_house(nursery, procedure, capacity=1)
        await house.inbox.send(Arrived(ANT))
        await house.inbox.send(Arrived(BEE))
        await wait_all_tasks_blocked()
        await house.inbox.send(Arrived(ANT))  # the bell rings before the word is out
        gate.set()
        await wait_all_tasks_blocked()
        assert not handles[0].close.is_set()
        nursery.cancel_scope.cancel()


async def test_a_retry_waits_for_its_time(autojump_clock: MockClock) -> None:
    looks: list[float] = []

    async def procedure(handle: RunHandle) -> None:
        looks.append(trio.current_time())
        await handle.ended(retry_after=20.0 if len(looks) == 1 else None)

    async with trio.open_nursery() as nursery:
        house = await open_house(nursery, procedure, capacity=1)
        begun = trio.current_time()
        await house.inbox.send(Arrived(ANT))
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert [each - begun for each in looks] == [0.0, 20.0]


async def test_drained_is_said_when_the_last_run_is_gone(autojump_clock: MockClock) -> None:
    async def procedure(handle: RunHandle) -> None:
        await handle.close.wait()
        await trio.sleep(3)
        await handle.ended()

    async with trio.open_nursery() as nursery:
        house = await open_house(nursery, procedure, capacity=3)
        await house.inbox.send(Arrived(ANT))
        await house.inbox.send(TaskDue(BEE))
        await house.inbox.send(Draining())
        before = trio.current_time()
        await house.drained.wait()
        assert trio.current_time() - before == 3
        nursery.cancel_scope.cancel()


async def test_an_illegal_report_brings_the_house_down() -> None:
    async def procedure(handle: RunHandle) -> None:
        await handle.ended()
        await handle.busy()

    with pytest.RaisesGroup(IllegalTransition):
        async with trio.open_nursery() as nursery:
            house = await open_house(nursery, procedure, capacity=2)
            await house.inbox.send(Arrived(ANT))


@attrs.define
class Town:
    """Groups with messages and tasks in "rows", and runs that treat them as a turn does."""

    rng: random.Random
    capacity: int
    messages: dict[GroupId, list[float]] = attrs.Factory(dict)
    tasks: dict[GroupId, list[float]] = attrs.Factory(dict)
    retry_at: dict[tuple[GroupId, Kind], float] = attrs.Factory(dict)
    live: dict[GroupId, RunHandle] = attrs.Factory(dict)
    idle: set[GroupId] = attrs.Factory(set)
    served: int = 0
    slowest_yield: float = 0.0

    def rows(self, kind: Kind) -> dict[GroupId, list[float]]:
        return self.tasks if kind is Kind.TASK else self.messages

    def due_in(self, handle: RunHandle) -> float | None:
        at = self.retry_at.get((handle.group, handle.kind))
        return None if at is None else max(0.0, at - trio.current_time())

    def take(self, handle: RunHandle) -> list[float]:
        wait = self.due_in(handle)
        if wait is not None and wait > 0:
            return []
        rows = self.rows(handle.kind).get(handle.group, [])
        return rows[:1] if handle.kind is Kind.TASK else list(rows)

    async def work(self, handle: RunHandle) -> bool:
        """Serve all that waits; False if the run broke."""
        while taken := self.take(handle):
            await handle.busy()
            self.idle.discard(handle.group)
            await trio.sleep(self.rng.expovariate(1 / 20))
            key = (handle.group, handle.kind)
            if self.rng.random() < 0.2:
                self.retry_at[key] = trio.current_time() + self.rng.choice([5, 10, 20])
                return self.rng.random() < 0.5
            self.retry_at.pop(key, None)
            for each in taken:
                self.rows(handle.kind)[handle.group].remove(each)
            self.served += len(taken)
            if handle.kind is Kind.TASK or handle.close.is_set():
                break
        return True

    async def run(self, handle: RunHandle) -> None:
        assert handle.group not in self.live, "two runs in one group"
        self.live[handle.group] = handle
        assert len(self.live) <= self.capacity
        await trio.sleep(self.rng.random())  # the container starts
        while await self.work(handle) and handle.kind is Kind.SESSION:
            if handle.close.is_set():
                break
            self.idle.add(handle.group)
            await handle.idle(retry_after=self.due_in(handle))
            with trio.move_on_after(1800):
                await self.bell_or_close(handle)
                if not handle.close.is_set():
                    continue
            break
        self.idle.discard(handle.group)
        await trio.sleep(self.rng.random() * 10)  # and stops; whatever comes now is for the next
        del self.live[handle.group]
        again = bool(self.take(handle))
        await handle.ended(again=again, retry_after=self.due_in(handle))

    async def bell_or_close(self, handle: RunHandle) -> None:
        async def first(wait: Callable[[], Awaitable[Any]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first, handle.bell.receive)
            nursery.start_soon(first, handle.close.wait)

    async def arrive(self, house: House, names: list[GroupId]) -> None:
        for _ in range(120):
            await trio.sleep(self.rng.expovariate(1 / self.rng.choice([0.1, 5, 300])))
            group = self.rng.choice(names)
            kind = Kind.TASK if self.rng.random() < 0.2 else Kind.SESSION
            self.rows(kind).setdefault(group, []).append(trio.current_time())
            await house.inbox.send(TaskDue(group) if kind is Kind.TASK else Arrived(group))

    async def watch(self, house: House) -> None:
        """Whoever could be served is never left waiting beside a free slot or an idle run."""
        while True:
            await trio.sleep(60)
            waiting = house.queue.waiting()
            kept = self.capacity > 1 and MAIN not in self.live
            free = self.capacity - house.queue.slots - kept
            assert not (waiting and free > 0)
            mains = {MAIN} if self.capacity > 1 else set()  # its slot is no use to others
            idle = [each for each in self.idle - mains if not self.live[each].close.is_set()]
            closing = [
                name
                for name, each in self.live.items()
                if each.close.is_set() and name not in mains
            ]
            assert not (idle and len(waiting) > len(closing) + free)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), capacity=st.integers(1, 4), count=st.integers(1, 12))
def test_every_arrival_is_answered_by_a_run_that_succeeds(
    seed: int, capacity: int, count: int
) -> None:
    names = [MAIN, *(GroupId(f"g{number}") for number in range(count))]
    town = Town(rng=random.Random(seed), capacity=capacity)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            house = await open_house(nursery, town.run, capacity=capacity)
            nursery.start_soon(town.watch, house)
            async with trio.open_nursery() as arrivals:
                for _ in range(3):
                    arrivals.start_soon(town.arrive, house, names)
            await trio.sleep(24 * 3600)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    left = {key: rows for key, rows in (town.messages | town.tasks).items() if rows}
    assert not left
    assert town.served == 360
