"""Start the runs that the queue orders, each a child of the daemon's one nursery in a scope of its own.

The rule that keeps it so: a run is ordered without waiting, and whatever ends it, its stop button goes with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import trio

from pynchy.container.session import Session, Traffic
from pynchy.control.subscriptions import Watching
from pynchy.daemon.edges import Agents
from pynchy.daemon.effects import AfterCommit, RunKey
from pynchy.groups import dispatcher, queue, turn
from pynchy.ipc.watcher import CommandService
from pynchy.model import Group, RunId
from pynchy_agent import wire


@attrs.frozen
class GroupWorkers:
    """``services`` is what every run needs; ``look`` at the disk is taken after each."""

    nursery: trio.Nursery
    services: turn.Services
    agents: Agents
    commands: CommandService
    after: AfterCommit
    watching: Watching
    look: Callable[[], Awaitable[None]]

    def start(self, order: queue.Start, handle: dispatcher.RunHandle) -> None:
        """See to it that the run is on its way."""
        run = (order.group, order.delegate)
        button = self.after.buttons.make(run)
        name = f"turns of {order.group}"
        self.nursery.start_soon(self._work, order, handle, run, button, name=name)

    async def _work(
        self, order: queue.Start, handle: dispatcher.RunHandle, run: RunKey, button: trio.Event
    ) -> None:
        with trio.CancelScope():
            await turn.serve(
                self.services,
                handle,
                open_agent=self._open_agent,
                stop=button,
                progress=partial(self.watching.step, run),
            )
        self.after.buttons.drop(run, button)
        self.watching.over(run)
        await self.after.run_over(order.kind, run)

    @asynccontextmanager
    async def _open_agent(
        self,
        group: Group,
        run: RunId,
        start: wire.Start,
        heard: trio.MemorySendChannel[Traffic],
    ) -> AsyncIterator[Session]:
        try:
            async with self.agents.open(group, run, start, heard, self.commands) as session:
                yield session
        finally:
            await self.look()  # before the queue hears that there is a slot
