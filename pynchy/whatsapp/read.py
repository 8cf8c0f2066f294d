"""Turn a WhatsApp event into plain facts: canonical ids, text, attachments.

Pure functions over the library's protobuf objects, which are looked at by field name and never imported.
What cannot be read is None, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import reduce
from typing import Any, Final

import attrs

from pynchy.model import ChatId, Message, Micros, Quoted, SenderId

PEOPLE: Final = "s.whatsapp.net"
GROUPS: Final = "g.us"
#: Servers of ids that stand for a person without the number.
HIDDEN: Final = ("lid", "hosted.lid")
REVOKE: Final = 0  # protocolMessage.type
EPHEMERAL: Final = 3
EDIT: Final = 14


@attrs.frozen
class Own:
    """Who we are: both ids of the account, and the assistant's name."""

    number: str  # "4917…@s.whatsapp.net"
    lid: str  # "8001…@lid", or empty
    name: str


@attrs.frozen
class Media:
    """A file that a message speaks of and that has still to be fetched."""

    kind: str  # "image", "video", "document", "audio", "voice", "sticker"
    media_type: str
    size: int  # as the sender says
    name: str


@attrs.frozen
class Read:
    """A message, its ids canonical. ``media``: what to fetch for it.

    ``by`` is who sent it: somebody else than its sender, where somebody takes back what another wrote. Whether they may
    is still to be found out.
    """

    message: Message
    media: Media | None
    by: SenderId


def read(event: Any, *, own: Own, number_of: Callable[[str], str | None]) -> Read | None:
    """The fact in a message event, or None where it is none: keys, receipts, statuses, newsletters.

    ``number_of`` knows the number behind a hidden id, where that was learned before.
    """
    mend(event)
    info, source, body = event.Info, event.Info.MessageSource, event.Message
    people = _People(own, number_of)
    chat = people.chat_of(source)
    sender = people.canonical(source.Sender, source.SenderAlt)
    if not chat or not sender or not info.ID:
        return None
    from_me = bool(source.IsFromMe)
    by = SenderId(sender)
    revokes = edits = None
    if has(body, "protocolMessage"):
        protocol = body.protocolMessage
        if protocol.type == REVOKE and protocol.key.ID:
            revokes = protocol.key.ID
            if protocol.key.participant:
                sender = people.canonical_text(protocol.key.participant)
                if sender != by and not chat.endswith("@" + GROUPS):
                    return None  # an admin may, and only groups have one
        elif protocol.type == EDIT and protocol.key.ID:
            edits, body = protocol.key.ID, protocol.editedMessage
        else:
            return None
    context = context_of(body)
    text = text_of(body)
    media = None if edits or revokes else media_of(body)
    quoted = _quoted(context, people)
    remark = True
    if has(body, "reactionMessage"):
        quoted = Quoted(id=body.reactionMessage.key.ID, sender_name="", text="")
    elif has(body, "pollUpdateMessage"):
        poll = body.pollUpdateMessage.pollCreationMessageKey.ID
        quoted = Quoted(id=poll, sender_name="", text="") if poll else None
    else:
        remark = False
    if revokes is None and not text.strip() and media is None:
        return None
    mentioned = {plain(each) for each in context.mentionedJID} if context is not None else set()
    name = info.Pushname
    message = Message(
        chat=ChatId(chat),
        id=info.ID,
        sender=SenderId(sender),
        sender_name=name or "+" + sender.partition("@")[0],
        sent_at=Micros(int(info.Timestamp) * 1000),  # milliseconds here, seconds everywhere else
        text=named(text, own) if mentioned & {own.number, own.lid} else text,
        from_me=from_me,
        mentions_me=bool(mentioned & ({own.number, own.lid} - {""})),
        quoted=quoted,
        edits=edits,
        revokes=revokes,
        remark=remark,
        chat_name=name if name and not from_me and not chat.endswith("@" + GROUPS) else None,
    )
    return Read(message, media, by)


def numbers_told(event: Any) -> dict[str, str]:
    """The numbers behind hidden ids, as far as this event tells both ids of a person."""
    source = event.Info.MessageSource
    told: dict[str, str] = {}
    for jid, other in ((source.Sender, source.SenderAlt), (source.Chat, source.RecipientAlt)):
        pair = (text_id(jid), text_id(other))
        hidden = [each for each in pair if each.rpartition("@")[2] in HIDDEN]
        numbers = [each for each in pair if each.endswith("@" + PEOPLE)]
        if hidden and numbers:
            told[hidden[0]] = numbers[0]
    return told


def registered_as(chat: str, event: Any, registered: Collection[str]) -> str:
    """The id under which the chat of a message is registered; its canonical one, if it is under none.

    A chat of two that was registered under a person's hidden id stays the same chat when their number becomes known.
    """
    if chat in registered or chat.endswith("@" + GROUPS):
        return chat
    source = event.Info.MessageSource
    peer = source.RecipientAlt if source.IsFromMe else source.SenderAlt
    others = (text_id(source.Chat), text_id(peer))
    return next((each for each in others if each in registered), chat)


