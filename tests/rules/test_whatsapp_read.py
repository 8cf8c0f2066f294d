"""What is read from WhatsApp's events: real protobufs, no library below them."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.whatsapp.read import (
    Own,
    Read,
    chat_id,
    failure_state,
    numbers_told,
    outcome,
    plain,
    read,
    registered_as,
)
from tests.edges.fake_whatsapp import jid, message, protobufs_alone

OWN = Own(number="4917@s.whatsapp.net", lid="8001@lid", name="Pynchy")
GROUP = "120363000000000001"


@pytest.fixture(scope="module", autouse=True)
def _without_the_library() -> Iterator[None]:
    with protobufs_alone():
        yield


def wa() -> Any:
    from neonize.proto.waE2E import WAWebProtobufsE2E_pb2

    return WAWebProtobufsE2E_pb2


def body(**fields: Any) -> Any:
    return wa().Message(**fields)


def got(event: Any) -> Read:
    found = read(event, own=OWN, number_of={"8002@lid": "4918@s.whatsapp.net"}.get)
    assert found is not None
    return found


def said(**fields: Any) -> str:
    return got(message("A", chat=GROUP, body=body(**fields))).message.text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"conversation": "hi"}, "hi"),
        ({"extendedTextMessage": {"text": "hi"}}, "hi"),
        ({"imageMessage": {"caption": "look", "mimetype": "image/png"}}, "look"),
        ({"videoMessage": {"caption": "look"}}, "look"),
        ({"documentMessage": {"caption": "read"}}, "read"),
        ({"buttonsResponseMessage": {"selectedDisplayText": "Yes"}}, "Yes"),
        ({"listResponseMessage": {"singleSelectReply": {"selectedRowID": "r1"}}}, "r1"),
        ({"templateButtonReplyMessage": {"selectedDisplayText": "Ok"}}, "Ok"),
        ({"interactiveResponseMessage": {"body": {"text": "Go"}}}, "Go"),
        (
            {"pollCreationMessageV3": {"name": "When?", "options": [{"optionName": "now"}]}},
            "[poll] When?\n- now",
        ),
        (
            {"pollCreationMessageV4": {"message": {"pollCreationMessageV3": {"name": "Who?"}}}},
            "[poll] Who?",
        ),
        (
            {"locationMessage": {"degreesLatitude": 52.5, "degreesLongitude": 13.4, "name": "B"}},
            "[location] 52.50000, 13.40000 B",
        ),
        (
            {
                "contactMessage": {
                    "displayName": "Bo",
                    "vcard": "BEGIN:VCARD\nTEL;type=CELL:+49 1\n",
                }
            },
            "[contact] Bo +49 1",
        ),
        ({"reactionMessage": {"text": "👍", "key": {"ID": "X"}}}, "[reacted with 👍]"),
    ],
)
def test_every_kind_of_text_is_read(fields: dict[str, Any], text: str) -> None:
    assert said(**fields) == text


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"senderKeyDistributionMessage": {"groupID": "g"}},
        {"protocolMessage": {"type": 3}},
    ],
)
def test_what_says_nothing_is_no_message(fields: dict[str, Any]) -> None:
    # invariant 62
    event = message("A", chat=GROUP, body=body(**fields))
    assert read(event, own=OWN, number_of=lambda _: None) is None


def test_a_reaction_and_a_vote_are_remarks_about_a_message() -> None:
    sign = {"text": "👍", "key": {"ID": "X"}}
    vote = {"pollCreationMessageKey": {"ID": "P"}}
    for fields, about, text in (
        ({"reactionMessage": sign}, "X", "[reacted with 👍]"),
        ({"reactionMessage": {**sign, "text": ""}}, "X", "[took a reaction back]"),
        ({"pollUpdateMessage": vote}, "P", "[voted in a poll]"),
    ):
        found = got(message("A", chat=GROUP, body=body(**fields))).message
        assert (found.remark, found.text) == (True, text)
        assert found.quoted is not None
        assert found.quoted.id == about
    assert not got(message("A", chat=GROUP, text="[reacted with 👍]")).message.remark


@pytest.mark.parametrize(
    ("meant", "chat"),
    [
        ("+49 (170) 123-45.67", "491701234567@s.whatsapp.net"),
        ("491701234567:3@s.whatsapp.net", "491701234567@s.whatsapp.net"),
        ("491701234567@c.us", "491701234567@s.whatsapp.net"),
        ("8001@lid", "8001@lid"),
        ("120363000000000001@g.us", "120363000000000001@g.us"),
        ("491701234567-1500000000@g.us", "491701234567-1500000000@g.us"),
        ("12345", None),
        ("console:main", None),
        ("family@g.us", None),
        ("1@broadcast", None),
        ("1@g.us\n", None),
        ("\u0661\u0662\u0663\u0664\u0665\u0666\u0667", None),
        ("", None),
    ],
)
def test_the_chat_that_a_person_means(meant: str, chat: str | None) -> None:  # invariant 70
    assert chat_id(meant) == chat


def test_a_picture_without_words_is_a_message() -> None:
    # invariant 63
    found = got(
        message(
            "A", chat=GROUP, body=body(imageMessage={"mimetype": "image/jpeg", "fileLength": 9})
        )
    )
    assert found.media is not None
    assert (found.media.kind, found.media.media_type, found.media.size) == (
        "image",
        "image/jpeg",
        9,
    )


def test_a_voice_note_is_one() -> None:
    audio = {"PTT": True, "mimetype": "audio/ogg; codecs=opus"}
    found = got(message("A", chat=GROUP, body=body(audioMessage=audio)))
    assert found.media is not None
    assert (found.media.kind, found.media.media_type) == ("voice", "audio/ogg")


def test_hidden_ids_become_numbers() -> None:  # threat M2
    # invariants 57, 58
    person, hidden = jid("4918", "s.whatsapp.net"), jid("8002", "lid", 7)
    for event in (
        message("A", chat="8002", server="lid", sender=hidden, sender_alt=person, text="x"),
        message("A", chat="8002", server="lid", sender=hidden, text="x"),  # learned before
        message("A", chat="4918", server="s.whatsapp.net", sender=person, text="x"),
    ):
        found = got(event).message
        assert (found.chat, found.sender) == ("4918@s.whatsapp.net", "4918@s.whatsapp.net")


def test_a_message_with_both_ids_of_a_person_tells_the_number() -> None:
    hidden, number = jid("8002", "lid", 4), jid("4918", "s.whatsapp.net", 4)
    told = {"8002@lid": "4918@s.whatsapp.net"}
    for sender, alt in ((hidden, number), (number, hidden)):
        assert numbers_told(message("A", chat=GROUP, sender=sender, sender_alt=alt)) == told
    sent = message("A", chat="8002", server="lid", from_me=True, recipient_alt=number)
    assert numbers_told(sent) == told
    assert numbers_told(message("A", chat=GROUP, sender=hidden)) == {}


def test_an_unknown_hidden_id_stays_and_can_be_answered() -> None:
    # invariant 58
    event = message("A", chat="8009", server="lid", sender=jid("8009", "lid", 2), text="x")
    assert got(event).message.chat == "8009@lid"


def test_a_note_to_self_is_the_chat_with_our_number() -> None:
    # invariants 57, 70
    event = message(
        "A", chat="8001", server="lid", sender=jid("8001", "lid", 2), text="x", from_me=True
    )
    found = got(event).message
    assert (found.chat, found.sender) == (OWN.number, OWN.number)


def test_what_we_write_to_another_is_in_their_chat() -> None:
    event = message(
        "A", chat="8002", server="lid", sender=jid("4917", "s.whatsapp.net"),
        recipient_alt=jid("4918", "s.whatsapp.net"), text="x", from_me=True,
    )  # fmt: skip
    assert got(event).message.chat == "4918@s.whatsapp.net"


@pytest.mark.parametrize("mentioned", ["4917@s.whatsapp.net", "8001@lid", "8001:3@lid"])
def test_a_mention_of_either_id_shows_our_name(mentioned: str) -> None:
    # invariant 60
    user = mentioned.partition("@")[0].partition(":")[0]
    context = {"mentionedJID": [mentioned]}
    words = {"text": f"@{user} and @{user}99", "contextInfo": context}
    found = got(message("A", chat=GROUP, body=body(extendedTextMessage=words))).message
    assert found.mentions_me
    assert found.text == f"@Pynchy and @{user}99"


def test_a_quote_comes_with_who_and_what() -> None:
    context = {"stanzaID": "Q", "participant": "8002@lid", "quotedMessage": {"conversation": "old"}}
    words = {"text": "so?", "contextInfo": context}
    quoted = got(message("A", chat=GROUP, body=body(extendedTextMessage=words))).message.quoted
    assert quoted is not None
    assert (quoted.id, quoted.sender_name, quoted.text) == ("Q", "+4918", "old")


def test_edits_and_revokes_name_what_they_change() -> None:
    # invariant 61
    edit = {"type": 14, "key": {"ID": "OLD"}, "editedMessage": {"conversation": "new"}}
    found = got(message("B", chat=GROUP, body=body(protocolMessage=edit))).message
    assert (found.id, found.edits, found.text) == ("B", "OLD", "new")
    revoke = {"type": 0, "key": {"ID": "OLD"}}
    assert got(message("C", chat=GROUP, body=body(protocolMessage=revoke))).message.revokes == "OLD"


def test_a_chat_of_two_keeps_the_id_that_it_is_registered_under() -> None:
    """Before and after the number behind a hidden id is known, from either side, by either id."""
    people = "s.whatsapp.net"
    hidden, number, nobody = "8010@lid", f"4920@{people}", jid("", "")
    unknown = message("A", chat="8010", server="lid", sender=jid("8010", "lid"))
    known = message(
        "B", chat="8010", server="lid", sender=jid("8010", "lid"), sender_alt=jid("4920", people)
    )
    as_number = message(
        "C", chat="4920", server=people, sender=jid("4920", people), sender_alt=jid("8010", "lid")
    )
    by_us = message(
        "D", chat="4920", server=people, sender=jid("4917", people), sender_alt=nobody,
        recipient_alt=jid("8010", "lid"), from_me=True,
    )  # fmt: skip
    for event in (unknown, known, as_number, by_us):
        event.Message.conversation = "hi"
    events = (known, as_number, by_us)
    assert [got(each).message.chat for each in (unknown, *events)] == [hidden, *[number] * 3]
    for each in (unknown, *events):
        chat = got(each).message.chat
        assert registered_as(chat, each, {hidden}) == hidden
    for each in events:
        assert registered_as(number, each, {number}) == number
        assert registered_as(number, each, {number, hidden}) == number
        assert registered_as(number, each, {GROUP}) == number  # of no registered chat
    group = message("E", chat=GROUP, sender=jid("8010", "lid"), sender_alt=jid("4920", people))
    assert registered_as(f"{GROUP}@g.us", group, {hidden, number}) == f"{GROUP}@g.us"


def test_who_takes_back_what_another_wrote_is_told_apart() -> None:
    revoke = {"type": 0, "key": {"ID": "OLD", "participant": "4919@s.whatsapp.net"}}
    found = got(message("C", chat=GROUP, body=body(protocolMessage=revoke)))
    assert (found.message.sender, found.by) == (
        "4919@s.whatsapp.net",
        "491700000001@s.whatsapp.net",
    )
    alone = message(
        "C", chat="4918", server="s.whatsapp.net", body=body(protocolMessage=revoke)
    )  # no chat of two has an admin
    assert read(alone, own=OWN, number_of=lambda _: None) is None


@pytest.mark.parametrize("server", ["broadcast", "newsletter"])
def test_statuses_and_newsletters_are_no_chats(server: str) -> None:  # threat I8
    event = message("A", chat="status", server=server, text="x")
    assert read(event, own=OWN, number_of=lambda _: None) is None


def test_ids_lose_their_device() -> None:  # threat M2
    # invariant 59
    assert plain("4917:12@s.whatsapp.net") == "4917@s.whatsapp.net"
    assert plain("4917.0:12@s.whatsapp.net") == "4917@s.whatsapp.net"
    assert plain("4917@c.us") == "4917@s.whatsapp.net"
    assert plain("1203@g.us") == "1203@g.us"


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        ("server returned error 463", "never"),
        ("server returned error 400", "refused"),
        ("server returned error 503", "retry"),
        ("timed out waiting for message send response", "uncertain"),
        ("failed to send: websocket not connected", "not_connected"),
        ("failed to get device list", "retry"),
    ],
)
def test_what_an_error_of_a_send_means(error: str, meaning: str) -> None:
    assert outcome(error) == meaning


def test_what_a_refused_connection_means() -> None:
    # invariants 65, 73
    assert failure_state(2)[0] == "logged_out"
    assert failure_state(3)[0] == "banned"
    assert failure_state(6)[0] == "outdated"
    assert failure_state(10)[0] == "disconnected"
    assert failure_state(418)[0] == "disconnected"


def test_a_text_whose_bytes_are_none_is_read_all_the_same() -> None:  # threat D9
    raw = message("A", chat=GROUP, text="hi there").SerializeToString()
    event = type(message("A", chat=GROUP))()
    event.ParseFromString(raw.replace(b"hi there", b"hi \xff\xfe re"))
    assert got(event).message.text == "hi \ufffd\ufffd re"


# --- whatever comes ------------------------------------------------------------------------------

_WORDS = st.text(max_size=8) | st.sampled_from(
    ["8002@lid", "120363000000000001@g.us", "4917:3@s.whatsapp.net", "\x00"]
)
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": _WORDS,
    "bytes": st.binary(max_size=8),
    "bool": st.booleans(),
    "double": st.floats(),
    "float": st.floats(width=32),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "sfixed64": st.integers(-(2**63), 2**63 - 1),
    "fixed64": st.integers(0, 2**64 - 1),
    "sfixed32": st.integers(-(2**31), 2**31 - 1),
    "fixed32": st.integers(0, 2**32 - 1),
    "sint32": st.integers(-(2**31), 2**31 - 1),
    "sint64": st.integers(-(2**63), 2**63 - 1),
}


def fill(draw: st.DrawFn, made: Any, depth: int) -> Any:
    """Some fields of a protobuf, of their kinds, as anybody may send them."""
    from google.protobuf import descriptor  # type: ignore[import-untyped]  # ships no types

    Field = descriptor.FieldDescriptor
    names = {
        getattr(Field, name): name[5:].lower() for name in dir(Field) if name.startswith("TYPE_")
    }
    fields = list(made.DESCRIPTOR.fields)
    for field in draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda f: f.name)):
        kind, there = names[field.type], getattr(made, field.name)
        many = hasattr(there, "append")
        if kind == "message":
            if depth and not hasattr(there, "MergeFromString") and not many:
                continue  # a map
            if depth:
                fill(draw, there.add() if many else there, depth - 1)
                if not many:
                    there.SetInParent()
            continue
        if kind == "enum":
            value = draw(st.sampled_from([each.number for each in field.enum_type.values]))
        else:
            value = draw(_SCALARS[kind])
        if many:
            there.append(value)
        else:
            setattr(made, field.name, value)
    return made


@given(st.data(), _WORDS, _WORDS)
def test_whatever_is_sent_is_a_message_or_none(data: st.DataObject, id: str, name: str) -> None:
    body = data.draw(st.composite(fill)(wa().Message(), 3))
    event = message(id, chat=GROUP, body=body)
    event.Info.Pushname = name
    found = read(event, own=OWN, number_of={"8002@lid": "4918@s.whatsapp.net"}.get)
    if found is None:
        return
    said = found.message
    assert said.chat == f"{GROUP}@g.us"
    assert ":" not in said.sender
    assert said.id == id
    assert isinstance(said.text, str)
