"""What the store's questions cost does not grow with what it has seen.

Counted in steps of SQLite's machine, not in time: the same work is the same number everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynchy.model import ChatId, GroupId, RunId, SenderId
from pynchy.store import (
    claims,
    groups,
    journal,
    messages,
    metrics,
    outbox,
    runs,
    serving,
    trace,
    turns,
)
from pynchy.store.database import Tx
from tests.rules.store_world import FAMILY, World
from tests.transactions import open_entries

#: Indexes that hold only what is under way, so that going through all of one costs nothing.
SMALL = {
    "chats_waiting",
    "outbox_age",
    "outbox_open",
    "runs_live",
    "turns_dead",
    "turns_live",
    "turns_waiting",
}


def grown(*, groups_: int, messages_each: int) -> World:
    """A world with a past: groups, answered messages, replies that were sent."""
    world = World.with_family(requires_trigger=False)
    db = world.db
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO groups SELECT 'g' || i, 'n', 't', 0, 0, 0, NULL, NULL, 0, NULL, '{}', 0, 'name' FROM n",
        (groups_,),
    )
    db.execute(
        "INSERT INTO chats (chat, folder) SELECT folder || '@g.us', folder FROM groups "
        "WHERE folder GLOB 'g*'"
    )
    db.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO inbox (chat, sender, sender_name, message_id, sent_at, received_at, kind, "
        "text, triggers, own) "
        "SELECT chat, 's', 'S', 'm' || i, 0, 0, 'text', 'hello', 1, 0 FROM chats, n",
        (messages_each,),
    )
    db.execute(
        "UPDATE chats SET wanted_seq = s, claimed_seq = s, done_seq = 0 FROM "
        "(SELECT chat AS c, max(seq) AS s FROM inbox GROUP BY chat) WHERE c = chat"
    )
    db.execute("UPDATE chats SET done_seq = claimed_seq")
    db.execute("DROP TRIGGER turns_follow")
    db.execute(
        "INSERT INTO turns (folder, chat, kind, state, lo, hi, retry_at, created_at, ended_at) "
        "SELECT folder, inbox.chat, 'message', 'done', seq - 1, seq, 0, 0, 0 "
        "FROM inbox JOIN chats USING (chat)"
    )
    db.execute("INSERT INTO turn_inputs SELECT hi, id FROM turns")
    db.execute(
        "INSERT INTO outbox (folder, chat, turn_id, ord, message_id, kind, text, state, next_at, "
        "created_at, sent_at) SELECT folder, chat, id, 0, 'o' || id, 'text', 'x', 'sent', 0, 0, 0 "
        "FROM turns"
    )
    return world


@contextmanager
def steps(world: World) -> Iterator[Callable[[], int]]:
    """Count the steps of the block, to the hundred."""
    count = 0

    def hundred() -> int:
        nonlocal count
        count += 1
        return 0

    world.db.set_progress_handler(hundred, 100)
    try:
        yield lambda: count * 100
    finally:
        world.db.set_progress_handler(None, 0)


def a_day(world: World) -> dict[str, Callable[[], object]]:
    """Everything that the daemon asks while it runs, in an order that makes sense."""
    chats = [ChatId(f"g{number}@g.us") for number in range(1, 11)]
    folders = [GroupId(f"g{number}") for number in range(1, 11)]
    held: dict[GroupId, tuple[RunId, claims.Claimed]] = {}

    def receive() -> None:
        for number, chat in enumerate(chats):
            world.hear("hello", id=f"new{number}", chat=chat, sender=SenderId("s"))

    def edit_and_revoke() -> None:
        world.hear("hello again", id="edit", chat=chats[0], sender=SenderId("s"), edits="new0")
        world.hear("", id="revoke", chat=chats[1], sender=SenderId("s"), revokes="new1")

    def claim() -> None:
        for folder in (folders[0], *folders[2:]):
            begun = serving.begin(
                Tx(world.db, world.now, world.new_id),
                runs.RunStart(
                    run=(run := RunId(world.new_id()[-16:])),
                    folder=folder,
                    kind="session",
                    container=f"c{run}",
                    boot=world.boot,
                ),
                turn=None,
                prewarm=False,
            )
            assert begun is not None
            assert begun.claimed is not None
            held[folder] = (run, begun.claimed)

    def commit() -> None:
        for folder in folders[3:]:
            run, claimed = held.pop(folder)
            world.commit(run, claimed, say=["one", "two"], session="s")
            world.end(run)

    def fail() -> None:
        run, _ = held.pop(folders[0])
        world.fail(run, "outage")
        world.end(run)

    def stop() -> None:
        turns.cancel(Tx(world.db, world.now), folders[2])
        world.end(held.pop(folders[2])[0])

    def send() -> None:
        assert len(world.send_all()) == 15
        outbox.next_due(Tx(world.db, world.now))
        outbox.expire(Tx(world.db, world.now, world.new_id))

    def look() -> None:
        messages.waiting_groups(Tx(world.db, world.now))
        messages.next_retry(world.db, folders[0])
        metrics.count(world.db)
        serving.left(Tx(world.db, world.now), folders[0], kind="session")
        serving.left(Tx(world.db, world.now), folders[0], kind="task")
        serving.unfinished(world.db)
        open_entries(world.db)
        runs.live(world.db)
        groups.by_chat(world.db, chats[0])
        journal.answered(world.db, FAMILY, "c", "h")
        trace.why(world.db, "new3")
        trace.unended(world.db, before=world.now)
        messages.history(world.db, chats[0], limit=20)

    def restart() -> None:
        world.hear("hello", id="last", chat=chats[5], sender=SenderId("s"))
        run = world.begin(folders[5])
        world.claim(run, folders[5])
        assert len(world.restart()) == 1

    return {
        "receive": receive,
        "edit and revoke": edit_and_revoke,
        "look": look,
        "claim": claim,
        "commit": commit,
        "fail": fail,
        "stop": stop,
        "send": send,
        "look again": look,
        "restart": restart,
    }


def test_a_large_past_costs_nothing() -> None:  # invariants 11, 184, 191
    costs = []
    for groups_, messages_each in ((20, 10), (1000, 50)):
        world = grown(groups_=groups_, messages_each=messages_each)
        found = {}
        for name, act in a_day(world).items():
            with steps(world) as count:
                act()
            found[name] = count()
        costs.append(found)
    small, large = costs
    for name in small:
        # A few more levels of a B-tree, but nothing in proportion to a past 250 times as long.
        assert large[name] <= 2 * small[name] + 2000, (name, small[name], large[name])


def test_no_question_goes_through_a_whole_table() -> None:
    world = grown(groups_=50, messages_each=20)
    asked: set[str] = set()
    world.db.set_trace_callback(asked.add)
    for act in a_day(world).values():
        act()
    world.db.set_trace_callback(None)
    assert len(asked) > 50
    bad = []
    for sql in asked:
        if not sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            continue
        for *_, line in world.db.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall():
            found = re.match(r"SCAN (inbox|outbox|turns|turn_inputs|attempts|chats|runs)\b", line)
            index = re.search(r"USING (?:COVERING )?INDEX (\w+)", line)
            if found and not (index and index[1] in SMALL):
                bad.append((line, sql))
    assert not bad, "\n".join(f"{line}: {sql}" for line, sql in bad)
