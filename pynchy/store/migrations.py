"""The schema as a list of migrations, oldest first.

The rule: a step that has been released is never edited, only followed by another. `SCHEMA` is the
length of the list and what ``user_version`` must say. The constraints carry the promises, so that a
bug in a query fails loudly here instead of quietly losing or doubling a message.

sqlite-utils applies the steps, each in one transaction with its record. It is imported only when
there is something to apply: it costs a start as much as trio itself does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pynchy.text import terms

if TYPE_CHECKING:
    from sqlite_utils import Database

Step = Callable[["Database"], None]


def m001_core(db: Database) -> None:
    """Groups, chats, messages in, runs, turns, messages out."""
    db.executescript(
        """
        CREATE TABLE groups (
            folder TEXT PRIMARY KEY
                CHECK (folder GLOB '[a-z0-9]*' AND folder NOT GLOB '*[^a-z0-9-]*'
                       AND length(folder) <= 63),
            name TEXT NOT NULL,
            trigger TEXT NOT NULL,
            requires_trigger INTEGER NOT NULL CHECK (requires_trigger IN (0, 1)),
            is_main INTEGER NOT NULL CHECK (is_main = (folder = 'main')),
            paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
            model TEXT,
            session TEXT,
            epoch INTEGER NOT NULL,
            allowed_senders TEXT,
            settings TEXT NOT NULL DEFAULT '{}',
            created_at INTEGER NOT NULL
        ) STRICT;
        CREATE TRIGGER groups_epoch BEFORE UPDATE OF epoch ON groups WHEN NEW.epoch < OLD.epoch
            BEGIN SELECT RAISE(ABORT, 'an epoch went back'); END;

        -- Every chat ever seen leaves a name and a time; only a registered one has a folder.
        -- Everything at or below claimed_seq is in a turn or passed by; everything at or below
        -- done_seq has ended. wanted_seq is the newest message that asks for an answer.
        CREATE TABLE chats (
            chat TEXT PRIMARY KEY,
            name TEXT NOT NULL DEFAULT '',
            last_at INTEGER,
            folder TEXT REFERENCES groups (folder) ON DELETE SET NULL,
            wanted_seq INTEGER NOT NULL DEFAULT 0,
            claimed_seq INTEGER NOT NULL DEFAULT 0,
            done_seq INTEGER NOT NULL DEFAULT 0,
            CHECK (done_seq <= claimed_seq)
        ) STRICT;
        CREATE INDEX chats_folder ON chats (folder) WHERE folder IS NOT NULL;
        CREATE INDEX chats_waiting ON chats (folder, chat)
            WHERE folder IS NOT NULL AND wanted_seq > claimed_seq;
        CREATE TRIGGER chats_monotone BEFORE UPDATE OF claimed_seq, done_seq ON chats
            WHEN NEW.claimed_seq < OLD.claimed_seq OR NEW.done_seq < OLD.done_seq
            BEGIN SELECT RAISE(ABORT, 'a cursor went back'); END;

        CREATE TABLE inbox (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            chat TEXT NOT NULL REFERENCES chats (chat),
            sender TEXT NOT NULL,
            sender_name TEXT NOT NULL,
            message_id TEXT NOT NULL,
            sent_at INTEGER NOT NULL,
            received_at INTEGER NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('text', 'command', 'notice')),
            text TEXT NOT NULL,
            triggers INTEGER NOT NULL CHECK (triggers IN (0, 1)),
            own INTEGER NOT NULL CHECK (own IN (0, 1)),
            mentions INTEGER NOT NULL DEFAULT 0 CHECK (mentions IN (0, 1)),
            edits TEXT,
            gone TEXT CHECK (gone IN ('edited', 'revoked')),
            quoted TEXT,
            attachments TEXT,
            UNIQUE (chat, sender, message_id),
            CHECK (NOT triggers OR kind = 'text')
        ) STRICT;
        CREATE INDEX inbox_triggers ON inbox (chat, seq) WHERE triggers = 1 AND gone IS NULL;
        CREATE INDEX inbox_visible ON inbox (chat, seq, triggers)
            WHERE kind <> 'command' AND gone IS NULL;
        CREATE INDEX inbox_edits ON inbox (chat, sender, edits) WHERE edits IS NOT NULL;
        CREATE INDEX inbox_message ON inbox (message_id);

        CREATE TABLE runs (
            id TEXT PRIMARY KEY,
            folder TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('session', 'task', 'delegate')),
            container TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL CHECK (state IN ('starting', 'running', 'stopping', 'gone')),
            boot TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            started_at INTEGER NOT NULL,
            ended_at INTEGER,
            reason TEXT,
            CHECK ((state = 'gone') = (ended_at IS NOT NULL))
        ) STRICT;
        CREATE UNIQUE INDEX one_session ON runs (folder)
            WHERE kind <> 'delegate' AND state <> 'gone';
        CREATE INDEX runs_live ON runs (boot) WHERE state <> 'gone';
        CREATE INDEX runs_folder ON runs (folder, started_at);

        -- A unit of agent work. It lives over its attempts. lo < seq <= hi is what it covers of
        -- its chat; turn_inputs names what of it was handed over, omitted counts the rest. answered_by
        -- is the turn whose output holds the reply: its own, or that of one answered with it.
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            folder TEXT NOT NULL,
            chat TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('message', 'task', 'delegate', 'notice')),
            state TEXT NOT NULL
                CHECK (state IN ('waiting', 'claimed', 'done', 'dead', 'cancelled')),
            lo INTEGER,
            hi INTEGER,
            omitted INTEGER NOT NULL DEFAULT 0,
            prompt TEXT,
            source TEXT,
            run_id TEXT REFERENCES runs (id),
            prompt_id TEXT UNIQUE,
            attempt INTEGER NOT NULL DEFAULT 0,
            interrupted INTEGER NOT NULL DEFAULT 0,
            resumed INTEGER NOT NULL DEFAULT 0 CHECK (resumed IN (0, 1)),
            spoke INTEGER NOT NULL DEFAULT 0 CHECK (spoke IN (0, 1)),
            isolated INTEGER NOT NULL DEFAULT 0 CHECK (isolated IN (0, 1)),
            answered_by INTEGER REFERENCES turns (id),
            retry_at INTEGER NOT NULL,
            error TEXT,
            result TEXT,
            created_at INTEGER NOT NULL,
            claimed_at INTEGER,
            ended_at INTEGER,
            CHECK ((kind = 'message') = (prompt IS NULL)),
            CHECK ((kind = 'message') = (lo IS NOT NULL AND hi IS NOT NULL)),
            CHECK (state <> 'claimed' OR (run_id IS NOT NULL AND prompt_id IS NOT NULL)),
            CHECK ((state IN ('waiting', 'claimed')) = (ended_at IS NULL))
        ) STRICT;
        CREATE INDEX turns_waiting ON turns (folder, retry_at) WHERE state = 'waiting';
        CREATE INDEX turns_claimed ON turns (run_id) WHERE state = 'claimed';
        CREATE INDEX turns_live ON turns (chat, lo) WHERE ended_at IS NULL;
        CREATE INDEX turns_folder ON turns (folder, id);
        CREATE INDEX turns_run ON turns (run_id, id);
        CREATE INDEX turns_dead ON turns (id) WHERE state = 'dead';
        CREATE INDEX turns_answered ON turns (answered_by);
        CREATE UNIQUE INDEX turns_cover ON turns (chat, hi) WHERE kind = 'message';
        CREATE TRIGGER turns_follow BEFORE INSERT ON turns WHEN NEW.kind = 'message'
            AND NEW.lo IS NOT (SELECT claimed_seq FROM chats WHERE chat = NEW.chat)
            BEGIN SELECT RAISE(ABORT, 'a turn does not begin where the one before it ended'); END;
        CREATE TRIGGER turns_end BEFORE UPDATE OF state ON turns
            WHEN OLD.ended_at IS NOT NULL AND NEW.state <> OLD.state
            BEGIN SELECT RAISE(ABORT, 'a turn ended twice'); END;

        -- Each time a turn was given to a run, and what came of it.
        CREATE TABLE attempts (
            prompt_id TEXT PRIMARY KEY,
            turn_id INTEGER NOT NULL REFERENCES turns (id),
            run_id TEXT NOT NULL REFERENCES runs (id),
            claimed_at INTEGER NOT NULL,
            accepted_at INTEGER,
            ended_at INTEGER,
            outcome TEXT
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX attempts_turn ON attempts (turn_id, claimed_at);
        CREATE INDEX attempts_run ON attempts (run_id);

        -- The primary key says it: a message is in at most one turn, ever.
        CREATE TABLE turn_inputs (
            seq INTEGER PRIMARY KEY REFERENCES inbox (seq),
            turn_id INTEGER NOT NULL REFERENCES turns (id)
        ) STRICT;
        CREATE INDEX turn_inputs_turn ON turn_inputs (turn_id, seq);

        -- message_id is chosen here and never changes between tries. notice = 1: our own word
        -- about a failure, not the agent's.
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            folder TEXT NOT NULL,
            chat TEXT NOT NULL,
            turn_id INTEGER REFERENCES turns (id),
            run_id TEXT,
            ord INTEGER,
            message_id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL CHECK (kind IN ('text', 'file', 'reaction')),
            text TEXT NOT NULL,
            path TEXT,
            target TEXT,
            notice INTEGER NOT NULL DEFAULT 0 CHECK (notice IN (0, 1)),
            state TEXT NOT NULL
                CHECK (state IN ('pending', 'sending', 'uncertain', 'sent', 'failed')),
            attempt INTEGER NOT NULL DEFAULT 0,
            plain INTEGER NOT NULL DEFAULT 0 CHECK (plain IN (0, 1)),
            next_at INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            tried_at INTEGER,
            sent_at INTEGER,
            failed_at INTEGER,
            error TEXT,
            UNIQUE (turn_id, ord),
            CHECK ((turn_id IS NULL) = (ord IS NULL)),
            CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
            CHECK ((state = 'failed') = (failed_at IS NOT NULL)),
            CHECK ((kind = 'file') <= (path IS NOT NULL)),
            CHECK ((kind = 'reaction') <= (target IS NOT NULL))
        ) STRICT;
        CREATE INDEX outbox_open ON outbox (chat, id) WHERE sent_at IS NULL AND failed_at IS NULL;
        CREATE INDEX outbox_age ON outbox (created_at)
            WHERE sent_at IS NULL AND failed_at IS NULL;
        CREATE UNIQUE INDEX outbox_in_flight ON outbox (chat) WHERE state = 'sending';
        CREATE TRIGGER outbox_fixed BEFORE UPDATE OF message_id, chat ON outbox
            BEGIN SELECT RAISE(ABORT, 'an id or a chat of the outbox was changed'); END;
        CREATE TRIGGER outbox_end BEFORE UPDATE OF state ON outbox
            WHEN OLD.state IN ('sent', 'failed') AND NEW.state <> OLD.state
            BEGIN SELECT RAISE(ABORT, 'an entry of the outbox ended twice'); END;
        CREATE TRIGGER outbox_spoke AFTER INSERT ON outbox
            WHEN NEW.turn_id IS NOT NULL AND NEW.notice = 0
            BEGIN UPDATE turns SET spoke = 1 WHERE id = NEW.turn_id; END;
        """
    )


def m002_commands(db: Database) -> None:
    """What agents asked for and what they were told; who did what; when a chat was last told."""
    db.executescript(
        """
        CREATE TABLE journal (
            folder TEXT NOT NULL,
            command_id TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            ok INTEGER NOT NULL CHECK (ok IN (0, 1)),
            answer TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (folder, command_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX journal_at ON journal (at);

        CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            folder TEXT,
            detail TEXT NOT NULL DEFAULT '{}'
        ) STRICT;
        CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
        CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;

        CREATE TABLE notices (
            chat TEXT NOT NULL,
            class TEXT NOT NULL,
            last_at INTEGER NOT NULL,
            held INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (chat, class)
        ) STRICT, WITHOUT ROWID;
        """
    )


def m003_tasks(db: Database) -> None:
    """Schedules, and one row for each slot of each of them."""
    db.executescript(
        """
        CREATE TABLE tasks (
            id TEXT PRIMARY KEY,
            folder TEXT NOT NULL,
            chat TEXT NOT NULL,
            name TEXT NOT NULL DEFAULT '',
            prompt TEXT NOT NULL,
            script TEXT,
            kind TEXT NOT NULL CHECK (kind IN ('cron', 'interval', 'once')),
            value TEXT NOT NULL,
            timezone TEXT NOT NULL,
            context TEXT NOT NULL CHECK (context IN ('group', 'isolated')),
            catch_up TEXT NOT NULL DEFAULT 'coalesce' CHECK (catch_up IN ('coalesce', 'skip')),
            creator TEXT NOT NULL,
            depth INTEGER NOT NULL DEFAULT 0 CHECK (depth BETWEEN 0 AND 2),
            state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'done', 'cancelled')),
            reason TEXT,
            anchor INTEGER NOT NULL,
            next_run INTEGER,
            failures INTEGER NOT NULL DEFAULT 0,
            created_at INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX tasks_due ON tasks (next_run) WHERE state = 'active';
        CREATE INDEX tasks_folder ON tasks (folder);

        -- slot is the occurrence's key: local wall time for fixed hours, else the UTC instant.
        CREATE TABLE fires (
            task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
            slot TEXT NOT NULL,
            due_at INTEGER NOT NULL,
            fired_at INTEGER NOT NULL,
            turn_id INTEGER REFERENCES turns (id),
            missed INTEGER NOT NULL DEFAULT 0,
            state TEXT NOT NULL
                CHECK (state IN ('waiting', 'ran', 'late', 'coalesced', 'skipped', 'failed')),
            reason TEXT,
            PRIMARY KEY (task_id, slot)
        ) STRICT;
        CREATE UNIQUE INDEX fires_turn ON fires (turn_id) WHERE turn_id IS NOT NULL;
        """
    )


def m004_usage(db: Database) -> None:
    """What was reserved for a call to the model, and what it came to."""
    db.executescript(
        """
        CREATE TABLE usage (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            folder TEXT NOT NULL,
            run_id TEXT NOT NULL,
            model TEXT NOT NULL,
            day TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('reserved', 'settled')),
            reserved_tokens INTEGER NOT NULL,
            reserved_cost INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL DEFAULT 0,
            output_tokens INTEGER NOT NULL DEFAULT 0,
            cache_read_tokens INTEGER NOT NULL DEFAULT 0,
            cache_write_tokens INTEGER NOT NULL DEFAULT 0,
            cost INTEGER NOT NULL DEFAULT 0,
            created_at INTEGER NOT NULL,
            settled_at INTEGER,
            CHECK ((state = 'settled') = (settled_at IS NOT NULL))
        ) STRICT;
        CREATE INDEX usage_day ON usage (folder, day);
        CREATE INDEX usage_run ON usage (run_id);
        CREATE INDEX usage_reserved ON usage (created_at) WHERE state = 'reserved';
        """
    )


def m005_memory(db: Database) -> None:
    """What agents keep for good, and full-text search over it and over what was said.

    The indexes are kept by `search`, not by triggers: with an untrusted schema, which is what we
    want, SQLite lets no trigger touch a virtual table.
    """
    db.executescript(
        """
        CREATE TABLE memories (
            id TEXT PRIMARY KEY,
            folder TEXT,  -- NULL: of all groups
            text TEXT NOT NULL,
            created_at INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX memories_folder ON memories (folder, created_at);
        CREATE VIRTUAL TABLE memories_fts USING fts5 (
            text, content = 'memories', tokenize = 'unicode61 remove_diacritics 2'
        );
        CREATE VIRTUAL TABLE inbox_fts USING fts5 (
            text, content = 'inbox', content_rowid = 'seq',
            tokenize = 'unicode61 remove_diacritics 2'
        );
        INSERT INTO inbox_fts (rowid, text) SELECT seq, text FROM inbox WHERE kind = 'text';

        CREATE VIRTUAL TABLE outbox_fts USING fts5 (
            text, content = 'outbox', content_rowid = 'id',
            tokenize = 'unicode61 remove_diacritics 2'
        );
        INSERT INTO outbox_fts (rowid, text) SELECT id, text FROM outbox WHERE kind = 'text';
        """
    )


def m006_waiting(db: Database) -> None:
    """What agents wait for: a person's answer, a helper's result."""
    db.executescript(
        """
        -- waiting: a call waits for the answer; open: the answer will wake the agent. woke is the turn
        -- that it woke. asked_at is when; message_id is what a person quotes to answer.
        CREATE TABLE questions (
            id TEXT PRIMARY KEY,
            folder TEXT NOT NULL,
            chat TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            run_id TEXT NOT NULL,
            turn_id INTEGER NOT NULL,
            message_id TEXT NOT NULL,
            question TEXT NOT NULL,
            options TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'open', 'answered', 'dropped')),
            asked_at INTEGER NOT NULL,
            answered_at INTEGER,
            sender TEXT,
            sender_name TEXT,
            own INTEGER CHECK (own IN (0, 1)),
            answer TEXT,
            woke INTEGER,
            CHECK ((state = 'answered') = (answer IS NOT NULL))
        ) STRICT;
        CREATE UNIQUE INDEX questions_open ON questions (chat) WHERE state IN ('waiting', 'open');
        CREATE INDEX questions_run ON questions (run_id);
        CREATE INDEX questions_woke ON questions (woke) WHERE woke IS NOT NULL;

        -- One row for each delegate's turn. parent_turn asked for it, in parent_run.
        CREATE TABLE delegates (
            turn_id INTEGER PRIMARY KEY,
            folder TEXT NOT NULL,
            parent_turn INTEGER NOT NULL,
            parent_run TEXT NOT NULL,
            depth INTEGER NOT NULL CHECK (depth BETWEEN 1 AND 2),
            waits INTEGER NOT NULL CHECK (waits IN (0, 1)),
            told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
        ) STRICT;
        CREATE INDEX delegates_parent ON delegates (parent_run);
        """
    )


def m010_approvals(db: Database) -> None:
    """What agents asked people in main for. A request never changes, and ends once."""
    db.executescript(
        """
        CREATE TABLE approvals (
            code TEXT PRIMARY KEY CHECK (length(code) = 8),
            folder TEXT NOT NULL,
            chat TEXT NOT NULL,
            run_id TEXT NOT NULL,
            turn_id INTEGER NOT NULL,
            command TEXT NOT NULL,
            request TEXT NOT NULL,
            sha256 TEXT NOT NULL CHECK (length(sha256) = 64),
            state TEXT NOT NULL CHECK (state IN ('asked', 'done', 'failed', 'denied', 'expired')),
            asked_at INTEGER NOT NULL,
            expires_at INTEGER NOT NULL CHECK (expires_at > asked_at),
            decided_at INTEGER,
            decided_by TEXT,
            outcome TEXT,
            CHECK ((state = 'asked') = (decided_at IS NULL)),
            CHECK ((state = 'asked') = (decided_by IS NULL))
        ) STRICT;
        CREATE INDEX approvals_open ON approvals (expires_at) WHERE state = 'asked';
        CREATE INDEX approvals_folder ON approvals (folder, asked_at);
        CREATE TRIGGER approvals_fixed BEFORE UPDATE OF code, folder, chat, run_id, turn_id, command,
            request, sha256, asked_at, expires_at ON approvals
            BEGIN SELECT RAISE(ABORT, 'a request was changed after it was asked'); END;
        CREATE TRIGGER approvals_end BEFORE UPDATE ON approvals WHEN OLD.state <> 'asked'
            BEGIN SELECT RAISE(ABORT, 'a request ended twice'); END;
        """
    )


def m010b_pace(db: Database) -> None:
    """How many of somebody's messages in a row came at once after our answer, and how long they are not answered."""
    db.executescript(
        """
        CREATE TABLE pace (
            chat TEXT NOT NULL,
            sender TEXT NOT NULL,
            quick INTEGER NOT NULL,
            held_until INTEGER NOT NULL,
            PRIMARY KEY (chat, sender)
        ) STRICT, WITHOUT ROWID;
        """
    )


