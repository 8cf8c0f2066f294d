"""The real bridge over the real binding, with a stand-in for the Go library below it.

``python fake_whatsapp.py STEPS <bridge arguments>``: STEPS is JSON, what happens once the bridge
connects: ``["connected"]``, ``["messages", n]``, ``["event", name, fields]``, ``["return", error]``,
``["abort"]``, ``["resume", path, total]``, ``["paced", total, pause]``;
``["silence", seconds]`` comes first: so long the bridge bears one of the daemon's; and
so does ``["patience", seconds]``: how long a send waits for its turn. Events are real protobufs through
the real registered callbacks.
"""

import ctypes
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHAT = "120363000000000001"
OTHER = "120363000000000002"


@contextmanager
def protobufs_alone() -> Iterator[None]:
    """Have the library's message types in this process, and nothing else of it."""
    before = os.environ.get("SPHINX")
    os.environ["SPHINX"] = "1"
    try:
        import neonize.proto.Neonize_pb2  # noqa: F401

        yield
    finally:
        if before is None:
            del os.environ["SPHINX"]
        else:
            os.environ["SPHINX"] = before


class FakeGo:
    def __init__(self, steps: Sequence[Sequence[Any]]) -> None:
        self.steps = steps
        self.sent = 0
        self.quiet = threading.Event()
        self.named = threading.Event()  # our own name has come
        self.named.set()
        self.refused = threading.Event()  # for want of it

    def emit(self, code: int, event: Any) -> None:
        raw = event if isinstance(event, bytes) else event.SerializeToString()
        held = ctypes.create_string_buffer(raw, len(raw))
        self.callback(b"pynchy", ctypes.addressof(held), len(raw), code)

    def message(self, number: int, *, chat: str = CHAT, **more: Any) -> Any:
        return message(f"M{number:08}", chat=chat, text=f"message {number}", **more)

    def Neonize(self, *arguments: Any) -> Any:
        import neonize.events

        events: Any = neonize.events
        self.callback = arguments[8]
        self.qr, self.login = arguments[6], arguments[7]
        tell(f"subscribed to {sorted(bytearray(arguments[10][: arguments[11]]))}")
        for name, *rest in self.steps:
            match name:
                case "connected":
                    self.emit(3, events.ConnectedEv(status=True))
                case "nameless":
                    self.named.clear()
                case "named":  # the library tells nothing of it
                    self.refused.wait()
                    self.named.set()
                case "fills up":  # the disk
                    from pynchy.whatsapp import bridge

                    module: Any = bridge
                    module.SPARE = 2**80
                case "messages":
                    for number in range(rest[0]):
                        self.emit(17, self.message(number, chat=rest[1] if rest[1:] else CHAT))
                case "resume":  # what was handed over is noted, as WhatsApp would after its receipt
                    path, total = rest
                    fd = os.open(path, os.O_RDWR | os.O_CREAT)
                    for number in range(int(os.pread(fd, 20, 0) or 0), total):
                        for event in mixture(number):
                            self.emit(17, event)
                        os.pwrite(fd, str(number + 1).encode(), 0)
                case "paced":  # one after the other, each with the time at which it was handed over
                    total, pause = rest
                    for number in range(total):
                        time.sleep(pause)
                        text = f"at {time.monotonic_ns()}"
                        self.emit(17, message(f"M{number:08}", chat=CHAT, text=text))
                case "picture":
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    part: Any = {"mimetype": "image/png", "fileLength": rest[0], "caption": "see"}
                    body = Message(imageMessage=part)
                    self.emit(17, message("PICTURE1", chat=CHAT, body=body))
                case "file":  # a voice note that comes at once, slowly, or never; or is that file
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    how, id, chat = rest
                    part = {"mimetype": "audio/ogg; codecs=opus", "fileLength": 7, "PTT": True}
                    part["directPath"] = how if how.startswith("/") else f"/{how}"
                    self.emit(17, message(id, chat=chat, body=Message(audioMessage=part)))
                case "hidden":  # somebody writes in a group under their hidden id
                    who, number = jid(rest[1], "lid", 2), jid("491709", "s.whatsapp.net")
                    self.emit(
                        17, message(rest[0], chat=CHAT, text="?", sender=who, sender_alt=number)
                    )
                case "revoke":  # somebody takes back what somebody wrote
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    id, chat, who, author = rest
                    taken: Any = {"type": 0, "key": {"ID": "OLD", "participant": author}}
                    revoke = Message(protocolMessage=taken)
                    self.emit(17, message(id, chat=chat, sender=jid(*who.split("@")), body=revoke))
                case (
                    "lasting"
                ):  # somebody writes in a chat whose messages disappear, or no longer do
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    said: Any = {"text": "soon gone", "contextInfo": {"expiration": rest[1]}}
                    body = Message(extendedTextMessage=said)
                    self.emit(17, message(rest[0], chat=CHAT, body=body))
                case "timer":  # somebody changes after how long they do
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    said = {"type": 3, "ephemeralExpiration": rest[1]}
                    body = Message(protocolMessage=said)
                    self.emit(17, message(rest[0], chat=CHAT, body=body))
                    self.emit(17, message("R" + rest[0], chat=CHAT, body=_sign()))
                case "switch":  # first the number behind the hidden id is not known, then it is
                    who = jid("8010", "lid")
                    self.emit(17, message("S1", chat=CHAT, text="first", sender=who))
                    for id in ("S1", "S2"):
                        number = jid("491710", "s.whatsapp.net")
                        more = {"sender": who, "sender_alt": number}
                        self.emit(17, message(id, chat=CHAT, text="again", **more))
                    self.emit(17, message("S1", chat=CHAT, text="another's of that id"))
                case "qr":
                    self.qr(b"pynchy", rest[0].encode())
                case "login":
                    self.login(b"pynchy", rest[0].encode())
                case "linked":  # as the library leaves it, before it says that it is connected
                    with sqlite3.connect("whatsapp.db") as db:
                        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT)")
                        db.execute(
                            "INSERT INTO whatsmeow_device VALUES ('4917:3@s.whatsapp.net', '')"
                        )
                    db.close()
                case "unlinked":  # by the phone: the library says so, and then takes its row away
                    over: Any = getattr(events, rest[0])(**rest[1])
                    _fill(over)
                    self.emit(events.EVENT_TO_INT[type(over)], over)
                    time.sleep(0.5)
                    with sqlite3.connect("whatsapp.db") as db:
                        db.execute("DELETE FROM whatsmeow_device")
                    db.close()
                case "voice":
                    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

                    part = {"mimetype": "audio/ogg; codecs=opus", "fileLength": 7, "PTT": True}
                    self.emit(17, message("VOICE1", chat=CHAT, body=Message(audioMessage=part)))
                case "joined":
                    joined = events.JoinedGroupEv()
                    joined.GroupInfo.JID.CopyFrom(jid(rest[0], "g.us"))
                    joined.GroupInfo.GroupName.Name = rest[1]
                    _fill(joined.GroupInfo)
                    _fill(joined)
                    self.emit(events.EVENT_TO_INT[events.JoinedGroupEv], joined)
                case "renamed":
                    change = events.GroupInfoEv()
                    change.JID.CopyFrom(jid(rest[0], "g.us"))
                    change.Name.Name = rest[1]
                    _fill(change.Name)
                    _fill(change)
                    self.emit(events.EVENT_TO_INT[events.GroupInfoEv], change)
                case "long":  # a text of that many characters
                    self.emit(17, message("LONG0001", chat=CHAT, text="x" * rest[0]))
                case "bad":
                    self.emit(17, b"\xff" * 20)
                case "event":
                    kind: Any = getattr(events, rest[0])
                    self.emit(events.EVENT_TO_INT[kind], kind(**rest[1]))
                case "return":
                    return rest[0].encode()
                case "abort":
                    os.abort()
        self.quiet.wait()
        return None

    def SendMessage(self, uuid: bytes, to: bytes, _: int, body: bytes, __: int) -> Any:
        import neonize.proto.Neonize_pb2
        from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

        neo: Any = neonize.proto.Neonize_pb2
        sent = Message.FromString(body)
        text = sent.conversation or sent.extendedTextMessage.text
        (part, _), *_ = sent.ListFields()
        self.sent += 1
        tell(f"sent {part.name}: {sent.SerializeToString().hex()}")
        wa_id = f"3EB0{self.sent:08}"
        if "463" in text:
            return neo.SendMessageReturnFunction(
                Error="server returned error 463"
            ).SerializeToString()
        if "echo" in text:  # our own comes back before its id is known, and a person says the same
            chat = neo.JID.FromString(to).User
            self.emit(17, message(wa_id, chat=chat, text=text, from_me=True))
            self.emit(17, message("HUMAN001", chat=chat, text=text, from_me=True))
        if text == "who quotes what you said before?":
            said = {"stanzaID": f"3EB0{self.sent - 1:08}", "participant": "4917@s.whatsapp.net"}
            words: Any = {"text": "I do", "contextInfo": said}
            self.emit(17, message("QUOTE001", chat=CHAT, body=Message(extendedTextMessage=words)))
        if "never" in text:
            self.quiet.wait()
        if "timeout" in text:
            return neo.SendMessageReturnFunction(
                Error="timed out waiting for message send response"
            ).SerializeToString()
        if "die" in text:
            os.abort()
        return neo.SendMessageReturnFunction(
            SendResponse=neo.SendResponse(
                ID=wa_id,
                Timestamp=1,
                ServerID=0,
                Message=Message(conversation=text),
                Sender=jid("4917", "s.whatsapp.net"),
                Chat=neo.JID.FromString(to),
                DebugTimings=neo.MessageDebugTimings(
                    **{
                        field.name: 0
                        for field in neo.MessageDebugTimings.DESCRIPTOR.fields
                        if field.is_required
                    }
                ),
            )
        ).SerializePartialToString()

    def GetJoinedGroups(self, uuid: bytes) -> bytes:
        import neonize.proto.Neonize_pb2

        neo: Any = neonize.proto.Neonize_pb2
        found = neo.GetJoinedGroupsReturnFunction()
        for user, name in ((CHAT, "Family"), (OTHER, "Chess club")):
            group = found.Group.add()
            group.JID.CopyFrom(jid(user, "g.us"))
            group.GroupName.Name = name
            _fill(group)
        return bytes(found.SerializePartialToString())

    def GetGroupInfo(self, uuid: bytes, group: bytes, _: int) -> bytes:
        """Of the first group: 491701 is an admin, by a hidden id too, and 491702 is not."""
        import neonize.proto.Neonize_pb2

        neo: Any = neonize.proto.Neonize_pb2
        asked = neo.JID.FromString(group)
        if asked.User != CHAT:
            return bytes(neo.GetGroupInfoReturnFunction(Error="no answer").SerializeToString())
        found = neo.GetGroupInfoReturnFunction()
        for number, hidden in (("491701", "8001"), ("491702", "8002")):
            who = found.GroupInfo.Participants.add()
            who.JID.CopyFrom(jid(hidden, "lid"))
            who.LID.CopyFrom(jid(hidden, "lid"))
            who.PhoneNumber.CopyFrom(jid(number, "s.whatsapp.net"))
            who.IsAdmin = number == "491701"
            _fill(who)
        _fill(found.GroupInfo)
        return bytes(found.SerializePartialToString())

    def PairPhone(self, uuid: bytes, wanted: bytes, _: int) -> bytes:
        import neonize.proto.Neonize_pb2

        neo: Any = neonize.proto.Neonize_pb2
        phone = neo.PairPhoneParams.FromString(wanted).phone
        code = neo.PairPhoneReturnFunction(Code=f"CODE-{phone[-4:]}")
        return bytes(code.SerializePartialToString())

    def MarkRead(self, *arguments: Any) -> bytes:
        tell(f"marked as read: {arguments[1].decode()}")
        return b""

    def SendPresence(self, uuid: bytes, presence: int) -> bytes:
        tell(f"presence {presence!r}")
        if self.named.is_set():
            return b""
        self.refused.set()
        return b"can't send presence without PushName set"

    def SendChatPresence(self, uuid: bytes, to: bytes, _: int, state: int, media: int) -> bytes:
        import neonize.proto.Neonize_pb2

        neo: Any = neonize.proto.Neonize_pb2
        tell(f"typing {state} in {neo.JID.FromString(to).User}")
        return b""

    def Upload(self, uuid: bytes, content: bytes, size: int, kind: int) -> Any:
        import neonize.proto.Neonize_pb2

        neo: Any = neonize.proto.Neonize_pb2
        tell(f"uploaded as {kind}: {size} bytes")
        there = neo.UploadResponse(
            url="https://example.org/f", DirectPath="/f", Handle="", FileLength=size
        )
        return neo.UploadReturnFunction(UploadResponse=there).SerializePartialToString()

    def DownloadAny(self, uuid: bytes, body: bytes, *_: Any) -> Any:
        import neonize.proto.Neonize_pb2
        from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

        if b"/hang" in body:
            threading.Event().wait()
        if b"/abort" in body:
            os.abort()
        if b"/slow" in body:
            time.sleep(0.5)
        place = Message.FromString(body).audioMessage.directPath
        content = Path(place).read_bytes() if place and Path(place).is_file() else b"picture"

        neo: Any = neonize.proto.Neonize_pb2
        return neo.DownloadReturnFunction(Binary=content).SerializeToString()

    def Disconnect(self, uuid: bytes) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_: b""


