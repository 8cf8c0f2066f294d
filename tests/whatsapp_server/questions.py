"""What the client asks the server (``iq``), and the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.whatsapp_server.curve import DJB
from tests.whatsapp_server.media import HOST as MEDIA_HOST
from tests.whatsapp_server.people import Group
from tests.whatsapp_server.signal import REGISTRATION, SIGNED_KEY
from tests.whatsapp_server.stanza import Jid, Node

if TYPE_CHECKING:
    from tests.whatsapp_server.connection import Connection
    from tests.whatsapp_server.people import Person
    from tests.whatsapp_server.server import WhatsApp

ERRORS: Final = {"400": "bad-request", "404": "item-not-found", "429": "rate-overlimit"}


def answer(whatsapp: WhatsApp, connection: Connection, question: Node) -> None:
    """Answer a question; one that is not known gets an empty answer."""
    asked = question.first
    match question.attributes.get("xmlns", ""), question.type, asked.tag:
        case "encrypt", "get", "count":
            keys = whatsapp.uploaded
            left = str(len(keys.one_time)) if keys is not None else "0"
            whatsapp.answer(connection, question, [Node("count", {"value": left})])
        case "encrypt", "set", _:
            whatsapp.take_keys(question)
            whatsapp.answer(connection, question)
        case "encrypt", "get", "key":
            found = [_keys_of(whatsapp, each.jid("jid")) for each in asked.children]
            whatsapp.answer(connection, question, [Node("list", {}, found)])
        case "usync", _, _:
            users = asked.child("list").children
            found = [_devices_of(whatsapp, each.jid("jid")) for each in users]
            whatsapp.answer(connection, question, [Node("usync", {}, [Node("list", {}, found)])])
        case "w:g2", _, "query":
            group = whatsapp.groups.get(question.jid("to"))
            if group is None:
                whatsapp.refuse(connection, question, "404")
            else:
                whatsapp.answer(connection, question, [describe(group)])
        case "w:g2", _, "participating":
            groups = [describe(each) for each in whatsapp.groups.values()]
            whatsapp.answer(connection, question, [Node("groups", {}, groups)])
        case "w:m", _, _:
            life = {"auth": "a", "ttl": "3600", "auth_ttl": "3600", "max_buckets": "12"}
            host = Node("host", {"hostname": MEDIA_HOST})
            whatsapp.answer(connection, question, [Node("media_conn", {**life}, [host])])
        case _ if not whatsapp.faults.unanswered:
            whatsapp.answer(connection, question)


def _keys_of(whatsapp: WhatsApp, jid: Jid) -> Node:
    """What is needed to write to somebody first."""
    keys = whatsapp.find(jid).keys
    signed = [
        Node("id", {}, SIGNED_KEY.to_bytes(3, "big")),
        Node("value", {}, keys.signed.public),
        Node("signature", {}, keys.signature),
    ]
    parts = [
        Node("registration", {}, REGISTRATION.to_bytes(4, "big")),
        Node("type", {}, DJB),
        Node("identity", {}, keys.identity.public),
        Node("skey", {}, signed),
    ]
    return Node("user", {"jid": jid}, parts)


def _devices_of(whatsapp: WhatsApp, jid: Jid) -> Node:
    """Somebody's devices: the phone alone; and the hidden id, if the number was asked for."""
    listed = Node("device-list", {}, [Node("device", {"id": "0"})])
    parts = [Node("devices", {}, [listed])]
    if jid.server == "s.whatsapp.net":
        parts.append(Node("lid", {"val": whatsapp.find(jid).hidden_jid}))
    return Node("user", {"jid": jid}, parts)


def describe(group: Group) -> Node:
    """A group, as the server tells of it."""
    mode = "pn" if group.by_number else "lid"
    attributes: dict[str, str | Jid] = {
        "id": group.jid.user,
        "creation": "1700000000",
        "subject": group.name,
        "s_t": "1700000001",
        "addressing_mode": mode,
        "p_v_id": "1",
    }
    members = [_member(each, by_number=group.by_number) for each in group.members]
    return Node("group", attributes, members)


def _member(person: Person, *, by_number: bool) -> Node:
    if by_number:
        return Node("participant", {"jid": person.jid, "lid": person.hidden_jid})
    return Node("participant", {"jid": person.hidden_jid, "phone_number": person.jid})