def expiration_of(
    event: Any, *, own: Own, number_of: Callable[[str], str | None]
) -> tuple[str, int] | None:
    """A chat, and after how many seconds its messages disappear (0: they stay), where this event tells that."""
    body = event.Message
    if has(body, "protocolMessage"):
        if body.protocolMessage.type != EPHEMERAL:
            return None
        seconds = int(body.protocolMessage.ephemeralExpiration)
    elif (context := context_of(body)) is not None:
        seconds = int(context.expiration)
    elif body.conversation:  # phones send a text in this form only where messages stay
        seconds = 0
    else:
        return None
    chat = _People(own, number_of).chat_of(event.Info.MessageSource)
    return (chat, seconds) if chat else None


# --- ids ---


def plain(jid: str) -> str:
    """An id as text without its device part."""
    user, at, server = jid.rpartition("@")
    if not at:
        return jid
    server = PEOPLE if server == "c.us" else server
    if server == PEOPLE or server in HIDDEN:
        user = user.split(":")[0].split(".")[0]
    return f"{user}@{server}"


def text_id(jid: Any) -> str:
    """An id of the library as text, without its device part; empty if there is none."""
    if jid.IsEmpty or not jid.User or not jid.Server:
        return ""
    return plain(f"{jid.User}@{jid.Server}")


def chat_id(text: str) -> str | None:
    """The chat that a person means by an id, or by a number with its country code; None if by none."""
    number = re.sub(r"[\s().-]", "", text.removeprefix("+")) if "@" not in text else ""
    if re.fullmatch(r"[0-9]{6,18}", number, re.ASCII):
        return f"{number}@{PEOPLE}"
    jid = plain(text)
    return jid if _CHAT.fullmatch(jid) else None


_CHAT: Final = re.compile(
    r"[0-9]{1,20}(?:@(?:s\.whatsapp\.net|lid)|(?:-[0-9]{1,20})?@g\.us)", re.ASCII
)


@attrs.frozen
class _People:
    """Who is behind an id, as far as this account and the library know."""

    own: Own
    number_of: Callable[[str], str | None]

    def canonical(self, jid: Any, other: Any) -> str:
        """The one id of a person: the number, if this message, we or the library know it."""
        first, second = text_id(jid), text_id(other)
        if first.rpartition("@")[2] in HIDDEN and second.endswith("@" + PEOPLE):
            return second
        return self.canonical_text(first)

    def canonical_text(self, jid: str) -> str:
        jid = plain(jid)
        if jid and jid == self.own.lid:
            return self.own.number
        if jid.rpartition("@")[2] in HIDDEN:
            return self.number_of(jid) or jid
        return jid

    def chat_of(self, source: Any) -> str:
        """The chat of a message: a group, or the peer. Empty: nothing one could answer."""
        server = source.Chat.Server
        if server == GROUPS:
            return text_id(source.Chat)
        if server != PEOPLE and server not in HIDDEN and server != "c.us":
            return ""  # statuses, broadcast lists, newsletters
        other = source.RecipientAlt if source.IsFromMe else source.SenderAlt
        if source.IsFromMe and text_id(source.Chat) in (self.own.lid, self.own.number):
            return self.own.number
        return self.canonical(source.Chat, other)


# --- what it says ---


def mend(message: Any) -> None:
    """Make a text of each text in a protobuf. One whose bytes are no UTF-8 would be bytes where it is read."""
    for field, value in message.ListFields():
        if isinstance(value, bytes) and field.type == field.TYPE_STRING:
            setattr(message, field.name, value.decode("utf-8", "replace"))
        elif field.type == field.TYPE_STRING and not isinstance(value, str):
            for at, each in enumerate(value):
                if isinstance(each, bytes):
                    value[at] = each.decode("utf-8", "replace")
        elif field.type == field.TYPE_MESSAGE:
            for each in [value] if hasattr(value, "ListFields") else value:
                if hasattr(each, "ListFields"):  # the keys of a map have none
                    mend(each)


def has(message: Any, field: str) -> bool:
    return bool(message.HasField(field))


def text_of(body: Any) -> str:
    """What a person would read in it; empty for what carries no words."""
    for name, fields in _WORDS.items():
        if has(body, name):
            part = getattr(body, name)
            words = (_follow(part, path) for path in fields)
            return next((str(word) for word in words if word), "")
    if body.conversation:
        return str(body.conversation)
    for name in _POLLS:
        if has(body, name):
            poll = getattr(body, name)
            if not hasattr(poll, "options"):  # V4 is a cover with a message in it
                return text_of(poll.message)
            options = "".join(f"\n- {each.optionName}" for each in poll.options)
            return f"[poll] {poll.name}{options}"
    if has(body, "pollUpdateMessage"):
        return "[voted in a poll]"
    if has(body, "reactionMessage"):
        sign = body.reactionMessage.text
        return f"[reacted with {sign}]" if sign else "[took a reaction back]"
    for name in ("locationMessage", "liveLocationMessage"):
        if has(body, name):
            return _location(getattr(body, name))
    if has(body, "contactMessage"):
        return _contact(body.contactMessage)
    if has(body, "contactsArrayMessage"):
        return "\n".join(_contact(each) for each in body.contactsArrayMessage.contacts)
    if has(body, "eventMessage"):
        event = body.eventMessage
        return " ".join(filter(None, ["[event]", event.name, event.description]))
    if has(body, "groupInviteMessage"):
        invite = body.groupInviteMessage
        return " ".join(filter(None, ["[invitation]", invite.groupName, invite.caption]))
    return ""


