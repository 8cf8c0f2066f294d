"""Build WhatsApp's messages: text, quotes, reactions and files.

Pure functions that fill in the library's protobuf objects, which are handed
in as ``wa`` and never imported. Nothing here looks for mentions or links in what is said: the library's
own builders do, and ask the network about what they find.
"""

from __future__ import annotations

import mimetypes
from typing import Any, Final

import attrs

from pynchy.whatsapp.read import GROUPS

#: What phones play or show in the chat; every other file is a document.
_SHOWN: Final = {
    "image/jpeg": "image",
    "image/png": "image",
    "video/mp4": "video",
    "video/3gpp": "video",
    "audio/mpeg": "audio",
    "audio/mp4": "audio",
    "audio/aac": "audio",
    "audio/amr": "audio",
    "audio/ogg": "audio",
}


@attrs.frozen
class Target:
    """A message that is quoted or reacted to. ``sender`` is its sender's id as WhatsApp gave it."""

    chat: str
    id: str
    sender: str
    ours: bool = False
    text: str = ""


@attrs.frozen
class File:
    """A file to send: under which name and type, and as which kind phones are to show it."""

    name: str
    content: bytes = attrs.field(repr=False)
    media_type: str
    kind: str  # "image", "video", "audio" or "document"
    size: tuple[int, int] | None  # width and height of an image

    @classmethod
    def of(cls, name: str, content: bytes, *, captioned: bool) -> File:
        """What the name and the first bytes make of it. Audio has no place for a caption."""
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind = _SHOWN.get(media_type, "document")
        size = size_of(content) if kind == "image" else None
        if (kind == "audio" and captioned) or (kind == "image" and size is None):
            kind = "document"
        return cls(name, content, media_type, kind, size)


def words(wa: Any, text: str, *, quotes: Target | None) -> Any:
    """A text, quoting or not."""
    if quotes is None:
        return wa.Message(conversation=text)
    said = wa.ExtendedTextMessage(text=text, contextInfo=_quote(wa, quotes))
    return wa.Message(extendedTextMessage=said)


def reaction(wa: Any, sign: str, *, to: Target, at_ms: int) -> Any:
    """A reaction; an empty sign takes one back."""
    said = wa.ReactionMessage(text=sign, senderTimestampMS=at_ms)
    said.key.remoteJID = to.chat
    said.key.ID = to.id
    said.key.fromMe = to.ours
    if to.chat.endswith(f"@{GROUPS}") and to.sender:
        said.key.participant = to.sender
    return wa.Message(reactionMessage=said)


def file(wa: Any, sent: File, uploaded: Any, *, caption: str, quotes: Target | None) -> Any:
    """A file that was uploaded as its kind."""
    message = wa.Message()
    part = getattr(message, f"{sent.kind}Message")
    part.URL, part.directPath = uploaded.url, uploaded.DirectPath
    part.mediaKey = uploaded.MediaKey
    part.fileEncSHA256, part.fileSHA256 = uploaded.FileEncSHA256, uploaded.FileSHA256
    part.fileLength = uploaded.FileLength
    ogg = sent.media_type == "audio/ogg"
    part.mimetype = "audio/ogg; codecs=opus" if ogg else sent.media_type
    if sent.kind == "document":
        part.fileName = part.title = sent.name
    if caption:
        part.caption = caption
    if sent.size is not None:
        part.width, part.height = sent.size
    if quotes is not None:
        part.contextInfo.CopyFrom(_quote(wa, quotes))
    return message


def lasting(message: Any, seconds: int) -> Any:
    """The message, to disappear after so long; 0: it stays."""
    if not seconds:
        return message
    if message.conversation:  # this form has no place for it
        text = message.conversation
        message.ClearField("conversation")
        message.extendedTextMessage.text = text
    ((_, part),) = message.ListFields()
    part.contextInfo.expiration = seconds
    return message


def size_of(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG or JPEG, from its head; None if it is neither.

    Nothing more of it is read: what an agent sends is not given to a decoder on the host. So there is
    no small picture to show while a phone fetches the whole one.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        if len(content) < 24 or content[12:16] != b"IHDR":
            return None
        return _sized(content[16:20], content[20:24])
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker == 0xFF:  # a filler
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _sized(content[at + 7 : at + 9], content[at + 5 : at + 7])
        else:
            at += 2 + max(length, 2)
    return None


def _sized(width: bytes, height: bytes) -> tuple[int, int] | None:
    found = int.from_bytes(width), int.from_bytes(height)
    return found if all(0 < each < 2**31 for each in found) else None


def _quote(wa: Any, target: Target) -> Any:
    return wa.ContextInfo(
        stanzaID=target.id,
        participant=target.sender,
        quotedMessage=wa.Message(conversation=target.text),
    )
