"""Sleeps until a task is due, a request expires, or until it is told; claims what is due, rings the bell.

Slots are computed from the wall clock, waiting is on the monotonic one, in pieces of at most
`CHUNK`: so a clock that is set, or a machine that slept, is noticed within that, a jump forward fires
once and a jump back fires nothing twice. With nothing scheduled it waits for nothing but its bell.

The rule that keeps it so: it decides nothing; what is due is one transaction, of `store.tasks` and
`store.approvals`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from pynchy.model import MINUTE, GroupId, Micros
from pynchy.store import approvals, tasks
from pynchy.store.database import Database, NewId, Store

CHUNK: Final = 1 * MINUTE


async def run(
    store: Store,
    told: trio.MemoryReceiveChannel[None],
    *,
    now: Callable[[], Micros],
    new_id: Callable[[], str],
    due: Callable[[GroupId], Awaitable[None]],
    wake: Callable[[GroupId], Awaitable[None]],
    outbox_bell: Callable[[], None],
    chunk: float = CHUNK,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Call ``due`` with each group that has a task's turn to run, ``wake`` with each whose request has expired.
    Runs until cancelled.

    ``told`` says that tasks were made or changed, or something requested.
    """
    task_status.started()
    while True:
        fired, expired = await store.call(_fall_due, now=now(), new_id=new_id)
        if fired.told:
            outbox_bell()
        for group in fired.groups:
            await due(group)
        for group in expired.groups:
            await wake(group)
        moments = [each for each in (fired.next_at, expired.next_at) if each is not None]
        await _until(min(moments, default=None), told, now, chunk)


def _fall_due(db: Database, *, now: Micros, new_id: NewId) -> tuple[tasks.Fired, approvals.Expired]:
    return tasks.fire_due(db, now=now, new_id=new_id), approvals.expire(db, now=now)


async def _until(
    moment: Micros | None,
    told: trio.MemoryReceiveChannel[None],
    now: Callable[[], Micros],
    chunk: float,
) -> None:
    """Wait for a moment of the wall clock, or for the bell."""
    while True:
        left = float("inf") if moment is None else (moment - now()) / 1_000_000
        if left <= 0:
            return
        with trio.move_on_after(min(left, chunk) if moment is not None else left):
            await told.receive()
            return
