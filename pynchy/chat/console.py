"""The console channel, always present. Its chats are named ``console:<name>``.

People reach it over the control socket (`pynchy chat`, `pynchy send`): the ops ``attach``, ``detach``
and ``send`` are its side of it. A message counts as received once the daemon has committed it, so
``send`` answers only then. A reply counts as sent once the daemon has it as a row: whoever is
attached sees it now, whoever comes later asks for the history.

The rule that keeps it so: nothing is kept here. What must last is in the store; what is here
(who is attached, who types) is true only as long as the connections.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from pynchy.chat.channel import ChannelEvent, Incoming
from pynchy.control.server import Client, Op, OpFailed
from pynchy.limits import CLIENTS
from pynchy.model import ChatId, GroupId, Message, Micros, Outgoing, SenderId, Seq, TurnTold

OWNER: Final = SenderId("console:owner")  # whoever may use the control socket
MAX_TEXT: Final = CLIENTS.message
_CHAT: Final = re.compile(r"console:[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_MESSAGE_ID: Final = re.compile(r"[0-9a-zA-Z-]{8,64}", re.ASCII)
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")


@attrs.define
class _Handed:
    """A message on its way into the store."""

    committed: trio.Event = attrs.field(factory=trio.Event)
    seq: Seq | None = None
    folder: GroupId | None = None
    wakes: bool = False


@asynccontextmanager
async def open_console(
    *, now: Callable[[], Micros], new_id: Callable[[], str]
) -> AsyncIterator[Console]:
    """Open the console for the length of the block."""
    sender, receiver = trio.open_memory_channel[Incoming](100)  # a burst; then senders wait
    async with sender, receiver:
        yield Console(sender, receiver, now, new_id)


@attrs.define(eq=False)
class Console:
    """The console `Channel`, and its ops."""

    _sender: trio.MemorySendChannel[Incoming]
    _receiver: trio.MemoryReceiveChannel[Incoming]
    _now: Callable[[], Micros]
    _new_id: Callable[[], str]
    _last_number: int = 0
    _handed: dict[int, _Handed] = attrs.field(factory=dict)
    _by_id: dict[str, int] = attrs.field(factory=dict)
    _attached: dict[str, dict[Client, None]] = attrs.field(factory=dict)
    _typing: dict[ChatId, None] = attrs.field(factory=dict)

    @property
    def name(self) -> str:
        return "console"

    # --- the channel, for the daemon

    async def receive(self) -> ChannelEvent:
        return await self._receiver.receive()

    async def acknowledge(self, number: int) -> None:
        if handed := self._handed.get(number):
            handed.committed.set()
        await trio.lowlevel.checkpoint()

    async def send(self, out: Outgoing) -> None:
        """Show a message to all attached clients. It counts as sent even if there are none."""
        self._tell(
            out.chat,
            {
                "event": "message",
                "chat": out.chat,
                "id": out.id,
                "message_id": out.message_id,
                "turn": out.turn,
                "kind": out.kind,
                "text": out.text,
                "path": out.path,
                "target": out.target,
            },
        )
        await trio.lowlevel.checkpoint()

    async def set_typing(self, chat: ChatId, on: bool) -> None:
        if on != (chat in self._typing):
            if on:
                self._typing[chat] = None
            else:
                del self._typing[chat]
            self._tell(chat, {"event": "typing", "chat": chat, "on": on})
        await trio.lowlevel.checkpoint()

    async def was_sent(self, message_id: str) -> bool | None:
        """No: nobody who saw it is still attached, and clients know a message by its id."""
        await trio.lowlevel.checkpoint()
        return False

    # --- what the daemon tells besides, for whoever waits

    def stored(
        self, message: Message, *, seq: Seq | None, folder: GroupId | None, wakes: bool
    ) -> None:
        """A message is committed (before its acknowledgement): as which row, for which group."""
        if handed := self._handed.get(self._by_id.get(message.id, 0)):
            handed.seq, handed.folder, handed.wakes = seq, folder, wakes
        if seq is not None:
            self._tell(
                message.chat,
                {
                    "event": "incoming",
                    "chat": message.chat,
                    "seq": seq,
                    "message_id": message.id,
                    "sender": message.sender,
                    "sender_name": message.sender_name,
                    "text": message.text,
                },
            )

    def turn(self, told: TurnTold) -> None:
        """A turn of a chat, of this channel or not, began or ended."""
        self._tell(
            told.chat,
            {
                "event": "turn",
                "chat": told.chat,
                "turn": told.turn,
                "state": told.state,
                "seqs": list(told.seqs),
                "replies": list(told.replies),
                "error": told.error,
            },
        )

    def _tell(self, chat: ChatId, event: Mapping[str, object]) -> None:
        for client in [*self._attached.get(chat, ()), *self._attached.get("*", ())]:
            client.tell(event)

    # --- the ops, for clients of the control socket

    @property
    def ops(self) -> Mapping[str, Op]:
        return {"attach": self.attach, "detach": self.detach, "send": self.say}

    async def attach(self, client: Client, *, chat: str) -> object:
        """Send this client the events of a chat from now on; ``*`` means all chats."""
        await trio.lowlevel.checkpoint()
        if chat != "*":
            check_chat(chat)
        here = self._attached.setdefault(chat, {})
        if client not in here:
            here[client] = None
            client.when_gone(lambda: self._leave(client, chat))
        return {"chat": chat, "typing": chat in self._typing}

    async def detach(self, client: Client, *, chat: str) -> object:
        """Stop sending the events of this chat."""
        await trio.lowlevel.checkpoint()
        self._leave(client, chat)
        return {"chat": chat}

    def _leave(self, client: Client, chat: str) -> None:
        here = self._attached.get(chat, {})
        here.pop(client, None)
        if not here:
            self._attached.pop(chat, None)

    async def say(
        self,
        client: Client,
        *,
        chat: str,
        text: str,
        sender: str = "",
        message_id: str = "",
    ) -> object:
        """Send a message to a chat, and answer once it is committed.

        ``message_id`` is the client's own id for the message: sending it again is harmless.
        """
        check_chat(chat)
        if not text.strip() or len(text) > MAX_TEXT or "\0" in text:
            raise OpFailed("bad_request", f"text: expected 1 to {MAX_TEXT} characters")
        if sender and not _NAME.fullmatch(sender):
            raise OpFailed("bad_request", "sender: expected a name of 1 to 64 characters")
        if message_id and not _MESSAGE_ID.fullmatch(message_id):
            raise OpFailed("bad_request", "message_id: expected 8 to 64 letters and digits")
        message = Message(
            chat=ChatId(chat),
            id=message_id or self._new_id(),
            sender=sender_id(sender),
            sender_name=sender or "Owner",
            sent_at=self._now(),
            text=text,
        )
        self._last_number += 1
        number, handed = self._last_number, _Handed()
        self._handed[number] = handed
        self._by_id[message.id] = number
        try:
            await self._sender.send(Incoming(message, number))
            await handed.committed.wait()
        finally:
            del self._handed[number]
            if self._by_id.get(message.id) == number:
                del self._by_id[message.id]
        if handed.folder is None:
            raise OpFailed("unknown_chat", f"{chat} is not registered: pynchy groups add {chat}")
        return {
            "chat": chat,
            "message_id": message.id,
            "seq": handed.seq,
            "folder": handed.folder,
            "wakes": handed.wakes,
        }


def sender_id(name: str) -> SenderId:
    """The sender's id: the owner, or somebody in whose name the owner writes."""
    slug = "-".join(name.casefold().split())
    return SenderId(f"console:{slug}") if slug else OWNER


def check_chat(chat: str) -> None:
    if not _CHAT.fullmatch(chat):
        raise OpFailed("not_a_console", f"{chat[:80]!r}: expected console: and a name in a-z, 0-9")
