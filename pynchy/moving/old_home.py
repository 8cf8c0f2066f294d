"""Read a NanoClaw home, or one of an earlier Pynchy: its documents and rows as facts.

The rule that keeps it so: pure. What cannot be understood becomes a sentence in ``problems``, never a
guess. A time that cannot be read counts as the earliest possible, so that no message is wrongly taken for answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from pynchy.container.mounts.rules import MountRequest
from pynchy.model import Micros
from pynchy.whatsapp.read import chat_id

NEVER: Final = Micros(0)
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


@attrs.frozen
class OldGroup:
    """A registered chat. ``chat`` is None for messengers that we do not support."""

    jid: str
    chat: str | None
    name: str
    old_folder: str
    folder: str
    trigger: str
    requires_trigger: bool
    mounts: tuple[MountRequest, ...] = ()


@attrs.frozen
class OldMessage:
    """A message that was kept. ``bot``: the assistant said it."""

    jid: str
    id: str
    sender: str
    sender_name: str
    at: Micros
    text: str
    from_me: bool
    bot: bool


@attrs.frozen
class OldTask:
    """A scheduled task; ``value`` as it was written, intervals in milliseconds."""

    id: str
    old_folder: str
    jid: str  # of the chat that it speaks in
    prompt: str
    kind: str
    value: str
    context: str
    paused: bool


@attrs.frozen
class OldHome:
    """Everything of an old home."""

    groups: tuple[OldGroup, ...] = ()
    sessions: Mapping[str, str] = attrs.field(factory=dict)  # old folder -> session
    answered: Mapping[str, Micros] = attrs.field(factory=dict)  # chat id there -> up to when
    assistant: str | None = None  # what it is called there, if that is said
    chat_names: Mapping[str, str] = attrs.field(factory=dict)
    messages: tuple[OldMessage, ...] = ()
    tasks: tuple[OldTask, ...] = ()
    problems: tuple[str, ...] = ()


def read_groups(documents: Mapping[str, Any], problems: list[str]) -> tuple[OldGroup, ...]:
    """The registered groups, main first: a document of id -> group, as in registered_groups.json."""
    found: list[OldGroup] = []
    taken: set[str] = set()
    entries = sorted(documents.items(), key=lambda each: not _is_main(each[1]))
    for jid, entry in entries:
        if not isinstance(entry, Mapping) or not _FOLDER.fullmatch(str(entry.get("folder", ""))):
            problems.append(f"{jid}: its folder is none, so it is left out")
            continue
        main = _is_main(entry) and "main" not in taken
        old_folder = str(entry["folder"])
        folder = "main" if main else _free(_folder(old_folder), taken)
        taken.add(folder)
        chat = chat_id(jid)
        if chat is None:
            problems.append(f"{folder}: {jid} is on no messenger we speak; its files come along")
        requires = entry.get("requiresTrigger", entry.get("requires_trigger"))
        found.append(
            OldGroup(
                jid=jid,
                chat=chat,
                name=" ".join(str(entry.get("name") or folder).split())[:64],
                old_folder=old_folder,
                folder=folder,
                trigger=_trigger(entry.get("trigger", entry.get("trigger_pattern"))),
                requires_trigger=not main and requires not in (False, 0),
                mounts=tuple(_mounts(entry, folder, problems)),
            )
        )
    return tuple(found)


def _is_main(entry: Any) -> bool:
    return isinstance(entry, Mapping) and (
        entry.get("folder") == "main"
        or any(entry.get(name) in (True, 1) for name in ("isMain", "is_main", "is_admin"))
    )


def _folder(name: str) -> str:
    """The folder's name in our spelling: small letters, digits and hyphens."""
    plain = name.lower().replace("_", "-")[:63]
    return f"{plain}-group" if plain in ("main", "global") else plain


def _free(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name[:60]}-{number}", number + 1
    return free


def _trigger(found: object) -> str:
    """The name after the @, or nothing if the trigger was another kind of pattern."""
    name = str(found or "").removeprefix("^").removeprefix("@").removesuffix("\\b").strip()
    return name if name and name.isprintable() and not set(name) & set("\\^$[](){}|*+?") else ""


def _mounts(entry: Mapping[str, Any], folder: str, problems: list[str]) -> Iterable[MountRequest]:
    settings = entry.get("containerConfig", entry.get("container_config"))
    wishes = settings.get("additionalMounts") if isinstance(settings, Mapping) else None
    for wish in wishes if isinstance(wishes, list) else ():
        path = wish.get("hostPath") if isinstance(wish, Mapping) else None
        if not isinstance(path, str):
            problems.append(f"{folder}: a mount that has no path is left out")
            continue
        name = str(wish.get("containerPath") or path).rstrip("/").rpartition("/")[2]
        yield MountRequest(path.rstrip("/"), name, wish.get("readonly", True) is False)


