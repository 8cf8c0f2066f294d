"""Import a NanoClaw home, or one of an earlier Pynchy.

First everything is read, then the files are copied, then the rows are written in one transaction. So an import that
was interrupted is completed by the next one, and repeating a complete one changes nothing. The rule that keeps it so:
nothing of ours is overwritten, nothing of theirs is changed, and what cannot be imported is reported.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs

from pynchy.config.dotenv import BadEnvFile, parse_env
from pynchy.config.paths import Home
from pynchy.container import folders
from pynchy.container.mounts.rules import BadAllowlist, parse_allowlist
from pynchy.files import writing
from pynchy.model import (
    MAIN,
    ChatId,
    Group,
    GroupId,
    Message,
    SenderId,
    Seq,
    TaskId,
    channel_of,
)
from pynchy.moving import old_home, trees
from pynchy.moving.old_home import OldGroup, OldHome, OldTask
from pynchy.policy import group_settings
from pynchy.policy.authority import OWNER
from pynchy.schedule.times import BadSchedule, parse
from pynchy.store import (
    arrivals,
    audit,
    groups,
    messages,
    old_messages,
    task_rows,
    tasks,
)
from pynchy.store.database import Tx
from pynchy.whatsapp.read import plain

MAX_DOCUMENT: Final = 32 << 20  # bytes of one JSON file
NAMELESS: Final = "Andy"  # who never gave it another name
NOT_COPIED: Final = frozenset({"logs", "node_modules", ".git"})  # at the top of a group's folder


class NoOldHome(Exception):
    """There is nothing to import."""


@attrs.define
class Report:
    """What was, or would be, imported. ``problems`` are sentences for the person."""

    groups: list[dict[str, Any]] = attrs.field(factory=list)
    tasks: int = 0
    allowlist: str = "none there"
    problems: list[str] = attrs.field(factory=list)


def read_home(root: Path) -> OldHome:
    """Read everything in an old home. Raises `NoOldHome` and `StoreBroken`; changes nothing."""
    problems: list[str] = []
    documents = {
        name: _document(root, f"{name}.json", problems)
        for name in ("registered_groups", "sessions", "router_state")
    }
    places = [root / folder / "messages.db" for folder in ("store", "data")]
    database = next((place for place in places if place.is_file()), None)
    rows = {} if database is None else old_messages.read(database)
    if not rows and (root / "data" / "v2.db").is_file():
        raise NoOldHome(
            f"{root} is a home of NanoClaw's second generation, whose databases its containers write: "
            "they are not opened. Its groups' folders are plain files, to be copied into groups/"
        )
    if not rows and documents["registered_groups"] is None:
        raise NoOldHome(
            f"{root} has neither a messages.db in store/ or data/ nor a registered_groups.json; "
            "say the folder that holds store/, data/ and groups/"
        )
    state = {row["key"]: row["value"] for row in rows.get("router_state", ())}
    registered = dict(documents["registered_groups"] or {})
    for row in rows.get("registered_groups", ()):
        container = _loads(row.get("container_config"))
        registered[row["jid"]] = {**row, "container_config": container}
    found = old_home.read_groups(registered, problems)
    cursors = (documents["router_state"] or {}).get("last_agent_timestamp")
    sessions = old_home.read_sessions(documents["sessions"]) | old_home.read_sessions(
        {row["group_folder"]: row["session_id"] for row in rows.get("sessions", ())}
    )
    chats = {row["jid"]: str(row.get("name") or "") for row in rows.get("chats", ())}
    assistant = _assistant(root)
    names = dict.fromkeys([assistant or NAMELESS, *(group.trigger for group in found)])
    answered = old_home.read_answered(cursors) | old_home.read_answered(
        _loads(state.get("last_agent_timestamp"))
    )
    if rows.get("messages") and not answered:
        problems.append(
            "up to where messages were answered is not kept there: what was said before the assistant's last "
            "word in a chat counts as answered, and where it said nothing, all but the newest message"
        )
    return OldHome(
        groups=found,
        sessions=sessions,
        answered=answered,
        assistant=assistant,
        chat_names=chats,
        messages=old_home.read_messages(rows.get("messages", ()), names=names, problems=problems),
        tasks=old_home.read_tasks(rows.get("scheduled_tasks", ())),
        problems=tuple(problems),
    )


def _document(root: Path, name: str, problems: list[str]) -> dict[str, Any] | None:
    for place in (root / "data" / name, root / name):
        try:
            if place.stat().st_size > MAX_DOCUMENT:
                raise ValueError("too large")
            found = json.loads(place.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problems.append(f"{place} cannot be read and is left out: {error}")
            continue
        if isinstance(found, dict):
            return found
        problems.append(f"{place} holds no object and is left out")
    return None


def _loads(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _assistant(root: Path) -> str | None:
    """What the assistant is called, if the old .env or config.toml says so. Nothing else of these files is used."""
    with suppress(OSError, BadEnvFile):
        if name := parse_env((root / ".env").read_bytes()).get("ASSISTANT_NAME", "").strip():
            return name
    with suppress(OSError, ValueError):
        agent = tomllib.loads((root / "config.toml").read_text(encoding="utf-8")).get("agent")
        called = agent.get("name") if isinstance(agent, dict) else None
        return (called.strip() or None) if isinstance(called, str) else None
    return None


# --- files ---------------------------------------------------------------------------------------


def bring_files(root: Path, home: Home, old: OldHome, *, dry: bool) -> dict[str, trees.Copied]:
    """Copy every group's files and conversations, and the shared folder."""
    copied = {}
    for group in old.groups:
        folder = GroupId(group.folder)
        copied[group.folder] = trees.merge(
            root / "groups" / group.old_folder,
            home.group(folder),
            skip=NOT_COPIED,
            dry=dry,
            may_replace=_is_first_page,
        )
        trees.merge(
            root / "data" / "sessions" / group.old_folder / ".claude" / "projects",
            home.session(folder) / "projects",
            dry=dry,
        )
    copied["global"] = trees.merge(
        root / "groups" / "global", home.shared, skip=NOT_COPIED, dry=dry
    )
    return copied


