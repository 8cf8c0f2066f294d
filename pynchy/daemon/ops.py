"""All ops of the control socket, and what each of them needs from the running daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import attrs

from pynchy.clock import day_of
from pynchy.config.settings import Config
from pynchy.container import folders
from pynchy.control import server
from pynchy.control.metrics import Figures
from pynchy.control.ops.acting import Acting
from pynchy.control.ops.approvals import ApprovalOps
from pynchy.control.ops.console import ConsoleOps
from pynchy.control.ops.forgetting import ForgettingOps
from pynchy.control.ops.groups import GroupOps
from pynchy.control.ops.looking import LookingOps
from pynchy.control.ops.memory import MemoryOps
from pynchy.control.ops.settings import SettingsOps
from pynchy.control.ops.status import Live, StatusOps
from pynchy.control.ops.tasks import TaskOps
from pynchy.control.subscriptions import Watching
from pynchy.daemon.edges import Edges
from pynchy.daemon.effects import AfterCommit
from pynchy.groups.queue import GroupQueue
from pynchy.maintenance.disk_guard import DiskGuard
from pynchy.policy.allowance import Budget
from pynchy.policy.group_settings import Defaults


def defaults_of(config: Config, budget: Callable[[], Budget]) -> Defaults:
    """What holds for groups that have nothing of their own, and which setting says so."""
    limits = budget()

    def dollars(micros: int | None) -> float | None:
        return None if micros is None else micros / 1e6

    found: dict[str, object] = {
        "model.name": config.model.name,
        "gateway.egress": config.gateway.egress,
        "disk.group": config.disk.group or None,
        "disk.group_files": config.disk.group_files or None,
        "budget.day_dollars": dollars(limits.day_money),
        "budget.run_dollars": dollars(limits.run_money),
        "budget.day_tokens": limits.day_tokens,
        "budget.run_tokens": limits.run_tokens,
    }
    named = {"model.name": "model", "gateway.egress": "egress"}
    named |= {"disk.group": "disk", "disk.group_files": "files"}
    return {named.get(key, key): (value, f"config: {key}") for key, value in found.items()}


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


def table(daemon: Daemon) -> Mapping[str, server.Op]:
    """Every op by its name."""
    config, edges, after = daemon.config, daemon.edges, daemon.after
    store, home, now = edges.store, config.home, edges.world.now
    containers = config.limits.containers
    scaffold = partial(folders.scaffold, home)
    acting = Acting(store, after.carry_out)
    timezone = config.assistant.timezone
    tables: list[object] = [
        StatusOps(
            store=store,
            home=str(home.root),
            assistant=config.assistant.name,
            containers=containers,
            started_at=now(),
            live=daemon.live,
            costs=edges.costs(config),
        ),
        GroupOps(acting, config.assistant.name, scaffold, after.channels.refresh),
        LookingOps(store, home.backups, timezone, edges.costs(config)),
        TaskOps(acting, timezone),
        MemoryOps(acting, timezone),
        ApprovalOps(acting, scaffold),
        Figures(
            store=store,
            database=home.database,
            containers=containers,
            started_at=now(),
            now=now,
            today=daemon.today,
            live=daemon.live,
            watch=edges.stalls,
        ),
        daemon.watching,
        ForgettingOps(acting, home, after.buttons.until_over),
    ]
    if edges.console is not None:
        tables.append(ConsoleOps(edges.console))
    if edges.guard is not None:
        defaults = partial(defaults_of, config, edges.costs(config).budget)
        tables.append(SettingsOps(acting, edges.guard, defaults))
    borrowed = {} if edges.whatsapp is None else edges.whatsapp.ops
    return {**server.ops_of(*tables), **borrowed}
