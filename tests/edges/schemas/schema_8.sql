PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES (1, 'pynchy', 'm001_core', '2026-11-30 17:29:14.764874+00:00');
INSERT INTO "_sqlite_migrations" VALUES (2, 'pynchy', 'm002_commands', '2026-11-30 17:29:14.766118+00:00');
INSERT INTO "_sqlite_migrations" VALUES (3, 'pynchy', 'm003_tasks', '2026-11-30 17:29:14.769923+00:00');
INSERT INTO "_sqlite_migrations" VALUES (4, 'pynchy', 'm004_usage', '2026-11-30 17:29:14.771778+00:00');
INSERT INTO "_sqlite_migrations" VALUES (5, 'pynchy', 'm005_memory', '2026-11-30 17:29:14.772909+00:00');
INSERT INTO "_sqlite_migrations" VALUES (6, 'pynchy', 'm006_waiting', '2026-11-30 17:29:14.776037+00:00');
INSERT INTO "_sqlite_migrations" VALUES (7, 'pynchy', 'm010_approvals', '2026-11-30 17:29:14.778150+00:00');
INSERT INTO "_sqlite_migrations" VALUES (8, 'pynchy', 'm010b_pace', '2026-11-30 17:29:14.778449+00:00');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
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
INSERT INTO "groups" VALUES ('main', 'Main', 'Pynchy', 0, 1, 0, NULL, 'session-1', 3, NULL, '{}', 1);
INSERT INTO "groups" VALUES ('family', 'Family', 'Pynchy', 1, 0, 0, 'opus', NULL, 0, '["a"]', '{}', 2);
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
INSERT INTO "chats" VALUES ('console:main', 'Main', 10, 'main', 3, 2, 2);
INSERT INTO "chats" VALUES ('1@g.us', 'Family', 20, 'family', 0, 0, 0);
INSERT INTO "chats" VALUES ('2@g.us', 'Strangers', 30, NULL, 0, 0, 0);
CREATE INDEX chats_folder ON chats (folder) WHERE folder IS NOT NULL;
CREATE INDEX chats_waiting ON chats (folder, chat)
            WHERE folder IS NOT NULL AND wanted_seq > claimed_seq;
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
INSERT INTO "inbox" VALUES (1, 'console:main', 'console:me', 'Me', 'm1', 5, 6, 'text', 'first', 1, 0, 0, NULL, NULL, NULL, NULL);
INSERT INTO "inbox" VALUES (2, 'console:main', 'console:me', 'Me', 'm2', 7, 8, 'text', 'second', 1, 0, 0, NULL, NULL, NULL, NULL);
INSERT INTO "inbox" VALUES (3, 'console:main', 'console:me', 'Me', 'm3', 9, 10, 'text', 'unanswered', 1, 0, 0, NULL, NULL, NULL, NULL);
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
INSERT INTO "runs" VALUES ('run1', 'main', 'session', 'pynchy-run1', 'gone', 'boot', 3, 5, 9, 'idle');
CREATE UNIQUE INDEX one_session ON runs (folder)
            WHERE kind <> 'delegate' AND state <> 'gone';
CREATE INDEX runs_live ON runs (boot) WHERE state <> 'gone';
CREATE INDEX runs_folder ON runs (folder, started_at);
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
INSERT INTO "turns" VALUES (1, 'main', 'console:main', 'message', 'done', 2, 2, 0, NULL, NULL, 'run1', 'p1', 0, 0, 0, 1, 0, NULL, 5, NULL, NULL, 5, 5, 9);
CREATE INDEX turns_waiting ON turns (folder, retry_at) WHERE state = 'waiting';
CREATE INDEX turns_claimed ON turns (run_id) WHERE state = 'claimed';
CREATE INDEX turns_live ON turns (chat, lo) WHERE ended_at IS NULL;
CREATE INDEX turns_folder ON turns (folder, id);
CREATE INDEX turns_run ON turns (run_id, id);
CREATE INDEX turns_dead ON turns (id) WHERE state = 'dead';
CREATE INDEX turns_answered ON turns (answered_by);
CREATE UNIQUE INDEX turns_cover ON turns (chat, hi) WHERE kind = 'message';
CREATE TABLE attempts (
            prompt_id TEXT PRIMARY KEY,
            turn_id INTEGER NOT NULL REFERENCES turns (id),
            run_id TEXT NOT NULL REFERENCES runs (id),
            claimed_at INTEGER NOT NULL,
            accepted_at INTEGER,
            ended_at INTEGER,
            outcome TEXT
        ) STRICT, WITHOUT ROWID;