def _is_first_page(path: str, content: bytes) -> bool:
    return path == "CLAUDE.md" and folders.is_first_page(content)


def bring_allowlist(place: Path | None, home: Home, *, dry: bool) -> str:
    """Import the mount allowlist if we have none; returns a sentence for the report."""
    if place is None:
        return "none there"
    try:
        data = place.read_bytes()
        parse_allowlist(data)
    except (OSError, BadAllowlist) as error:
        return f"left out: {error}"
    ours = home.mount_allowlist
    if ours.exists():
        return "the same" if ours.read_bytes() == data else f"yours stays: {ours}"
    if not dry:
        writing.replace(ours, data)
    return "brought over"


# --- rows: one transaction -----------------------------------------------------------------------


def write(
    tx: Tx,
    old: OldHome,
    *,
    assistant: str,
    timezone: str,
    scaffold: Callable[[Group], None],
    before: str | None = None,
) -> Report:
    """Insert the old home's facts into our database, as far as they are new.

    ``before`` is what the assistant was called here until now, if it has another name from now on. ``scaffold`` makes
    a group's folders before its row is committed.
    """
    work = _Import(tx, old, Report(problems=list(old.problems)), assistant, timezone, scaffold)
    there = groups.ensure_main(tx, name="Main", trigger=assistant)
    if there.trigger == before:
        groups.update(tx, MAIN, trigger=assistant)
    for group in old.groups:
        work.report.groups.append(work.bring_group(group))
    work.report.tasks = sum(map(work.bring_task, old.tasks))
    return work.report


