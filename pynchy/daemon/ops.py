"""The ops of the control socket: which there are, and what each group of them gets from the running daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import attrs

from pynchy.actions.effects import Effects, Stopped
from pynchy.config.settings import Config
from pynchy.container import folders
from pynchy.control import server
from pynchy.control.approvals import Approvals
from pynchy.control.inspection import Inspection
from pynchy.control.metrics import Figures
from pynchy.control.operations import Live, Operations
from pynchy.control.registration import Registration
from pynchy.control.subscriptions import Watching
from pynchy.daemon.clock import day_of
from pynchy.daemon.edges import Edges
from pynchy.daemon.effects import AfterCommit
from pynchy.groups import turn
from pynchy.groups.queue import GroupQueue
from pynchy.maintenance.disk_guard import DiskGuard
from pynchy.maintenance.erasure import Forgetting
from pynchy.model import GroupId
from pynchy.store import turn_rows


@attrs.frozen
class Daemon:
    """The running daemon, as its ops see it."""

    config: Config
    edges: Edges
    line: GroupQueue
    disk_guard: DiskGuard
    watching: Watching
    after: AfterCommit

    def live(self) -> Live:
        """How it is at this moment."""
        return Live(
            runtime=self.edges.runtime.name,
            model=self.edges.model,
            queue=tuple(each.group for each in self.line.waiting()),
            disk=self.disk_guard.shown(),
            channels=dict(self.after.channels.states),
            warnings=self.edges.warnings(),
        )

    def today(self) -> str:
        return day_of(self.config.assistant.timezone, self.edges.world.now())

    def removed(self, group: GroupId) -> None:
        self.after.soon(Effects(registered=True, removed=(group,)))

    async def pause(self, group: GroupId, paused: bool) -> None:
        groups = (group,)
        await self.after.carry_out(Effects(paused=groups) if paused else Effects(resumed=groups))

    async def outdated(self, group: GroupId) -> None:
        await self.after.carry_out(Effects(outdated=(group,)))

    async def stop(self, group: GroupId, cancelled: Sequence[turn_rows.Turn]) -> None:
        told = tuple(turn.unheld(cancelled))
        await self.after.carry_out(Effects(stopped=(Stopped(group, told),)))


def table(daemon: Daemon) -> Mapping[str, server.Op]:
    """Every op by its name."""
    config, edges, after = daemon.config, daemon.edges, daemon.after
    store, home, now = edges.store, config.home, edges.world.now
    new_id, containers = edges.world.new_id, config.limits.containers
    scaffold = partial(folders.scaffold, home)
    groups: list[Mapping[str, Callable[..., Awaitable[object]]]] = [
        Operations(
            store=store,
            home=str(home.root),
            assistant=config.assistant.name,
            containers=containers,
            started_at=now(),
            now=now,
            live=daemon.live,
            added=lambda group: after.registered(),
            removed=daemon.removed,
            scaffold=scaffold,
            stop=daemon.stop,
            pause=daemon.pause,
            let_go_on=after.scheduled,
        ).ops,
        Registration(
            store=store, now=now, refresh=after.channels.refresh, changed=after.registered
        ).ops,
        Inspection(
            store=store,
            backups=home.backups,
            timezone=config.assistant.timezone,
            now=now,
            new_id=new_id,
            scheduled=after.scheduled,
            due=after.bell.tasks,
        ).ops,
        Figures(
            store=store,
            database=home.database,
            containers=containers,
            started_at=now(),
            now=now,
            today=daemon.today,
            live=daemon.live,
            watch=edges.stalls,
        ).ops,
        Approvals(store=store, now=now, new_id=new_id, committed=after.done, scaffold=scaffold).ops,
        daemon.watching.ops,
        Forgetting(store, home, after.buttons.until_over, daemon.removed).ops,
    ]
    if edges.console is not None:
        groups.append(edges.console.ops)
    if edges.guard is not None:
        groups.append(attrs.evolve(edges.guard, outdated=daemon.outdated).ops)
    if edges.whatsapp is not None:
        groups.append(edges.whatsapp.ops)
    return {name: op for each in groups for name, op in each.items()}
