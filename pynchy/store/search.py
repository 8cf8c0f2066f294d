"""The full-text indexes, and how to query them.

The rules: whoever writes or deletes a text changes its index here, in the same transaction. And a question is words,
never a query language: each is quoted before it reaches the index, so that nothing a model writes can
be an operator, a column or an error.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from pynchy.store.database import Database

Index = Literal["inbox_fts", "outbox_fts", "memories_fts"]

MOST_WORDS: Final = 32  # of a question; the rest is ignored
_WORD: Final = re.compile(r"\w+")


def add(db: Database, index: Index, row: int, text: str) -> None:
    """A text was written."""
    db.execute(f"INSERT INTO {index} (rowid, text) VALUES (?, ?)", (row, text))


def drop(db: Database, index: Index, row: int, text: str) -> None:
    """A text, which must be the one that was added, is gone."""
    db.execute(f"INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', ?, ?)", (row, text))


def compact(db: Database, index: Index) -> None:
    """Write an index anew, without the words of what was dropped. Takes as long as the index is large."""
    db.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")


def any_of(question: str) -> str | None:
    """A match expression: any of the words of a question; None if it has none."""
    words = dict.fromkeys(_WORD.findall(question))
    quoted = [f'"{word}"' for word in list(words)[:MOST_WORDS]]
    return " OR ".join(quoted) or None
