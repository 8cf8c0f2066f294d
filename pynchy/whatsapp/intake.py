"""Take in what WhatsApp brings: each event is in the journal before the library's callback returns."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pynchy.limits import WHATSAPP
from pynchy.model import ChatId, Message
from pynchy.whatsapp import lines
from pynchy.whatsapp import read as reading
from pynchy.whatsapp.journal import Journal
from pynchy.whatsapp.process import words_of

_log = logging.getLogger("bridge")


@attrs.define(eq=False)
class Orders:
    """What the daemon wants of this bridge. It may name other chats later."""

    name: str  # the assistant's
    media_limit: int  # bytes
    chats: Mapping[str, str]  # registered chat -> its media folder
    shared: bool = False  # the number is a person's too


@attrs.define(eq=False)
class Intake:
    """Events of a linked account on their way into the journal."""

    journal: Journal
    orders: Orders
    own: reading.Own
    more: threading.Event  # there is more in the journal
    _look_up: Callable[[str], str | None]  # the number behind a hidden id
    _numbers: dict[str, str] = attrs.field(factory=dict)
    _expirations: dict[str, int] = attrs.field(
        factory=dict
    )  # of chats, as far as noted in this life
    _unread: dict[str, list[tuple[str, str]]] = attrs.field(factory=dict)  # chat -> (sender, id)

    def message(self, event: Any) -> None:
        """Into the journal, and only then back to the library."""
        try:
            self._take(event)
        except Exception as error:  # contained here, and only here: one event's trouble
            _log.exception("an event was not understood")
            self._set_aside(event, error)

    def _take(self, event: Any) -> None:
        # The library writes them down a moment later, and its file can be busy when one is looked up.
        self._numbers.update(reading.numbers_told(event))
        told = reading.expiration_of(event, own=self.own, number_of=self._number_of)
        if told is not None:
            chat, seconds = told
            self.learn_expiration(self._registered_as(chat, event), seconds)
        read = reading.read(event, own=self.own, number_of=self._number_of)
        if read is None:
            return
        chat = ChatId(self._registered_as(read.message.chat, event))
        message = lines.fitted(self._ours_named(attrs.evolve(read.message, chat=chat)))
        payload: dict[str, Any] = {}
        registered = message.chat in self.orders.chats
        if not registered:  # a name and a time, never content
            if message.edits or message.revokes:
                return
            message = attrs.evolve(message, text="", quoted=None, mentions_me=False)
        elif read.media is not None:
            payload["media"] = attrs.asdict(read.media)
            payload["source"] = base64.b64encode(event.Message.SerializeToString()).decode()
        if read.by != message.sender:
            payload["claim"] = read.by
        payload["message"] = lines.message_out(message)
        sender = reading.text_id(event.Info.MessageSource.Sender)
        kept = self.journal.put(
            json.dumps([message.chat, read.by, message.id]),
            json.dumps(payload),
            wa_id=message.id,
            own=(message.chat, read.message.text) if message.from_me else None,
            said_by=sender,
        )
        if kept:
            self.more.set()
        if kept and registered and not message.from_me:
            unread = self._unread.setdefault(message.chat, [])
            unread.append((sender, message.id))
            del unread[: -WHATSAPP.unread]

    def _registered_as(self, chat: str, event: Any) -> str:
        return reading.registered_as(chat, event, self.orders.chats)

    def learn_expiration(self, chat: str, seconds: int) -> None:
        """After how long a chat's messages disappear. What we send there is to do so, too."""
        if chat in self.orders.chats and self._expirations.get(chat) != seconds:
            self._expirations[chat] = seconds
            self.journal.learn_expiration(chat, seconds)

    def take_unread(self, chat: str) -> dict[str, list[str]]:
        """The newest messages of a chat that are not marked as read yet, by sender; they are from now on."""
        by_sender: dict[str, list[str]] = {}
        for who, message_id in self._unread.pop(chat, []):
            by_sender.setdefault(who, []).append(message_id)
        return by_sender

    def unraisable(self, args: Any) -> None:
        """An exception that nobody could be told of: the library's, of an event that is not even
        one of its protobufs, or our own."""
        error = args.exc_value or args.exc_type()
        _log.error("%s: %r", args.err_msg or "an exception", args.object, exc_info=error)
        if type(error).__name__ == "DecodeError":
            identity = json.dumps(["", "", secrets.token_hex(16)])
            self._put_aside(identity, chat="", payload="", reason="it is damaged")

    def _set_aside(self, event: Any, error: Exception) -> None:
        """Keep a message that could not be read, and have it told. The library brings it only once."""
        source = event.Info.MessageSource
        chat, who = reading.text_id(source.Chat), reading.text_id(source.Sender)
        ours = chat in self.orders.chats
        self._put_aside(
            json.dumps([chat, who, lines.short_id(str(event.Info.ID))]),
            chat=chat,
            payload=base64.b64encode(event.SerializePartialToString()).decode() if ours else "",
            reason=words_of(error),
        )

    def _put_aside(self, identity: str, *, chat: str, payload: str, reason: str) -> None:
        try:
            told = self.journal.put_aside(identity, chat=chat, payload=payload, reason=reason[:500])
        except Exception:  # a full disk: what cannot be kept can still be logged
            _log.exception("and it could not be set aside")
        else:
            if told:
                self.more.set()

    def _ours_named(self, message: Message) -> Message:
        """A quote of what we said names it as the daemon does, who chose that id."""
        quoted = message.quoted
        ours = None if quoted is None else self.journal.ours(quoted.id)
        if quoted is None or ours is None:
            return message
        return attrs.evolve(message, quoted=attrs.evolve(quoted, id=ours))

    def _number_of(self, lid: str) -> str | None:
        if lid not in self._numbers:
            found = self._look_up(lid.partition("@")[0])
            if found is None:
                _log.warning("the number behind %s is not known", lid)
                return None
            self._numbers[lid] = f"{found.partition('@')[0]}@{reading.PEOPLE}"
        return self._numbers[lid]