INSERT INTO "attempts" VALUES ('p1', 1, 'run1', 5, 6, 9, 'done');
CREATE INDEX attempts_turn ON attempts (turn_id, claimed_at);
CREATE INDEX attempts_run ON attempts (run_id);
CREATE TABLE turn_inputs (
            seq INTEGER PRIMARY KEY REFERENCES inbox (seq),
            turn_id INTEGER NOT NULL REFERENCES turns (id)
        ) STRICT;
INSERT INTO "turn_inputs" VALUES (1, 1);
INSERT INTO "turn_inputs" VALUES (2, 1);
CREATE INDEX turn_inputs_turn ON turn_inputs (turn_id, seq);
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
INSERT INTO "outbox" VALUES (1, 'main', 'console:main', 1, 'run1', 0, 'o1', 'text', 'answered', NULL, NULL, 0, 'sent', 0, 0, 5, 5, NULL, 9, NULL, NULL);
INSERT INTO "outbox" VALUES (2, 'main', 'console:main', NULL, NULL, NULL, 'o2', 'text', 'on its way', NULL, NULL, 0, 'pending', 0, 0, 5, 5, NULL, NULL, NULL, NULL);
CREATE INDEX outbox_open ON outbox (chat, id) WHERE sent_at IS NULL AND failed_at IS NULL;
CREATE INDEX outbox_age ON outbox (created_at)
            WHERE sent_at IS NULL AND failed_at IS NULL;
CREATE UNIQUE INDEX outbox_in_flight ON outbox (chat) WHERE state = 'sending';
CREATE TABLE journal (
            folder TEXT NOT NULL,
            command_id TEXT NOT NULL,
            sha256 TEXT NOT NULL,
            ok INTEGER NOT NULL CHECK (ok IN (0, 1)),
            answer TEXT NOT NULL,
            at INTEGER NOT NULL,
            PRIMARY KEY (folder, command_id)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "journal" VALUES ('main', 'c1', 'hash', 1, 'done', 5);
CREATE INDEX journal_at ON journal (at);
CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at INTEGER NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            folder TEXT,
            detail TEXT NOT NULL DEFAULT '{}'
        ) STRICT;
INSERT INTO "audit" VALUES (1, 5, 'owner', 'group registered', 'family', '{}');
CREATE TABLE notices (
            chat TEXT NOT NULL,
            class TEXT NOT NULL,
            last_at INTEGER NOT NULL,
            held INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (chat, class)
        ) STRICT, WITHOUT ROWID;
INSERT INTO "notices" VALUES ('console:main', 'budget', 5, 0);
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
INSERT INTO "tasks" VALUES ('t1', 'main', 'console:main', 'briefing', 'what is on?', NULL, 'cron', '0 8 * * *', 'UTC', 'group', 'coalesce', 'owner', 0, 'active', NULL, 1, 1900000000000000, 0, 1);
CREATE INDEX tasks_due ON tasks (next_run) WHERE state = 'active';
CREATE INDEX tasks_folder ON tasks (folder);
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
INSERT INTO "fires" VALUES ('t1', '2026-01-01T08:00', 5, 6, NULL, 0, 'skipped', 'it was down');
CREATE UNIQUE INDEX fires_turn ON fires (turn_id) WHERE turn_id IS NOT NULL;
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
INSERT INTO "usage" VALUES (1, 'main', 'run1', 'opus', '2026-01-01', 'settled', 100, 10, 50, 0, 0, 0, 7, 5, 6);
CREATE INDEX usage_day ON usage (folder, day);
CREATE INDEX usage_run ON usage (run_id);
CREATE INDEX usage_reserved ON usage (created_at) WHERE state = 'reserved';
CREATE TABLE memories (
            id TEXT PRIMARY KEY,
            folder TEXT,  -- NULL: of all groups
            text TEXT NOT NULL,
            created_at INTEGER NOT NULL
        ) STRICT;
INSERT INTO "memories" VALUES ('x1', 'main', 'Ann likes tea', 5);
CREATE INDEX memories_folder ON memories (folder, created_at);
CREATE VIRTUAL TABLE memories_fts USING fts5 (
            text, content = 'memories', tokenize = 'unicode61 remove_diacritics 2'
        );
