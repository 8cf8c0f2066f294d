"""Decide which messages call the assistant, and who may call it.

Pure. A name is compared letter by letter and never compiled as a pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from pynchy.model import Group, Message, channel_of


def is_trigger(message: Message, group: Group) -> bool:
    """Whether the agent of ``group`` should answer ``message``, or only have it as context.

    A structured mention of our account counts wherever it is, ``@Name`` only at the start of the
    text. Messages that are empty, deleted, a remark, or from a sender the group does not allow never trigger.
    """
    if message.revokes is not None or message.remark or is_empty(message):
        return False
    if not is_allowed(message, group):
        return False
    if group.is_main or not group.requires_trigger:
        return True
    return message.mentions_me or begins_with_name(message.text, group.trigger)


def is_allowed(message: Message, group: Group) -> bool:
    """Whether the group listens to the sender. It always listens to the owner."""
    senders = group.allowed_senders
    return senders is None or message.sender in senders or is_owner(message)


def is_owner(message: Message) -> bool:
    """Whether the owner wrote it: on our own account, or over the control socket."""
    return message.from_me or channel_of(message.chat) == "console"


def is_empty(message: Message) -> bool:
    """Whether the message has neither text nor attachments."""
    return not message.text.strip() and not message.attachments


def begins_with_name(text: str, name: str) -> bool:
    """Whether ``text`` starts with ``@name`` as a whole word.

    Letters are compared by ASCII case only, so that neither a long s nor a Kelvin sign passes for
    a letter of the name. Invisible marks that messengers put around a mention are skipped.
    """
    name = " ".join(name.strip(_SKIPPED).split())
    if not name:
        return False
    head = text[: 4 * len(name) + 256]  # enough, and no more work for ten megabytes
    head = " ".join(head.lstrip(_SKIPPED).split())
    if not head.startswith("@"):
        return False
    head = _ascii_lower(head[1:].lstrip(_SKIPPED))
    composed, apart = unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)
    for form in (name, composed, apart):  # of the name alone: NFC turns a Kelvin sign into a K
        spelling = _ascii_lower(form)
        if head.startswith(spelling) and _is_word_end(spelling, head[len(spelling) :]):
            return True
    return False


def after_name(text: str, name: str) -> str:
    """What follows ``@name`` at the start of ``text``; all of it if it does not start so."""
    if not begins_with_name(text, name):
        return text
    words = len(name.strip(_SKIPPED).split())
    rest = text.lstrip(_SKIPPED).removeprefix("@").lstrip(_SKIPPED).split(maxsplit=words)
    return rest[words].lstrip(":, ") if len(rest) > words else ""


_NUMBER: Final = re.compile(r"([1-9][0-9]?)[.)]?", re.ASCII)


def chosen(text: str, options: Sequence[str]) -> str | None:
    """The option that a text names by its number or its words, or None."""
    text = " ".join(text.split())
    number = _NUMBER.fullmatch(text)
    words = text.casefold()
    for option in options:  # words first: an option may itself be a number
        if words == " ".join(option.split()).casefold():
            return option
    if number is not None and int(number[1]) <= len(options):
        return options[int(number[1]) - 1]
    return None


#: White space, and the direction marks and isolates that WhatsApp wraps mentions in.
_SKIPPED: Final = " \t\r\n\u00a0\u200b\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff"

_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _ascii_lower(text: str) -> str:
    return text.translate(_LOWER)


def _is_word_end(name: str, rest: str) -> bool:
    """Whether a name that is followed by ``rest`` ends there.

    It does at the end of the text, before anything that is no letter, digit, underscore or
    combining mark, and at an edge of a script that puts no spaces between words.
    """
    if not rest:
        return True
    after = rest[0]
    if after == "\u200d" or unicodedata.category(after).startswith("M"):
        return False
    if _is_wide(after) or _is_wide(name[-1]):
        return True
    return not (after.isalnum() or after == "_")


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")
