"""What nobody decides expires at its moment, and the agent that asked is woken. In virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

from pynchy.daemon.scheduler import Scheduler
from pynchy.model import GroupId, Micros
from pynchy.store import approvals
from pynchy.store.database import Opened, Store
from tests.rules.test_approvals import MOUNT, asked
from tests.rules.test_policy import FAMILY, NOON, World

T = TypeVar("T")


async def inline(sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None) -> T:
    """Where a worker thread would be: virtual time and threads do not go together."""
    await trio.lowlevel.checkpoint()
    return sync_fn()


def test_a_request_expires_at_its_moment_and_its_agent_is_woken() -> None:  # threat I5
    woken: list[tuple[GroupId, float]] = []

    async def main() -> None:
        there = World()
        began = trio.current_time()

        def now() -> Micros:
            return Micros(NOON + round((trio.current_time() - began) * 1e6))

        async def wake(group: GroupId) -> None:
            await trio.lowlevel.checkpoint()
            woken.append((group, trio.current_time() - began))

        async def due(group: GroupId) -> None:
            raise AssertionError("nothing is scheduled")

        bell_in, bell = trio.open_memory_channel[None](1)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                Scheduler(
                    Store(Opened(there.db), inline, now=now, new_id=there.new_id),
                    bell,
                    now=now,
                    due=due,
                    wake=wake,
                    outbox_bell=lambda: None,
                ).run
            )
            await trio.sleep(100)
            code = asked(there, "request_mount", MOUNT)  # at noon, as far as its rows say
            bell_in.send_nowait(None)
            await trio.sleep(2 * approvals.LIFETIME)
            found = approvals.get(there.db, code)
            assert found is not None
            assert (found.state, found.decided_by) == ("expired", "daemon")
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    [(group, seconds)] = woken
    assert group == FAMILY
    assert approvals.LIFETIME <= seconds < approvals.LIFETIME + 60
