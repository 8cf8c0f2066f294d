"""Control ops on groups: list, register, allow, pause, resume, stop and remove them.

The rule that keeps it so: an op reads what it is given, calls an act, and answers plainly.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import attrs

from pynchy.actions import groups as acts
from pynchy.actions.actor import Actor
from pynchy.actions.call import Scaffold
from pynchy.actions.effects import Effects
from pynchy.actions.groups import Naming, Registration
from pynchy.chat.channel import ChatSeen
from pynchy.control.ops.acting import Acting, check_chat
from pynchy.control.server import Client, OpFailed, op
from pynchy.model import MAIN, ChatId, Group, GroupId, SenderId, channel_of
from pynchy.policy.group_settings import OTHERS
from pynchy.store import breakers, groups
from pynchy.store.database import Database, Tx
from pynchy.text.names import clean_name
from pynchy.whatsapp.read import GROUPS, chat_id


@attrs.frozen
class Wanted:
    """A chat that is to be registered, as the owner asks for it: what is empty is chosen, or left as it is."""

    chat: str
    folder: str = ""
    name: str = ""
    trigger: str = ""
    requires_trigger: bool | None = None


@attrs.frozen
class GroupOps:
    """The table of these ops. ``assistant`` is the name that wakes a new group, ``scaffold`` makes its folders;
    ``refresh`` asks the messengers for their chats, and gives None where none could say."""

    acting: Acting
    assistant: str
    scaffold: Scaffold
    refresh: Callable[[], Awaitable[Sequence[ChatSeen] | None]]

    @op("groups.list")
    async def list(self, client: Client) -> object:
        """All groups, main first."""
        return await self.acting.store.call(shown_groups)

    @op("groups.add")
    async def add(self, client: Client, wanted: Wanted) -> object:
        """Register a chat: for a new group, or, where the folder exists, as one more chat of it.

        What else is given is set in either case; what is not, is left as it is. Without a folder a
        messenger's chat gets a new one, named after it.
        """
        chat, folder = wanted.chat, wanted.folder
        if chat.startswith("console:"):
            check_chat(chat)
            folder = folder or chat.removeprefix("console:")
        elif (found := chat_id(chat)) is not None:
            chat = found
        else:
            raise OpFailed(
                "bad_request", f"{chat[:80]!r}: expected a chat id, see `pynchy groups discover`"
            )
        wanted = attrs.evolve(wanted, chat=chat, folder=folder)
        return await self.acting.get(add, wanted, self.assistant, self.scaffold)

    @op("groups.remove")
    async def remove(self, client: Client, *, folder: str) -> object:
        """Forget a group. Its files and its history stay."""
        await self.acting.act(acts.remove, GroupId(folder))
        return {"folder": folder}

    @op("groups.stop")
    async def stop(self, client: Client, *, folder: str) -> object:
        """Stop what a group works on, as ``/stop`` in its chat does: how many turns; ``ended`` if an agent was."""
        ended = await self.acting.get(acts.stop, GroupId(folder))
        told = {"folder": folder, "stopped": ended.turns}
        return told | ({"ended": True} if ended.agent else {})

    @op("groups.pause")
    async def pause(self, client: Client, *, folder: str) -> object:
        """Answer a group no more for now. Its messages are kept."""
        await self.acting.act(acts.pause, GroupId(folder))
        return {"folder": folder, "paused": True}

    @op("groups.resume")
    async def resume(self, client: Client, *, folder: str) -> object:
        """Answer a group again, beginning with what came meanwhile; one that was held back goes on, too."""
        await self.acting.act(acts.resume, GroupId(folder))
        return {"folder": folder, "paused": False}

    @op("groups.discover")
    async def discover(self, client: Client) -> object:
        """The messengers' chats that are not registered, the latest active first.

        ``asked`` says whether a messenger answered; else the list is what was known before.
        """
        seen = await self.refresh()
        return {"asked": seen is not None, "chats": await self.acting.store.call(_discover, seen)}

    @op("groups.main")
    async def choose_main(self, client: Client, *, chat: str) -> object:
        """Make a messenger's chat the one that main has there, in the place of another; none if empty."""
        wanted = chat_id(chat) if chat else None
        if chat and wanted is None:
            raise OpFailed("bad_request", f"{chat[:80]!r}: expected a WhatsApp id or a number")
        chats = await self.acting.get(
            acts.set_main_chat, None if wanted is None else ChatId(wanted)
        )
        return {"folder": MAIN, "chats": chats}

    @op("groups.allow")
    async def allow(self, client: Client, *, folder: str, senders: str, others: str = "") -> object:
        """Say to whom a group listens: numbers or ids with commas, or ``everybody``; to its owner always.

        ``others`` are ``context`` for it, or ``ignored``: then nothing that they write is kept.
        """
        allowed = None if senders == "everybody" else [each for each in senders.split(",") if each]
        ids = None if allowed is None else [chat_id(each.strip()) for each in allowed]
        if ids is not None and (
            not ids or None in ids or any(str(i).endswith(GROUPS) for i in ids)
        ):
            raise OpFailed(
                "bad_request",
                "expected numbers with their country code, as +491701234567, WhatsApp ids, or everybody",
            )
        if others not in ("", *OTHERS):
            raise OpFailed("bad_request", "others: expected context or ignored")
        wanted = None if ids is None else tuple(SenderId(str(each)) for each in ids)
        await self.acting.act(acts.allow, GroupId(folder), wanted, others)
        settings = await self.acting.store.call(groups.settings, GroupId(folder))
        return {"folder": folder, "senders": wanted, "others": settings.get("others", "context")}


