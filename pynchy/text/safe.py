"""Make other people's text safe to show: on a terminal, in a log, on a page, in a chat.

Agents, people and services fill names, errors, captions and words of progress. None of it may move a
cursor, begin a line or a log entry of its own, turn the direction of what follows, hide, or look like
the host's mark. Whatever shows such text takes it through here, so that there is one list of what is
dangerous. The rule that keeps it so: pure, and nothing visible is lost but the host's mark.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

#: Every word of the host in a chat starts with this; nobody else's text contains it.
NOTICE_MARK: Final = "\N{WHITE SQUARE CONTAINING BLACK SMALL SQUARE}"

_LIVE: Final = (  # what acts on whatever shows it, or is not seen there
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f"
    "\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ud800-\\udfff\\ufeff\\uffa0"
    "\\ufff0-\\uffff\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff"
)
# The flags of England and its like are spelt with letters that are not seen; nothing else may be.
_FLAG: Final = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
# Joiners and selectors belong to emoji and to scripts that need them: nothing of ASCII does.
_HIDDEN: Final = re.compile(
    f"(?P<flag>{_FLAG})|[{_LIVE}]"
    "|(?<![^\\x00-\\x7f])[\\u200c\\u200d]|[\\u200c\\u200d](?![^\\x00-\\x7f])"
    "|(?<![^\\x00-\\x7f]|[0-9#*])[\\ufe00-\\ufe0f]"
)

_BOXES: Final = "\U0001f532\U0001f533"  # check boxes to many, and the mark to some
# A square within a square, or with a pattern in it; and what puts a square around anything at all.
_LOOKALIKE: Final = re.compile(
    f"[{NOTICE_MARK}\u25a2\u25a4-\u25a9\u22a1\u29c7\u29c8\u2b1a\u2bd0\U0001f78e-\U0001f796\U0001f7d7\U0001f7d8]"
    "[\\ufe00-\\ufe0f]*"
    "|(?P<keycap>[0-9#*]\\ufe0f?\\u20e3)"
    "|(?P<enclosed>[\\ufe00-\\ufe0f]*[\\u20dd-\\u20e0\\u20e2-\\u20e4\\u0488\\u0489\\ua670-\\ua672])"
    f"|(?P<box>[{_BOXES}])"
)
_SPACES: Final = re.compile(r"[\s\x1c-\x1f\x85\u2028\u2029]+")


def block(text: str) -> str:
    """The text with its lines, without control or invisible characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HIDDEN.sub(lambda found: found["flag"] or "", text)


def unmarked(text: str) -> str:
    """The text without the host's mark and its lookalikes."""
    return _LOOKALIKE.sub(_without_mark, text)


def _without_mark(found: re.Match[str]) -> str:
    if found["keycap"]:
        return found["keycap"]
    if found["enclosed"]:
        return ""
    return "\N{BALLOT BOX}" if found["box"] else "#"


def line(text: str, limit: int = 200) -> str:
    """Other people's words, made safe to quote within one line, at most ``limit`` characters and an
    ellipsis."""
    words = _SPACES.sub(" ", text[: 8 * limit])
    seen = "".join(each for each in unmarked(block(words)) if _is_seen(each))
    shown = " ".join(seen.split())
    return shown if len(shown) <= limit else shown[:limit].rstrip() + " \N{HORIZONTAL ELLIPSIS}"


def tree(value: Any) -> Any:
    """The same JSON with `block` applied to every text."""
    match value:
        case str():
            return block(value)
        case dict():
            return {key: tree(each) for key, each in value.items()}
        case list() | tuple():
            return [tree(each) for each in value]
        case _:
            return value


def _is_seen(character: str) -> bool:
    """Whether every font shows the character."""
    in_flag = "\U000e0020" <= character <= "\U000e007f"  # `block` has let no other pass
    return unicodedata.category(character)[0] != "C" or character in "\u200c\u200d" or in_flag


def escaped(text: str, *, lines: bool = False) -> str:
    """The text with control and invisible characters spelt out, on one line, or with ``lines`` kept."""
    shown = _HIDDEN.sub(lambda found: found["flag"] or _spelt(found[0]), text)
    return shown if lines else shown.replace("\n", "\\n").replace("\t", "\\t")


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
