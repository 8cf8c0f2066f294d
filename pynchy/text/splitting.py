"""Split long answers into messages: at paragraphs, with code fences closed and reopened."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from pynchy.limits import ANSWERS

REPLY_LIMIT: Final = ANSWERS.piece


_FENCE: Final = "```"
_CLOSED: Final = "\n" + _FENCE


def split_reply(text: str, *, limit: int = REPLY_LIMIT) -> list[str]:
    """Split ``text`` into pieces of at most ``limit`` characters, in order and without loss.

    Cut between paragraphs, else lines, else words, else graphemes. A code block that is cut is
    closed in the one piece and opened again in the next. Only white space at a cut is left out.
    """
    if limit < 80:
        raise ValueError("a piece has room for 80 characters at least")
    pieces: list[str] = []
    opening = ""
    rest = text.strip("\n")
    while len(opening) + len(rest) > limit:
        room = limit - len(opening) - (len(_CLOSED) if opening or _FENCE in rest else 0)
        end, start = _cut(rest, room)
        body, rest = rest[:end], rest[start:]
        reopening = _open_fence(opening, body)
        if body.strip():
            pieces.append(opening + body + (_CLOSED if reopening else ""))
        opening = reopening
    if rest.strip():
        pieces.append(opening + rest)
    return pieces


def _cut(text: str, room: int) -> tuple[int, int]:
    """Where this piece ends and the next one starts, which is always > 0."""
    window = text[: room + 1]
    at = window.rfind("\n\n", 0, room + 1)
    if at >= room // 2:
        end = len(window[:at].rstrip("\n"))
        start = at + 2
        while text.startswith("\n", start):
            start += 1
        return end, start
    at = window.rfind("\n", 0, room + 1)
    if at >= room // 4:
        return at, at + 1
    at = max(window.rfind(" ", 0, room + 1), window.rfind("\t", 0, room + 1))
    if at > 0:
        return at, at + 1
    at = room
    while at > 0 and not _is_boundary(text, at):
        at -= 1
    if at == 0:
        at = room  # one grapheme that no message can hold
    return at, at


def _open_fence(opening: str, body: str) -> str:
    """The line that opened the code block still open at the end of ``body``, or ""."""
    position = 0
    while (found := body.find(_FENCE, position)) >= 0:
        position = found
        while body.startswith("`", position):
            position += 1
        if opening:
            opening = ""
            continue
        line = body[position:].split("\n", 1)
        word = line[0].strip()
        known = len(line) == 2 and len(word) <= 20 and word.isascii() and " " not in word
        opening = f"{_FENCE}{word if known else ''}\n"
    return opening


# The part of Unicode's rules (UAX 29) that is seen in chats: marks, joiners, modifiers, flags,
# tags, Hangul syllables in parts. A library would know a few rare scripts better; none is needed
# to keep what people send in one piece.


def _is_boundary(text: str, at: int) -> bool:
    """Whether a grapheme ends before ``text[at]``. Runs of backticks are kept together, too."""
    if at <= 0 or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before < "\u0300" and after < "\u0300":
        return not (before == after == "`" or (before == "\r" and after == "\n"))
    if after == "\u200d" or before == "\u200d" or _extends(after):
        return False
    if _is_flag(before) and _is_flag(after):
        run = 1
        while at - 1 - run >= 0 and _is_flag(text[at - 1 - run]):
            run += 1
        return run % 2 == 0
    return not _is_hangul_inside(before, after)


def is_one_grapheme(text: str) -> bool:
    """Whether people see ``text`` as one character."""
    return bool(text) and all(not _is_boundary(text, at) for at in range(1, len(text)))


def boundaries(text: str) -> Iterator[int]:
    """The ends of the graphemes of a short text, in order."""
    return (at for at in range(1, len(text) + 1) if _is_boundary(text, at))


def _extends(character: str) -> bool:
    return (
        unicodedata.category(character).startswith("M")
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_hangul_inside(before: str, after: str) -> bool:
    lead = "\u1100" <= before <= "\u115f"
    if "\u1160" <= after <= "\u11ff":
        return lead or "\u1160" <= before <= "\u11ff" or "\uac00" <= before <= "\ud7a3"
    return lead and ("\u1100" <= after <= "\u115f" or "\uac00" <= after <= "\ud7a3")
