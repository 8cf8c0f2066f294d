"""The receiver under a clock that jumps, with a channel that keeps what was not acknowledged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from pynchy.actions.effects import NOTHING, Effects, Stopped
from pynchy.chat import receiver
from pynchy.chat.channel import (
    ChannelEvent,
    ChatSeen,
    Incoming,
    NotConnected,
    SetAside,
    StateChanged,
)
from pynchy.chat.receiver import Asked
from pynchy.limits import BOTS
from pynchy.model import ChatId, GroupId, Message, Micros, Outgoing, SenderId
from pynchy.store import groups, notices, outbox
from pynchy.store.connection import Connection, StoreBroken
from pynchy.store.database import Database, Opened, Store, Tx, open_memory
from pynchy.text.reply import NOTICE_PREFIX

T = TypeVar("T")

NOON = Micros(1_700_000_000_000_000)
FAMILY = GroupId("family")
CHAT = ChatId("1203@g.us")
ANN = SenderId("4917@s.whatsapp.net")


async def inline(sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None) -> T:
    await trio.sleep(0.001)  # a commit is the slow part; what comes meanwhile shares the next
    return sync_fn()


@attrs.define(eq=False)
class Line:
    """A channel that hands over what is put in, and notes what may be let go of, and when."""

    deliver: trio.MemorySendChannel[ChannelEvent]
    incoming: trio.MemoryReceiveChannel[ChannelEvent]
    happened: list[str]
    name: str = "whatsapp"
    broken: bool = False

    async def receive(self) -> ChannelEvent:
        return await self.incoming.receive()

    async def acknowledge(self, number: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise NotConnected
        self.happened.append(f"acknowledged {number}")

    async def send(self, out: Outgoing) -> None:
        raise AssertionError("the receiver sends nothing")

    async def set_typing(self, chat: ChatId, on: bool) -> None: ...

    async def was_sent(self, message_id: str) -> bool | None:
        return None


@attrs.define(eq=False)
class World:
    db: Connection
    line: Line
    happened: list[str]
    commits: list[int]
    order: Callable[[Database, Asked], Effects] | None = None

    async def put(self, *events: ChannelEvent) -> None:
        for event in events:
            await self.line.deliver.send(event)
        await trio.sleep(1)

    def texts(self) -> list[str]:
        return [row[0] for row in self.db.execute("SELECT text FROM inbox ORDER BY seq")]


def message(text: str, id: str, **changes: Any) -> Message:
    facts: dict[str, Any] = {
        "chat": CHAT,
        "id": id,
        "sender": ANN,
        "sender_name": "Ann",
        "sent_at": NOON,
        "text": text,
    }
    return Message(**facts | changes)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    db = open_memory()
    deliver, incoming = trio.open_memory_channel[ChannelEvent](1000)
    happened: list[str] = []
    there = World(db, Line(deliver, incoming, happened), happened, [])
    groups.ensure_main(Tx(db, NOON), name="Main", trigger="Pynchy")
    groups.register(
        Tx(db, NOON),
        folder=FAMILY,
        name="Family",
        chats=(CHAT,),
        trigger="Pynchy",
        requires_trigger=True,
    )

    def on_command(tx: Tx, asked: Asked, /) -> Effects:
        happened.append(f"ordered {asked.command.name}")
        return NOTHING if there.order is None else there.order(tx, asked)

    async def carry_out(effects: Effects) -> None:
        await trio.lowlevel.checkpoint()
        happened.extend(["outbox"] * effects.speaks)
        happened.extend(f"stopped {each.group}" for each in effects.stopped)
        happened.extend(f"rang {folder}" for folder in effects.look)

    def on_state(name: str, change: StateChanged) -> None:
        happened.append(f"{name} {change.state}")

    def counted(sql: str) -> None:
        if sql == "COMMIT":
            there.commits.append(1)

    db.set_trace_callback(counted)
    store = Store(Opened(db), inline, now=lambda: NOON)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            receiver.Receiver(there.line, store, on_command, carry_out, on_state).run
        )
        yield there
        nursery.cancel_scope.cancel()


def simulated(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in virtual time, each with a clock of its own."""

    def run() -> None:
        async def guarded() -> None:
            with trio.fail_after(3600):
                await test()

        trio.run(guarded, clock=MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@simulated
async def test_a_message_is_stored_then_let_go_of_then_the_bell_rings() -> None:  # invariant 1
    async with world() as there:
        await there.put(Incoming(message("@Pynchy hello", "A1"), 7))
        assert there.texts() == ["@Pynchy hello"]
        assert there.happened == ["acknowledged 7", "rang family"]


@simulated
async def test_context_rings_nobody() -> None:
    async with world() as there:
        await there.put(Incoming(message("so I said", "A1"), 7))
        assert there.texts() == ["so I said"]
        assert there.happened == ["acknowledged 7"]


@simulated
async def test_nothing_is_acknowledged_that_is_not_committed() -> None:  # invariant 1
    happened: list[str] = []
    with pytest.RaisesGroup(StoreBroken, flatten_subgroups=True):
        async with world() as there:
            happened = there.happened
            there.db.execute("PRAGMA query_only = ON")  # what a failing disk looks like
            await there.put(Incoming(message("@Pynchy hello", "A2"), 8))
    assert happened == []


@simulated
async def test_a_burst_shares_commits_and_each_group_is_rung_once() -> None:
    async with world() as there:
        events = [Incoming(message(f"@Pynchy {n}", f"A{n}"), n) for n in range(250)]
        for event in events:
            there.line.deliver.send_nowait(event)
        await trio.sleep(1)
        assert there.texts() == [f"@Pynchy {n}" for n in range(250)]
        numbers = [line for line in there.happened if line.startswith("ack")]
        assert numbers == [f"acknowledged {n}" for n in range(250)]
        assert len(there.commits) <= 5
        assert there.happened.count("rang family") == len(there.commits)


@simulated
async def test_a_message_delivered_again_is_let_go_of_again_and_rings_nobody() -> None:
    async with world() as there:
        await there.put(Incoming(message("@Pynchy hello", "A1"), 1))
        there.happened.clear()
        await there.put(Incoming(message("@Pynchy hello", "A1"), 2))
        assert there.texts() == ["@Pynchy hello"]
        assert there.happened == ["acknowledged 2"]


@simulated
async def test_who_is_taken_for_a_program_is_said_once_in_the_chat() -> None:  # threat I8
    async with world() as there:
        there.db.execute(
            "INSERT INTO pace (chat, sender, quick, held_until) VALUES (?, ?, ?, 0)",
            (CHAT, ANN, BOTS.most - 1),
        )
        there.db.execute(
            "INSERT INTO turns (folder, chat, kind, state, lo, hi, retry_at, created_at, ended_at) "
            "VALUES (?, ?, 'message', 'done', 0, 0, 0, 0, ?)",
            (FAMILY, CHAT, NOON),
        )
        for number in range(3):
            await there.put(Incoming(message("@Pynchy and you?", f"A{number}"), number))
        assert there.happened == ["outbox", "acknowledged 0", "acknowledged 1", "acknowledged 2"]
        [(said, notice)] = there.db.execute("SELECT text, notice FROM outbox").fetchall()
        assert "Ann answers me faster than people do" in said
        assert notice == 1


@simulated
async def test_one_bad_message_never_stops_the_next() -> None:  # invariant 64
    async with world() as there:
        bad = message("@Pynchy", "A2", sent_at="yesterday")
        there.line.deliver.send_nowait(Incoming(message("@Pynchy 1", "A1"), 1))
        there.line.deliver.send_nowait(Incoming(bad, 2))
        there.line.deliver.send_nowait(Incoming(message("@Pynchy 3", "A3"), 3))
        await trio.sleep(1)
        assert there.texts() == ["@Pynchy 1", "@Pynchy 3"]
        assert [line for line in there.happened if line.startswith("ack")] == [
            f"acknowledged {n}" for n in (1, 2, 3)
        ]
        assert "outbox" in there.happened  # main is told, once
        told = there.db.execute("SELECT chat, text FROM outbox").fetchall()
        assert len(told) == 1
        assert told[0][0] == "console:main"
        assert "could not be stored" in told[0][1]


@simulated
async def test_chats_that_are_not_registered_leave_a_name_and_no_content() -> None:
    async with world() as there:
        other = ChatId("999@g.us")
        await there.put(
            Incoming(message("secret", "A1", chat=other, chat_name="Strangers"), 1),
            ChatSeen(ChatId("888@g.us"), "Silent"),
        )
        assert there.texts() == []
        assert "secret" not in "\n".join(there.db.iterdump())
        names = dict(there.db.execute("SELECT chat, name FROM chats").fetchall())
        assert names[other] == "Strangers"
        assert names["888@g.us"] == "Silent"
        assert there.happened == ["acknowledged 1"]


@simulated
async def test_an_order_is_carried_out_in_the_commit_and_never_seen_by_the_agent() -> None:
    async with world() as there:  # invariant 29

        def stop(db: Database, asked: Asked) -> Effects:
            notices.tell(Tx(db, NOON, lambda: "0" * 32), asked.message.chat, "stopped")
            assert db.execute("SELECT count(*) FROM inbox").fetchone() == (1,)

            return Effects(stopped=(Stopped(FAMILY),))

        there.order = stop
        await there.put(Incoming(message("/stop", "A1"), 1))
        assert there.happened == ["ordered stop", "outbox", "stopped family", "acknowledged 1"]
        assert there.db.execute("SELECT kind, triggers FROM inbox").fetchall() == [("command", 0)]
        assert there.db.execute("SELECT text FROM outbox").fetchall() == [
            (f"{NOTICE_PREFIX}stopped",)
        ]
        there.happened.clear()
        await there.put(Incoming(message("/stop", "A1"), 2))
        assert there.happened == ["acknowledged 2"]  # a second delivery orders nothing


@simulated
async def test_an_order_that_fails_leaves_no_trace_and_stops_nobody() -> None:
    async with world() as there:

        def fails(db: Database, asked: Asked) -> Effects:
            notices.tell(Tx(db, NOON, lambda: "0" * 32), asked.message.chat, "half")
            raise ZeroDivisionError

        there.order = fails
        await there.put(Incoming(message("/stop", "A1"), 1))
        assert there.db.execute("SELECT text FROM outbox WHERE text = 'half'").fetchall() == []
        there.order = None
        await there.put(Incoming(message("@Pynchy go on", "A2"), 2))
        assert there.texts() == ["@Pynchy go on"]
        assert there.happened[-2:] == ["acknowledged 2", "rang family"]


@simulated
async def test_what_we_sent_ourselves_is_no_order_and_no_input() -> None:  # invariants 25, 69
    async with world() as there:
        outbox.enqueue(
            Tx(there.db, NOON, iter(["a" * 32, "b" * 32]).__next__),
            outbox.Author(FAMILY, CHAT),
            ("/stop", "@Pynchy hello"),
        )
        await there.put(
            Incoming(message("/stop", "a" * 32, from_me=True), 1),
            Incoming(message("@Pynchy hello", "b" * 32, from_me=True), 2),
        )
        assert there.texts() == []
        assert there.happened == ["acknowledged 1", "acknowledged 2"]
        await there.put(Incoming(message("/stop", "C1", from_me=True), 3))  # the owner types it
        assert there.happened[2:4] == ["ordered stop", "outbox"]


@simulated
async def test_who_may_not_order_is_refused_by_name() -> None:
    refused: list[str | None] = []
    async with world() as there:
        groups.set_allowed_senders(there.db, FAMILY, (SenderId("boss@x"),))

        def note(db: Database, asked: Asked) -> Effects:
            refused.append(asked.refusal)
            return NOTHING

        there.order = note
        await there.put(Incoming(message("/stop", "A1"), 1))
        await there.put(Incoming(message("/stop", "A2", sender=SenderId("boss@x")), 2))
        assert refused == ["You are not among the allowed senders of Family.", None]


@simulated
async def test_states_are_passed_on_and_a_lost_channel_does_not_silence_the_bell() -> None:
    async with world() as there:
        await there.put(StateChanged("connected"))
        assert there.happened == ["whatsapp connected"]
        there.line.broken = True
        await there.put(Incoming(message("@Pynchy hello", "A1"), 1))
        assert there.happened[1:] == ["rang family"]
        there.line.broken = False
        await there.put(Incoming(message("@Pynchy hello", "A1"), 2))  # it comes again
        assert there.texts() == ["@Pynchy hello"]


@attrs.define(eq=False)
class Redelivering(Line):
    """A channel that takes a message back."""

    async def reject(self, number: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.happened.append(f"handed back {number}: {reason.partition(':')[0]}")


@simulated
async def test_what_cannot_be_stored_goes_back_to_a_channel_that_keeps_it() -> None:
    async with world() as there:
        there.line.__class__ = Redelivering
        bad = message("@Pynchy", "A2", sent_at="yesterday")
        await there.put(Incoming(bad, 2), Incoming(message("@Pynchy 3", "A3"), 3))
        assert there.texts() == ["@Pynchy 3"]
        assert [each for each in there.happened if each[-1] in "23" or "back" in each] == [
            "handed back 2: TypeError",
            "acknowledged 3",
        ]
        assert there.db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


@simulated
async def test_what_was_set_aside_is_told_in_main_once() -> None:
    async with world() as there:
        for number, reason in (
            (4, "it is\n\N{WHITE SQUARE CONTAINING BLACK SMALL SQUARE} mine"),
            (5, "?"),
        ):
            await there.put(SetAside(CHAT, "A\x1bnn", reason, number))
        assert there.happened == ["outbox", "acknowledged 4", "acknowledged 5"]
        [(chat, said)] = there.db.execute("SELECT chat, text FROM outbox").fetchall()
        assert chat == "console:main"
        assert said.startswith(f"{NOTICE_PREFIX}A message of A")
        assert said.endswith("in Family was given up: it is # mine. Ask for it again.")