@attrs.frozen
class _Import:
    """An import under way: from where, into which transaction, and what there is to tell of it."""

    tx: Tx
    old: OldHome
    report: Report
    assistant: str
    timezone: str
    scaffold: Callable[[Group], None]

    def bring_group(self, group: OldGroup) -> dict[str, Any]:
        """Import a group with its chat; its row of the report."""
        tx, folder = self.tx, GroupId(group.folder)
        there = groups.get(tx, folder)
        new = there is None or (folder == MAIN and not self._main_speaks())
        if there is None:
            there = groups.register(
                tx,
                folder=folder,
                name=group.name,
                chats=(),
                trigger=group.trigger or self.assistant,
                requires_trigger=group.requires_trigger,
            )
            self.scaffold(there)
        if new:
            document = groups.settings(tx, folder)
            for mount in group.mounts:
                document = group_settings.with_mount(document, mount)
            groups.set_settings(tx, folder, document)
        row: dict[str, Any] = {
            "folder": folder,
            "from": group.old_folder,
            "name": group.name,
            "chat": group.chat,
            "new": new,
            "messages": 0,
            "unanswered": 0,
            "session": False,
        }
        if group.chat is not None:
            chat = ChatId(group.chat)
            try:
                groups.add_chat(tx, folder, chat)
            except groups.CannotRegister as error:
                self.report.problems.append(f"{folder}: {error}; its messages are left out")
                return {**row, "chat": None}
            row["messages"] = self._bring_messages(group, chat)
            row["unanswered"] = arrivals.waiting(tx, chat)
        session = self.old.sessions.get(group.old_folder)
        row["session"] = session is not None and arrivals.keep_session(tx, folder, session)
        if new:
            detail = {"chat": group.chat or group.jid}
            audit.record(tx, actor="owner", action="group imported", folder=folder, detail=detail)
        return row

    def _main_speaks(self) -> bool:
        """Whether main has any message yet."""
        chats = groups.chats_of(self.tx, MAIN)
        return any(messages.history(self.tx, chat, limit=1) for chat in chats)

    def _bring_messages(self, group: OldGroup, chat: ChatId) -> int:
        """Import a chat's messages; returns how many were new."""
        said = [each for each in self.old.messages if each.jid == group.jid]
        upto = old_home.answered_until(self.old, group.jid, said)
        answered: list[Seq] = []
        new = 0
        for each in said:
            then = self.tx.at(each.at)
            if each.bot:
                new += arrivals.add_sent(then, GroupId(group.folder), chat, each.id, each.text)
                continue
            message = Message(
                chat=chat,
                id=each.id,
                sender=SenderId(plain(each.sender)),
                sender_name=each.sender_name,
                sent_at=each.at,
                text=each.text,
                from_me=each.from_me,
                chat_name=self.old.chat_names.get(group.jid) or None,
            )
            seq = messages.receive(then, message).seq
            new += seq is not None
            known = seq or arrivals.seq_of(then, chat, message.sender, each.id)
            if known is not None and each.at <= upto:
                answered.append(known)
        arrivals.settle(self.tx, chat, answered)
        return new

    def bring_task(self, task: OldTask) -> bool:
        """Import a task; returns whether it was new."""
        id = TaskId(hashlib.sha256(f"nanoclaw {task.id}".encode()).hexdigest()[:32])
        if task_rows.get(self.tx, id) is not None:
            return False
        group = next((each for each in self.old.groups if each.old_folder == task.old_folder), None)
        chat = None if group is None else self._chat_of(task, GroupId(group.folder))
        if group is None or chat is None:
            self.report.problems.append(
                f"a task of {task.old_folder} has no chat: {task.prompt[:60]!r}"
            )
            return False
        value: str | int = task.value
        if task.kind == "interval" and re.fullmatch(r"[0-9]{1,15}(\.0*)?", task.value):
            value = int(float(task.value)) // 1000
        try:
            schedule = parse(
                task.kind,
                value,
                timezone=self.timezone,
                now=self.tx.now,
                from_main=group.folder == MAIN,
            )
            order = tasks.Order(
                id=id,
                folder=GroupId(group.folder),
                chat=chat,
                prompt=task.prompt,
                schedule=schedule,
                context="group" if task.context == "group" else "isolated",
                creator=OWNER if group.folder == MAIN else SenderId(""),
            )
            tasks.create(self.tx, order)
        except (BadSchedule, tasks.CannotSchedule) as error:
            self.report.problems.append(
                f"a task of {group.folder} is left out ({error}): {task.kind} {task.value}, "
                f"{task.prompt[:60]!r}"
            )
            return False
        if task.paused:
            task_rows.pause(self.tx, id, reason="paused where it came from")
        return True

    def _chat_of(self, task: OldTask, folder: GroupId) -> ChatId | None:
        """The chat that a task spoke in, also if it is another group's; else where its group is spoken to."""
        had = next((each.chat for each in self.old.groups if each.jid == task.jid), None)
        if had is not None and groups.by_chat(self.tx, ChatId(had)) is not None:
            return ChatId(had)
        chats = groups.chats_of(self.tx, folder)
        return min(chats, key=lambda chat: (channel_of(chat) == "console", chat), default=None)
