"""Homes of others brought over: everything once, nothing answered twice, nothing unanswered forgotten."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from click.testing import CliRunner

from pynchy.cli.app import pynchy
from pynchy.config.paths import Home
from pynchy.daemon.lock import open_lock
from pynchy.model import MAIN, ChatId, GroupId, Message, Micros, SenderId
from pynchy.moving import importer
from pynchy.store import arrivals, groups, memory, messages, tasks
from pynchy.store.database import Tx, open_store
from tests.transactions import at

T = TypeVar("T")

MAIN_CHAT = "4915112345678@s.whatsapp.net"
FAMILY = "120363000000000001@g.us"
NOW = Micros(1_790_000_000_000_000)

SCHEMA = """
CREATE TABLE chats (jid TEXT PRIMARY KEY, name TEXT, last_message_time TEXT);
CREATE TABLE messages (id TEXT, chat_jid TEXT, sender TEXT, sender_name TEXT, content TEXT,
    timestamp TEXT, is_from_me INTEGER, {bot} PRIMARY KEY (id, chat_jid),
    FOREIGN KEY (chat_jid) REFERENCES chats(jid));
CREATE TABLE scheduled_tasks (id TEXT PRIMARY KEY, group_folder TEXT NOT NULL, chat_jid TEXT NOT NULL,
    prompt TEXT NOT NULL, schedule_type TEXT NOT NULL, schedule_value TEXT NOT NULL, next_run TEXT,
    last_run TEXT, last_result TEXT, status TEXT DEFAULT 'active', created_at TEXT NOT NULL,
    context_mode TEXT DEFAULT 'isolated');
"""
STATE = """
CREATE TABLE router_state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE sessions (group_folder TEXT PRIMARY KEY, session_id TEXT NOT NULL);
CREATE TABLE registered_groups (jid TEXT PRIMARY KEY, name TEXT NOT NULL, folder TEXT NOT NULL UNIQUE,
    trigger_pattern TEXT NOT NULL, added_at TEXT NOT NULL, container_config TEXT,
    requires_trigger INTEGER DEFAULT 1);
