"""Clean up names that people and groups chose: one visible line of bounded length."""

from __future__ import annotations

import unicodedata
from typing import Final

from pynchy.limits import ANSWERS
from pynchy.text import safe
from pynchy.text.splitting import boundaries

NAME_LIMIT: Final = ANSWERS.name


def clean_name(name: str, *, fallback: str = "someone") -> str:
    """A name as it may be shown: NFKC, one line, at most `NAME_LIMIT` graphemes, nothing invisible.

    Control, format, private and unassigned characters go, and so does all but a few of the marks
    that can be piled on one letter.
    """
    kept: list[str] = []
    marks = 0
    plain = safe.unmarked(unicodedata.normalize("NFKC", name[:1024]))
    for character in plain:
        category = unicodedata.category(character)
        marks = marks + 1 if category.startswith("M") else 0
        if category.startswith("Z") or character in "\t\n\r\v\f":
            kept.append(" ")
        elif category.startswith("C") or marks > 4:
            continue
        else:
            kept.append(character)
    cleaned = " ".join("".join(kept).split())
    end = 0
    for count, boundary in enumerate(boundaries(cleaned), 1):
        end = boundary
        if count == NAME_LIMIT:
            break
    return cleaned[:end].rstrip() or fallback