def read_sessions(document: Any) -> dict[str, str]:
    """The session of each folder."""
    if not isinstance(document, Mapping):
        return {}
    return {
        str(folder): session
        for folder, session in document.items()
        if isinstance(session, str) and re.fullmatch(r"[A-Za-z0-9-]{8,64}", session)
    }


def read_answered(document: Any) -> dict[str, Micros]:
    """Up to when each chat was answered, from router_state's ``last_agent_timestamp``. One that cannot be read is
    lost: it says that the chat was answered, and not up to when."""
    if not isinstance(document, Mapping):
        return {}
    return {str(jid): moment(at) for jid, at in document.items()}


def answered_until(old: OldHome, jid: str, said: Sequence[OldMessage]) -> Micros:
    """Up to when a chat was answered. If the old home does not say: up to the assistant's last message. If there is
    none: up to the last message but one, so that old messages are not answered again. Only where other chats' cursors
    and the assistant's words in them were kept is such a chat a new one, of which nothing was answered."""
    known = old.answered.get(jid)
    if known is not None and known != NEVER:
        return known
    words = [each.at for each in said if each.bot]
    if words:
        return max(words)
    is_new = known is None and bool(old.answered) and any(each.bot for each in old.messages)
    return NEVER if is_new or len(said) < 2 else sorted(each.at for each in said)[-2]


def moment(found: object) -> Micros:
    """Parse a time as old homes write it: ISO 8601, or a number of seconds or milliseconds."""
    if isinstance(found, str):
        try:
            at = datetime.fromisoformat(found.strip())
        except ValueError:
            return moment(float(found)) if re.fullmatch(r"\d{9,13}(\.\d+)?", found) else NEVER
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return Micros(round(at.timestamp() * 1_000_000))
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 1e14:
        return Micros(round(found * (1_000 if found > 1e11 else 1_000_000)))
    return NEVER


#: What an earlier Pynchy kept among the messages: what its host said, and the steps of its agent.
_NOTES: Final = frozenset({"system", "host"})
_STEPS: Final = frozenset({"thinking", "tool_use", "tool_result", "result_meta", "system", "host"})


def read_messages(
    rows: Iterable[Mapping[str, Any]], *, names: Iterable[str], problems: list[str]
) -> tuple[OldMessage, ...]:
    """The messages, in the order they were sent. ``names``: those by which the assistant signed."""
    signs = tuple(f"{name}:" for name in names if name)
    found, unread, notes = [], 0, 0
    for row in rows:
        text, at = row.get("content"), moment(row.get("timestamp"))
        if not isinstance(text, str) or not row.get("id") or at == NEVER:
            unread += 1
            continue
        if row.get("message_type") in _NOTES or row.get("sender") in _STEPS:
            notes += 1
            continue
        own = bool(row.get("is_from_me"))
        sign = next((each for each in signs if text.startswith(each)), "")
        bot = (
            bool(row.get("is_bot_message"))
            or row.get("message_type") == "assistant"
            or (own and bool(sign))
        )
        found.append(
            OldMessage(
                jid=str(row["chat_jid"]),
                id=str(row["id"]),
                sender=str(row.get("sender") or row["chat_jid"]),
                sender_name=str(row.get("sender_name") or ""),
                at=at,
                text=text.removeprefix(sign).lstrip() if bot else text,
                from_me=own,
                bot=bot,
            )
        )
    if unread:
        problems.append(f"{unread} messages without text, id or time are left out")
    if notes:
        problems.append(f"{notes} notes of its own on what the assistant did are left out")
    return tuple(sorted(found, key=lambda each: each.at))


def read_tasks(rows: Iterable[Mapping[str, Any]]) -> tuple[OldTask, ...]:
    """The tasks that have not ended."""
    return tuple(
        OldTask(
            id=str(row["id"]),
            old_folder=str(row["group_folder"]),
            jid=str(row.get("chat_jid") or ""),
            prompt=str(row["prompt"]),
            kind=str(row["schedule_type"]),
            value=str(row["schedule_value"]),
            context="group" if row.get("context_mode") == "group" else "isolated",
            paused=row.get("status") == "paused",
        )
        for row in rows
        if row.get("status") in ("active", "paused")
    )
