"""Control ops to inspect messages, runs and usage, and to make backups.

The rule that keeps it so: each op is one or two query calls and a plain answer.
"""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import attrs

from pynchy.actions import usage
from pynchy.actions.actor import OWNER
from pynchy.control.ops.acting import bounded, group_of, searched, shown
from pynchy.control.server import Client, OpFailed, op
from pynchy.model import ChatId, GroupId, Micros, after
from pynchy.schedule import spoken
from pynchy.schedule.times import BadSchedule, spell
from pynchy.store import audit, groups, memory, messages, outbox, runs, trace, transcript
from pynchy.store.connection import StoreError
from pynchy.store.database import Database, Store, Tx
from pynchy.store.migrations import SCHEMA


@attrs.frozen
class LookingOps:
    """The table of these ops. ``backups`` is where copies go, ``timezone`` that of the people."""

    store: Store
    backups: Path
    timezone: str
    costs: usage.Terms = usage.NO_TERMS

    @op("why")
    async def why(self, client: Client, *, message: str) -> object:
        """The life of a message, by its id or its number: from its receipt to its end."""
        found = await self.store.call(_lives, message)
        if not found:
            raise OpFailed("bad_request", f"no message {message[:80]!r} was ever stored")
        return [self._life(each) for each in found]

    @op("recent")
    async def recent(self, client: Client, *, group: str = "", limit: int = 20) -> object:
        """The newest messages of people, with their numbers, and what became of each; the newest first."""
        folder = await group_of(self.store, group) if group else None
        found = await self.store.call(trace.recent, folder, limit=bounded(limit))
        return [shown(each, self.timezone) for each in found]

    @op("unended")
    async def unended(self, client: Client, *, minutes: int = 120) -> object:
        """Messages that asked longer than so many minutes ago and have had no end."""
        found = await self.store.call(_unended, minutes=minutes)
        return [attrs.asdict(each) for each in found]

    @op("usage")
    async def usage(self, client: Client, *, days: int = 30, group: str = "") -> object:
        """What was used, by group, day and model, the newest day first. Money in dollars."""
        lines = await self.store.call(
            usage.used,
            OWNER,
            GroupId(group) if group else None,
            days=days,
            timezone=self.timezone,
        )
        if group and not lines:
            await group_of(self.store, group)  # one that was removed may still have used something
        return [
            {**attrs.asdict(line), "cost": line.cost / 1e6, "estimated": line.estimated / 1e6}
            for line in lines
        ]

    @op("bill")
    async def bill(self, client: Client, *, group: str = "main") -> object:
        """What a group pays: its model, what it may spend today and has, and about what a message costs now. Money in
        dollars; ``words`` is the same for people."""
        folder = await group_of(self.store, group)
        return await self.store.call(bill_of, folder, self.costs)

    @op("runs")
    async def runs(self, client: Client, *, group: str = "", limit: int = 20) -> object:
        """The newest containers first, with their times and why they ended."""
        folder = await group_of(self.store, group) if group else None
        found = await self.store.call(runs.recent, folder, limit=bounded(limit))
        return [{**shown(run, self.timezone), "group": run.folder} for run in found]

    @op("audit")
    async def audit(self, client: Client, *, limit: int = 100) -> object:
        """The newest decisions about security first."""
        rows = await self.store.call(audit.recent, limit=bounded(limit))
        return [shown(row, self.timezone) for row in rows]

    @op("outbox")
    async def outbox(self, client: Client, *, limit: int = 50) -> object:
        """What is to be said, was said, or could not be, the newest first; with the beginning of its text."""
        rows = await self.store.call(outbox.recent, limit=bounded(limit))
        return [shown(row, self.timezone) for row in rows]

    @op("history.search")
    async def search_history(
        self, client: Client, *, query: str, group: str = "main", limit: int = 50
    ) -> object:
        """What was said in a group that fits some words best."""
        found = await searched(
            self.store, memory.said, await group_of(self.store, group), query, limit=bounded(limit)
        )
        return [shown(each, self.timezone) for each in found]

    @op("history.said")
    async def said(
        self, client: Client, *, chat: str = "main", day: str = "", since: str = "", limit: int = 50
    ) -> object:
        """What was said in a chat, or in all chats of a group, in order: on a day, from a moment on, or lately.
        ``earlier`` says whether there is more before the first line."""
        chats, now = await self.store.call(lambda tx: (transcript.chats_named(tx, chat), tx.now))
        if not chats:
            raise OpFailed("unknown_chat", f"{chat[:80]!r} is neither a group nor a chat")
        if day and since:
            raise OpFailed("bad_request", "day and since exclude each other")
        start, end = Micros(0), after(now, 1.0)
        try:
            if day:
                start, end = spoken.day(day, timezone=self.timezone, now=now)
            elif since:
                start = spoken.since(since, timezone=self.timezone, now=now)
        except BadSchedule as error:
            raise OpFailed("bad_request", str(error)) from None
        found = await searched(
            self.store, transcript.between, chats, start, end, limit=bounded(limit) + 1
        )
        return {
            "chats": chats,
            "since": spell(start, self.timezone) if start else None,
            "earlier": len(found) > limit,
            "said": [shown(each, self.timezone) for each in found[-limit:]],
        }

    @op("backup")
    async def backup(self, client: Client, *, path: str = "") -> object:
        """Write a sound copy of the database while everything goes on, and read it once."""
        now = await self.store.call(lambda tx: tx.now)
        target = Path(path) if path else self.backups / f"pynchy-{now // 1_000_000}.db"
        if not target.is_absolute():
            raise OpFailed("bad_request", f"{path[:200]!r}: expected an absolute path")
        try:
            await self.store.copy_to(target)
        except StoreError as error:
            raise OpFailed("failed", f"the copy could not be written: {error}") from None
        return {"path": str(target), "schema": SCHEMA, "bytes": target.stat().st_size}

    @op("history")
    async def history(self, client: Client, *, chat: str, limit: int = 50) -> object:
        """What was said in a chat, oldest first: messages and sent replies."""
        return await self.store.call(_history, ChatId(chat), limit=bounded(limit))

    def _life(self, life: trace.Life) -> dict[str, Any]:
        steps = [{**shown(step, self.timezone), "micros": step.at} for step in life.steps]
        return {**attrs.asdict(life, recurse=False), "steps": steps}