def mixture(number: int) -> Iterator[Any]:
    """The event of that number, of one kind or another; some come twice, some beside one of another chat."""
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

    id, before = f"M{number:08}", f"M{number - 1:08}"
    key = {"ID": before}
    part: Any = None
    match number % 50:
        case 3 | 13 | 23:
            part = {"reactionMessage": {"text": "\N{THUMBS UP SIGN}", "key": key}}
        case 5 | 25 | 45:
            edited = {"conversation": f"message {number}, edited"}
            part = {"protocolMessage": {"type": 14, "key": key, "editedMessage": edited}}
        case 20:
            part = {"imageMessage": {"mimetype": "image/png", "fileLength": 7}}
        case 30:
            context = {"stanzaID": before, "participant": "491700000001@s.whatsapp.net"}
            part = {"extendedTextMessage": {"text": "so?", "contextInfo": context}}
    body = None if part is None else Message(**part)
    event = message(id, chat=CHAT, text=f"message {number}", body=body)
    if number % 11 == 4:
        yield message(f"X{number:08}", chat=OTHER, text="of another chat")
    yield event
    if number % 13 == 6:
        yield event


def tell(line: str) -> None:
    """As Go prints: past Python, to where the bridge's prints go."""
    os.write(1, line.encode() + b"\n")