"""
GROUPS: dict[str, dict[str, Any]] = {
    MAIN_CHAT: {"name": "Me", "folder": "main", "trigger": "@Andy", "added_at": "2026-01-01"},
    FAMILY: {
        "name": "Family",
        "folder": "Family_Chat",
        "trigger": "@Andy",
        "added_at": "2026-01-01",
        "containerConfig": {
            "additionalMounts": [
                {"hostPath": "~/photos", "containerPath": "pics", "readonly": True}
            ]
        },
    },
    "tg:12345": {
        "name": "Telegram",
        "folder": "tele",
        "trigger": "@Andy",
        "added_at": "2026-01-01",
    },
}
SESSIONS = {"main": "11111111-2222-3333-4444-555555555555"}
ANSWERED = {FAMILY: "2026-02-01T10:00:02.000Z", MAIN_CHAT: "2026-02-01T09:00:00.000Z"}
SAID = [
    ("A1", FAMILY, "49170@s.whatsapp.net", "Ann", "@Andy tickets?", "2026-02-01T10:00:00.000Z", 0),
    (
        "B1",
        FAMILY,
        "49151@s.whatsapp.net",
        "Andy",
        "Andy: bought them",
        "2026-02-01T10:00:01.000Z",
        1,
    ),
    ("A2", FAMILY, "49170:3@s.whatsapp.net", "Ann", "thank you", "2026-02-01T10:00:02.000Z", 0),
    ("A3", FAMILY, "49170@s.whatsapp.net", "Ann", "and a hotel", "2026-02-01T10:00:03.000Z", 0),
    ("A4", FAMILY, "49171@s.whatsapp.net", "Bob", "@Andy please", "2026-02-01T10:00:04.000Z", 0),
    ("M1", MAIN_CHAT, MAIN_CHAT, "Me", "note this", "2026-02-01T09:00:00.000Z", 1),
]
TASKS = [
    ("task-1", "main", MAIN_CHAT, "briefing", "cron", "0 8 * * 1-5", "active", "group"),
    ("task-2", "Family_Chat", FAMILY, "look", "interval", "3600000", "paused", "isolated"),
    (
        "task-3",
        "Family_Chat",
        FAMILY,
        "long ago",
        "once",
        "2026-01-01T08:00:00",
        "active",
        "isolated",
    ),
    ("task-4", "main", MAIN_CHAT, "over", "cron", "0 8 * * *", "completed", "group"),
]


def database(root: Path, *, state: bool, bot: bool) -> None:
    """A messages.db as the program itself would have made it."""
    (root / "store").mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.executescript(SCHEMA.format(bot="is_bot_message INTEGER DEFAULT 0," if bot else ""))
        for jid, group in GROUPS.items():
            db.execute("INSERT INTO chats VALUES (?, ?, '')", (jid, group["name"]))
        for row in SAID:
            marked = (*row, 1 if row[0] == "B1" else 0) if bot else row
            places = ", ".join("?" * len(marked))
            db.execute(f"INSERT INTO messages VALUES ({places})", marked)  # noqa: S608 - ours
        for id, folder, jid, prompt, kind, value, status, context in TASKS:
            db.execute(
                "INSERT INTO scheduled_tasks (id, group_folder, chat_jid, prompt, schedule_type, "
                "schedule_value, status, created_at, context_mode) VALUES (?,?,?,?,?,?,?,'',?)",
                (id, folder, jid, prompt, kind, value, status, context),
            )
        if not state:
            return
        db.executescript(STATE)
        for jid, group in GROUPS.items():
            config = json.dumps(group["containerConfig"]) if "containerConfig" in group else None
            db.execute(
                "INSERT INTO registered_groups VALUES (?, ?, ?, ?, '', ?, NULL)",
                (jid, group["name"], group["folder"], group["trigger"], config),
            )
        db.execute(
            "INSERT INTO router_state VALUES ('last_agent_timestamp', ?)", (json.dumps(ANSWERED),)
        )
        db.executemany("INSERT INTO sessions VALUES (?, ?)", SESSIONS.items())


def files(root: Path) -> None:
    for group in GROUPS.values():
        folder = root / "groups" / group["folder"]
        (folder / "logs").mkdir(parents=True)
        (folder / "logs" / "container.log").write_text("noise")
        (folder / "CLAUDE.md").write_text(f"# {group['name']}\nAnn likes tea.\n")
    (root / "groups" / "global").mkdir()
    (root / "groups" / "global" / "CLAUDE.md").write_text("# For all\n")
    talk = root / "data" / "sessions" / "main" / ".claude" / "projects" / "-workspace-group"
    talk.mkdir(parents=True)
    (talk / f"{SESSIONS['main']}.jsonl").write_text("{}\n")
    (talk.parents[1] / "settings.json").write_text('{"hooks": "theirs"}')
    (root / "mount-allowlist.json").write_text(json.dumps({"allowedRoots": [{"path": "~/photos"}]}))


@pytest.fixture
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A home with all in the database; or, if a test says so, with its state in JSON files as it was before."""
    root = tmp_path / "nanoclaw"
    new = getattr(request, "param", "rows") == "rows"
    database(root, state=new, bot=new)
    files(root)
    if not new:
        for name, document in (
            ("registered_groups", GROUPS),
            ("sessions", SESSIONS),
            ("router_state", {"last_timestamp": "", "last_agent_timestamp": ANSWERED}),
        ):
            (root / "data" / f"{name}.json").write_text(json.dumps(document))
    return root


