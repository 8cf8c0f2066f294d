"""Control ops to inspect messages, runs, usage and tasks, and to make backups.

The rule that keeps it so: each op is one or two query calls and a plain answer, as in `operations`; what
takes effect rings the same bells as an agent's command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from pynchy.control.server import Client, Op, OpFailed
from pynchy.model import HOUR, ChatId, GroupId, Micros, TaskId, after
from pynchy.schedule.times import BadSchedule, parse, spell
from pynchy.store import (
    audit,
    authority,
    groups,
    ledger,
    memory,
    outbox,
    runs,
    task_rows,
    tasks,
    trace,
)
from pynchy.store.connection import StoreError
from pynchy.store.database import Database, Store, Tx
from pynchy.store.migrations import SCHEMA

MOST: Final = 500  # rows of one answer


@attrs.frozen
class Inspection:
    """The table of these ops. ``scheduled`` is told that tasks changed, ``due`` that one is to run."""

    store: Store
    backups: Path
    timezone: str
    now: Callable[[], Micros]
    new_id: Callable[[], str]
    scheduled: Callable[[], None]
    due: Callable[[GroupId], Awaitable[None]]

    @property
    def questions(self) -> Mapping[str, Op]:
        """Those that the rows alone answer: nothing changes, and no daemon need live."""
        return {
            "why": self.why,
            "recent": self.recent,
            "unended": self.unended,
            "usage": self.usage,
            "runs": self.runs,
            "audit": self.audit,
            "outbox": self.outbox,
            "memory.search": self.search_memory,
            "history.search": self.search_history,
            "tasks.list": self.list_tasks,
            "tasks.show": self.show_task,
        }

    @property
    def ops(self) -> Mapping[str, Op]:
        return {
            **self.questions,
            "backup": self.backup,
            "tasks.add": self.add_task,
            "tasks.pause": self.pause_task,
            "tasks.resume": self.resume_task,
            "tasks.run": self.run_task,
            "tasks.remove": self.remove_task,
        }

    async def why(self, client: Client, *, message: str) -> object:
        """The life of a message, by its id or its number: from its receipt to its end."""
        found = await self.store.call(_lives, message)
        if not found:
            raise OpFailed("bad_request", f"no message {message[:80]!r} was ever stored")
        return [self._life(each) for each in found]

    async def recent(self, client: Client, *, group: str = "", limit: int = 20) -> object:
        """The newest messages of people, with their numbers, and what became of each; the newest first."""
        folder = await self._group(group) if group else None
        found = await self.store.call(trace.recent, folder, limit=_bounded(limit))
        return [
            {**attrs.asdict(each), "received_at": spell(each.received_at, self.timezone)}
            for each in found
        ]

    async def unended(self, client: Client, *, minutes: int = 120) -> object:
        """Messages that asked longer than so many minutes ago and have had no end."""
        before = after(self.now(), -60.0 * minutes)
        found = await self.store.call(trace.unended, before=before, thorough=True)
        return [attrs.asdict(each) for each in found]

    async def usage(self, client: Client, *, days: int = 30, group: str = "") -> object:
        """What was used, by group, day and model, the newest day first. Money in dollars."""
        since = spell(after(self.now(), -24 * HOUR * (days - 1)), self.timezone)[:10]
        lines = await self.store.call(
            ledger.used, group=GroupId(group) if group else None, since=since
        )
        return [
            {
                **attrs.asdict(line),
                "cost": line.cost / 1e6,
                "estimated": line.estimated / 1e6,
            }
            for line in lines
        ]

    async def runs(self, client: Client, *, group: str = "", limit: int = 20) -> object:
        """The newest containers first, with their times and why they ended."""
        folder = await self._group(group) if group else None
        found = await self.store.call(runs.recent, folder, limit=_bounded(limit))
        return [
            {
                "id": run.id,
                "group": run.folder,
                "kind": run.kind,
                "state": run.state,
                "started_at": spell(run.started_at, self.timezone),
                "ended_at": None if run.ended_at is None else spell(run.ended_at, self.timezone),
                "reason": run.reason,
            }
            for run in found
        ]

    async def audit(self, client: Client, *, limit: int = 100) -> object:
        """The newest decisions about security first."""
        rows = await self.store.call(audit.recent, limit=_bounded(limit))
        return [{**row, "at": spell(row["at"], self.timezone)} for row in rows]

    async def outbox(self, client: Client, *, limit: int = 50) -> object:
        """What is to be said, was said, or could not be, the newest first; with the beginning of its text."""
        rows = await self.store.call(outbox.recent, limit=_bounded(limit))
        moments = ("created_at", "next_at", "sent_at", "failed_at")
        spelled = (
            (row, {m: row[m] and spell(row[m], self.timezone) for m in moments}) for row in rows
        )
        return [{**row, **times} for row, times in spelled]

    async def search_memory(
        self, client: Client, *, query: str = "", group: str = "main", limit: int = 50
    ) -> object:
        """What a group remembers."""
        found = await self.store.call(
            memory.recall, await self._group(group), query, limit=_bounded(limit)
        )
        return [
            {**attrs.asdict(each), "created_at": spell(each.created_at, self.timezone)}
            for each in found
        ]

    async def search_history(
        self, client: Client, *, query: str, group: str = "main", limit: int = 50
    ) -> object:
        """What was said in a group that fits some words best."""
        found = await self.store.call(
            memory.said, await self._group(group), query, limit=_bounded(limit)
        )
        return [{**attrs.asdict(each), "at": spell(each.at, self.timezone)} for each in found]

    async def backup(self, client: Client, *, path: str = "") -> object:
        """Write a sound copy of the database while everything goes on, and read it once."""
        target = Path(path) if path else self.backups / f"pynchy-{self.now() // 1_000_000}.db"
        if not target.is_absolute():
            raise OpFailed("bad_request", f"{path[:200]!r}: expected an absolute path")
        try:
            await self.store.copy_to(target)
        except StoreError as error:
            raise OpFailed("failed", f"the copy could not be written: {error}") from None
        return {"path": str(target), "schema": SCHEMA, "bytes": target.stat().st_size}

    # --- tasks ---

    async def list_tasks(self, client: Client, *, group: str = "", ended: bool = False) -> object:
        """The tasks of a group, or of all, the next due first."""
        folder = await self._group(group) if group else None
        found = await self.store.call(tasks.of_group, folder, ended=ended)
        return [self._task(each) for each in found]

    async def show_task(self, client: Client, *, task: str) -> object:
        """A task with the newest rows of its ledger."""
        found = await self._one(task)
        rows = await self.store.call(tasks.ledger, found.id, limit=50)
        slots = [
            {
                **row,
                "due_at": spell(row["due_at"], self.timezone),
                "fired_at": spell(row["fired_at"], self.timezone),
            }
            for row in rows
        ]
        return {**self._task(found), "script": found.script, "slots": slots}

    async def add_task(
        self,
        client: Client,
        *,
        group: str,
        prompt: str,
        kind: str,
        value: str,
        context: task_rows.Context = "group",
        name: str = "",
        catch_up: task_rows.CatchUp = "coalesce",
    ) -> object:
        """Make a task in a group, in the owner's name."""
        if not prompt.strip():
            raise OpFailed("bad_request", "the task says nothing")
        folder = await self._group(group)

        def add(tx: Tx, /) -> task_rows.Task:
            return tasks.create(
                tx,
                id=TaskId(self.new_id()),
                folder=folder,
                chat=_chat_to_speak_in(tx, folder),
                prompt=prompt,
                name=name,
                schedule=schedule,
                context=context,
                catch_up=catch_up,
                creator=authority.OWNER,
            )

        try:
            schedule = parse(kind, value, timezone=self.timezone, now=self.now(), from_main=True)
            made = await self.store.call(add)
        except (BadSchedule, tasks.CannotSchedule) as error:
            raise OpFailed("bad_request", str(error)) from None
        self.scheduled()
        return self._task(made)

    async def pause_task(self, client: Client, *, task: str) -> object:
        """Let a task rest."""
        found = await self._one(task)
        if not await self.store.call(task_rows.pause, found.id, reason="the owner asked"):
            raise OpFailed("not_allowed", f"the task is {found.state}, not active")
        return await self._changed(found.id)

    async def resume_task(self, client: Client, *, task: str) -> object:
        """Let a task that rests go on."""
        found = await self._one(task)
        try:
            resumed = await self.store.call(tasks.resume, found.id)
        except tasks.CannotSchedule as error:
            raise OpFailed("not_allowed", str(error)) from None
        if not resumed:
            raise OpFailed("not_allowed", f"the task is {found.state}, not paused")
        return await self._changed(found.id)

    async def run_task(self, client: Client, *, task: str) -> object:
        """Run a task once, now."""
        found = await self._one(task)
        if not await self.store.call(tasks.run_now, found.id):
            raise OpFailed("not_allowed", "the task waits to run already, or is over")
        await self.due(found.folder)
        return self._task(found)

    async def remove_task(self, client: Client, *, task: str) -> object:
        """End a task for good."""
        found = await self._one(task)
        if not await self.store.call(tasks.cancel, found.id):
            raise OpFailed("not_allowed", f"the task is {found.state} already")
        return await self._changed(found.id)

    # --- shared ---

    async def _group(self, name: str) -> GroupId:
        found = await self.store.call(groups.get, GroupId(name))
        if found is None:
            raise OpFailed("unknown_group", f"{name[:80]!r} is not a group")
        return found.folder

    async def _one(self, task: str) -> task_rows.Task:
        """The task of this id, or of which this is the beginning, or the name."""
        found = await self.store.call(tasks.called, task)
        if not found:
            raise OpFailed("bad_request", f"there is no task {task[:80]!r}: pynchy tasks list")
        if len(found) > 1:
            ids = ", ".join(each.id[:12] for each in found[:5])
            raise OpFailed("bad_request", f"several tasks are called {task[:80]!r}: {ids}")
        return found[0]

    async def _changed(self, task: TaskId) -> object:
        self.scheduled()
        found = await self.store.call(task_rows.get, task)
        if found is None:
            raise OpFailed("bad_request", "the task went with its group, just now")
        return self._task(found)

    def _task(self, task: task_rows.Task) -> dict[str, Any]:
        return {
            "id": task.id,
            "group": task.folder,
            "chat": task.chat,
            "name": task.name,
            "prompt": task.prompt,
            "kind": task.schedule.kind,
            "value": task.schedule.value,
            "timezone": task.schedule.timezone,
            "context": task.context,
            "catch_up": task.catch_up,
            "state": task.state,
            "reason": task.reason,
            "next_run": None if task.next_run is None else spell(task.next_run, self.timezone),
            "failures": task.failures,
        }

    def _life(self, life: trace.Life) -> dict[str, Any]:
        steps = [
            {
                "at": spell(step.at, self.timezone),
                "micros": step.at,
                "what": step.what,
                "detail": step.detail,
            }
            for step in life.steps
        ]
        return {**attrs.asdict(life, recurse=False), "steps": steps}


def _lives(db: Database, message: str) -> list[trace.Life]:
    found = trace.why(db, message)
    if not found and message.isascii() and message.isdigit() and len(message) < 16:
        try:
            return [trace.why_seq(db, int(message))]  # type: ignore[arg-type]  # a row's number
        except LookupError:
            return []
    return found


def _chat_to_speak_in(tx: Tx, folder: GroupId) -> ChatId:
    chats = groups.chats_of(tx, folder)
    if not chats:
        raise tasks.CannotSchedule(f"{folder} has no chat to speak in")
    return ChatId(chats[-1])


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MOST:
        raise OpFailed("bad_request", f"limit: expected 1 to {MOST}")
    return limit
