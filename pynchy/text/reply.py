"""Clean up a reply: remove hidden parts, and stop an agent from forging the host's mark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pynchy.text import safe
from pynchy.text.safe import NOTICE_MARK

NOTICE_PREFIX: Final = NOTICE_MARK + " "


def clean_reply(text: str | None) -> str | None:
    """The part of an agent's text that may be shown, or None.

    ``<internal>…</internal>`` is left out, nested ones too, and so is everything after a tag that
    is never closed. The result never contains the host's mark or what looks like it, nor what acts on
    a reader's screen or hides there.
    """
    if text is None:
        return None
    text = safe.unmarked(safe.block(text))
    for _ in range(_LAYERS):  # what is left may close up to a new tag
        if _INTERNAL.search(text) is None:
            return text.strip() or None
        text = "".join(_outside(text))
    return None


def hides_the_rest(text: str) -> bool:
    """Whether an ``<internal>`` is never closed, so that `clean_reply` drops what follows it."""
    return _depth(text) > 0


def notice(text: str) -> str:
    """A text with the host's mark, which nobody else's text can start with. A notice stays unchanged."""
    return NOTICE_PREFIX + text.removeprefix(NOTICE_PREFIX).replace(NOTICE_MARK, "#")


def within(text: str, limit: int = 200) -> str:
    """Other people's words, made safe to quote within a line of the host: see `safe.line`."""
    return safe.line(text, limit)


# Linear: neither class matches "<", so that no start is looked at twice.
_INTERNAL: Final = re.compile(r"<(/?)\s*internal(?=[\s/>])[^<>]*>", re.ASCII | re.IGNORECASE)

_LAYERS: Final = 8  # tags folded into tags more often than this are not written by accident


def _outside(text: str) -> Iterator[str]:
    depth = start = 0
    for match in _INTERNAL.finditer(text):
        if depth == 0:
            yield text[start : match.start()]
        depth = max(0, depth - 1) if match.group(1) else depth + 1
        start = match.end()
    if depth == 0:
        yield text[start:]


def _depth(text: str) -> int:
    depth = 0
    for match in _INTERNAL.finditer(text):
        depth = max(0, depth - 1) if match.group(1) else depth + 1
    return depth
