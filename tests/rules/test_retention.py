"""What is deleted of what was said long ago, and what never is."""

from __future__ import annotations

from pynchy.model import DAY, ChatId, GroupId, Message, Micros, RunId, SenderId, after
from pynchy.store import claims, groups, messages, outbox, retention, runs, turns
from pynchy.store.connection import Connection
from pynchy.store.database import Tx, open_memory

NOW = Micros(1_796_000_000_000_000)
OLD = after(NOW, -100 * DAY)
BEFORE = after(NOW, -30 * DAY)
FAMILY, CHAT, STRANGERS = GroupId("family"), ChatId("console:family"), ChatId("console:others")


def house() -> Connection:
    db = open_memory()
    groups.register(
        Tx(db, OLD),
        folder=FAMILY,
        name="Family",
        chats=(CHAT,),
        trigger="Pynchy",
        requires_trigger=True,
    )
    return db


def say(db: Connection, id: str, text: str, *, at: Micros = OLD, chat: ChatId = CHAT) -> None:
    message = Message(chat, id, SenderId("console:Ann"), "Ann", at, text)
    messages.receive(Tx(db, at), message)


def keep(db: Connection, id: str, at: Micros) -> None:
    """A row of a chat that belongs to no group any more."""
    db.execute("INSERT OR IGNORE INTO chats (chat, name) VALUES (?, '')", (STRANGERS,))
    db.execute(
        "INSERT INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, kind, text, "
        "triggers, own) VALUES (?, 'a', '', ?, ?, ?, 'notice', 'x', 0, 0)",
        (STRANGERS, id, at, at),
    )


def ids(db: Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT message_id FROM inbox ORDER BY seq")]


def new_id() -> str:
    new_id.count += 1  # type: ignore[attr-defined]
    return f"{new_id.count:032x}"  # type: ignore[attr-defined]


new_id.count = 0  # type: ignore[attr-defined]


def work(db: Connection, *, at: Micros, ends: bool) -> None:
    run = RunId(new_id()[-16:])
    runs.begin(
        Tx(db, at),
        runs.RunStart(run=run, folder=FAMILY, kind="session", container=f"c-{run}", boot="b"),
    )
    claimed = claims.claim(Tx(db, at, new_id), run)
    assert claimed is not None
    if ends:
        turns.cancel(Tx(db, at), FAMILY)
        runs.end(Tx(db, at, new_id), run, reason="closed")


def prune(db: Connection) -> tuple[int, int]:
    return (
        retention.prune_messages(db, before=BEFORE).deleted,
        retention.prune_replies(db, before=BEFORE).deleted,
    )


def test_what_was_answered_long_ago_is_deleted_with_its_words() -> None:
    db = house()
    say(db, "context", "the elephant is grey")
    say(db, "asked", "@Pynchy how large is an elephant?")
    work(db, at=OLD, ends=True)
    say(db, "new", "@Pynchy and an ant?", at=NOW)
    keep(db, "theirs", OLD)
    assert prune(db)[0] == 3
    assert ids(db) == ["new"]
    found = db.execute("SELECT rowid FROM inbox_fts WHERE inbox_fts MATCH 'elephant'").fetchall()
    assert found == []
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_nobody_answered_stays_however_old_it_is() -> None:
    db = house()
    say(db, "context", "we speak of whales")
    say(db, "waits", "@Pynchy how large is a whale?")
    assert prune(db) == (0, 0)
    work(db, at=OLD, ends=False)
    assert prune(db) == (0, 0)
    assert ids(db) == ["context", "waits"]
    say(db, "later", "nobody asks")  # and what no agent was shown yet
    turns.cancel(Tx(db, NOW), FAMILY)
    assert prune(db)[0] == 2
    assert ids(db) == ["later"]


def test_replies_go_when_they_were_sent() -> None:
    db = house()
    for text in ("sent", "open"):
        outbox.enqueue(Tx(db, OLD, new_id), outbox.Author(FAMILY, CHAT), (text,))
    first = outbox.heads(Tx(db, NOW))[0].out.id
    assert outbox.take(Tx(db, NOW), first) is not None
    outbox.sent(Tx(db, NOW), first)
    assert prune(db) == (0, 1)
    assert [row[0] for row in db.execute("SELECT text FROM outbox")] == ["open"]
    assert db.execute("SELECT rowid FROM outbox_fts WHERE outbox_fts MATCH 'sent'").fetchall() == []


def test_it_goes_on_where_it_was_and_ends_at_what_is_young() -> None:
    db = house()
    for number in range(retention.WINDOW + 10):
        keep(db, f"m{number}", OLD)
    for number in range(retention.WINDOW):
        keep(db, f"n{number}", NOW)
    first = retention.prune_messages(db, before=BEFORE)
    assert first == retention.Pruned(retention.WINDOW, retention.WINDOW)
    assert first.onwards is not None
    second = retention.prune_messages(db, before=BEFORE, onwards=first.onwards)
    assert second.deleted == 10
    assert second.onwards is not None
    last = retention.prune_messages(db, before=BEFORE, onwards=second.onwards)
    assert last == retention.Pruned(0, None)
    assert len(ids(db)) == retention.WINDOW