def m011_estimated(db: Database) -> None:
    """Whether what a call cost is known, or the most that it can have been; and what all groups spent in a day."""
    db.execute(
        "ALTER TABLE usage ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0 CHECK (estimated IN (0, 1))"
    )
    db.execute("CREATE INDEX usage_of_all ON usage (day)")


def m012_holds(db: Database) -> None:
    """What is held back by a trouble that concerns more than one turn, and what each turn has been through."""
    db.executescript(
        """
        CREATE TABLE holds (
            scope TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            since INTEGER NOT NULL,
            tries INTEGER NOT NULL,
            probe_at INTEGER NOT NULL,
            until INTEGER,
            prober TEXT,
            reason TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        ALTER TABLE turns ADD COLUMN failing TEXT;
        ALTER TABLE turns ADD COLUMN failing_since INTEGER;
        ALTER TABLE turns ADD COLUMN same INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE turns ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE turns ADD COLUMN bought INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE turns ADD COLUMN freed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE turns ADD COLUMN give_up_at INTEGER;
        ALTER TABLE turns ADD COLUMN waits_for TEXT;
        CREATE INDEX turns_held ON turns (waits_for) WHERE waits_for IS NOT NULL AND state = 'waiting';
        """
    )


def m013_effects(db: Database) -> None:
    """What agents did by themselves lately, and how many steps a turn is from a person's word."""
    db.executescript(
        """
        -- How often in each minute. tokens: only what is taken off the book of usage.
        CREATE TABLE effects (
            folder TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('turns', 'messages', 'files', 'tokens')),
            minute INTEGER NOT NULL,
            number INTEGER NOT NULL,
            PRIMARY KEY (folder, kind, minute)
        ) STRICT, WITHOUT ROWID;

        -- Groups that did too much and are held back until a person lets them go on.
        CREATE TABLE breakers (
            folder TEXT PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('turns', 'messages', 'files', 'tokens')),
            at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;

        ALTER TABLE turns ADD COLUMN steps INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX usage_hour ON usage (folder, created_at);
        """
    )