both = pytest.mark.parametrize("root", ["rows", "documents"], indirect=True)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def bring(home: Home, root: Path, *more: str, code: int = 0) -> dict[str, Any]:
    env = {"PYNCHY_HOME": str(home.root), "HOME": str(root.parent), "TZ": "UTC"}
    done = CliRunner().invoke(pynchy, ["import", str(root), "--json", *more], env=env)
    assert done.exit_code == code, done.output
    told: dict[str, Any] = json.loads(done.stdout) if code == 0 else {"error": done.stderr}
    return told


def ask(home: Home, query: Callable[..., T], *args: Any, **more: Any) -> T:
    async def call() -> T:
        async with open_store(home.database) as store:
            return await store.call(query, *args, **more)

    return trio.run(call)


def tree(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()
    }


@both
def test_everything_comes_over(home: Home, root: Path) -> None:
    before = tree(root)
    told = bring(home, root)
    rows = {row["folder"]: row for row in told["groups"]}
    assert rows["main"]["chat"] == MAIN_CHAT
    assert rows["main"]["session"]
    assert (rows["family-chat"]["messages"], rows["family-chat"]["unanswered"]) == (5, 1)
    assert rows["tele"]["chat"] is None
    assert (told["tasks"], told["allowlist"], told["pair_again"]) == (2, "brought over", True)
    assert sum("is on no messenger we speak" in each for each in told["problems"]) == 1
    assert sum("long ago" in each for each in told["problems"]) == 1

    family = ask(home, groups.get, GroupId("family-chat"))
    assert family is not None
    assert (family.name, family.trigger, family.requires_trigger) == ("Family", "Andy", True)
    assert ask(home, groups.chats_of, MAIN) == [MAIN_CHAT, "console:main"]
    mounts = ask(home, groups.settings, GroupId("family-chat"))["mounts"]
    assert mounts == [{"path": "~/photos", "name": "pics", "writable": False}]

    (task,) = ask(home, tasks.of_group, MAIN)
    assert task.chat == MAIN_CHAT  # where it spoke, and not in the terminal
    assert (task.schedule.kind, task.state, task.context) == ("cron", "active", "group")
    (paused,) = ask(home, tasks.of_group, GroupId("family-chat"))
    assert (paused.schedule.value, paused.state) == ("3600", "paused")

    found = ask(home, memory.said, GroupId("family-chat"), "bought", limit=5)
    assert [each.text for each in found] == ["bought them"]
    assert (home.group(MAIN) / "CLAUDE.md").read_text().endswith("Ann likes tea.\n")
    assert not (home.group(MAIN) / "logs").exists()
    assert (home.shared / "CLAUDE.md").read_text() == "# For all\n"
    projects = home.session(MAIN) / "projects" / "-workspace-group"
    assert (projects / f"{SESSIONS['main']}.jsonl").exists()
    assert not (home.session(MAIN) / "settings.json").exists()  # its hooks are not ours
    assert tree(root) == before


@both
def test_what_was_not_answered_asks_and_what_was_does_not(home: Home, root: Path) -> None:
    bring(home, root)
    assert ask(home, at(NOW, messages.waiting_groups)) == ["family-chat"]
    assert ask(home, arrivals.waiting, ChatId(FAMILY)) == 1
    assert ask(home, arrivals.waiting, ChatId(MAIN_CHAT)) == 0


