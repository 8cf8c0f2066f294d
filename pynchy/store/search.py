"""The full-text indexes: how they are kept, and what in them fits a question.

The rules: whoever writes, changes or deletes a text changes its index here, in the same transaction. And each row of
an index says with which language's stems it was made, so that it can be made anew for another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Final, Literal, TypeVar

import attrs

from pynchy.model import GroupId, Micros
from pynchy.store import languages
from pynchy.store.database import Database
from pynchy.text import terms

Index = Literal["inbox_fts", "outbox_fts", "memories_fts"]
INDEXES: Final[tuple[Index, ...]] = ("inbox_fts", "outbox_fts", "memories_fts")

#: Of the texts with a word, so many of the newest are weighed: a search has a bound, however long the history is.
WEIGHED: Final = 5_000
WINDOW: Final = 250  # rows that one call of `refresh` looks at: nobody waits long for it
BEGINNING: Final = 0.5  # what a word counts that only begins as it was asked
COMMON: Final = 0.05  # what a stop word counts


def put(db: Database, index: Index, row: int, text: str, folder: GroupId | None) -> None:
    """A text of a group, or (None) of all, was written or changed."""
    _put(db, index, row, text, languages.of(db, folder))


def drop(db: Database, index: Index, row: int) -> None:
    """A text is gone, or is to be found no longer."""
    db.execute(f"DELETE FROM {index} WHERE rowid = ?", (row,))


def compact(db: Database, index: Index) -> None:
    """Write an index anew, without the words of what was dropped. Takes as long as the index is large."""
    db.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")


def _put(db: Database, index: Index, row: int, text: str, language: str) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO {index} (rowid, terms, language) VALUES (?, ?, ?)",
        (row, terms.indexed(text, language), language),
    )


# --- looking -------------------------------------------------------------------------------------

K = TypeVar("K", bound=Hashable)
Find = Callable[[str], Sequence[tuple[K, Micros]]]
"""What an expression matches, with its moment: the newest `WEIGHED` at most."""


@attrs.define
class _Fit:
    """How well one text fits."""

    at: Micros
    weight: float = 0.0
    has_more: bool = False  # than stop words


def best(asked: Sequence[terms.Term], find: Find[K], *, limit: int) -> list[K]:
    """What fits best, then what is newest.

    A word counts the more the fewer texts have it. Stop words count little, and find nothing where there is another
    word. How long a text is and how often a word is in it are not looked at, so that among equals the newest is first.
    """
    found = []
    for term in asked:
        exact = dict(find(term.exact))
        found.append((term, exact, exact if term.wider == term.exact else dict(find(term.wider))))
    texts: dict[K, _Fit] = {}
    total = len({key for _, _, wider in found for key in wider})
    for term, exact, wider in found:
        weight = math.log(1 + total / max(1, len(wider))) * (COMMON if term.common else 1.0)
        for key, at in (wider | exact).items():
            fit = texts.setdefault(key, _Fit(at))
            fit.weight += weight * (1.0 if key in exact else BEGINNING)
            fit.has_more |= not term.common
    some = not all(term.common for term in asked)
    kept = [(fit, key) for key, fit in texts.items() if fit.has_more or not some]
    kept.sort(key=lambda each: (round(each[0].weight, 9), each[0].at), reverse=True)
    return [key for _, key in kept[:limit]]


# --- making anew ---------------------------------------------------------------------------------

_TEXTS: Final = {
    "inbox_fts": "SELECT seq, text, folder FROM inbox JOIN chats USING (chat) "
    "WHERE seq > ?1 AND kind = 'text' AND gone IS NOT 'revoked' ORDER BY seq LIMIT ?2",
    "outbox_fts": "SELECT id, text, folder FROM outbox WHERE id > ?1 AND kind = 'text' ORDER BY id LIMIT ?2",
    "memories_fts": "SELECT rowid, text, folder FROM memories WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
}


def refresh(db: Database, index: Index, *, onwards: int = 0) -> tuple[int, int | None]:
    """Make the next rows of an index anew that have the stems of another language than their group's; how many, and
    where to go on; None: that was the last."""
    rows = db.execute(_TEXTS[index], (onwards, WINDOW)).fetchall()
    spoken: dict[GroupId | None, str] = {}
    changed = 0
    for row, text, folder in rows:
        if folder not in spoken:
            spoken[folder] = languages.of(db, folder)
        known = db.execute(f"SELECT language FROM {index} WHERE rowid = ?", (row,)).fetchone()
        if known is None or known[0] != spoken[folder]:
            _put(db, index, row, text, spoken[folder])
            changed += 1
    return changed, rows[-1][0] if len(rows) == WINDOW else None


def refresh_newest(db: Database, folder: GroupId) -> None:
    """Make what a group remembers anew, and the newest of its messages: its language has just become known."""
    spoken = languages.of(db, folder)
    for index, sql in _NEWEST.items():
        for row, text in db.execute(sql, (folder, WINDOW)).fetchall():
            _put(db, index, row, text, spoken)


_NEWEST: Final[dict[Index, str]] = {
    "inbox_fts": "SELECT seq, text FROM inbox JOIN chats USING (chat) "
    "WHERE folder = ? AND kind = 'text' AND gone IS NULL ORDER BY seq DESC LIMIT ?",
    "memories_fts": "SELECT rowid, text FROM memories WHERE folder = ? ORDER BY created_at DESC LIMIT ?",
}
