"""Decide which messages call the assistant, and who may call it.

Pure. A name is compared letter by letter and never compiled as a pattern.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from pynchy.model import Group, Message, channel_of

#: How much of what people say a group takes for its own, each with all before it. mention: a mention of the account, or
#: @Name anywhere. reply: what replies to a message that it sent. name: its name first in the text. all: everything.
ANSWERS: Final = ("mention", "reply", "name", "all")
#: The same for people, after "it answers"; {} is its name.
ADDRESSED: Final = {
    "mention": "@{} anywhere in a message",
    "reply": "@{} anywhere in a message, and replies to what I said",
    "name": "@{0} anywhere in a message, {0} with a comma at its start, and replies to what I said",
    "all": "every message",
}
SPOKEN: Final = "[voice note]"  # before the words of a voice note


def is_trigger(message: Message, group: Group, *, replies: bool = False) -> bool:
    """Whether the agent of ``group`` should answer ``message``, or only have it as context.

    ``replies``: it quotes a message that we sent. Messages that are empty, deleted, a remark, or from a sender the
    group does not allow never trigger.
    """
    if message.revokes is not None or message.remark or is_empty(message):
        return False
    if not is_allowed(message, group):
        return False
    return is_addressed(message, group, replies=replies)


def is_addressed(message: Message, group: Group, *, replies: bool) -> bool:
    """Whether ``message`` is for the assistant, as far as ``group`` wants it to be taken so (see `ANSWERS`)."""
    if group.answers == "all" or message.mentions_me or mentions_name(message.text, group.trigger):
        return True
    if group.answers == "mention":
        return False
    return replies or (group.answers == "name" and calls_by_name(message.text, group.trigger))


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
    head = text[: 4 * len(name) + 256].lstrip(_SKIPPED)  # enough, and little for ten megabytes
    return head.startswith("@") and _after(head[1:], _spellings(name)) is not None


def mentions_name(text: str, name: str) -> bool:
    """Whether ``@name`` stands anywhere in ``text`` as a whole word; an address such as me@name.org does not count."""
    if begins_with_name(text, name):
        return True
    spellings, at = _spellings(name), -1
    for _ in range(_MENTIONS):
        if (at := text.find("@", at + 1)) < 0:
            break
        before, head = text[at - 1 : at] if at else "", text[at + 1 : at + 257 + 4 * len(name)]
        if before and (before in _LOCAL or (before.isalnum() and not _is_wide(before))):
            continue
        if not head[:1].isspace() and _after(head, spellings) is not None:
            return True
    return False


def calls_by_name(text: str, name: str) -> bool:
    """Whether ``text`` begins with the bare name, set off from what follows as in "Name, please". In the words of a
    voice note nothing needs to set it off."""
    text = text[: 4 * len(name) + 256].lstrip(_SKIPPED)
    spoken = text.startswith(SPOKEN)
    head = text.removeprefix(SPOKEN).lstrip(_SKIPPED)
    rest = _after(head, _spellings(name))
    if rest is None:
        return False
    if spoken or not rest.strip(_SKIPPED):
        return True
    mark, after = rest.lstrip(_SKIPPED)[0], rest.lstrip(_SKIPPED)[1:2]
    if mark == "-":  # a dash, and not the middle of a word
        return rest[0] in _SKIPPED and after in _SKIPPED
    # "pynchy.org" and "pynchy:8080" are names of something else.
    return mark in _SETS_OFF and not (mark in ".:" and rest[0] == mark and after.isalnum())


def _spellings(name: str) -> tuple[str, ...]:
    """The forms of a name as texts have it, in lower case; none if there is nothing of it."""
    name = " ".join(name.strip(_SKIPPED).split())
    if not name:
        return ()
    # Of the name alone: NFC turns a Kelvin sign into a K.
    forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return tuple(dict.fromkeys(_ascii_lower(form) for form in forms))


def _after(head: str, spellings: tuple[str, ...]) -> str | None:
    """What follows the name at the start of ``head``, its white space in one piece; None if it does not start so."""
    space = head[len(head.rstrip()) :]
    head = _ascii_lower(" ".join(head.lstrip(_SKIPPED).split())) + space[:1]
    for spelling in spellings:
        rest = head[len(spelling) :]
        if head.startswith(spelling) and _is_word_end(spelling, rest):
            return rest
    return None


def after_name(text: str, name: str) -> str:
    """What follows ``@name``, or the bare name, at the start of ``text``; all of it if it does not start so."""
    if not begins_with_name(text, name) and not calls_by_name(text, name):
        return text
    text = text.lstrip(_SKIPPED).removeprefix(SPOKEN)
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


#: What sets a name off from the rest, in the scripts that people write.
_SETS_OFF: Final = frozenset(
    ",:;!?.\u2026\u2013\u2014\u060c\u061b\u061f\u3001\u3002\uff0c\uff0e\uff1a\uff1b\uff01\uff1f\u0964\u0589\u05c3"
)
_MENTIONS: Final = 1_000  # signs of a mention in one text that are looked at
#: What may stand before the @ of an address, besides letters and digits.
_LOCAL: Final = frozenset("_%+-")

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