CREATE VIRTUAL TABLE inbox_fts USING fts5 (
            text, content = 'inbox', content_rowid = 'seq',
            tokenize = 'unicode61 remove_diacritics 2'
        );
CREATE VIRTUAL TABLE outbox_fts USING fts5 (
            text, content = 'outbox', content_rowid = 'id',
            tokenize = 'unicode61 remove_diacritics 2'
        );
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
INSERT INTO "questions" VALUES ('q1', 'main', 'console:main', 3, 'run1', 1, 'o1', 'which?', '[]', 'open', 5, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE UNIQUE INDEX questions_open ON questions (chat) WHERE state IN ('waiting', 'open');
CREATE INDEX questions_run ON questions (run_id);
CREATE INDEX questions_woke ON questions (woke) WHERE woke IS NOT NULL;
CREATE TABLE delegates (
            turn_id INTEGER PRIMARY KEY,
            folder TEXT NOT NULL,
            parent_turn INTEGER NOT NULL,
            parent_run TEXT NOT NULL,
            depth INTEGER NOT NULL CHECK (depth BETWEEN 1 AND 2),
            waits INTEGER NOT NULL CHECK (waits IN (0, 1)),
            told INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1))
        ) STRICT;
INSERT INTO "delegates" VALUES (1, 'main', 1, 'run1', 1, 0, 0);
CREATE INDEX delegates_parent ON delegates (parent_run);
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
CREATE TABLE pace (
            chat TEXT NOT NULL,
            sender TEXT NOT NULL,
            quick INTEGER NOT NULL,
            held_until INTEGER NOT NULL,
            PRIMARY KEY (chat, sender)
        ) STRICT, WITHOUT ROWID;
CREATE TRIGGER groups_epoch BEFORE UPDATE OF epoch ON groups WHEN NEW.epoch < OLD.epoch
            BEGIN SELECT RAISE(ABORT, 'an epoch went back'); END;
CREATE TRIGGER chats_monotone BEFORE UPDATE OF claimed_seq, done_seq ON chats
            WHEN NEW.claimed_seq < OLD.claimed_seq OR NEW.done_seq < OLD.done_seq
            BEGIN SELECT RAISE(ABORT, 'a cursor went back'); END;
CREATE TRIGGER turns_follow BEFORE INSERT ON turns WHEN NEW.kind = 'message'
            AND NEW.lo IS NOT (SELECT claimed_seq FROM chats WHERE chat = NEW.chat)
            BEGIN SELECT RAISE(ABORT, 'a turn does not begin where the one before it ended'); END;
CREATE TRIGGER turns_end BEFORE UPDATE OF state ON turns
            WHEN OLD.ended_at IS NOT NULL AND NEW.state <> OLD.state
            BEGIN SELECT RAISE(ABORT, 'a turn ended twice'); END;
CREATE TRIGGER outbox_fixed BEFORE UPDATE OF message_id, chat ON outbox
            BEGIN SELECT RAISE(ABORT, 'an id or a chat of the outbox was changed'); END;
CREATE TRIGGER outbox_end BEFORE UPDATE OF state ON outbox
            WHEN OLD.state IN ('sent', 'failed') AND NEW.state <> OLD.state
            BEGIN SELECT RAISE(ABORT, 'an entry of the outbox ended twice'); END;
CREATE TRIGGER outbox_spoke AFTER INSERT ON outbox
            WHEN NEW.turn_id IS NOT NULL AND NEW.notice = 0
            BEGIN UPDATE turns SET spoke = 1 WHERE id = NEW.turn_id; END;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END;
CREATE TRIGGER approvals_fixed BEFORE UPDATE OF code, folder, chat, run_id, turn_id, command,
            request, sha256, asked_at, expires_at ON approvals
            BEGIN SELECT RAISE(ABORT, 'a request was changed after it was asked'); END;
CREATE TRIGGER approvals_end BEFORE UPDATE ON approvals WHEN OLD.state <> 'asked'
            BEGIN SELECT RAISE(ABORT, 'a request ended twice'); END;
INSERT INTO memories_fts (memories_fts) VALUES ('rebuild');
INSERT INTO inbox_fts (inbox_fts) VALUES ('rebuild');
INSERT INTO outbox_fts (outbox_fts) VALUES ('rebuild');
COMMIT;
PRAGMA user_version = 8;
