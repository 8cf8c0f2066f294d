"""Delete every row of a group in one transaction, and scrub it from the file.

The rule: the audit and the costs of model calls stay, because the owner answers for them; they contain nothing that
was said. A table that is added later is erased if it names the group; one that does not must be added to `_erase`,
and a test compares that with the schema.
"""

from __future__ import annotations

import json
from typing import Final

from pynchy.model import ChatId, GroupId, RunId
from pynchy.store import groups, questions, search, turns
from pynchy.store.database import Database, Tx
from pynchy.store.rows import exists, scalars

#: Tables that say nothing of what was said.
KEPT: Final = frozenset({"audit", "usage"})

_IN_ORDER: Final = frozenset({"tasks", "memories", "outbox", "turns", "runs", "chats", "groups"})

_ITS_TURNS: Final = "SELECT id FROM turns WHERE folder = :folder"
_ITS_RUNS: Final = "SELECT id FROM runs WHERE folder = :folder"
_ITS_INBOX: Final = "SELECT seq FROM inbox WHERE chat IN (SELECT value FROM json_each(:chats))"
_ITS_OUTBOX: Final = f"folder = :folder OR chat IN (SELECT value FROM json_each(:chats)) OR turn_id IN ({_ITS_TURNS})"


def is_known(db: Database, folder: GroupId) -> bool:
    """Whether there is, or was, a group of this folder, as far as the rows go."""
    asked = " UNION ALL ".join(
        f"SELECT 1 FROM {table} WHERE folder = :folder"
        for table in ("groups", "runs", "turns", "outbox", "memories", "tasks")
    )
    return bool(db.execute(f"SELECT EXISTS ({asked})", {"folder": folder}).fetchone()[0])


def hush(tx: Tx, folder: GroupId) -> None:
    """Let a group begin nothing more: what it works on is over, and it is served no longer."""
    turns.cancel(tx, folder, all_of_it=True)
    questions.drop(tx, folder)
    groups.set_paused(tx, folder, paused=True)


def runs_of(db: Database, folder: GroupId) -> list[RunId] | None:
    """All runs that a group ever had; None as long as one of them may have a container."""
    if exists(db, "SELECT 1 FROM runs WHERE folder = ? AND state <> 'gone'", (folder,)):
        return None
    return scalars(db, RunId, "SELECT id FROM runs WHERE folder = ?", (folder,))


def erase(tx: Tx, folder: GroupId) -> dict[str, int] | None:
    """Delete the rows of a group; how many messages, replies, tasks and memories went. None, and nothing
    was done, if a run of it may still have a container.

    What was said in a chat that belongs to another group by now stays: it is that group's.
    """
    if runs_of(tx, folder) is None:
        return None
    secure = tx.execute("PRAGMA secure_delete").fetchone()[0]
    tx.execute("PRAGMA secure_delete = ON")  # the freed pages are overwritten, too
    try:
        counts = _erase(tx, folder)
    finally:
        tx.execute(f"PRAGMA secure_delete = {int(secure):d}")
    return counts


def _erase(db: Database, folder: GroupId) -> dict[str, int]:
    its = {"folder": folder, "chats": json.dumps(_chats(db, folder))}

    def delete(table: str, where: str) -> int:
        return db.execute(f"DELETE FROM {table} WHERE {where}", its).rowcount

    tasks = delete("tasks", "folder = :folder")  # and their slots
    memories = _unsearched(
        db, "memories_fts", "SELECT rowid FROM memories WHERE folder = :folder", its
    )
    delete("memories", "folder = :folder")
    _unsearched(
        db,
        "outbox_fts",
        f"SELECT id FROM outbox WHERE kind = 'text' AND ({_ITS_OUTBOX})",
        its,
    )
    replies = delete("outbox", _ITS_OUTBOX)
    for table in _naming_it(db):
        delete(table, "folder = :folder")
    delete("turn_inputs", f"turn_id IN ({_ITS_TURNS}) OR seq IN ({_ITS_INBOX})")
    delete("attempts", f"turn_id IN ({_ITS_TURNS}) OR run_id IN ({_ITS_RUNS})")
    delete("turns", "folder = :folder")
    delete("runs", "folder = :folder")
    _unsearched(
        db,
        "inbox_fts",
        f"SELECT seq FROM inbox WHERE kind = 'text' AND seq IN ({_ITS_INBOX})",
        its,
    )
    messages = delete("inbox", f"seq IN ({_ITS_INBOX})")
    delete("pace", "chat IN (SELECT value FROM json_each(:chats))")
    delete("holds", "scope = 'group:' || :folder")
    delete("notices", "chat IN (SELECT value FROM json_each(:chats))")
    delete("chats", "chat IN (SELECT value FROM json_each(:chats))")
    delete("groups", "folder = :folder")
    return {"messages": messages, "replies": replies, "tasks": tasks, "memories": memories}


def _naming_it(db: Database) -> list[str]:
    """The tables that say whose a row is, but for those whose rows others hang on."""
    rows = db.execute(
        "SELECT tables.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns "
        "WHERE tables.type = 'table' AND columns.name = 'folder' ORDER BY tables.name"
    )
    return [row[0] for row in rows if row[0] not in KEPT | _IN_ORDER]


def _chats(db: Database, folder: GroupId) -> list[ChatId]:
    """The chats of a group, and those that were and are nobody's now."""
    rows = db.execute(
        "SELECT chat FROM chats WHERE folder = :folder OR (folder IS NULL AND chat IN ("
        "  SELECT chat FROM turns WHERE folder = :folder"
        "  UNION SELECT chat FROM outbox WHERE folder = :folder"
        "  UNION SELECT chat FROM tasks WHERE folder = :folder"
        "  UNION SELECT chat FROM questions WHERE folder = :folder))",
        {"folder": folder},
    )
    return [ChatId(row[0]) for row in rows]


def _unsearched(db: Database, index: search.Index, query: str, its: dict[str, str]) -> int:
    """Take rows out of an index, and their words out of its pages."""
    found = db.execute(query, its).fetchall()
    for (row,) in found:
        search.drop(db, index, row)
    if found:
        search.compact(db, index)
    return len(found)