def m014_answers(db: Database) -> None:
    """What calls the assistant in a group that does not answer everything."""
    db.execute(
        "ALTER TABLE groups ADD COLUMN called_by TEXT NOT NULL DEFAULT 'name' "
        "CHECK (called_by IN ('mention', 'reply', 'name'))"
    )


def m015_forms_of_words(db: Database) -> None:
    """Full-text indexes that hold stems, too, and say in which language; and the language of each group.

    They keep what they hold: a text's stems depend on a library, and only what is kept can be taken out again.
    """
    tokenize = "unicode61 remove_diacritics 2 categories ''L* N* Co Mn Mc''"
    db.execute(
        "CREATE TABLE languages (folder TEXT PRIMARY KEY, language TEXT, signs TEXT NOT NULL) STRICT"
    )
    for index in ("memories_fts", "inbox_fts", "outbox_fts"):
        db.execute(f"DROP TABLE {index}")
        db.execute(
            f"CREATE VIRTUAL TABLE {index} USING fts5 (terms, language UNINDEXED, tokenize = '{tokenize}')"
        )
    _guess_languages(db)
    speaks = dict(db.execute("SELECT folder, language FROM languages").fetchall())
    for index, texts in (
        ("memories_fts", "SELECT rowid, text, coalesce(folder, 'main') FROM memories"),
        (
            "inbox_fts",
            "SELECT seq, text, folder FROM inbox JOIN chats USING (chat) "
            "WHERE kind = 'text' AND gone IS NOT 'revoked' ORDER BY seq",
        ),
        ("outbox_fts", "SELECT id, text, folder FROM outbox WHERE kind = 'text' ORDER BY id"),
    ):
        rows = (
            (row, terms.indexed(text, language), language)
            for row, text, folder in db.execute(texts)
            for language in [speaks.get(folder) or terms.DEFAULT]
        )
        db.conn.executemany(
            f"INSERT INTO {index} (rowid, terms, language) VALUES (?, ?, ?)",
            rows,
        )