def jid(user: str, server: str, device: int = 0) -> Any:
    from neonize.proto import Neonize_pb2 as neo

    return neo.JID(
        User=user, Server=server, Device=device, RawAgent=0, Integrator=0, IsEmpty=not user
    )


def message(
    id: str,
    *,
    chat: str,
    text: str = "",
    from_me: bool = False,
    server: str = "g.us",
    sender: Any = None,
    sender_alt: Any = None,
    recipient_alt: Any = None,
    body: Any = None,
) -> Any:
    """A message event, with every field that the binding demands."""
    from neonize.proto import Neonize_pb2 as neo
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

    nobody = jid("", "")
    source = neo.MessageSource(
        Chat=jid(chat, server),
        Sender=sender or jid("491700000001", "s.whatsapp.net", 3),
        IsFromMe=from_me,
        IsGroup=server == "g.us",
        SenderAlt=sender_alt or nobody,
        RecipientAlt=recipient_alt or nobody,
        BroadcastListOwner=nobody,
    )
    event = neo.Message(Message=body if body is not None else Message(conversation=text))
    event.Info.MessageSource.CopyFrom(source)
    event.Info.ID = id
    event.Info.Pushname = "Ann"
    event.Info.Timestamp = 1_700_000_000_000
    _fill(event.Info)
    _fill(event)
    return event


