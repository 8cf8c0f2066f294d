"""Control ops on scheduled tasks.

The rule that keeps it so: an op reads what it is given, calls an act, and answers with the task as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pynchy.actions import tasks as acts
from pynchy.actions.actor import Actor
from pynchy.actions.effects import Effects
from pynchy.actions.refused import refused
from pynchy.control.ops.acting import Acting, group_of, shown
from pynchy.control.server import Client, OpFailed, op
from pynchy.model import GroupId, Micros, TaskId
from pynchy.schedule import spoken
from pynchy.schedule.firing import CatchUp
from pynchy.schedule.times import BadSchedule, parse, spell
from pynchy.store import task_rows, tasks
from pynchy.store.database import Tx

_Act = Callable[[Tx, Actor, TaskId], tuple[task_rows.Task, Effects]]


@attrs.frozen
class Wanted:
    """A task as the owner asks for it."""

    group: str
    prompt: str
    kind: str
    value: str
    context: task_rows.Context = "group"
    name: str = ""
    catch_up: CatchUp = "coalesce"


@attrs.frozen
class TaskOps:
    """The table of these ops. ``timezone`` is that of the people."""

    acting: Acting
    timezone: str

    @op("tasks.list")
    async def list(self, client: Client, *, group: str = "", ended: bool = False) -> object:
        """The tasks of a group, or of all, the next due first."""
        folder = await group_of(self.acting.store, group) if group else None
        found = await self.acting.store.call(tasks.of_group, folder, ended=ended)
        return [self._task(each) for each in found]

    @op("tasks.show")
    async def show(self, client: Client, *, task: str) -> object:
        """A task with the newest rows of its ledger."""
        found = await self._one(task)
        rows = await self.acting.store.call(tasks.ledger, found.id, limit=50)
        slots = [shown(row, self.timezone) for row in rows]
        return {**self._task(found), "script": found.script, "slots": slots}

    @op("tasks.add")
    async def add(self, client: Client, wanted: Wanted) -> object:
        """Make a task in a group, in the owner's name."""
        if not wanted.prompt.strip():
            raise OpFailed("bad_request", "the task says nothing")
        return self._task(await self.acting.get(_add, wanted, self.timezone))

    @op("tasks.pause")
    async def pause(self, client: Client, *, task: str) -> object:
        """Let a task rest."""
        return await self._act(acts.pause, task)

    @op("tasks.resume")
    async def resume(self, client: Client, *, task: str) -> object:
        """Let a task that rests go on."""
        return await self._act(acts.resume, task)

    @op("tasks.run")
    async def run(self, client: Client, *, task: str) -> object:
        """Run a task once, now."""
        return await self._act(acts.run_now, task)

    @op("tasks.remove")
    async def remove(self, client: Client, *, task: str) -> object:
        """End a task for good."""
        return await self._act(acts.cancel, task)

    async def _act(self, act: _Act, task: str) -> object:
        found = await self._one(task)
        return self._task(await self.acting.get(act, found.id))

    async def _one(self, task: str) -> task_rows.Task:
        """The task of this id, or of which this is the beginning, or the name."""
        found = await self.acting.store.call(tasks.called, task)
        if not found:
            raise OpFailed("bad_request", f"there is no task {task[:80]!r}: pynchy tasks list")
        if len(found) > 1:
            ids = ", ".join(each.id[:12] for each in found[:5])
            raise OpFailed("bad_request", f"several tasks are called {task[:80]!r}: {ids}")
        return found[0]

    def _task(self, task: task_rows.Task) -> dict[str, Any]:
        told = (
            "id",
            "chat",
            "name",
            "prompt",
            "context",
            "catch_up",
            "state",
            "reason",
            "failures",
        )
        return {
            **{name: getattr(task, name) for name in told},
            **attrs.asdict(task.schedule),
            "group": task.folder,
            "next_run": task.next_run and spell(task.next_run, self.timezone),
        }


def _understood(wanted: Wanted, timezone: str, now: Micros) -> str:
    """The value of a schedule, where it is written as people do. Raises `BadSchedule`."""
    match wanted.kind:
        case "cron":
            return spoken.cron(wanted.value)
        case "interval":
            return spoken.interval(wanted.value)
        case "once":
            return spoken.coming(wanted.value, timezone=timezone, now=now)
    return wanted.value


def _add(tx: Tx, actor: Actor, wanted: Wanted, timezone: str) -> tuple[task_rows.Task, Effects]:
    with refused(BadSchedule):
        value = _understood(wanted, timezone, tx.now)
        schedule = parse(wanted.kind, value, timezone=timezone, now=tx.now, from_main=True)
    task = acts.NewTask(
        folder=GroupId(wanted.group),
        prompt=wanted.prompt,
        name=wanted.name,
        schedule=schedule,
        context=wanted.context,
        catch_up=wanted.catch_up,
    )
    return acts.create(tx, actor, task)
