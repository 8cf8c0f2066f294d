"""The bridge's journal: what WhatsApp brought that is not yet acknowledged, and what became of each send.

The bridge writes an event here inside the library's callback. Its payload is erased when the daemon has
acknowledged it; its identity stays, so that a second delivery is recognised.

A message that makes the daemon or the bridge crash would come again for ever. So deliveries are counted, the
fetching of a file included, and after three a message is set aside. The daemon gets a notice in its place,
and the newest of those set aside are kept for a person to look at.

A message of our own account that reads like a send whose id is not known yet is held: it is either that
send, or a person wrote it. The send's answer says which.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from pynchy.limits import WHATSAPP
from pynchy.whatsapp.order import Waiting

KEPT: Final = 20_000  # identities of acknowledged events, and of sends
DELIVERIES: Final = WHATSAPP.deliveries
ASIDE_SIZE: Final = 64 * 1024  # characters of each

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        identity TEXT NOT NULL UNIQUE,
        payload TEXT,
        held_for TEXT,
        wa_id TEXT,
        said_by TEXT,
        deliveries INTEGER NOT NULL DEFAULT 0,
        failure TEXT
    );
    CREATE INDEX IF NOT EXISTS events_open ON events (number) WHERE payload IS NOT NULL;
    CREATE INDEX IF NOT EXISTS events_wa ON events (wa_id);
    CREATE INDEX IF NOT EXISTS events_held ON events (held_for) WHERE held_for IS NOT NULL;
    CREATE TABLE IF NOT EXISTS sends (
        message_id TEXT PRIMARY KEY,
        chat TEXT NOT NULL,
        text TEXT NOT NULL,
        state TEXT NOT NULL,
        doubtful INTEGER NOT NULL DEFAULT 0,
        wa_id TEXT
    );
    CREATE TABLE IF NOT EXISTS aside (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        chat TEXT NOT NULL,
        reason TEXT NOT NULL,
        payload TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS expirations (chat TEXT PRIMARY KEY, seconds INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS sends_wa ON sends (wa_id);
    CREATE INDEX IF NOT EXISTS sends_open ON sends (chat) WHERE state = 'open';
"""
_PUT: Final = (
    "INSERT {} INTO events (identity, payload, held_for, wa_id, said_by) VALUES (?, ?, ?, ?, ?)"
)
_WAITING: Final = """
    SELECT number, deliveries,
        CASE WHEN json_valid(identity) THEN json_extract(identity, '$[0]') ELSE '' END,
        CASE WHEN json_valid(payload) THEN json_type(payload, '$.media') IS NOT NULL
            OR json_type(payload, '$.claim') IS NOT NULL ELSE 0 END,
        CASE WHEN json_valid(payload) THEN json_type(payload, '$.voice') IS NOT NULL ELSE 0 END
    FROM events WHERE payload IS NOT NULL AND held_for IS NULL AND number > ? ORDER BY number LIMIT ?
"""
_DROP: Final = "UPDATE events SET payload = NULL, held_for = NULL"
_SENT: Final = "UPDATE sends SET state = 'sent', wa_id = ?, text = '' WHERE message_id = ?"


@attrs.frozen
class Entry:
    number: int
    payload: str
    deliveries: int = 0  # this one included