def add(
    tx: Tx, actor: Actor, wanted: Wanted, assistant: str, scaffold: Scaffold
) -> tuple[dict[str, object], Effects]:
    """Register a chat: for a new group, or as one more chat of one that is there."""
    chat = ChatId(wanted.chat)
    called = groups.chat_name(tx, chat)
    folder = GroupId(wanted.folder) or _free_folder(tx, called or chat.partition("@")[0])
    if groups.get(tx, folder) is None:
        registration = Registration(
            folder=folder,
            chat=chat,
            name=wanted.name or clean_name(called, fallback="") or folder,
            trigger=wanted.trigger or assistant,
            requires_trigger=wanted.requires_trigger is not False,
        )
        group, effects = acts.register(tx, actor, registration, scaffold)
    else:
        naming = Naming(wanted.name or None, wanted.trigger or None, wanted.requires_trigger)
        group, effects = acts.add_chat(tx, actor, folder, chat, naming)
    return _shown(tx, group), effects


def _free_folder(db: Database, called: str) -> GroupId:
    """A folder that no group has, named after what a chat is called."""
    plain = unicodedata.normalize("NFKD", called).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "chat"
    taken = {"main", "global"} | {group.folder for group in groups.list_groups(db)}
    names = (f"{stem}-{number}" if number > 1 else stem for number in count(1))
    return GroupId(next(name for name in names if name not in taken))


def shown_groups(db: Database) -> list[dict[str, object]]:
    """All groups, main first, for the owner's programs."""
    return [_shown(db, group) for group in groups.list_groups(db)]


def _shown(db: Database, group: Group) -> dict[str, object]:
    return {
        "folder": group.folder,
        "name": group.name,
        "chats": groups.chats_of(db, group.folder),
        "trigger": group.trigger,
        "requires_trigger": group.requires_trigger,
        "answers": group.answers,
        "main": group.is_main,
        "paused": group.paused,
        "held_back": breakers.held_back(db).get(group.folder),
    }


def _discover(db: Database, seen: Sequence[ChatSeen] | None) -> list[dict[str, object]]:
    for each in seen or ():
        groups.see_chat(db, each.chat, name=clean_name(each.name, fallback=""))
    joined = None if seen is None else {each.chat for each in seen}
    return [
        {"chat": found.chat, "name": found.name, "last_at": found.last_at}
        for found in groups.unregistered_chats(db, limit=-1)[0]
        if channel_of(found.chat) == "whatsapp"
        # A group that was left is remembered, and can be answered no more.
        and (joined is None or not found.chat.endswith(f"@{GROUPS}") or found.chat in joined)
    ]
