"""The lines between the daemon and the WhatsApp bridge: one JSON object each way a line.

Up: ``state``, ``chat``, ``message`` (with its journal number), ``answer``, ``me``; when pairing ``qr``,
``code``. Down: ``start``, ``chats``, ``ack``, ``send``, ``was_sent``, ``typing``, ``read``, ``groups``. The ids of
messages to send are the caller's, and every request gets one answer, so that another bridge
can take this one's place. The rule that keeps it so: facts in, facts out; who reads which line when
is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from pynchy.model import Attachment, Message, Quoted

LONGEST: Final = 8 * 1024 * 1024  # bytes of a line


class BadLine(Exception):
    """A line that is none of this protocol: theirs."""


def encode(line: Mapping[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def decode(raw: bytes) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(line, dict):
        raise BadLine(f"a {type(line).__name__}, not an object")
    return line


def message_out(message: Message) -> dict[str, Any]:
    return attrs.asdict(message)


def message_in(fields: Any) -> Message:
    """The message of a line. Raises `BadLine`."""
    try:
        quoted, attachments = fields["quoted"], fields["attachments"]
        return Message(
            **{
                **fields,
                "quoted": None if quoted is None else Quoted(**quoted),
                "attachments": tuple(Attachment(**each) for each in attachments),
            }
        )
    except (TypeError, KeyError) as error:
        raise BadLine(f"not a message: {error}") from None
