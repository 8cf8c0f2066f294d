"""The console channel, always present. Its chats are named ``console:<name>``.

People reach it over the control socket (`pynchy chat`, `pynchy send`), see `control.ops.console`. A reply counts as
sent once the daemon has it as a row: whoever is attached sees it now, whoever comes later asks for the history.

The rule that keeps it so: nothing is kept here. What must last is in the store; what is here
(who is attached, who types) is true only as long as the connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import attrs
import trio

from pynchy.chat.channel import ChannelEvent, Incoming
from pynchy.model import ChatId, GroupId, Message, Micros, Outgoing, SenderId, Seq, TurnTold


class Listener(Protocol):
    """Somebody who is told what happens in a chat, at once or never."""

    def tell(self, event: Mapping[str, object], /) -> None: ...


@attrs.define
class Handed:
    """A message on its way into the store; ``folder`` is None if its chat is no group's."""

    message: Message
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
    """The console `Channel`, and what its clients can do."""

    _sender: trio.MemorySendChannel[Incoming]
    _receiver: trio.MemoryReceiveChannel[Incoming]
    _now: Callable[[], Micros]
    _new_id: Callable[[], str]
    _last_number: int = 0
    _handed: dict[int, Handed] = attrs.field(factory=dict)
    _attached: dict[str, dict[Listener, None]] = attrs.field(factory=dict)
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
        told = ("chat", "id", "message_id", "turn", "kind", "text", "path", "target")
        self._tell(out.chat, {"event": "message", **{name: getattr(out, name) for name in told}})
        await trio.lowlevel.checkpoint()

    async def set_typing(self, chat: ChatId, on: bool) -> None:
        if on != self.types(chat):
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
        for handed in self._handed.values():
            if (handed.message.chat, handed.message.id) == (message.chat, message.id):
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
        self._tell(told.chat, {"event": "turn", **attrs.asdict(told)})

    def _tell(self, chat: ChatId, event: Mapping[str, object]) -> None:
        for listener in [*self._attached.get(chat, ()), *self._attached.get("*", ())]:
            listener.tell(event)

    # --- its clients

    def types(self, chat: str) -> bool:
        """Whether an answer is being written in this chat."""
        return chat in self._typing

    def attach(self, listener: Listener, chat: str) -> bool:
        """Tell the listener what happens in a chat, or in all with ``*``; False if it is told already."""
        here = self._attached.setdefault(chat, {})
        new = listener not in here
        here[listener] = None
        return new

    def detach(self, listener: Listener, chat: str) -> None:
        """Tell it no more."""
        here = self._attached.get(chat, {})
        here.pop(listener, None)
        if not here:
            self._attached.pop(chat, None)

    async def say(
        self, chat: ChatId, text: str, *, sender: SenderId, sender_name: str, id: str
    ) -> Handed:
        """Bring a message in; returns once it is committed. Without an ``id`` it gets a new one."""
        message = Message(
            chat=chat,
            id=id or self._new_id(),
            sender=sender,
            sender_name=sender_name,
            sent_at=self._now(),
            text=text,
        )
        self._last_number += 1
        number, handed = self._last_number, Handed(message)
        self._handed[number] = handed
        try:
            await self._sender.send(Incoming(message, number))
            await handed.committed.wait()
        finally:
            del self._handed[number]
        return handed
