"""Which language the people of a group write: as the owner set it, else as their messages look.

The rule: each message adds its signs until they are enough; then the language stays, but for `guess_anew`, so that
what was indexed yesterday and what is indexed today have the same stems.
"""

from __future__ import annotations

import json
from typing import Final

from pynchy.model import GroupId
from pynchy.store import groups
from pynchy.store.database import Database
from pynchy.store.rows import scalar, scalars
from pynchy.text import terms

TEXTS: Final = 100  # the newest of a chat, by which a language is guessed anew
READ: Final = 1_000  # characters of a text that are looked at


def of(db: Database, folder: GroupId | None) -> str:
    """The language of a group; of what is for all groups, main's."""
    sql = (
        "SELECT coalesce(json_extract(groups.settings, '$.language'), languages.language) "
        "FROM groups LEFT JOIN languages USING (folder) WHERE folder = ?"
    )
    return scalar(db, str, sql, (folder or "main",)) or terms.DEFAULT


def learn(db: Database, folder: GroupId, text: str) -> bool:
    """Look at a message that came, unless the language of its group is known; whether it is known by that."""
    row = db.execute("SELECT language, signs FROM languages WHERE folder = ?", (folder,)).fetchone()
    if row is not None and row[0] is not None:
        return False
    new = terms.signs(text[:READ])
    if not new:
        return False
    signs = new if row is None else terms.together(json.loads(row[1]), new)
    return _keep(db, folder, signs) is not None


def guess_anew(db: Database, folder: GroupId) -> None:
    """Guess the language of a group by what was said last; what is not sure changes nothing."""
    sql = (
        f"SELECT substr(text, 1, {READ}) FROM inbox INDEXED BY inbox_visible "
        "WHERE chat = ? AND kind <> 'command' AND gone IS NULL ORDER BY seq DESC LIMIT ?"
    )
    texts = (
        text
        for chat in groups.chats_of(db, folder)
        for text in scalars(db, str, sql, (chat, TEXTS))
    )
    signs = terms.together(*map(terms.signs, texts))
    if terms.language_of(signs) is not None:
        _keep(db, folder, signs)


def _keep(db: Database, folder: GroupId, signs: dict[str, float]) -> str | None:
    language = terms.language_of(signs)
    db.execute(
        "INSERT OR REPLACE INTO languages (folder, language, signs) VALUES (?, ?, ?)",
        (folder, language, json.dumps(signs)),
    )
    return language
