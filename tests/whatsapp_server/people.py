"""Those who write to the account and read what it says: each with a phone of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tests.whatsapp_server.protobufs import Message
from tests.whatsapp_server.signal import Keys
from tests.whatsapp_server.stanza import Jid, Node, hidden_jid, number_jid

if TYPE_CHECKING:
    from tests.whatsapp_server.server import WhatsApp


@attrs.define(eq=False)
class Group:
    """A group that the account is in."""

    jid: Jid
    name: str
    members: list[Person]
    by_number: bool = False  # members are told by their numbers, not by their hidden ids


class Person:
    """Somebody with a number, a hidden id and a phone.

    What is said waits at the server until the client has acknowledged it.
    """

    def __init__(self, whatsapp: WhatsApp, name: str, *, number: str, hidden: str) -> None:
        self.name, self.number, self.hidden = name, number, hidden
        self.keys = Keys()
        self._whatsapp = whatsapp

    @property
    def jid(self) -> Jid:
        return number_jid(self.number)

    @property
    def hidden_jid(self) -> Jid:
        return hidden_jid(self.hidden)

    def say(self, text: str, *, to: Group | None = None, **how: object) -> str:
        """Write a text, to the account or in a group; its id."""
        return self.send(Message(conversation=text), to=to, **how)  # type: ignore[arg-type]

    def send(
        self,
        message: Message,
        *,
        to: Group | None = None,
        id: str = "",
        by_number: bool = False,
        at: float | None = None,
        **attributes: str,
    ) -> str:
        """Send any message, to the account or in a group; its id. ``by_number``: directly under the number, not the
        hidden id. More attributes are set, and empty ones taken away."""
        id = id or self._whatsapp.new_id()
        address = self._in_group(to) if to is not None else self._directly(by_number=by_number)
        node = self._stanza(id, address, message.SerializeToString(), at, attributes)
        self._whatsapp.deliver(node)
        return id

    def send_garbage(self, *, to: Group | None = None) -> str:
        """Send what nobody can read; its id."""
        id = self._whatsapp.new_id()
        address = self._in_group(to) if to is not None else self._directly(by_number=False)
        node = self._stanza(id, address, b"", None, {})
        node.content = [Node("enc", {"v": "2", "type": "pkmsg"}, b"\x33" + os.urandom(200))]
        self._whatsapp.deliver(node)
        return id

    def _directly(self, *, by_number: bool) -> dict[str, str | Jid]:
        if by_number:
            return {"from": self.jid, "sender_lid": self.hidden_jid}
        return {"from": self.hidden_jid, "sender_pn": self.jid}

    def _in_group(self, group: Group) -> dict[str, str | Jid]:
        if group.by_number:
            who: dict[str, str | Jid] = {"participant": self.jid, "addressing_mode": "pn"}
        else:
            who = {"participant": self.hidden_jid, "participant_pn": self.jid}
            who["addressing_mode"] = "lid"
        return {"from": group.jid, **who}

    def _stanza(
        self,
        id: str,
        address: dict[str, str | Jid],
        plain: bytes,
        at: float | None,
        more: dict[str, str],
    ) -> Node:
        if not self.keys.has_session:
            self.keys.begin(self._whatsapp.take_bundle())
        padding = 1 + os.urandom(1)[0] % 15
        cipher = self.keys.encrypt(plain + bytes([padding]) * padding)
        attributes: dict[str, str | Jid] = {
            "id": id,
            "type": "text",
            "t": str(int(time.time() if at is None else at)),
            "notify": self.name,
            **address,
        }
        for name, value in more.items():
            attributes[name] = Jid(value) if "@" in value else value
        attributes = {name: value for name, value in attributes.items() if value}
        return Node("message", attributes, [Node("enc", {"v": "2", "type": "pkmsg"}, cipher)])


class Phone(Person):
    """The phone that the account belongs to. It links the client, and writes as the account itself."""

    def scan(self, code: str) -> None:
        """Scan the code that the client shows."""
        self._whatsapp.linking.scan(code)

    def type_code(self, code: str) -> None:
        """Type in the code that the client shows."""
        self._whatsapp.linking.type_code(code)

    def unlink(self) -> None:
        """Remove the client, under Linked devices."""
        self._whatsapp.linking.unlink()

    def send(
        self,
        message: Message,
        *,
        to: Group | Person | None = None,
        id: str = "",
        by_number: bool = False,
        at: float | None = None,
        **attributes: str,
    ) -> str:
        """Send as the account: a note to itself, or to somebody, or in a group; its id."""
        id = id or self._whatsapp.new_id()
        address: dict[str, str | Jid] = {"from": self.hidden_jid}
        if to is None:
            plain = message.SerializeToString()
        else:
            chat = to.jid if isinstance(to, Group) or by_number else to.hidden_jid
            plain = _sent_to(chat, message).SerializeToString()
            if isinstance(to, Group):
                address = self._in_group(to)
            elif by_number:
                address = {"from": self.jid, "recipient": chat}
            else:
                address["recipient"] = chat
        self._whatsapp.deliver(self._stanza(id, address, plain, at, attributes))
        return id


def _sent_to(chat: Jid, message: Message) -> Message:
    wrapped = Message()
    wrapped.deviceSentMessage.destinationJID = chat
    wrapped.deviceSentMessage.message.CopyFrom(message)
    return wrapped


@attrs.frozen
class Said:
    """A message of the client, as the phones of those it was meant for have read it."""

    id: str
    chat: Jid
    at: float  # time.monotonic
    body: Message | None  # None: no phone could read it
    attributes: dict[str, str] = attrs.field(factory=dict)
    error: str = ""  # why nobody could read it
    repeated: bool = False  # a part of it is encrypted with keys that were used before

    @property
    def text(self) -> str:
        """Its text, or the caption of its file, or its reaction."""
        body = self.body
        if body is None:
            return ""
        found = body.conversation or body.extendedTextMessage.text or body.reactionMessage.text
        if found:
            return str(found)
        captions = (getattr(part, "caption", "") for _, part in body.ListFields())
        return next((str(each) for each in captions if each), "")

    @property
    def fields(self) -> Sequence[str]:
        """The names of its parts."""
        return [field.name for field, _ in self.body.ListFields()] if self.body is not None else []