@pytest.mark.parametrize("lost", ["", '{"120363000000000001@g.us": "2026'])
def test_where_nothing_says_what_was_answered_the_past_is_not_asked_again(
    home: Home, root: Path, lost: str
) -> None:
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.execute("DELETE FROM router_state")
        if lost:
            db.execute("INSERT INTO router_state VALUES ('last_agent_timestamp', ?)", (lost,))
        more = "INSERT INTO messages (id, chat_jid, sender, sender_name, content, timestamp, is_from_me)"
        for number in range(20):  # a chat in which the assistant's words were not kept
            row = (
                f"N{number}",
                MAIN_CHAT,
                MAIN_CHAT,
                "Me",
                "note",
                f"2026-02-01T09:10:{number}Z",
                1,
            )
            db.execute(f"{more} VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        for number in range(20):
            row = (
                f"Q{number}",
                FAMILY,
                "4",
                "C",
                "@Andy so?",
                f"2026-02-01T09:00:{number + 10}Z",
                0,
            )
            db.execute(f"{more} VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    told = bring(home, root)
    assert any("is not kept there" in each for each in told["problems"])
    assert ask(home, arrivals.waiting, ChatId(FAMILY)) == 1, "what came after its last word"
    assert ask(home, arrivals.waiting, ChatId(MAIN_CHAT)) == 1, "the newest"


@pytest.mark.parametrize("cursor", ["", "yesterday", "null"])
def test_a_cursor_that_cannot_be_read_opens_no_history(home: Home, root: Path, cursor: str) -> None:
    """One chat's alone: in one that the assistant never spoke in, the newest message is still asked."""
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.execute("UPDATE router_state SET value = ?", (json.dumps({**ANSWERED, FAMILY: cursor}),))
        db.execute("DELETE FROM messages WHERE id = 'B1'")
        for number in range(50):
            row = (f"Q{number}", FAMILY, "4", "C", "@Andy so?", f"2026-01-20T09:00:{number}Z", 0)
            db.execute(
                "INSERT INTO messages (id, chat_jid, sender, sender_name, content, timestamp, is_from_me) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
    bring(home, root)
    assert ask(home, arrivals.waiting, ChatId(FAMILY)) == 1


def test_a_task_goes_on_in_the_chat_that_it_had(home: Home, root: Path) -> None:
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.execute("UPDATE scheduled_tasks SET chat_jid = ? WHERE id = 'task-1'", (FAMILY,))
        db.execute(
            "UPDATE scheduled_tasks SET chat_jid = 'tg:1', schedule_value = '3600000.0' WHERE id = 'task-2'"
        )
    bring(home, root)
    assert [each.chat for each in ask(home, tasks.of_group, MAIN)] == [FAMILY]
    (other,) = ask(home, tasks.of_group, GroupId("family-chat"))
    assert (other.chat, other.schedule.value) == (
        FAMILY,
        "3600",
    )  # its own was on no messenger we speak


def test_the_assistant_keeps_its_name(home: Home, root: Path) -> None:
    (root / ".env").write_text("ASSISTANT_NAME='Zoë'\nANTHROPIC_API_KEY=sk-theirs\n")
    ask(home, at(NOW, groups.ensure_main), name="Main", trigger="Pynchy")
    assert bring(home, root, "--dry-run")["assistant"] == "Zoë"
    assert not home.config.exists()
    assert bring(home, root)["assistant"] == "Zoë"
    assert home.config.read_text() == '[assistant]\nname = "Zoë"\n'
    main = ask(home, groups.get, MAIN)
    assert main is not None
    assert main.trigger == "Zoë"
    home.config.write_text('[assistant]\nname = "Mine"\n')
    assert bring(home, root)["assistant"] is None  # the owner has said it
    assert home.config.read_text() == '[assistant]\nname = "Mine"\n'


@pytest.mark.parametrize("name", ["", "a\tb", "x" * 65])
def test_what_is_no_name_is_not_taken(home: Home, root: Path, name: str) -> None:
    (root / ".env").write_text(f'ASSISTANT_NAME="{name}"\n')
    assert bring(home, root)["assistant"] is None
    assert not home.config.exists()


def test_the_steps_of_an_earlier_pynchys_agent_are_no_messages(home: Home, tmp_path: Path) -> None:
    """It kept them in the same table, and its database in data/."""
    root = tmp_path / "earlier"
    (root / "data").mkdir(parents=True)
    (root / "config.toml").write_text('[agent]\nname = "Biscuit"\n')
    with closing(sqlite3.connect(root / "data" / "messages.db")) as db, db:
        db.executescript(SCHEMA.format(bot="message_type TEXT,"))
        db.execute(
            "CREATE TABLE registered_groups (jid TEXT, name TEXT, folder TEXT, trigger_pattern TEXT, is_admin INT)"
        )
        db.execute(
            "INSERT INTO registered_groups VALUES (?, 'Me', 'admin-1', '@b', 1)", (MAIN_CHAT,)
        )
        for second, (sender, kind, text) in enumerate(
            [
                (MAIN_CHAT, "user", "what is on?"),
                ("thinking", "assistant", '{"thinking": "hm"}'),
                ("tool_result", "assistant", "{}"),
                ("bot", "assistant", "nothing is"),
                ("result_meta", "assistant", "{}"),
                (MAIN_CHAT, "user", "and tomorrow?"),
                ("host", "host", "Deployed"),
                ("system", "system", "{}"),
            ]
        ):
            row = (
                f"i{second}",
                MAIN_CHAT,
                sender,
                sender,
                text,
                f"2026-02-01T09:00:0{second}Z",
                1,
                kind,
            )
            db.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    told = bring(home, root)
    (row,) = told["groups"]
    assert (row["folder"], row["messages"], row["unanswered"]) == ("main", 3, 1)
    assert told["assistant"] == "Biscuit"
    assert sum("notes of its own" in each for each in told["problems"]) == 1
    found = ask(home, memory.said, MAIN, "nothing", limit=5)
    assert [(each.who, each.text) for each in found] == [("", "nothing is")]


def test_again_changes_nothing(home: Home, root: Path) -> None:
    # invariant 174
    bring(home, root)
    first = tree(home.groups)
    again = bring(home, root)
    assert [row["messages"] for row in again["groups"]] == [0, 0, 0]
    assert [row["files"] for row in again["groups"]] == [0, 0, 0]
    assert [row["unanswered"] for row in again["groups"]] == [0, 1, 0]
    assert again["tasks"] == 0
    assert again["allowlist"] == "the same"
    assert Path(again["backup"]).exists()  # before it, since there was something to lose
    assert tree(home.groups) == first


def test_what_has_come_since_comes_the_second_time(home: Home, root: Path) -> None:
    bring(home, root)
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        later = "INSERT INTO messages (id, chat_jid, sender, sender_name, content, timestamp, is_from_me)"
        db.execute(
            f"{later} VALUES ('A5', ?, '4', 'C', '@Andy now', '2026-02-02T10:00:00Z', 0)", (FAMILY,)
        )
    told = bring(home, root)
    assert told["groups"][1]["messages"] == 1
    assert told["groups"][1]["unanswered"] == 2


def test_answered_there_meanwhile_is_not_answered_here(home: Home, root: Path) -> None:
    bring(home, root)
    until = {**ANSWERED, FAMILY: "2026-02-01T10:00:04.000Z"}
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS router_state (key TEXT PRIMARY KEY, value TEXT)")
        db.execute(
            "INSERT OR REPLACE INTO router_state VALUES ('last_agent_timestamp', ?)",
            (json.dumps(until),),
        )
    assert bring(home, root)["groups"][1]["unanswered"] == 0
    assert ask(home, at(NOW, messages.waiting_groups)) == []


def test_a_message_that_waits_here_is_not_passed_over(home: Home, root: Path) -> None:
    """It came to us before what was answered there was brought over."""

    def before(db: Any) -> None:
        groups.register(
            Tx(db, NOW),
            folder=GroupId("family-chat"),
            name="x",
            chats=(ChatId(FAMILY),),
            trigger="Andy",
            requires_trigger=True,
        )
        ours = Message(
            chat=ChatId(FAMILY),
            id="OURS",
            sender=SenderId("4"),
            sender_name="C",
            sent_at=NOW,
            text="@Andy me too",
        )
        messages.receive(Tx(db, NOW), ours)

    ask(home, before)
    told = bring(home, root)
    assert told["groups"][1]["unanswered"] == 2
    assert ask(home, arrivals.waiting, ChatId(FAMILY)) == 2


def test_nothing_of_yours_is_overwritten(home: Home, root: Path) -> None:
    home.make()
    work = home.group(GroupId("family-chat"))
    work.mkdir(parents=True)
    (work / "CLAUDE.md").write_text("# Mine\n")
    home.mount_allowlist.write_text("{}")
    told = bring(home, root)
    assert (work / "CLAUDE.md").read_text() == "# Mine\n"
    assert home.mount_allowlist.read_text() == "{}"
    assert told["allowlist"].startswith("yours stays")
    assert "family-chat: your own CLAUDE.md stays as it is" in told["problems"]


def test_a_page_that_nobody_has_written_in_is_no_page_of_yours(home: Home, root: Path) -> None:
    from pynchy.container import folders
    from pynchy.model import Group

    group = Group(MAIN, "Main", "Pynchy", False, True)
    home.make()
    folders.scaffold(home, group)
    bring(home, root)
    assert "Ann likes tea" in (home.group(MAIN) / "CLAUDE.md").read_text()


def test_a_rehearsal_changes_nothing_and_says_the_same(home: Home, root: Path) -> None:
    told = bring(home, root, "--dry-run")
    assert not home.root.exists()
    real = bring(home, root)
    for each in (told, real):
        each.pop("dry_run"), each.pop("backup")
    assert told == real
    before = tree(home.root)
    bring(home, root, "--dry-run")
    assert {k: v for k, v in tree(home.root).items() if k in before and "run/" not in k} == {
        k: v for k, v in before.items() if "run/" not in k
    }


def test_a_daemon_that_runs_is_not_surprised(home: Home, root: Path) -> None:
    home.make()
    with open_lock(home.lock):
        assert "stop it first" in bring(home, root, code=75)["error"]


def test_a_folder_that_is_no_home_is_said_to_be_none(home: Home, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "say the folder that holds store/" in bring(home, tmp_path / "empty", code=2)["error"]


def test_a_home_of_the_second_generation_is_said_to_be_one(home: Home, tmp_path: Path) -> None:
    (tmp_path / "v2" / "data").mkdir(parents=True)
    (tmp_path / "v2" / "data" / "v2.db").write_bytes(b"")
    assert "second generation" in bring(home, tmp_path / "v2", code=2)["error"]


def test_a_database_that_is_damaged_stops_it_before_anything(home: Home, root: Path) -> None:
    (root / "store" / "messages.db").write_bytes(b"no database" * 100)
    assert "cannot be read" in bring(home, root, code=73)["error"]
    assert not home.root.exists()


def test_links_lead_nowhere(home: Home, root: Path, tmp_path: Path) -> None:
    """Neither what an agent there left behind, nor what one here did. # threat L9"""
    secret = tmp_path / "secret"
    secret.write_text("a key")
    (root / "groups" / "main" / "key").symlink_to(secret)
    (root / "groups" / "main" / "sub").mkdir()
    (root / "groups" / "main" / "sub" / "file").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    home.make()
    home.group(MAIN).mkdir(parents=True)
    (home.group(MAIN) / "sub").symlink_to(outside)
    told = bring(home, root)
    assert not (home.group(MAIN) / "key").exists()
    assert not list(outside.iterdir())
    assert {"main: key is a link or no file", "main: sub is a link or no file"} <= {
        *told["problems"]
    }


def test_only_plain_tables_are_read(tmp_path: Path) -> None:
    root = tmp_path / "nanoclaw"
    database(root, state=True, bot=True)
    with closing(sqlite3.connect(root / "store" / "messages.db")) as db, db:
        db.execute("DROP TABLE messages")
        db.execute("CREATE VIEW messages AS SELECT * FROM chats")
    assert importer.read_home(root).messages == ()
