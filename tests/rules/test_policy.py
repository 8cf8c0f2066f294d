"""Who may ask for what, and what a command does, on a database in memory."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pynchy.actions.call import HOST, Done, Given, Host
from pynchy.actions.commands import MOST_COMMANDS, handle, search
from pynchy.actions.effects import Effects
from pynchy.actions.messages import MOST_SAID
from pynchy.model import (
    MAIN,
    ChatId,
    Group,
    GroupId,
    Message,
    Micros,
    RunId,
    SenderId,
    Staged,
    TurnId,
    Unfit,
    after,
)
from pynchy.policy import earlier_tools, tools
from pynchy.policy.tools import TOOLS, Caller, Reach, Tool
from pynchy.store import authority, claims, groups, messages, outbox, results, runs, turns
from pynchy.store.connection import Connection, TooLong, configure
from pynchy.store.database import Opened, Store, Tx, open_memory
from pynchy.store.tasks import MOST_TASKS
from pynchy_agent.wire import Command
from tests.transactions import open_entries

T = TypeVar("T")

NOON = Micros(1_700_000_000_000_000)
FAMILY, WORK = GroupId("family"), GroupId("work")
CHAT, OTHER = ChatId("1203@g.us"), ChatId("1204@g.us")
RUN = RunId("a" * 16)
ANN = SenderId("4917@s.whatsapp.net")


# --- the table -----------------------------------------------------------------------------------


def caller(*, main: bool = False, trusted: bool = False) -> Caller:
    return Caller(
        folder=MAIN if main else FAMILY,
        is_main=main,
        run=RUN,
        chat=CHAT,
        turn=TurnId(1),
        trusted=trusted,
    )


def group(folder: str) -> Group:
    return Group(
        folder=GroupId(folder),
        name=folder,
        trigger="Pynchy",
        requires_trigger=True,
        is_main=folder == MAIN,
    )


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_what_reaches_further_than_its_group_is_for_main_and_people_it_trusts(name: str) -> None:
    allowed = {
        (main, trusted): tools.refusal(caller(main=main, trusted=trusted), name) is None
        for main, trusted in itertools.product((False, True), repeat=2)
    }
    if TOOLS[name].reach is Reach.OWN:
        assert all(allowed.values())
    else:  # threat I2
        assert allowed == {k: k == (True, True) for k in allowed}


def test_the_table_refuses_what_is_for_main(monkeypatch: pytest.MonkeyPatch) -> None:
    # threat I2, invariant 156
    table = {**TOOLS, "wipe_group": Tool(name="wipe_group", description="No.", reach=Reach.ALL)}
    monkeypatch.setattr(tools, "TOOLS", table)
    assert tools.refusal(caller(), "wipe_group") == "wipe_group is for the main group alone"
    assert tools.refusal(caller(trusted=True), "wipe_group") is not None
    assert "everybody who asked" in str(tools.refusal(caller(main=True), "wipe_group"))
    assert tools.refusal(caller(main=True, trusted=True), "wipe_group") is None
    assert "wipe_group" not in {
        tool.name for tool in tools.offered(group("family"))
    }  # invariant 166
    assert "wipe_group" in {tool.name for tool in tools.offered(group("main"))}


@pytest.mark.parametrize("name", ["", "deploy", "SEND_MESSAGE", "send_message ", "x" * 10_000])
def test_what_is_not_in_the_table_does_not_exist(name: str) -> None:
    refused = tools.refusal(caller(main=True, trusted=True), name)
    assert refused is not None
    assert len(refused) < 200


FORGED = [
    "groupFolder", "isMain", "is_main", "chatJid", "chat", "source_group", "_cop_approved",
    "is_admin", "turn", "run", "folder",
]  # fmt: skip


def fitting(argument: tools.Argument) -> object:
    """The simplest thing that may stand there."""
    candidates = (*getattr(argument.kind, "words", ()), "x", 1, True, [])
    return next(value for value in candidates if argument.kind.wrong(value) is None)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in sorted(TOOLS)
        for field in FORGED  # a group's command may well name a group: it is not who asks
        if field not in {**TOOLS[name].needs, **TOOLS[name].may}
    ],
)
def test_a_command_cannot_say_who_it_is(name: str, field: str) -> None:  # threat I1, invariant 134
    args = {key: fitting(needed) for key, needed in TOOLS[name].needs.items()}
    wrong = tools.misfit(name, {**args, field: "main"})
    assert wrong is not None
    assert wrong.startswith(f"{name}: {field}: unknown; known: ")
    assert tools.misfit(name, args) is None


# --- what commands do ----------------------------------------------------------------------------


@cache
def template() -> bytes:
    return open_memory().serialize()


def fresh() -> Connection:
    """A database in memory: a copy, since making the schema anew takes fifty times as long."""
    db = sqlite3.connect(":memory:", isolation_level=None, factory=Connection)
    db.deserialize(template())
    configure(db)
    return db


class Ids:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"{self.count:032x}"


class World:
    """A group in the middle of a turn, its run known to the database, and another group."""

    def __init__(self, folder: GroupId = FAMILY) -> None:
        self.db = fresh()
        self.new_id = Ids()
        self.folder = folder
        self.sent = 0
        groups.ensure_main(Tx(self.db, NOON), name="Main", trigger="Pynchy")
        for each, chat in ((FAMILY, CHAT), (WORK, OTHER)):
            groups.register(
                Tx(self.db, NOON),
                folder=each,
                name=each.title(),
                chats=(chat,),
                trigger="Pynchy",
                requires_trigger=False,
            )
        chat = groups.chats_of(self.db, folder)[0]
        self.chat = chat
        messages.receive(Tx(self.db, NOON), self.message("hello", "A1"))
        runs.begin(
            Tx(self.db, NOON),
            runs.RunStart(run=RUN, folder=folder, kind="session", container="c1", boot="b"),
        )
        self.claim()

    def message(self, text: str, id: str, chat: ChatId | None = None) -> Message:
        return Message(
            chat=chat or self.chat,
            id=id,
            sender=ANN,
            sender_name="Ann",
            sent_at=NOON,
            text=text,
        )

    def claim(self) -> None:
        claimed = claims.claim(Tx(self.db, NOON, self.new_id), RUN)
        assert claimed is not None
        self.prompt = claimed.prompt_id

    def call(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        *,
        id: str | None = None,
        sha: str = "0",
        now: Micros = NOON,
        run: RunId = RUN,
        folder: GroupId | None = None,
        file: Staged | Unfit | None = None,
        host: Host = HOST,
    ) -> Done:
        self.sent += 1
        return handle(
            Tx(self.db, now, self.new_id),
            Given(
                Command(name, args or {}),
                folder or self.folder,
                run,
                id or f"{self.sent:032x}",
                sha,
                file,
            ),
            host,
        )

    def outbox(self) -> list[dict[str, Any]]:
        return list(self.db.query("SELECT * FROM outbox ORDER BY id"))


async def test_a_search_is_made_beside_the_calls_and_answered_like_any_command() -> None:
    there = World()
    there.call("remember", {"text": "Anna is allergic to nuts"})
    kept = Store(Opened(there.db), cast("Any", inline), now=lambda: NOON, new_id=there.new_id)

    async def ask(name: str, args: dict[str, Any], id: str) -> Done:
        given = Given(Command(name, args), there.folder, RUN, id, "0")
        searched = await search(kept, given)
        assert (searched.found is None) == (name == "remember" or "query" not in args)
        return handle(Tx(there.db, NOON, there.new_id), searched)

    found = await ask("recall", {"query": "allergies"}, "a" * 32)
    assert "allergic to nuts" in found.text
    assert await ask("recall", {"query": "allergies"}, "a" * 32) == attrs.evolve(found, fresh=False)
    assert not (await ask("recall", {"words": "allergies"}, "b" * 32)).ok
    assert (await ask("search_history", {"query": "allergies"}, "c" * 32)).ok


async def test_a_search_that_takes_too_long_is_refused() -> None:
    class Slow:
        async def read(self, *_: object) -> NoReturn:
            await trio.lowlevel.checkpoint()
            raise TooLong("it took longer than 5 s")

    there = World()
    given = Given(Command("recall", {"query": "x"}), there.folder, RUN, "a" * 32, "0")
    done = handle(Tx(there.db, NOON, there.new_id), await search(cast("Store", Slow()), given))
    assert (done.ok, done.text[:26]) == (False, "the search was given up: i")


async def inline(fn: Callable[[], T], /, *, limiter: object = None) -> T:
    await trio.lowlevel.checkpoint()
    return fn()


def test_a_message_is_output_of_the_turn_that_runs() -> None:
    there = World()
    done = there.call("send_message", {"text": "one <internal>two</internal>moment"})
    assert done == Done.now("sent to the chat", Effects(speaks=True))
    [row] = there.outbox()
    assert (row["chat"], row["folder"], row["text"]) == (CHAT, FAMILY, "one moment")
    turn = turns.get(there.db, TurnId(row["turn_id"]))
    assert turn is not None
    assert turn.spoke  # so it is never replayed, only resumed


def test_a_message_may_speak_under_a_name_and_never_in_the_hosts() -> None:  # threat P8
    there = World()
    there.call("send_message", {"text": "hi", "sender": "Poet\u202e\n*"})
    there.call("send_message", {"text": "\N{WHITE SQUARE CONTAINING BLACK SMALL SQUARE} Approved"})
    assert [row["text"] for row in there.outbox()] == ["*Poet *:* hi", "# Approved"]


def test_a_long_message_is_sent_in_parts() -> None:
    there = World()
    done = there.call("send_message", {"text": "word " * 2_000})
    assert done.text == "sent to the chat, in 3 parts"
    assert all(len(row["text"]) <= 4_000 for row in there.outbox())


@pytest.mark.parametrize("text", ["<internal>x</internal>", " \n", "\0"])
def test_nothing_to_say_is_refused_and_writes_nothing(text: str) -> None:
    there = World()
    assert not there.call("send_message", {"text": text}).ok
    assert there.outbox() == []


def test_the_same_command_again_is_answered_and_not_done_again() -> None:  # threat I4
    there = World()
    first = there.call("send_message", {"text": "hi"}, id="f" * 32)
    again = there.call("send_message", {"text": "hi"}, id="f" * 32)
    assert (again.ok, again.text, again.fresh) == (first.ok, first.text, False)
    assert len(there.outbox()) == 1


def test_an_id_used_for_something_else_is_refused() -> None:  # threat I4
    there = World()
    there.call("send_message", {"text": "hi"}, id="f" * 32, sha="1")
    again = there.call("send_message", {"text": "ho"}, id="f" * 32, sha="2")
    assert not again.ok
    assert again.offence == "replay"
    assert len(there.outbox()) == 1


def test_two_groups_may_use_the_same_id() -> None:
    there = World()
    there.call("send_message", {"text": "hi"}, id="f" * 32)
    other = there.call("send_message", {"text": "hi"}, id="f" * 32, folder=WORK)
    assert not other.ok  # it has no run of its own; but no word of the other's answer either
    assert other.text == "this turn is over; nothing was done"


def test_the_run_of_another_group_lends_no_voice() -> None:  # threat I2, invariant 140
    there = World()
    assert not there.call("send_message", {"text": "hi"}, folder=WORK).ok
    assert not there.call("send_message", {"text": "hi"}, folder=MAIN).ok
    assert there.outbox() == []


def test_a_stopped_turn_says_nothing_more() -> None:
    there = World()
    turns.cancel(Tx(there.db, NOON), FAMILY)
    assert (
        there.call("send_message", {"text": "late"}).text == "this turn is over; nothing was done"
    )
    assert there.outbox() == []


def test_a_run_from_before_a_reset_says_nothing_more() -> None:  # invariant 29
    there = World()
    groups.new_session(there.db, FAMILY)
    assert not there.call("send_message", {"text": "late"}).ok


def test_an_afterthought_goes_to_the_chat_of_the_last_turn() -> None:
    there = World()
    results.commit(
        Tx(there.db, NOON, there.new_id),
        RUN,
        results.Reply(answered=[there.prompt], pieces=[], session=None),
    )
    assert there.call("send_message", {"text": "one more thing"}).ok
    assert there.outbox()[0]["chat"] == CHAT


def test_a_follow_up_is_not_what_the_first_turn_says() -> None:
    there = World()
    messages.receive(Tx(there.db, NOON), there.message("and?", "A2"))
    there.claim()
    there.call("send_message", {"text": "first"})
    [row] = there.outbox()
    held = turns.held(there.db, RUN)
    assert len(held) == 2
    assert row["turn_id"] == held[0].id


def test_what_a_dead_run_asked_for_is_still_done() -> None:  # invariant 169
    there = World()
    runs.interrupt_others(Tx(there.db, NOON, there.new_id), boot="next")
    assert authority.last_run(there.db, FAMILY) == RUN
    assert there.call("send_message", {"text": "before I died"}).ok
    turn = turns.get(there.db, TurnId(there.outbox()[0]["turn_id"]))
    assert turn is not None
    assert (turn.state, turn.spoke) == ("waiting", True)


def test_one_turn_cannot_flood_its_chat() -> None:  # threats I8, S8
    there = World()
    answers = [
        there.call("send_message", {"text": "x"}, now=after(NOON, 2.0 * n))
        for n in range(MOST_SAID + 5)
    ]
    assert [done.ok for done in answers] == [True] * MOST_SAID + [False] * 5
    assert len(there.outbox()) == MOST_SAID


def test_one_group_cannot_flood_the_host() -> None:  # threat I8
    there = World()
    for _ in range(MOST_COMMANDS):
        there.call("nothing")
    refused = there.call("send_message", {"text": "x"}, id="e" * 32)
    assert refused.offence == "flood"
    journal = there.db.execute("SELECT count(*) FROM journal").fetchone()
    assert journal == (MOST_COMMANDS,)  # the flood itself fills nothing
    later = there.call("send_message", {"text": "x"}, id="e" * 32, now=after(NOON, 61.0))
    assert later.ok  # the same command may come again


def test_what_was_given_before_the_clock_went_back_is_no_flood() -> None:  # threat D5
    there = World()
    for _ in range(MOST_COMMANDS):
        there.call("nothing")
    assert there.call("send_message", {"text": "x"}, now=after(NOON, -3600.0)).ok


SOON = {
    "prompt": "x",
    "schedule_type": "interval",
    "schedule_value": 3600,
    "context_mode": "group",
}


def test_a_task_is_scheduled_with_the_arguments_of_earlier_tools() -> None:
    there = World()
    earlier = {
        "prompt": "x",
        "schedule_type": "interval",
        "schedule_value": "7200",
        "target_group_jid": CHAT,
    }
    done = there.call("schedule_task", earlier)
    assert done.ok, done.text
    [row] = there.db.query("SELECT folder, chat, value, context FROM tasks")
    assert tuple(row.values()) == (FAMILY, CHAT, "7200", "group")
    for note in (
        "target_group_jid is called target_group here",
        "taken as 7200 seconds (not milliseconds)",
        "context_mode was not said, taken as group",
        "the group of that chat is family",
    ):
        assert note in done.text
    again = there.call("schedule_task", earlier, id=f"{there.sent:032x}")
    assert (again.text, again.fresh) == (done.text, False)
    elsewhere = there.call("schedule_task", {**earlier, "target_group_jid": OTHER})
    assert "waiting for approval" in elsewhere.text, "another group's chat is another group"
    nowhere = there.call("schedule_task", {**earlier, "target_group_jid": "1999@g.us"})
    assert not nowhere.ok or "waiting for approval" in nowhere.text
    assert there.db.execute("SELECT count(*) FROM tasks").fetchone() == (1,)


@pytest.mark.parametrize(
    ("name", "args", "taken", "notes"),
    [
        ("register_group", {"jid": "1@g.us", "name": "x"}, {"chat": "1@g.us", "name": "x"}, 1),
        ("register_group", {"jid": "1@g.us", "chat": "2@g.us"}, {"jid": "1@g.us", "chat": "2@g.us"}, 0),
        ("recall", {"query": "12", "limit": "5"}, {"query": "12", "limit": 5}, 1),
        ("recall", {"query": "12", "limit": "five"}, {"query": "12", "limit": "five"}, 0),
        ("update_task", {"task_id": "12", "schedule_value": "60"}, {"task_id": "12", "schedule_value": 60}, 1),
        ("schedule_task", SOON, SOON, 0),
        ("schedule_task", {**SOON, "schedule_type": "cron", "schedule_value": "5"},
         {**SOON, "schedule_type": "cron", "schedule_value": "5"}, 0),
        ("send_message", {"text": "1", "jid": "1@g.us"}, {"text": "1", "jid": "1@g.us"}, 0),
        ("no_such_tool", {"jid": "x"}, {"jid": "x"}, 0),
    ],
)  # fmt: skip
def test_what_earlier_tools_called_otherwise_is_taken_for_what_it_is_called_now(
    name: str, args: dict[str, Any], taken: dict[str, Any], notes: int
) -> None:
    found, said = earlier_tools.read(name, args)
    assert (dict(found), len(said)) == (taken, notes)


@pytest.mark.parametrize(
    "name", ["get_task", "update_task", "pause_task", "resume_task", "cancel_task", "run_task_now"]
)
def test_a_task_of_others_and_one_that_is_not_there_look_the_same(name: str) -> None:  # threat I3
    there = World()
    made = there.call("schedule_task", SOON)
    task = made.text.split()[2].rstrip(";")
    assert there.call("get_task", {"task_id": task}).ok
    work = World.__new__(World)  # the same rows, seen from the other group
    work.__dict__.update(there.__dict__, folder=WORK, chat=OTHER)
    other = RunId("b" * 16)
    messages.receive(Tx(there.db, NOON), work.message("hello", "B1"))
    runs.begin(
        Tx(there.db, NOON),
        runs.RunStart(run=other, folder=WORK, kind="session", container="c2", boot="b"),
    )
    assert claims.claim(Tx(there.db, NOON, there.new_id), other) is not None
    before = there.db.execute("SELECT * FROM tasks").fetchall()
    answers = [
        there.call(name, {"task_id": each}, run=other, folder=WORK) for each in (task, "0" * 32)
    ]
    assert answers[0] == answers[1]
    assert not answers[0].ok
    assert task not in there.call("list_tasks", run=other, folder=WORK).text
    assert there.db.execute("SELECT * FROM tasks").fetchall() == before


def test_a_group_has_fifty_tasks_and_no_more() -> None:  # threat I13
    there = World()
    answers = [
        there.call("schedule_task", SOON, now=after(NOON, 2.0 * n)) for n in range(MOST_TASKS + 1)
    ]
    assert [done.ok for done in answers] == [True] * MOST_TASKS + [False]
    assert "cancel one first" in answers[-1].text
    task = answers[0].text.split()[2].rstrip(";")
    late = after(NOON, 1000.0)
    assert there.call("cancel_task", {"task_id": task}, now=late).ok
    assert there.call("schedule_task", SOON, now=late).ok


def test_tasks_that_make_tasks_come_to_an_end() -> None:  # threat I13
    there = World()
    depths = []
    for number in range(4):
        done = there.call("schedule_task", SOON | {"prompt": f"level {number}"})
        if not done.ok:
            assert "cannot make another one" in done.text
            break
        task = done.text.split()[2].rstrip(";")
        depths.append(
            there.db.execute("SELECT depth FROM tasks WHERE id = ?", (task,)).fetchone()[0]
        )
        # The turn in hand is now one that this task was fired for.
        there.db.execute("DELETE FROM fires")
        there.db.execute(
            "INSERT INTO fires (task_id, slot, due_at, fired_at, turn_id, state) VALUES (?, ?, 0, 0, "
            "(SELECT id FROM turns WHERE run_id = ?), 'waiting')",
            (task, str(number), RUN),
        )
        there.db.execute("UPDATE turns SET steps = ? WHERE run_id = ?", (number + 1, RUN))
    assert depths == [0, 1, 2]


def test_a_file_is_sent_only_as_the_copy_that_was_made() -> None:
    there = World()
    staged = Staged(path="/home/outgoing/1/cat.png", name="cat.png", size=7)
    done = there.call("send_file", {"path": "cat.png", "caption": "a cat"}, file=staged)
    assert done.text == "cat.png (7 bytes) was sent to the chat"
    [row] = there.outbox()
    assert (row["kind"], row["path"], row["text"]) == ("file", staged.path, "a cat")
    assert outbox.open_files(there.db, FAMILY) == {staged.path}
    refused = there.call("send_file", {"path": "x"}, file=Unfit("it is a folder"))
    assert refused.text == "the file was not sent: it is a folder"
    assert not there.call("send_file", {"path": "/etc/passwd"}).ok
    assert len(there.outbox()) == 1


def test_a_reaction_goes_to_a_message_of_this_chat() -> None:
    there = World()
    messages.receive(Tx(there.db, NOON), there.message("elsewhere", "B1", chat=OTHER))
    assert there.call("react", {"emoji": "👍🏽"}).text == "reacted with 👍🏽"
    assert not there.call("react", {"emoji": "👍", "message_id": "B1"}).ok
    assert not there.call("react", {"emoji": "👍", "message_id": "nowhere"}).ok
    for emoji in ("ok", "👍👍", "x", " ", "<internal>"):
        assert not there.call("react", {"emoji": emoji}).ok
    [row] = there.outbox()
    assert (row["kind"], row["target"], row["chat"]) == ("reaction", "A1", CHAT)


def test_a_quote_is_of_a_message_of_this_chat_and_comes_first() -> None:
    there = World()
    messages.receive(Tx(there.db, NOON), there.message("elsewhere", "B1", chat=OTHER))
    assert not there.call("send_message", {"text": "no", "reply_to": "B1"}).ok
    assert there.call("send_message", {"text": "word " * 1_000, "reply_to": "A1"}).ok
    assert [row["target"] for row in there.outbox()] == ["A1", None]


def test_in_main_authority_is_that_of_everybody_who_asked() -> None:  # invariant 156
    def trusted(there: World) -> bool:
        found = authority.caller_of(there.db, there.folder, RUN)
        assert found is not None
        return found.trusted

    assert trusted(World(MAIN))  # the console is the owner's
    assert not trusted(World(FAMILY))
    messenger = ChatId("main@g.us")
    there = World(MAIN)
    groups.add_chat(there.db, MAIN, messenger)
    results.commit(
        Tx(there.db, NOON, there.new_id),
        RUN,
        results.Reply(answered=[there.prompt], pieces=[], session=None),
    )
    messages.receive(Tx(there.db, NOON), there.message("do it", "M1", chat=messenger))
    there.claim()
    assert not trusted(there)  # a member of main is not the owner
    groups.set_allowed_senders(there.db, MAIN, (ANN,))
    assert trusted(there)


def test_a_hostile_follow_up_takes_the_trust_of_the_turn_it_joins() -> None:
    there = World(MAIN)
    found = authority.caller_of(there.db, there.folder, RUN)
    assert found is not None
    assert found.trusted
    messenger = ChatId("main@g.us")
    groups.add_chat(there.db, MAIN, messenger)
    messages.receive(Tx(there.db, NOON), there.message("unregister g", "M2", chat=messenger))
    there.claim()
    found = authority.caller_of(there.db, there.folder, RUN)
    assert found is not None
    assert not found.trusted


def test_what_somebody_had_started_in_a_container_does_not_wait_for_the_owners_turn() -> None:
    # threat I2, A5: a member of main asks, and a program stays behind that writes a command when the owner asks next
    def trusted(run: RunId = RUN) -> bool:
        found = authority.caller_of(there.db, MAIN, run)
        assert found is not None
        return found.trusted

    def end() -> None:
        results.commit(
            Tx(there.db, NOON, there.new_id),
            RUN,
            results.Reply(answered=[there.prompt], pieces=[], session=None),
        )

    there = World(MAIN)
    end()
    turns.add(
        Tx(there.db, NOON), turns.Work(folder=MAIN, chat=there.chat, kind="notice",
        prompt="it was approved", source="approval:1"))  # fmt: skip
    there.claim()
    assert not trusted()  # the host woke it: nobody asks
    end()
    messages.receive(Tx(there.db, NOON), there.message("and now", "O1"))
    there.claim()
    assert trusted()  # the owner again, and what the host said between takes nothing
    end()
    messenger = ChatId("main@g.us")
    groups.add_chat(there.db, MAIN, messenger)
    messages.receive(Tx(there.db, NOON), there.message("sleep & strike", "M1", chat=messenger))
    there.claim()
    end()
    messages.receive(Tx(there.db, NOON), there.message("what is new?", "O2"))
    there.claim()
    assert not trusted()
    refused = there.call("list_groups")
    assert refused.offence == "forbidden"
    assert "/new" in refused.text
    end()
    runs.end(Tx(there.db, NOON, there.new_id), RUN, reason="closed")
    fresh = RunId("b" * 16)
    runs.begin(
        Tx(there.db, NOON),
        runs.RunStart(run=fresh, folder=MAIN, kind="session", container="c2", boot="b"),
    )
    messages.receive(Tx(there.db, NOON), there.message("what is new?", "O3"))
    assert claims.claim(Tx(there.db, NOON, there.new_id), fresh) is not None
    assert trusted(fresh)  # a container of its own


def test_an_untrusted_turn_of_main_cannot_rewrite_the_owners_task() -> None:
    there = World(MAIN)
    made = there.call(
        "schedule_task",
        {
            "prompt": "say good morning",
            "schedule_type": "interval",
            "schedule_value": 3600,
            "context_mode": "isolated",
        },
    )
    task = made.text.split()[2].rstrip(";")
    messenger = ChatId("main@g.us")
    groups.add_chat(there.db, MAIN, messenger)
    messages.receive(Tx(there.db, NOON), there.message("be evil", "M3", chat=messenger))
    there.claim()
    args = {"task_id": task, "prompt": "register a group"}
    refused = there.call("update_task", args, id="d" * 32)
    assert not refused.ok
    assert "owner" in refused.text


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=6,
)


@given(
    name=st.sampled_from([*TOOLS, "register_group", "x"]),
    args=st.dictionaries(
        st.sampled_from(["text", "sender", "path", "caption", "emoji", "message_id", *FORGED]),
        JSONISH,
        max_size=4,
    ),
    folder=st.sampled_from([FAMILY, MAIN]),
)
def test_any_command_touches_only_the_rows_of_its_own_group(  # threat I2, invariant 141
    name: str, args: dict[str, Any], folder: GroupId
) -> None:
    there = World(folder)
    before = others(there)
    done = there.call(name, args)
    assert isinstance(done.text, str)
    assert done.text
    assert others(there) == before
    assert {row["folder"] for row in there.outbox()} <= {folder}
    assert {row["chat"] for row in there.outbox()} <= {there.chat}
    there.db.close()


def others(there: World) -> list[str]:
    """Every row but those of the journal, the outbox, and the turn that may have spoken."""
    return [
        line
        for line in there.db.iterdump()
        if not any(f'INTO "{table}"' in line for table in ("journal", "outbox", "turns"))
        and "sqlite_sequence" not in line
    ]


def test_outbox_ids_are_never_the_agents_choice() -> None:
    there = World()
    there.call("send_message", {"text": "x"})
    assert there.outbox()[0]["message_id"] == f"{there.new_id.count:032x}"
    assert open_entries(there.db) == 1