def _guess_languages(db: Database) -> None:
    """Write down what the newest messages of each group tell of its language."""
    newest = (
        "SELECT substr(text, 1, 1000) FROM inbox WHERE chat = ? AND kind <> 'command' AND gone IS NULL "
        "ORDER BY seq DESC LIMIT 100"
    )
    for (folder,) in db.execute("SELECT folder FROM groups").fetchall():
        chats = db.execute("SELECT chat FROM chats WHERE folder = ?", (folder,)).fetchall()
        texts = (text for chat in chats for (text,) in db.execute(newest, chat))
        signs = terms.together(*map(terms.signs, texts))
        db.execute(
            "INSERT INTO languages VALUES (?, ?, ?)",
            (folder, terms.language_of(signs), json.dumps(signs)),
        )


def m016_ended_sessions(db: Database) -> None:
    """Conversations that are over and not archived yet: the group's next run does it."""
    db.execute(
        "CREATE TABLE ended_sessions (folder TEXT NOT NULL, session TEXT NOT NULL, "
        "PRIMARY KEY (folder, session)) STRICT, WITHOUT ROWID"
    )


STEPS: Final[tuple[Step, ...]] = (
    m001_core,
    m002_commands,
    m003_tasks,
    m004_usage,
    m005_memory,
    m006_waiting,
    m010_approvals,
    m010b_pace,
    m011_estimated,
    m012_holds,
    m013_effects,
    m014_answers,
    m015_forms_of_words,
    m016_ended_sessions,
)
SCHEMA: Final = len(STEPS)


def migrate(db: Database) -> None:
    """Bring the schema up to `SCHEMA`: each step in one transaction, with its number."""
    from sqlite_utils import Migrations

    history = Migrations("pynchy")
    for number, step in enumerate(STEPS, start=1):
        history(name=step.__name__)(_numbered(step, number))
    history.apply(db)


def _numbered(step: Step, number: int) -> Step:
    def apply(db: Database) -> None:
        step(db)
        db.execute(f"PRAGMA user_version = {number:d}")

    return apply