def _sign() -> Any:
    """A reaction, which tells nothing of how long messages stay."""
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

    said: Any = {"text": "\N{THUMBS UP SIGN}", "key": {"ID": "M00000000"}}
    return Message(reactionMessage=said)


def _fill(part: Any) -> None:
    """Set the required fields that nobody cares for."""
    for field in part.DESCRIPTOR.fields:
        if not field.is_required:
            continue
        if field.message_type is not None:
            getattr(part, field.name).SetInParent()
            _fill(getattr(part, field.name))
        elif part.HasField(field.name):
            continue
        elif field.cpp_type == field.CPPTYPE_STRING:
            setattr(part, field.name, b"" if field.type == field.TYPE_BYTES else "")
        elif field.cpp_type == field.CPPTYPE_ENUM:
            setattr(part, field.name, field.enum_type.values[0].number)
        else:
            setattr(part, field.name, 0)


if __name__ == "__main__":
    os.environ["SPHINX"] = "1"
    from pynchy.whatsapp import bridge, library, pairing, sending

    binding: Any = library
    played = json.loads(sys.argv[1])
    modules: Any = bridge, sending, pairing
    if played and played[0][0] == "full":  # the disk
        modules[0].SPARE = 2**80
    if played and played[0][0] == "waits":  # so long for a connection, once a code is taken
        modules[2].CONNECT_WAIT = played[0][1]
    if played and played[0][0] == "silence":
        modules[0].SILENCE = played[0][1]
    if played and played[0][0] == "patience":
        modules[1].PATIENCE = played[0][1]
    binding.neonize.client.gocode = FakeGo(played)
    bridge.main(sys.argv[2:])