def bill_of(tx: Tx, folder: GroupId, costs: usage.Terms) -> dict[str, object]:
    """The bill of a group for the owner's programs: money in dollars, and the words for it."""
    group = groups.get(tx, folder)
    assert group is not None  # who asks has just seen it
    found = usage.bill(tx, OWNER, group, costs)
    return {
        "group": folder,
        "model": found.model,
        "resolved": found.resolved,
        "seen": found.seen,
        "today": _in_dollars(found.today),
        "of_all": _in_dollars(found.of_all),
        "estimated": found.estimated / 1e6,
        "conversation": found.conversation,
        "message": found.message / 1e6,
        "later": None if found.later is None else found.later / 1e6,
        "cached_until": found.cached_until,
        "words": {
            "model": usage.model_words(found),
            "today": usage.budget_words(found, of_all=False),
            "of_all": usage.budget_words(found, of_all=True),
            "message": usage.message_words(found),
        },
    }


def _in_dollars(spent: usage.Spent) -> dict[str, float | int | None]:
    def dollars(micros: int | None) -> float | None:
        return None if micros is None else micros / 1e6

    return {
        "limit": dollars(spent.limit),
        "used": dollars(spent.used),
        "left": dollars(spent.left),
        "token_limit": spent.token_limit,
        "tokens": spent.tokens,
    }


def _lives(db: Database, message: str) -> list[trace.Life]:
    found = trace.why(db, message)
    if not found and message.isascii() and message.isdigit() and len(message) < 16:
        try:
            return [trace.why_seq(db, int(message))]  # type: ignore[arg-type]  # a row's number
        except LookupError:
            return []
    return found


def _unended(tx: Tx, *, minutes: int) -> list[trace.Unended]:
    return trace.unended(tx, before=after(tx.now, -60.0 * minutes), thorough=True)


def _history(db: Database, chat: ChatId, *, limit: int) -> list[dict[str, Any]]:
    """The newest of both directions, put together by time and cut to the limit."""
    said: list[dict[str, Any]] = [
        {
            "from": message.sender,
            "name": message.sender_name,
            "seq": message.seq,
            "message_id": message.id,
            "at": message.sent_at,
            "text": message.text,
        }
        for message in messages.history(db, chat, limit=limit)
    ]
    said += [{"from": None, **row} for row in outbox.sent_in(db, chat, limit=limit)]
    return sorted(said, key=itemgetter("at"))[-limit:]
