"""Control ops to discover and register chats, choose main's, and say whom a group listens to.

The rule that keeps it so: what the messenger says of its groups and what is in the rows are put
together here, in one transaction, so that nobody has to ask twice. Who may ask has been settled by
the socket: whoever reaches it is the owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from pynchy.chat.channel import ChatSeen
from pynchy.control.server import Client, Op, OpFailed
from pynchy.model import MAIN, ChatId, GroupId, Micros, SenderId, channel_of
from pynchy.policy.group_settings import OTHERS
from pynchy.store import audit, groups
from pynchy.store.database import Database, Store, Tx
from pynchy.whatsapp.read import GROUPS, chat_id


@attrs.frozen
class Registration:
    """The table of ops. ``refresh`` asks the messengers, and is None where none could say.
    ``changed`` is told once other chats are registered than before."""

    store: Store
    now: Callable[[], Micros]
    refresh: Callable[[], Awaitable[Sequence[ChatSeen] | None]]
    changed: Callable[[], None]

    @property
    def ops(self) -> Mapping[str, Op]:
        return {
            "groups.discover": self.discover,
            "groups.main": self.choose_main,
            "groups.allow": self.allow,
        }

    async def discover(self, client: Client) -> object:
        """The messengers' chats that are not registered, the latest active first.

        ``asked`` says whether a messenger answered; else the list is what was known before.
        """
        seen = await self.refresh()
        return {"asked": seen is not None, "chats": await self.store.call(_discover, seen)}

    async def choose_main(self, client: Client, *, chat: str) -> object:
        """Make a messenger's chat the one that main has there, in the place of another; none if empty."""
        wanted = chat_id(chat) if chat else None
        if chat and wanted is None:
            raise OpFailed("bad_request", f"{chat[:80]!r}: expected a WhatsApp id or a number")
        try:
            chats = await self.store.call(set_main, wanted)
        except groups.CannotRegister as error:
            raise OpFailed("taken", str(error)) from None
        self.changed()
        return {"folder": MAIN, "chats": chats}

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
        try:
            return await self.store.call(
                _allow,
                GroupId(folder),
                None if ids is None else tuple(SenderId(str(each)) for each in ids),
                others=others,
            )
        except LookupError:
            raise OpFailed("unknown_group", f"{folder[:80]!r} is not a group") from None


def set_main(tx: Tx, chat: str | None) -> list[ChatId]:
    """Give main this WhatsApp chat and no other one; all its chats. Raises `CannotRegister`."""
    for other in groups.chats_of(tx, MAIN):
        if channel_of(other) == "whatsapp" and other != chat:
            groups.remove_chat(tx, other)
    if chat is not None:
        groups.add_chat(tx, MAIN, ChatId(chat))
    audit.record(tx, actor="owner", action="main's chat", folder=MAIN, detail={"chat": chat or ""})
    return groups.chats_of(tx, MAIN)


def _allow(
    tx: Tx, folder: GroupId, senders: tuple[SenderId, ...] | None, *, others: str
) -> dict[str, object]:
    if groups.get(tx, folder) is None:
        raise LookupError(folder)
    groups.set_allowed_senders(tx, folder, senders)
    settings = groups.settings(tx, folder)
    if others:
        settings["others"] = others
        groups.set_settings(tx, folder, settings)
    detail = {"senders": "everybody" if senders is None else list(senders), "others": others}
    audit.record(tx, actor="owner", action="allowed senders", folder=folder, detail=detail)
    return {
        "folder": folder,
        "senders": senders,
        "others": settings.get("others", "context"),
    }


def _discover(db: Database, seen: Sequence[ChatSeen] | None) -> list[dict[str, object]]:
    for each in seen or ():
        groups.see_chat(db, each.chat, name=each.name)
    joined = None if seen is None else {each.chat for each in seen}
    return [
        {"chat": found.chat, "name": found.name, "last_at": found.last_at}
        for found in groups.unregistered_chats(db, limit=-1)[0]
        if channel_of(found.chat) == "whatsapp"
        # A group that was left is remembered, and can be answered no more.
        and (joined is None or not found.chat.endswith(f"@{GROUPS}") or found.chat in joined)
    ]
