"""Store what a channel brings in, then acknowledge it to the channel, then wake its group.

The rule that keeps it so: nothing is acknowledged before its row is committed, and nothing of a
message is decided here; the store knows what triggers, `commands` knows what is a command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn

import attrs
import trio

from pynchy.actions.effects import NOTHING, Awaits, Effects
from pynchy.chat import commands
from pynchy.chat.channel import (
    Channel,
    ChannelEvent,
    ChatSeen,
    Incoming,
    NotConnected,
    Redelivers,
    SetAside,
    StateChanged,
)
from pynchy.chat.commands import Command
from pynchy.logs import logger
from pynchy.model import Group, GroupId, Message
from pynchy.store import groups, messages, notices
from pynchy.store.connection import StoreError
from pynchy.store.database import Store, Tx
from pynchy.text.names import clean_name
from pynchy.text.reply import NOTICE_PREFIX, within

BURST: Final = 100  # messages that wait while a commit is under way, and the most in one commit
LOOPS: Final = "I take it for a program and do not answer it for an hour; others I do."


@attrs.frozen
class Asked:
    """A command given in a chat. ``refusal`` says why its sender may not give it, if they may not."""

    command: Command
    message: Message
    group: Group
    refusal: str | None


OnCommand = Callable[[Tx, Asked], Effects]
"""Carries a chat command out.

Called once for each command, in the transaction that stores its message, in the store's thread: its
writes exist exactly if the message does. What it returns is carried out after the commit.
"""


async def _read(channel: Channel, burst: trio.MemorySendChannel[ChannelEvent]) -> NoReturn:
    while True:
        await burst.send(await channel.receive())


@attrs.frozen
class _Kept:
    """The result of storing a message."""

    message: Message
    received: messages.Received
    effects: Effects = NOTHING


@attrs.frozen(eq=False)
class Receiver:
    """Stores what ``channel`` brings, while it runs.

    ``stored`` is called with each result before the message is acknowledged; ``carry_out`` does what follows.
    """

    channel: Channel
    store: Store
    on_command: OnCommand
    carry_out: Callable[[Effects], Awaitable[None]]
    on_state: Callable[[str, StateChanged], None] = lambda name, change: None
    stored: Callable[[Message, messages.Received], None] = lambda message, received: None

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Runs until cancelled.

        Messages that come during a commit share the next one. A message that cannot be stored is dropped and
        main is told; it never stops those behind it.
        """
        burst, events = trio.open_memory_channel[ChannelEvent](BURST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, self.channel, burst, name=f"{self.channel.name} events")
            task_status.started()
            while True:
                batch = [await events.receive()]
                with suppress(trio.WouldBlock):
                    while len(batch) < BURST:
                        batch.append(events.receive_nowait())
                await self._take_in(batch)
        raise AssertionError("unreachable")

    async def _take_in(self, batch: Sequence[ChannelEvent]) -> None:
        """Store, carry commands out, acknowledge, and ring each group that has something to answer."""
        wake: dict[GroupId, None] = {}  # in order, each once
        refused: set[int] = (
            set()
        )  # their numbers: the channel brings them again, or sets them aside
        for kept in await self._keep_all(batch, refused):
            self.stored(kept.message, kept.received)
            if kept.received.wakes and kept.received.folder is not None:
                wake[kept.received.folder] = None
            if kept.effects:
                await self.carry_out(kept.effects)
        for event in batch:
            match event:
                case Incoming(number=int(number)) if number not in refused:
                    await self._let_go(number)
                case SetAside(number=number):
                    await self._tell(_tell_set_aside, event)
                    await self._let_go(number)
                case StateChanged():
                    logger.info("{}: {} {}", self.channel.name, event.state, event.detail)
                    self.on_state(self.channel.name, event)
        if wake:
            await self.carry_out(Effects(look=tuple(wake)))

    async def _keep_all(self, batch: Sequence[ChannelEvent], refused: set[int]) -> list[_Kept]:
        try:
            return await self.store.call(_keep, batch, self.on_command)
        except StoreError:
            raise
        except Exception as error:  # contained here, and only here: one message's trouble
            if len(batch) > 1:
                return [kept for event in batch for kept in await self._keep_all([event], refused)]
            logger.exception("{}: a message could not be stored", self.channel.name)
            match batch[0], self.channel:
                case Incoming(number=int(number)), Redelivers() as channel:
                    refused.add(number)
                    with suppress(NotConnected):
                        await channel.reject(number, f"{type(error).__name__}: {error}")
                case Incoming(message), _:
                    await self._give_up(message, error)
            return []

    async def _give_up(self, message: Message, error: Exception) -> None:
        text = f"A message in {within(message.chat)} could not be stored ({type(error).__name__})."
        await self._tell(_tell_main, "unstored", text)

    async def _tell(self, tell: Callable[..., bool], *what: object) -> None:
        if await self.store.call(tell, *what):
            await self.carry_out(Effects(speaks=True))

    async def _let_go(self, number: int) -> None:
        try:
            await self.channel.acknowledge(number)
        except NotConnected:
            logger.info("{}: gone before message {} was acknowledged", self.channel.name, number)


def _keep(tx: Tx, batch: Sequence[ChannelEvent], on_command: OnCommand) -> list[_Kept]:
    """Store what is in a burst, in order, in one transaction."""
    kept: list[_Kept] = []
    for event in batch:
        match event:
            case Incoming(message):
                message = _named(message)
                kept.append(_keep_message(tx, message, on_command))
            case ChatSeen(chat, name):
                groups.see_chat(tx, chat, name=clean_name(name, fallback=""))
            case SetAside() | StateChanged():  # told once the rest is stored
                pass
    return kept


def _named(message: Message) -> Message:
    """The event with cleaned names, because people choose their own and their chats' names."""
    chat_name = message.chat_name and clean_name(message.chat_name, fallback="")
    sender_name = clean_name(message.sender_name, fallback=message.sender)
    return attrs.evolve(message, sender_name=sender_name, chat_name=chat_name)


def _keep_message(tx: Tx, message: Message, on_command: OnCommand) -> _Kept:
    group = groups.by_chat(tx, message.chat)
    command = None if group is None else commands.parse(message, group)
    received = messages.receive(tx, message, command=command is not None)
    if received.loops:
        who = clean_name(message.sender_name)
        words = f"{NOTICE_PREFIX}{who} answers me faster than people do, every time. {LOOPS}"
        notices.tell(tx, message.chat, words)
        return _Kept(message, received, Effects(speaks=True))
    if group is None or command is None or received.seq is None:
        # A second delivery, and what we sent ourselves, are no commands.
        answers = received.answers
        answered = () if answers is None else (Awaits("answer", answers),)
        return _Kept(message, received, Effects(answered=answered))
    refusal = commands.refusal(command, message, group)
    asked = Asked(command=command, message=message, group=group, refusal=refusal)
    return _Kept(message, received, Effects(speaks=True) + on_command(tx, asked))


def _tell_main(tx: Tx, kind: str, text: str) -> bool:
    return notices.tell_main_once(tx, kind, f"{NOTICE_PREFIX}{text}")


def _tell_set_aside(tx: Tx, event: SetAside) -> bool:
    who = f" of {clean_name(event.who)}" if event.who else ""
    group = groups.by_chat(tx, event.chat)
    place = within((group.name if group else event.chat) or "a chat that cannot be told")
    text = f"A message{who} in {place} was given up: {within(event.reason)}. Ask for it again."
    return _tell_main(tx, f"aside:{event.chat}", text)
