"""Stores as earlier versions left them, kept as SQL in schemas/.

A kept page is never written anew: it is what stands on people's disks. For a schema that nobody has kept
yet, `python -m tests.edges.old_stores N` writes one, with something in every table that matters.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from pynchy.store import migrations

SCHEMAS = Path(__file__).with_name("schemas")

# What a person would miss, in the words of each schema that brought its table.
ROWS = {
    1: """
INSERT INTO groups (folder, name, trigger, requires_trigger, is_main, paused,
    model, session, epoch, allowed_senders, settings, created_at)
    VALUES ('main', 'Main', 'Pynchy', 0, 1, 0, NULL, 'session-1', 3, NULL, '{}', 1),
    ('family', 'Family', 'Pynchy', 1, 0, 0, 'opus', NULL, 0, '["a"]', '{}', 2);
INSERT INTO chats VALUES ('console:main', 'Main', 10, 'main', 3, 2, 2);
INSERT INTO chats VALUES ('1@g.us', 'Family', 20, 'family', 0, 0, 0);
INSERT INTO chats VALUES ('2@g.us', 'Strangers', 30, NULL, 0, 0, 0);
INSERT INTO inbox VALUES (1, 'console:main', 'console:me', 'Me', 'm1', 5, 6, 'text', 'first',
    1, 0, 0, NULL, NULL, NULL, NULL);
INSERT INTO inbox VALUES (2, 'console:main', 'console:me', 'Me', 'm2', 7, 8, 'text', 'second',
    1, 0, 0, NULL, NULL, NULL, NULL);
INSERT INTO inbox VALUES (3, 'console:main', 'console:me', 'Me', 'm3', 9, 10, 'text', 'unanswered',
    1, 0, 0, NULL, NULL, NULL, NULL);
INSERT INTO runs VALUES ('run1', 'main', 'session', 'pynchy-run1', 'gone', 'boot', 3, 5, 9, 'idle');
INSERT INTO turns (id, folder, chat, kind, state, lo, hi, run_id, prompt_id, retry_at, created_at, claimed_at, ended_at)
    VALUES (1, 'main', 'console:main', 'message', 'done', 2, 2, 'run1', 'p1', 5, 5, 5, 9);
INSERT INTO attempts VALUES ('p1', 1, 'run1', 5, 6, 9, 'done');
INSERT INTO turn_inputs VALUES (1, 1), (2, 1);
INSERT INTO outbox (id, folder, chat, turn_id, run_id, ord, message_id, kind, text, state, next_at, created_at, sent_at)
    VALUES (1, 'main', 'console:main', 1, 'run1', 0, 'o1', 'text', 'answered', 'sent', 5, 5, 9);
INSERT INTO outbox (id, folder, chat, message_id, kind, text, state, next_at, created_at)
    VALUES (2, 'main', 'console:main', 'o2', 'text', 'on its way', 'pending', 5, 5);
""",
    2: """
INSERT INTO journal VALUES ('main', 'c1', 'hash', 1, 'done', 5);
INSERT INTO audit (at, actor, action, folder) VALUES (5, 'owner', 'group registered', 'family');
INSERT INTO notices VALUES ('console:main', 'budget', 5, 0);
""",
    3: """
INSERT INTO tasks VALUES ('t1', 'main', 'console:main', 'briefing', 'what is on?', NULL, 'cron', '0 8 * * *', 'UTC',
    'group', 'coalesce', 'owner', 0, 'active', NULL, 1, 1900000000000000, 0, 1);
INSERT INTO fires VALUES ('t1', '2026-01-01T08:00', 5, 6, NULL, 0, 'skipped', 'it was down');
""",
    4: """
INSERT INTO usage (folder, run_id, model, day, state, reserved_tokens, reserved_cost, input_tokens, cost, created_at,
    settled_at)
    VALUES ('main', 'run1', 'opus', '2026-01-01', 'settled', 100, 10, 50, 7, 5, 6);
""",
    5: """
INSERT INTO memories VALUES ('x1', 'main', 'Ann likes tea', 5);
""",
    6: """
INSERT INTO questions VALUES ('q1', 'main', 'console:main', 3, 'run1', 1, 'o1', 'which?', '[]', 'open', 5, NULL, NULL,
    NULL, NULL, NULL, NULL);
INSERT INTO delegates VALUES (1, 'main', 1, 'run1', 1, 0, 0);
""",
}
STEMMED = 13  # the schema from which on the indexes hold stems
_KEPT = "INSERT INTO {0}_fts (rowid, terms, language) SELECT rowid, text, '' FROM {0};"
INDEXES = ("memories_fts", "inbox_fts", "outbox_fts")


def open_at(schema: int, path: Path | str = ":memory:") -> sqlite3.Connection:
    """A store of this schema as the steps of today make it, empty."""
    import sqlite_utils

    connection = sqlite3.connect(path, isolation_level=None)
    history = sqlite_utils.Migrations("pynchy")
    for number, step in enumerate(migrations.STEPS[:schema], start=1):
        history(name=step.__name__)(migrations._numbered(step, number))
    history.apply(sqlite_utils.Database(connection))
    return connection


def definitions(connection: sqlite3.Connection) -> set[str]:
    """The statements that made the schema, without what the full-text indexes keep for themselves."""
    shadows = tuple(f"{index}_" for index in INDEXES)
    return {
        sql
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOTNULL")
        if not name.startswith((*shadows, "sqlite_"))
    }


def dump(schema: int) -> str:
    """A store of this schema with its rows, as SQL."""
    with closing(open_at(schema)) as connection:
        for number in range(1, schema + 1):
            connection.executescript(ROWS.get(number, ""))
        made = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE sql NOTNULL ORDER BY type = 'trigger', rowid"
        ).fetchall()
        shadows = tuple(f"{index}_" for index in INDEXES)
        lines = ["PRAGMA journal_mode = WAL;", "BEGIN;"]
        triggers: list[str] = []
        for name, sql in made:
            if name.startswith((*shadows, "sqlite_")):
                continue
            (triggers if sql.startswith("CREATE TRIGGER") else lines).append(f"{sql};")
            if not sql.startswith("CREATE TABLE"):
                continue
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - ours
                values = ", ".join(map(_literal, row))
                lines.append(f'INSERT INTO "{name}" VALUES ({values});')  # noqa: S608 - ours
        lines += triggers  # after the rows, which they would judge
        # From then on they keep what they hold.
        fill = _KEPT if schema >= STEMMED else "INSERT INTO {0}_fts ({0}_fts) VALUES ('rebuild');"
        lines += [fill.format(name.removesuffix("_fts")) for name, _ in made if name in INDEXES]
        return "\n".join([*lines, "COMMIT;", f"PRAGMA user_version = {schema};", ""])


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def make(schema: int, path: Path) -> None:
    """A file as that version left it: the kept page, or where there is none the same from today's steps."""
    page = SCHEMAS / f"schema_{schema}.sql"
    sql = page.read_text(encoding="utf-8") if page.exists() else dump(schema)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(sql)


if __name__ == "__main__":
    wanted = SCHEMAS / f"schema_{int(sys.argv[1])}.sql"
    if wanted.exists():
        sys.exit(f"{wanted} is kept, and stays as it is")
    wanted.write_text(dump(int(sys.argv[1])), encoding="utf-8")
