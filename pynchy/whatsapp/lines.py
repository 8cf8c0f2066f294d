"""The protocol between daemon and bridge: one JSON object a line.

Up: ``state``, ``chat``, ``message`` and ``aside`` (with their journal numbers), ``answer``, ``me``; when
pairing ``qr``, ``code``, ``taken`` (by a phone), ``linked``, ``unlinked``, ``failed``. Down: ``start``,
``ready`` (messages may
come), ``chats``, ``ack``, ``reject`` (a message could not be taken in), ``bye`` (an orderly end: what is
in hand is not to blame), ``send``, ``was_sent``, ``typing``, ``read``, ``groups``, ``pulse`` (a sign of life
is wanted). The ids of messages to send are the caller's, and every request gets one answer, so that another
bridge can take this one's place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pynchy.limits import WHATSAPP
from pynchy.model import Message, Micros
from pynchy_agent.values import Instance, Wrong

LONGEST: Final = 8 * 1024 * 1024  # bytes of a line
TEXT: Final = WHATSAPP.text
NAME: Final = WHATSAPP.name
ID: Final = 256
LATEST: Final = Micros(4_102_444_800_000_000)  # the year 2100: no message is younger


class BadLine(Exception):
    """A line that is none of this protocol: theirs."""


def encode(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def decode(raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise BadLine(f"a {type(line).__name__}, not an object")
    return line


def message_out(message: Message) -> dict[str, Any]:
    return attrs.asdict(message)


def message_in(fields: Any) -> Message:
    """The message of a line, every field of its type. Raises `BadLine`."""
    try:
        message = _MESSAGE.take(fields)
    except Wrong as error:
        raise BadLine(f"not a message: {error}") from None
    for name in fields.keys() - _MESSAGE.fields.keys():
        raise BadLine(f"not a message: {name[:NAME]} is not known")
    return message


_MESSAGE: Final = Instance.of(Message)


def fitted(message: Message) -> Message:
    """The same message within the bounds of a line: what is too long is cut, and says so."""
    quoted = message.quoted
    return attrs.evolve(
        message,
        id=short_id(message.id),
        sender_name=short(message.sender_name, NAME),
        sent_at=Micros(min(max(message.sent_at, 0), LATEST)),
        text=_noted(message.text),
        quoted=quoted
        and attrs.evolve(
            quoted,
            id=short_id(quoted.id),
            sender_name=short(quoted.sender_name, NAME),
            text=short(quoted.text, WHATSAPP.quoted),
        ),
        attachments=tuple(
            attrs.evolve(each, name=short(each.name, NAME), media_type=short(each.media_type, NAME))
            for each in message.attachments
        ),
        edits=message.edits and short_id(message.edits),
        revokes=message.revokes and short_id(message.revokes),
        chat_name=message.chat_name and short(message.chat_name, NAME),
    )


def short(text: str, limit: int) -> str:
    """The text, whole or cut with an ellipsis, and such that every encoder takes it."""
    text = text if len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text.encode("utf-8", "replace").decode()


def short_id(text: str) -> str:
    """An id that keeps apart what it kept apart, however long somebody has made it."""
    if len(text) <= ID:
        return short(text, ID)
    return "long-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _noted(text: str) -> str:
    if len(text) <= TEXT:
        return short(text, TEXT)
    kept = TEXT - 100
    note = f"[cut: the first {kept:,} of {len(text):,} characters]"
    return f"{short(text[:kept], kept)}\n{note}"
