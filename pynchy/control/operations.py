"""Control ops for status, groups and history.

The rule that keeps it so: each op is one or two query calls and a plain answer. Who may ask has been
settled by the socket: whoever reaches it is the owner.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from typing import Final

import attrs

import pynchy
from pynchy.actions.call import Scaffold
from pynchy.chat.console import check_chat
from pynchy.container.folders import InTheWay
from pynchy.control.server import Client, Op, OpFailed
from pynchy.model import ChatId, Group, GroupId, Micros, folder_of
from pynchy.policy import failures
from pynchy.store import audit, breakers, groups, holds, messages, questions, runs, turn_rows, turns
from pynchy.store.database import Database, Store, Tx
from pynchy.whatsapp.read import chat_id

PROTOCOL: Final = 1
_LINE: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")


@attrs.frozen
class Live:
    """What only the running daemon knows, at this moment."""

    runtime: str
    model: str
    queue: tuple[GroupId, ...]  # groups that wait for a slot, first come first
    channels: Mapping[str, str]  # name -> state
    warnings: tuple[str, ...] = ()  # what is wrong with what it stands on
    disk: Mapping[str, object] = attrs.field(factory=dict)  # how much room there is


@attrs.frozen
class Operations:
    """The table of ops. ``added`` and ``removed`` are told once a group is registered, or gone; ``stop`` ends
    what its runs do, ``pause`` stops serving it, or begins again, ``let_go_on`` looks for tasks of one that was
    held back."""

    store: Store
    home: str
    assistant: str
    containers: int
    started_at: Micros
    now: Callable[[], Micros]
    live: Callable[[], Live]
    added: Callable[[GroupId], None]
    removed: Callable[[GroupId], None]
    scaffold: Scaffold  # makes the folders of a group, before its row counts
    stop: Callable[[GroupId, Sequence[turn_rows.Turn]], Awaitable[None]]
    pause: Callable[[GroupId, bool], Awaitable[None]]
    let_go_on: Callable[[], None]

    @property
    def ops(self) -> Mapping[str, Op]:
        return {
            "status": self.status,
            "history": self.history,
            "groups.list": self.list_groups,
            "groups.add": self.add_group,
            "groups.remove": self.remove_group,
            "groups.stop": self.stop_group,
            "groups.pause": self.pause_group,
            "groups.resume": self.resume_group,
        }

    async def status(self, client: Client) -> object:
        """How the daemon is, and what it is doing."""
        live, now = self.live(), self.now()
        stored = await self.store.call(_stored)
        return {
            "running": True,
            "protocol": PROTOCOL,
            "assistant": self.assistant,
            "version": pynchy.__version__,
            "pid": os.getpid(),
            "uptime": round((now - self.started_at) / 1e6, 1),
            "home": self.home,
            "runtime": live.runtime,
            "model": live.model,
            "containers": self.containers,
            "queue": list(live.queue),
            "channels": dict(live.channels),
            "warnings": list(live.warnings),
            "disk": dict(live.disk),
            **stored,
        }

    async def history(self, client: Client, *, chat: str, limit: int = 50) -> object:
        """What was said in a chat, oldest first: messages and sent replies."""
        if not 1 <= limit <= 500:
            raise OpFailed("bad_request", "limit: expected 1 to 500")
        return await self.store.call(_history, ChatId(chat), limit=limit)

    async def list_groups(self, client: Client) -> object:
        """All groups, main first."""
        return await self.store.call(_groups)

    async def add_group(
        self,
        client: Client,
        *,
        chat: str,
        folder: str = "",
        name: str = "",
        trigger: str = "",
        requires_trigger: bool | None = None,
    ) -> object:
        """Register a chat: for a new group, or, where the folder exists, as one more chat of it.

        What else is given is set in either case; what is not, is left as it is. Without a folder a
        messenger's chat gets a new one, named after it.
        """
        if chat.startswith("console:"):
            check_chat(chat)
            folder = folder or chat.removeprefix("console:")
        elif (found := chat_id(chat)) is not None:
            chat = found
        else:
            raise OpFailed(
                "bad_request", f"{chat[:80]!r}: expected a chat id, see `pynchy groups discover`"
            )
        if folder and folder_of(folder) is None:
            raise OpFailed(
                "bad_request", f"{folder[:80]!r}: expected a folder name in a-z, 0-9 and -"
            )
        for what, value in (("name", name), ("trigger", trigger)):
            if value and not _LINE.fullmatch(value):
                raise OpFailed("bad_request", f"{what}: expected 1 to 64 characters of one line")
        try:
            added = await self.store.call(
                _add,
                chat=ChatId(chat),
                folder=GroupId(folder),
                name=name,
                trigger=trigger.removeprefix("@"),
                requires_trigger=requires_trigger,
                assistant=self.assistant,
                scaffold=self.scaffold,
            )
        except (groups.CannotRegister, InTheWay) as error:
            raise OpFailed("taken", str(error)) from None
        self.added(GroupId(str(added["folder"])))
        return added

    async def remove_group(self, client: Client, *, folder: str) -> object:
        """Forget a group. Its files and its history stay."""
        try:
            cancelled = await self.store.call(_remove, GroupId(folder))
        except groups.CannotRegister as error:
            raise OpFailed("not_allowed", str(error)) from None
        await self.stop(GroupId(folder), cancelled)
        self.removed(GroupId(folder))
        return {"folder": folder}

    async def stop_group(self, client: Client, *, folder: str) -> object:
        """Stop what a group works on, as ``/stop`` in its chat does: how many turns; ``ended`` if an agent was."""
        stopped, live = await self.store.call(_stop, GroupId(folder))
        if stopped or live:  # an agent that has answered may still run programs
            await self.stop(GroupId(folder), stopped)
        told = {"folder": folder, "stopped": len(stopped)}
        return told | ({"ended": True} if live else {})

    async def pause_group(self, client: Client, *, folder: str) -> object:
        """Answer a group no more for now. Its messages are kept."""
        return await self._set_paused(GroupId(folder), True)

    async def resume_group(self, client: Client, *, folder: str) -> object:
        """Answer a group again, beginning with what came meanwhile; one that was held back goes on, too."""
        if await self.store.call(breakers.let_go_on, GroupId(folder), by="owner"):
            self.let_go_on()
        return await self._set_paused(GroupId(folder), False)

    async def _set_paused(self, folder: GroupId, paused: bool) -> object:
        if await self.store.call(_set_paused, folder, paused=paused):
            await self.pause(folder, paused)
        return {"folder": folder, "paused": paused}


# --- queries: each one transaction ---------------------------------------------------------------


def _stored(tx: Tx) -> dict[str, object]:
    counts = tx.execute(
        "SELECT state, count(*) FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL "
        "GROUP BY state"
    )
    waiting = tx.execute("SELECT count(*) FROM turns WHERE ended_at IS NULL AND state = 'waiting'")
    return {
        "groups": _groups(tx),
        "runs": [
            {
                "run": run.id,
                "folder": run.folder,
                "kind": run.kind,
                "state": run.state,
                "seconds": round((tx.now - run.started_at) / 1e6, 1),
                "turns": [turn.id for turn in turns.held(tx, run.id)],
            }
            for run in runs.live(tx)
        ],
        "unanswered": messages.waiting_groups(tx),
        "retrying": waiting.fetchone()[0],
        "retries": [
            dict(row)
            for row in tx.query(
                "SELECT id AS turn, folder, chat, attempt, retry_at AS at, give_up_at AS until, error, "
                "waits_for AS held_by FROM turns "
                "WHERE ended_at IS NULL AND state = 'waiting' AND error IS NOT NULL "
                "ORDER BY retry_at, id LIMIT 50"
            )
        ],
        "held": [_held(hold) for hold in holds.everything(tx)],
        "outbox": {"pending": 0, "sending": 0, "uncertain": 0} | dict(counts.fetchall()),
    }


def _held(hold: holds.Hold) -> dict[str, object]:
    """What holds groups back, in words, and when it is tried again; ``at`` is null while that is being done, or where
    it waits for a change."""
    row = failures.row_of(hold.kind)
    waits = hold.prober is not None or row.again is failures.Again.CHANGE
    return {
        "scope": hold.scope,
        "kind": hold.kind,
        "words": row.status,
        "reason": hold.reason,
        "since": hold.since,
        "at": None if waits else hold.probe_at,
        "trying": hold.prober is not None,
    }


def _groups(db: Database) -> list[dict[str, object]]:
    return [_shown(db, group) for group in groups.list_groups(db)]


def _shown(db: Database, group: Group) -> dict[str, object]:
    return {
        "folder": group.folder,
        "name": group.name,
        "chats": groups.chats_of(db, group.folder),
        "trigger": group.trigger,
        "requires_trigger": group.requires_trigger,
        "main": group.is_main,
        "paused": group.paused,
        "held_back": breakers.held_back(db).get(group.folder),
    }


def _history(db: Database, chat: ChatId, *, limit: int) -> list[dict[str, object]]:
    """The newest of both directions, put together by time and cut to the limit."""
    said: list[dict[str, object]] = [
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
    sent = db.query(
        "SELECT id, turn_id AS turn, message_id, sent_at AS at, kind, text, path FROM outbox "
        "WHERE chat = ? AND sent_at IS NOT NULL ORDER BY id DESC LIMIT ?",
        (chat, limit),
    )
    said += [{"from": None, **row} for row in reversed(list(sent))]
    return sorted(said, key=_moment)[-limit:]


def _moment(entry: dict[str, object]) -> int:
    at = entry["at"]
    assert isinstance(at, int)
    return at


def _add(
    tx: Tx,
    *,
    chat: ChatId,
    folder: GroupId,
    name: str,
    trigger: str,
    requires_trigger: bool | None,
    assistant: str,
    scaffold: Scaffold,
) -> dict[str, object]:
    called = groups.chat_name(tx, chat)
    folder = folder or _free_folder(tx, called or chat.partition("@")[0])
    if groups.get(tx, folder) is None:
        group = groups.register(
            tx,
            folder=folder,
            name=name or _one_line(called) or folder,
            chats=(chat,),
            trigger=trigger or assistant,
            requires_trigger=requires_trigger is not False,
        )
        scaffold(group)
        _note(tx, "group registered", folder, chat=chat)
        return _shown(tx, group)
    groups.add_chat(tx, folder, chat)
    changed = groups.update(
        tx,
        folder,
        name=name or None,
        trigger=trigger or None,
        requires_trigger=requires_trigger,
    )
    _note(tx, "group changed", folder, chat=chat)
    assert changed is not None  # it was there a moment ago, in this transaction
    return _shown(tx, changed)


def _free_folder(db: Database, called: str) -> GroupId:
    """A folder that no group has, named after what a chat is called."""
    plain = unicodedata.normalize("NFKD", called).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "chat"
    taken = {"main", "global"} | {group.folder for group in groups.list_groups(db)}
    names = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
    return GroupId(next(name for name in names if name not in taken))


def _one_line(name: str) -> str:
    """The part of a messenger's name that may be a group's."""
    found = _LINE.match(name.strip())
    return found[0] if found else ""


def _remove(tx: Tx, folder: GroupId) -> list[turn_rows.Turn]:
    _there(tx, folder)
    cancelled = turns.cancel(tx, folder, all_of_it=True)
    _note(tx, "group removed", folder)
    groups.remove(tx, folder)
    return cancelled


def _stop(tx: Tx, folder: GroupId) -> tuple[list[turn_rows.Turn], bool]:
    """The turns that were stopped, and whether an agent is there whose run ends with them."""
    _there(tx, folder)
    stopped = turns.cancel(tx, folder)
    questions.drop(tx, folder)
    live = any(run.kind != "task" or stopped for run in runs.live(tx, folder))
    if stopped or live:
        _note(tx, "turns stopped" if stopped else "agent ended", folder)
    return stopped, live


def _set_paused(tx: Tx, folder: GroupId, *, paused: bool) -> bool:
    _there(tx, folder)
    changed = groups.set_paused(tx, folder, paused=paused)
    if changed:
        _note(tx, "group paused" if paused else "group resumed", folder)
    return changed


def _there(db: Database, folder: GroupId) -> None:
    if groups.get(db, folder) is None:
        raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group")


def _note(tx: Tx, action: str, folder: GroupId, **detail: str) -> None:
    """Whoever reaches the control socket is the owner."""
    audit.record(tx, actor="owner", action=action, folder=folder, detail=detail)