class Journal:
    """The journal in one file, over one connection. Any thread may call; each call is a commit."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
            "PRAGMA busy_timeout = 5000;" + _SCHEMA
        )
        names = [row[1] for row in self._db.execute("PRAGMA table_info(events)")]
        if "said_by" not in names:  # a journal of an earlier version
            self._db.execute("ALTER TABLE events ADD COLUMN said_by TEXT")
        if "deliveries" not in names:
            self._db.execute("ALTER TABLE events ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0")
            self._db.execute("ALTER TABLE events ADD COLUMN failure TEXT")
        self._run(  # not even the notice got through: no more of it
            "UPDATE events SET payload = NULL WHERE deliveries >= ? AND payload LIKE '{\"aside\":%'",
            DELIVERIES,
        )
        self._handed: set[int] = set()  # in this life, and nobody has said what became of them
        # What was on its way when an earlier life ended is doubtful from now on.
        self._run("UPDATE sends SET doubtful = 1 WHERE state = 'open'")

    def put(
        self,
        identity: str,
        payload: str,
        *,
        wa_id: str,
        own: tuple[str, str] | None,
        said_by: str = "",
    ) -> bool:
        """Keep an event once. ``identity``: its chat, canonical sender and id, as JSON. ``own``: chat and
        text of a message of our account. ``said_by``: its sender's id as it came.

        False: known already, or our own send come back.
        """
        with self._change():
            held_for = None
            if own is not None:
                if self._one("SELECT 1 FROM sends WHERE wa_id = ?", wa_id):
                    return False
                found = self._one(
                    "SELECT message_id FROM sends WHERE chat = ? AND state = 'open' AND text = ?",
                    own[0],
                    own[1].strip(),
                )
                held_for = found[0] if found else None
            chat = json.loads(identity)[0]
            if said_by and self._one(  # before its sender's number was known
                "SELECT 1 FROM events WHERE wa_id = ? AND said_by = ? "
                "AND json_extract(identity, '$[0]') = ?",
                wa_id,
                said_by,
                chat,
            ):
                return False
            row = (identity, payload, held_for, wa_id, said_by)
            return self._run(_PUT.format("OR IGNORE"), *row).rowcount == 1

    def waiting(self, number: int, *, limit: int) -> list[Waiting]:
        """What is not acknowledged, in order, behind ``number``."""
        with self._lock:
            return [Waiting(*row) for row in self._run(_WAITING, number, limit).fetchall()]

    def hand_out(self, numbers: Sequence[int]) -> list[Entry]:
        """Of these events those that are still open, in order, each counted as delivered.

        One that has had its deliveries comes as the notice that it was set aside.
        """
        with self._change(hurry=False):
            rows = self._run(
                "SELECT number FROM events WHERE payload IS NOT NULL AND held_for IS NULL "
                "AND number IN (SELECT value FROM json_each(?)) ORDER BY number",
                json.dumps(numbers),
            ).fetchall()
            return [self._hand_out(row[0]) for row in rows]

    def hand_out_again(self, number: int) -> Entry | None:
        """The same for one that came back."""
        with self._change(hurry=False):
            found = self._one(
                "SELECT 1 FROM events WHERE number = ? AND payload IS NOT NULL", number
            )
            return self._hand_out(number) if found else None

    def _hand_out(self, number: int) -> Entry:
        had = self._one("SELECT deliveries, failure FROM events WHERE number = ?", number)
        assert had is not None
        if int(had[0]) >= DELIVERIES:
            self._set_aside(number, had[1] or f"{DELIVERIES} times it was not taken to its end")
        self._handed.add(number)
        row = self._run(
            "UPDATE events SET deliveries = deliveries + 1 WHERE number = ? "
            "RETURNING number, payload, deliveries",
            number,
        ).fetchall()[0]
        return Entry(*row)

    def failed(self, number: int, reason: str) -> None:
        """A delivery came to nothing, and why."""
        with self._change():
            self._handed.discard(number)
            self._run("UPDATE events SET failure = ? WHERE number = ?", reason, number)

    def give_back(self) -> None:
        """An orderly end: what is in hand has not failed, and its delivery does not count."""
        with self._change():
            self._db.executemany(
                "UPDATE events SET deliveries = deliveries - 1 "
                "WHERE number = ? AND payload IS NOT NULL AND deliveries > 0",
                [(each,) for each in self._handed],
            )
            self._handed.clear()

    def put_aside(self, identity: str, *, chat: str, payload: str, reason: str) -> bool:
        """Set aside an event that could not even be read. False: that is known already."""
        with self._change():
            notice = json.dumps({"aside": {"chat": chat, "who": "", "reason": reason}})
            new = "INSERT OR IGNORE INTO events (identity, payload) VALUES (?, ?)"
            kept = self._run(new, identity, notice).rowcount == 1
            if kept:
                self._keep_aside(chat, reason, payload)
            return kept

    def forget_aside(self, registered: Iterable[str]) -> None:
        """Erase what was set aside of any other chat."""
        with self._change():
            self._run(
                "DELETE FROM aside WHERE chat NOT IN (SELECT value FROM json_each(?))",
                json.dumps(list(registered)),
            )

    def _set_aside(self, number: int, reason: str) -> None:
        row = self._one("SELECT payload, identity FROM events WHERE number = ?", number)
        assert row is not None
        payload, (chat, who, *_) = row[0], json.loads(row[1])
        try:
            message = json.loads(payload)["message"]
            who = str(message["sender_name"])
        except (ValueError, LookupError, TypeError, RecursionError):
            pass  # it is here because nobody can make sense of it
        notice = {"chat": chat, "who": who, "reason": reason}
        self._run(
            "UPDATE events SET payload = ?, deliveries = 0, failure = NULL WHERE number = ?",
            json.dumps({"aside": notice}),
            number,
        )
        self._keep_aside(chat, reason, payload)

    def _keep_aside(self, chat: str, reason: str, payload: str) -> None:
        row = (chat, reason, payload[:ASIDE_SIZE])
        self._run("INSERT INTO aside (chat, reason, payload) VALUES (?, ?, ?)", *row)
        old = "DELETE FROM aside WHERE number <= (SELECT max(number) FROM aside) - ?"
        self._run(old, WHATSAPP.aside)

    def rewrite(self, number: int, payload: str) -> None:
        """Put what an event has become in its place, if it is still open."""
        with self._change():
            self._run(
                "UPDATE events SET payload = ? WHERE number = ? AND payload IS NOT NULL",
                payload,
                number,
            )

    def acknowledge(self, numbers: list[int]) -> None:
        """The daemon has them: erase what they said.

        This alone does not wait for the disk. An acknowledgement that a power cut takes away is given
        again, for the message comes again and is known.
        """
        if not numbers:
            return
        with self._change(hurry=False):
            self._handed.difference_update(numbers)
            self._db.executemany(
                "UPDATE events SET payload = NULL WHERE number = ?", [(each,) for each in numbers]
            )
            if any(each % 1000 == 0 for each in numbers):
                old = "DELETE FROM events WHERE payload IS NULL AND number < ?"
                self._run(old, max(numbers) - KEPT)
                old = "DELETE FROM sends WHERE rowid < (SELECT max(rowid) FROM sends) - ?"
                self._run(old, KEPT)

    def count_open(self) -> int:
        """How many wait for the daemon; what is held does not."""
        with self._lock:
            waiting = "SELECT count(*) FROM events WHERE payload IS NOT NULL AND held_for IS NULL"
            return int(self._run(waiting).fetchone()[0])

    # --- sends

    def begin(self, message_id: str, *, chat: str, text: str) -> bool:
        """Note a try before it is made. False: it was sent already."""
        with self._change():
            row = self._one("SELECT state FROM sends WHERE message_id = ?", message_id)
            if row is not None and row[0] == "sent":
                return False
            self._run(
                "INSERT INTO sends (message_id, chat, text, state) VALUES (?1, ?2, ?3, 'open') "
                "ON CONFLICT (message_id) DO UPDATE SET text = ?3, state = 'open'",
                message_id,
                chat,
                text.strip(),
            )
            return True

    def sent(self, message_id: str, wa_id: str) -> None:
        """WhatsApp has it, under this id. What was held for it is it, or a person's."""
        with self._change():
            self._run(_SENT, wa_id, message_id)
            self._run(f"{_DROP} WHERE held_for = ? AND wa_id = ?", message_id, wa_id)
            row = self._one("SELECT doubtful FROM sends WHERE message_id = ?", message_id)
            self._release(message_id, drop=row is not None and bool(row[0]))

    def refused(self, message_id: str) -> None:
        """It was not sent, for certain: this time."""
        with self._change():
            row = self._one("SELECT doubtful FROM sends WHERE message_id = ?", message_id)
            if row is not None and not row[0]:
                refuse = "UPDATE sends SET state = 'refused', text = '' WHERE message_id = ?"
                self._run(refuse, message_id)
                self._release(message_id, drop=False)

    def doubt(self, message_id: str) -> None:
        """No word of it."""
        with self._change():
            self._run("UPDATE sends SET doubtful = 1 WHERE message_id = ?", message_id)

    def was_sent(self, message_id: str) -> bool | None:
        """Whether WhatsApp has it; None if nobody can tell."""
        with self._change():
            row = self._one("SELECT state, doubtful FROM sends WHERE message_id = ?", message_id)
            if row is None or row[0] == "refused":
                return False
            if row[0] == "sent":
                return True
            seen = self._one("SELECT wa_id FROM events WHERE held_for = ?", message_id)
            if seen is None:
                return None
            self._run(_SENT, seen[0], message_id)
            self._release(message_id, drop=True)
            return True

    # --- disappearing messages

    def learn_expiration(self, chat: str, seconds: int) -> None:
        """After how long messages of this chat disappear from now on; 0: they stay."""
        with self._change(hurry=False):
            self._run("INSERT OR REPLACE INTO expirations VALUES (?, ?)", chat, seconds)

    def expiration(self, chat: str) -> int:
        """In seconds; 0: they stay, or nobody has told us."""
        with self._lock:
            row = self._one("SELECT seconds FROM expirations WHERE chat = ?", chat)
        return 0 if row is None else int(row[0])

    # --- names

    def said_by(self, identity: str) -> str | None:
        """The id of who said something as it came, if that is remembered."""
        with self._lock:
            row = self._one("SELECT said_by FROM events WHERE identity = ?", identity)
        return row[0] or None if row is not None else None

    def ours(self, wa_id: str) -> str | None:
        """Our own id of something we sent, by WhatsApp's."""
        with self._lock:
            row = self._one("SELECT message_id FROM sends WHERE wa_id = ?", wa_id)
        return None if row is None else row[0]

    def _release(self, message_id: str, *, drop: bool) -> None:
        """Let what was held go on, as new: what came later may have been delivered already."""
        if drop:
            self._run(f"{_DROP} WHERE held_for = ?", message_id)
            return
        rows = self._run(
            "DELETE FROM events WHERE held_for = ? RETURNING identity, payload, NULL, wa_id, said_by",
            message_id,
        ).fetchall()
        self._db.executemany(_PUT.format(""), sorted(rows))

    @contextmanager
    def _change(self, *, hurry: bool = True) -> Iterator[None]:
        """One change, which is on the disk when it ends; without ``hurry`` a power cut may take it back."""
        with self._lock:
            self._run(f"PRAGMA synchronous = {'FULL' if hurry else 'NORMAL'}")
            with self._db:
                self._run("BEGIN IMMEDIATE")
                yield

    def _run(self, sql: str, *values: object) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def _one(self, sql: str, *values: object) -> tuple[str, ...] | None:
        row: tuple[str, ...] | None = self._run(sql, *values).fetchone()
        return row
