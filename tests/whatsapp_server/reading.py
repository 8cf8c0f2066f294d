"""What the client says, as the phones read it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.whatsapp_server.people import Person, Said
from tests.whatsapp_server.protobufs import Message
from tests.whatsapp_server.signal import REGISTRATION, Repeated, Unreadable
from tests.whatsapp_server.stanza import Jid, Node

if TYPE_CHECKING:
    from tests.whatsapp_server.connection import Connection
    from tests.whatsapp_server.server import WhatsApp


class Reading:
    """One phone of each chat reads for all: the first one that the client has given its key to."""

    def __init__(self, whatsapp: WhatsApp) -> None:
        self._whatsapp = whatsapp
        self._readers: dict[str, Person] = {}  # by group

    def read(self, node: Node) -> Said:
        """A message of the client, or why nobody can read it."""
        troubles: list[Unreadable] = []
        body = self._body(node, troubles)
        return Said(
            id=node.id,
            chat=node.jid("to"),
            at=time.monotonic(),
            body=body,
            attributes={name: str(value) for name, value in node.attributes.items()},
            error=str(troubles[0]) if troubles and body is None else "",
            repeated=any(isinstance(each, Repeated) for each in troubles),
        )

    def _body(self, node: Node, troubles: list[Unreadable]) -> Message | None:
        """What it says. One part that cannot be read does not keep a phone from the others."""
        chat = node.jid("to")
        body = own = None
        for each in node.child("participants").children:
            person = self._whatsapp.find(each.jid("jid"))
            try:
                found = self._open(person, each.child("enc"))
            except Unreadable as trouble:
                troubles.append(trouble)
                continue
            if found.HasField("senderKeyDistributionMessage"):
                self._take_sender_key(chat, person, found)
            elif found.HasField("deviceSentMessage"):  # for the account's own phone
                own = found.deviceSentMessage.message
            else:
                body = found
        for cipher in (each for each in node.children if each.tag == "enc"):
            try:
                if cipher.type == "skmsg":
                    body = self._open_group(chat, cipher.data)
                else:  # again, for one phone that could not read it
                    who = node.jid("participant") if chat.server == "g.us" else chat
                    body = self._open(self._whatsapp.find(who), cipher)
            except Unreadable as trouble:
                troubles.append(trouble)
        if body is None and (not troubles or chat.user == self._whatsapp.phone.hidden):
            body = own
        if body is not None and body.HasField("deviceSentMessage"):
            body = body.deviceSentMessage.message
        return body

    def _open(self, person: Person, cipher: Node) -> Message:
        return _message(person.keys.decrypt(cipher.type, cipher.data))

    def _take_sender_key(self, chat: Jid, person: Person, found: Message) -> None:
        told = found.senderKeyDistributionMessage
        person.keys.learn_sender_key(told.groupID, told.axolotlSenderKeyDistributionMessage)
        self._readers[chat] = person

    def _open_group(self, chat: Jid, cipher: bytes) -> Message:
        reader = self._readers.get(chat)
        if reader is None:
            raise Unreadable("nobody there has its key")
        return _message(reader.keys.decrypt_group(chat, cipher))

    def ask_again(self, connection: Connection, node: Node) -> None:
        """A phone could not read it, and asks for it once more."""
        chat, now = node.jid("to"), str(int(time.time()))
        attributes: dict[str, str | Jid] = {
            "from": chat,
            "id": node.id,
            "type": "retry",
            "t": now,
        }
        if chat in self._readers:
            attributes["participant"] = self._readers[chat].hidden_jid
        if chat.user == self._whatsapp.phone.hidden:
            attributes["recipient"] = chat
        retry = Node("retry", {"v": "1", "count": "1", "id": node.id, "t": now})
        number = Node("registration", {}, REGISTRATION.to_bytes(4, "big"))
        connection.send(Node("receipt", attributes, [retry, number]))


def _message(padded: bytes) -> Message:
    found = Message()
    found.ParseFromString(padded[: -padded[-1]])
    return found
