"""Sleep until a task is due or a request expires; then claim it and ring its group's bell.

Slots are computed from the wall clock, waiting is on the monotonic one, in pieces of at most
`CHUNK`: so a clock that is set, or a machine that slept, is noticed within that, a jump forward fires
once and a jump back fires nothing twice. At the start, and whenever the two clocks disagree, moments
that were computed from a wrong clock are brought back (`store.derived_times`). With nothing scheduled
it waits for nothing but its bell.

The rule that keeps it so: it decides nothing; what is due is one transaction, of `store.tasks` and
`store.approvals`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import attrs
import trio

from pynchy.logs import logger
from pynchy.model import MINUTE, GroupId, Micros
from pynchy.policy.effect_limits import UNBOUNDED, Bounds
from pynchy.schedule.clock_watch import ClockWatch
from pynchy.store import approvals, derived_times, tasks
from pynchy.store.database import Store, Tx

CHUNK: Final = 1 * MINUTE


@attrs.define(eq=False)
class Scheduler:
    """The service. It calls ``due`` with each group that has a task's turn to run, ``wake`` with each whose request
    has expired, and ``outbox_bell`` when a chat was told something.

    ``told`` says that tasks were made or changed, something was requested, or a group may go on. ``bounds`` is how
    much a group may do by itself. ``steady`` is a clock, in seconds, that nobody sets, and that goes on while the
    machine sleeps.
    """

    store: Store
    told: trio.MemoryReceiveChannel[None]
    due: Callable[[GroupId], Awaitable[None]]
    wake: Callable[[GroupId], Awaitable[None]]
    outbox_bell: Callable[[], None]
    now: Callable[[], Micros]
    steady: Callable[[], float] = trio.current_time
    bounds: Bounds = UNBOUNDED
    chunk: float = CHUNK

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Have what falls due run, for ever. Started once what a wrong clock left is put right."""
        clock = ClockWatch(self.now, self.steady)
        await self._correct(0.0)
        task_status.started()
        while True:
            if jumped := clock.take():
                await self._correct(jumped)
                self.outbox_bell()  # what waited to be sent may be due by now
            fired, expired = await self.store.call(_fall_due, bounds=self.bounds)
            if fired.told:
                self.outbox_bell()
            for group in fired.groups:
                await self.due(group)
            for group in expired.groups:
                await self.wake(group)
            moments = [each for each in (fired.next_at, expired.next_at) if each is not None]
            await self._until(min(moments, default=None), clock)

    async def _correct(self, jumped: float) -> None:
        """Bring back times that lie too far ahead."""
        corrected, told = await self.store.call(derived_times.correct_and_tell, jumped=jumped)
        if jumped:
            logger.warning("the clock was set by {:.0f} s; brought back: {}", jumped, corrected)
        elif corrected:
            logger.warning("some rows waited for a time too far ahead: {}", corrected)
        if told:
            self.outbox_bell()

    async def _until(self, moment: Micros | None, clock: ClockWatch) -> None:
        """Wait for a time of the wall clock, for the bell, or until that clock is set."""
        while not clock.jumped:
            left = float("inf") if moment is None else (moment - clock.now()) / 1_000_000
            if left <= 0:
                return
            with trio.move_on_after(left if moment is None else min(left, self.chunk)):
                await self.told.receive()
                return
            clock.look()


def _fall_due(tx: Tx, *, bounds: Bounds) -> tuple[tasks.Fired, approvals.Expired]:
    return tasks.fire_due(tx, bounds=bounds), approvals.expire(tx)