#: Parts that carry words, and where in them, in the order of preference.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "extendedTextMessage": ("text",),
    "imageMessage": ("caption",),
    "videoMessage": ("caption",),
    "ptvMessage": ("caption",),
    "documentMessage": ("caption",),
    "buttonsResponseMessage": ("selectedDisplayText", "selectedButtonID"),
    "listResponseMessage": ("title", "singleSelectReply.selectedRowID"),
    "templateButtonReplyMessage": ("selectedDisplayText", "selectedID"),
    "interactiveResponseMessage": ("body.text", "nativeFlowResponseMessage.paramsJSON"),
}
_POLLS: Final = ("pollCreationMessage", *(f"pollCreationMessageV{n}" for n in range(2, 7)))


def _follow(part: Any, path: str) -> Any:
    return reduce(lambda found, step: getattr(found, step, ""), path.split("."), part)


def _location(place: Any) -> str:
    where = f"{place.degreesLatitude:.5f}, {place.degreesLongitude:.5f}"
    words = [getattr(place, field, "") for field in ("name", "address", "caption")]
    return " ".join(filter(None, ["[location]", where, *words]))


def _contact(card: Any) -> str:
    numbers = re.findall(r"^TEL[^:\n]*:(.+)$", card.vcard, re.MULTILINE | re.IGNORECASE)
    return " ".join(["[contact]", card.displayName, *(each.strip() for each in numbers)])


def media_of(body: Any) -> Media | None:
    """What is attached, if anything is."""
    for field, kind in _MEDIA.items():
        if has(body, field):
            part = getattr(body, field)
            if kind == "audio" and part.PTT:
                kind = "voice"
            return Media(
                kind=kind,
                media_type=part.mimetype.partition(";")[0].strip() or "application/octet-stream",
                size=int(part.fileLength),
                name=getattr(part, "fileName", "") or "",
            )
    return None


_MEDIA: Final = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "documentMessage": "document",
    "audioMessage": "audio",
    "stickerMessage": "sticker",
}


def context_of(body: Any) -> Any:
    """The context of whichever part of the message has one, or None."""
    for field, part in body.ListFields():
        fields = field.message_type.fields_by_name if field.message_type is not None else ()
        if "contextInfo" in fields and hasattr(part, "DESCRIPTOR") and has(part, "contextInfo"):
            return part.contextInfo
    return None


def _quoted(context: Any, people: _People) -> Quoted | None:
    if context is None or not context.stanzaID:
        return None
    who = people.canonical_text(context.participant)
    ours = who == people.own.number
    name = people.own.name if ours else "+" + who.partition("@")[0] if who else ""
    text, media = text_of(context.quotedMessage), media_of(context.quotedMessage)
    if not text and media is not None:
        text = f"[{media.kind}]"
    return Quoted(id=context.stanzaID, sender_name=name, text=text)


def named(text: str, own: Own) -> str:
    """The text with a mention of us, which is digits, shown as the assistant's name."""
    for jid in (own.number, own.lid):
        user = jid.partition("@")[0]
        if user:
            text = re.sub(rf"@{re.escape(user)}(?!\d)", lambda _: "@" + own.name, text)
    return text


# --- what the library says of a send ---


def outcome(error: str) -> str:
    """What a failed send came to: ``not_connected``, ``uncertain``, ``retry``, ``refused``, ``never``.

    ``never`` is a refusal that no change of the text could turn: trying again is what gets an
    account banned.
    """
    words = error.lower()
    if "not connected" in words or "client is nil" in words or "not logged in" in words:
        return "not_connected"
    if found := re.search(r"server returned error (\d+)", words):
        code = int(found[1])
        if code in (463, 479, 403, 401):
            return "never"
        return "retry" if code in (408, 429) or code >= 500 else "refused"
    if "timed out" in words or "disconnected" in words or "closed" in words:
        return "uncertain"
    return "retry"


def failure_state(reason: int) -> tuple[str, str]:
    """A refused connection (ConnectFailureReason of the library) as a state and words for it."""
    return _FAILURES.get(reason, ("disconnected", f"WhatsApp refused the connection ({reason})"))


_FAILURES: Final = {
    2: ("logged_out", "the phone unlinked it"),
    3: ("banned", "WhatsApp banned the account for a time"),
    4: ("logged_out", "the phone is gone"),
    5: ("logged_out", "WhatsApp ended the link"),
    6: ("outdated", "WhatsApp does not accept this version of the library any more"),
    7: ("outdated", "WhatsApp does not accept this library"),
}
