"""The sender under a clock that jumps, with a channel that misbehaves as told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from pynchy.chat.channel import ChannelEvent, NotConnected, SendRefused, SendUncertain
from pynchy.chat.sender import Pace, Sender
from pynchy.limits import SENDING
from pynchy.model import DAY, HOUR, MINUTE, ChatId, GroupId, Micros, Outgoing, after, channel_of
from pynchy.store import groups, messages, outbox
from pynchy.store.connection import Connection
from pynchy.store.database import Opened, Store, Tx, open_memory
from tests.transactions import entry_of, open_entries

T = TypeVar("T")

AS_AN_ANSWER = ContextVar[bool]("AS_AN_ANSWER")
NOON = Micros(1_700_000_000_000_000)
ANN, BOB = ChatId("ann@s.whatsapp.net"), ChatId("bob@s.whatsapp.net")
FAMILY = GroupId("family")
MAIN = ChatId("console:main")


async def inline(sync_fn: Callable[[], T], /, *, limiter: trio.CapacityLimiter | None = None) -> T:
    await trio.lowlevel.checkpoint()
    return sync_fn()


@attrs.define(eq=False)
class Phone:
    """A channel that does what ``script`` says for each try, and remembers what arrived when."""

    name: str = "whatsapp"
    script: dict[str, list[Exception | float]] = attrs.field(factory=dict)
    always: dict[str, Exception] = attrs.field(factory=dict)
    arrived: list[tuple[str, str, float]] = attrs.field(factory=list)
    tries: list[tuple[str, str, bool, float]] = attrs.field(factory=list)
    asked: list[str] = attrs.field(factory=list)
    knows: dict[str, bool | None] = attrs.field(factory=dict)
    flying: dict[ChatId, int] = attrs.field(factory=dict)
    up: bool = True

    async def receive(self) -> ChannelEvent:
        await trio.sleep_forever()

    async def acknowledge(self, number: int) -> None: ...

    async def set_typing(self, chat: ChatId, on: bool) -> None: ...

    async def was_sent(self, message_id: str) -> bool | None:
        await trio.lowlevel.checkpoint()
        self.asked.append(message_id)
        return self.knows.get(message_id)

    async def send(self, out: Outgoing) -> None:
        moment = trio.current_time()
        assert self.flying.setdefault(out.chat, 0) == 0, "two on their way in one chat"
        self.flying[out.chat] += 1
        try:
            await trio.lowlevel.checkpoint()
            if not self.up:
                raise NotConnected
            self.tries.append((out.text, out.message_id, out.plain, moment))
            if out.text in self.always:
                raise self.always[out.text]
            todo = self.script.get(out.text)
            if todo:
                step = todo.pop(0)
                if isinstance(step, Exception):
                    raise step
                await trio.sleep(step)
            self.arrived.append((out.text, out.message_id, moment))
        finally:
            self.flying[out.chat] -= 1

    @property
    def texts(self) -> list[str]:
        return [text for text, _, _ in self.arrived]


@attrs.define(eq=False)
class World:
    db: Connection
    store: Store
    phone: Phone
    console: Phone
    links: trio.MemorySendChannel[str]
    sender: Sender = attrs.field(init=False)
    shift: float = 0.0
    ids: Iterator[int] = attrs.field(factory=lambda: iter(range(1, 1 << 30)))

    def now(self) -> Micros:
        return after(NOON, trio.current_time() + self.shift)

    def new_id(self) -> str:
        return f"{next(self.ids):032x}"

    def say(self, chat: ChatId, *texts: str) -> list[int]:
        """As a tool does, or as a run's answer does: that one takes its first piece along, if it may."""
        at_once = AS_AN_ANSWER.get() and self.sender.free(chat)
        ids = outbox.enqueue(
            Tx(self.db, self.now(), self.new_id), outbox.Author(FAMILY, chat), texts
        )
        if at_once and (taken := outbox.take(Tx(self.db, self.now()), ids[0])) is not None:
            self.sender.carry(taken)
        else:
            self.sender.ring()
        return ids

    def state(self, entry: int) -> str:
        row = entry_of(self.db, entry)
        assert row is not None
        return str(row["state"])


@asynccontextmanager
async def world(
    *,
    paces: dict[str, Pace] | None = None,
    before: Callable[[World], object] | None = None,
    phone: bool = True,
) -> AsyncIterator[World]:
    db = open_memory()
    links, linked = trio.open_memory_channel[str](10)
    there: World

    def now() -> Micros:
        return there.now()

    def new_id() -> str:
        return there.new_id()

    store = Store(Opened(db), inline, now=now, new_id=new_id)
    there = World(db, store, Phone(), Phone("console"), links)
    groups.ensure_main(Tx(db, NOON), name="Main", trigger="Pynchy")
    groups.register(
        Tx(db, NOON),
        folder=FAMILY,
        name="Family",
        chats=(ANN, BOB),
        trigger="Pynchy",
        requires_trigger=True,
    )
    if before is not None:
        before(there)

    there.sender = Sender(
        {"console": there.console} | ({"whatsapp": there.phone} if phone else {}),
        there.store,
        now=there.now,
        jitter=lambda: 0.0,
        paces=paces or {},
        connected=linked,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(there.sender.run)
        yield there
        nursery.cancel_scope.cancel()
    db.close()


def simulated(test: Callable[[], Awaitable[None]]) -> Callable[[bool], None]:
    """Run a test in virtual time, with a clock of its own; once for each way into the outbox."""

    @pytest.mark.parametrize("as_an_answer", [False, True])
    def run(as_an_answer: bool) -> None:
        AS_AN_ANSWER.set(as_an_answer)

        async def guarded() -> None:
            with trio.fail_after(365 * DAY):
                await test()

        trio.run(guarded, clock=MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@simulated
async def test_each_chat_hears_everything_in_order() -> None:  # invariant 40
    async with world() as there:
        for number in range(20):
            there.say(ANN, f"a{number}")
            there.say(BOB, f"b{number}")
        await trio.sleep(1)
        assert [t for t in there.phone.texts if t[0] == "a"] == [f"a{n}" for n in range(20)]
        assert [t for t in there.phone.texts if t[0] == "b"] == [f"b{n}" for n in range(20)]
        assert len(there.phone.tries) == 40
        assert open_entries(there.db) == 0


@simulated
async def test_a_slow_chat_delays_no_other() -> None:  # invariant 186
    async with world() as there:
        there.phone.script["slow"] = [60.0]
        there.say(ANN, "slow", "after")
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        there.say(BOB, *map(str, range(10)))
        await wait_all_tasks_blocked()
        assert there.phone.texts == [str(n) for n in range(10)]
        assert trio.current_time() == begun
        await trio.sleep(61)
        assert there.phone.texts[-2:] == ["slow", "after"]


@simulated
async def test_nothing_moves_while_nothing_is_due() -> None:
    async with world() as there:
        await wait_all_tasks_blocked()  # it has had its first look
        looks = 0

        def counted(*args: Any) -> None:
            nonlocal looks
            looks += 1

        there.db.set_trace_callback(counted)
        await trio.sleep(30 * 24 * HOUR)
        assert looks == 0


@simulated
async def test_a_refused_message_is_tried_later_and_holds_only_its_chat() -> None:
    async with world() as there:
        there.phone.script["x"] = [SendRefused("busy"), SendRefused("busy")]
        there.say(ANN, "x", "y")
        there.say(BOB, "z")
        await trio.sleep(MINUTE)
        assert there.phone.texts == ["z", "x", "y"]
        times = [at for text, _, _, at in there.phone.tries if text == "x"]
        assert times == pytest.approx([0.0, 2.0, 6.0])  # invariant 189: a failed send waits
        assert len({id for text, id, _, _ in there.phone.tries if text == "x"}) == 1


@simulated
async def test_poison_ends_and_the_next_message_goes_out() -> None:  # invariant 41
    async with world() as there:
        there.phone.always["bad *markdown"] = SendRefused("cannot parse")
        bad, good = there.say(ANN, "bad *markdown", "good")
        await trio.sleep(HOUR)
        assert there.phone.texts == ["good"]
        assert there.state(bad) == "failed"
        assert there.state(good) == "sent"
        plain = [plain for text, _, plain, _ in there.phone.tries if text == "bad *markdown"]
        assert len(plain) == SENDING.attempts
        assert plain[0] is False
        assert plain[-1] is True  # the fallback without formatting was tried
        assert any("could not be delivered" in text for text in there.console.texts)


@simulated
async def test_a_permanent_refusal_is_tried_once_more_as_plain_text() -> None:
    async with world() as there:
        there.phone.always["no"] = SendRefused("not a member", permanent=True)
        (entry,) = there.say(ANN, "no")
        await trio.sleep(MINUTE)
        assert [plain for _, _, plain, _ in there.phone.tries] == [False, True]
        assert there.state(entry) == "failed"


@simulated
async def test_a_hopeless_refusal_is_never_tried_again() -> None:
    async with world() as there:
        there.phone.always["no"] = SendRefused("time-lock", hopeless=True)
        (entry,) = there.say(ANN, "no")
        await trio.sleep(HOUR)
        assert [plain for _, _, plain, _ in there.phone.tries] == [False]
        assert there.state(entry) == "failed"


@simulated
async def test_a_bug_in_a_channel_is_the_trouble_of_one_message() -> None:
    async with world() as there:
        there.phone.always["bug"] = ZeroDivisionError("ours")
        bug, fine = there.say(ANN, "bug", "fine")
        there.say(BOB, "there")
        await trio.sleep(HOUR)
        assert there.state(bug) == "failed"
        assert there.state(fine) == "sent"
        assert there.phone.texts == ["there", "fine"]


@simulated
async def test_in_doubt_the_channel_is_asked_and_the_id_stays() -> None:
    async with world() as there:
        there.phone.script["lost"] = [SendUncertain("no answer")]
        there.phone.script["told"] = [SendUncertain("no answer")]
        lost, told = there.say(ANN, "lost", "told")
        row = entry_of(there.db, told)
        assert row is not None
        there.phone.knows[row["message_id"]] = True
        await trio.sleep(MINUTE)
        assert there.state(lost) == there.state(told) == "sent"
        tries = [(text, id) for text, id, _, _ in there.phone.tries]
        assert [text for text, _ in tries] == ["lost", "lost", "told"]
        assert tries[0][1] == tries[1][1]
        assert there.phone.asked == [tries[0][1], row["message_id"]]


@simulated
async def test_a_channel_that_never_answers_leaves_doubt_and_then_the_line() -> None:
    async with world() as there:
        there.phone.script["hangs"] = [float("inf")] * 100
        hangs, after_it = there.say(ANN, "hangs", "after")
        await trio.sleep(12 * HOUR)
        assert there.state(hangs) == "failed"
        assert there.state(after_it) == "sent"


@simulated
async def test_a_channel_that_is_down_costs_no_tries_and_resumes_when_it_is_up() -> None:
    async with world() as there:  # invariants 40, 185
        there.phone.up = False
        ids = there.say(ANN, *map(str, range(30)))
        there.say(BOB, "b")
        there.say(MAIN, "for main")
        await trio.sleep(HOUR)
        assert there.console.texts == ["for main"]
        assert {there.state(entry) for entry in ids} <= {"pending", "uncertain"}
        there.phone.up = True
        began = trio.current_time()
        await there.links.send("whatsapp")
        await wait_all_tasks_blocked()
        assert [text for text in there.phone.texts if text != "b"] == [str(n) for n in range(30)]
        assert "b" in there.phone.texts
        assert trio.current_time() == began
        row = entry_of(there.db, ids[0])
        assert row is not None
        assert row["attempt"] == 1


@simulated
async def test_a_channel_that_comes_up_unannounced_is_found_within_a_minute() -> None:
    async with world() as there:
        there.phone.up = False
        there.say(ANN, "x")
        await trio.sleep(HOUR)
        there.phone.up = True
        await trio.sleep(MINUTE + 1)
        assert there.phone.texts == ["x"]


@simulated
async def test_what_cannot_be_sent_for_a_day_is_given_up_loudly() -> None:  # invariant 47
    async with world() as there:
        there.phone.up = False
        (entry,) = there.say(ANN, "x")
        await trio.sleep(25 * HOUR)
        assert there.state(entry) == "failed"
        assert any("could not be delivered" in text for text in there.console.texts)
        told = there.db.execute("SELECT text FROM inbox WHERE kind = 'notice'").fetchall()
        assert len(told) == 1


@simulated
async def test_what_was_on_its_way_at_a_crash_goes_out_under_its_id() -> None:  # invariant 17
    ids: list[str] = []

    def crashed(there: World) -> None:
        (entry, _) = outbox.enqueue(
            Tx(there.db, NOON, there.new_id), outbox.Author(FAMILY, ANN), ("x", "y")
        )
        assert outbox.take(Tx(there.db, NOON), entry) is not None
        row = entry_of(there.db, entry)
        assert row is not None
        ids.append(row["message_id"])
        outbox.recover(Tx(there.db, NOON))  # the next start

    async with world(before=crashed) as there:
        await wait_all_tasks_blocked()
        assert there.phone.texts == ["x", "y"]
        assert there.phone.arrived[0][1] == ids[0]
        assert there.phone.asked == ids


@simulated
async def test_an_account_is_paced_and_the_console_is_not() -> None:  # invariant 54
    async with world(paces={"whatsapp": Pace(burst=3, rate=0.5)}) as there:
        there.say(ANN, *(f"a{n}" for n in range(4)))
        there.say(BOB, *(f"b{n}" for n in range(4)))
        there.say(MAIN, *(f"m{n}" for n in range(50)))
        await wait_all_tasks_blocked()
        assert len(there.console.texts) == 50
        await trio.sleep(HOUR)
        times = sorted(at for _, _, at in there.phone.arrived)
        assert times == pytest.approx([0.0, 0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0])


@simulated
async def test_many_paced_chats_leave_the_console_alone() -> None:
    def flood(there: World) -> None:
        for number in range(200):
            chat = ChatId(f"{number}@g.us")
            assert channel_of(chat) == "whatsapp"
            outbox.enqueue(Tx(there.db, NOON, there.new_id), outbox.Author(FAMILY, chat), ("x",))

    async with world(paces={"whatsapp": Pace(burst=1, rate=1.0)}, before=flood) as there:
        await trio.sleep(5)
        there.say(MAIN, "hello")
        await wait_all_tasks_blocked()
        assert there.console.texts == ["hello"]
        await trio.sleep(300)
        assert len(there.phone.texts) == 200


@simulated
async def test_a_clock_that_is_set_back_delays_no_retry() -> None:  # threat D5
    async with world() as there:
        there.phone.script["x"] = [SendRefused("busy")]
        there.say(ANN, "x")
        await wait_all_tasks_blocked()
        there.shift = -6 * HOUR
        await trio.sleep(3)
        assert there.phone.texts == ["x"]


@simulated
async def test_a_message_for_no_channel_is_an_error_and_not_a_success() -> None:  # invariant 44
    async with world(phone=False) as there:
        entry, next_one = there.say(ANN, "x", "y")
        await trio.sleep(1)
        assert there.state(entry) == there.state(next_one) == "failed"
        assert any("no channel whatsapp" in text for text in there.console.texts)


@simulated
async def test_a_sent_message_is_never_input() -> None:  # invariant 25
    async with world() as there:
        (entry,) = there.say(ANN, "@Pynchy hello")
        await wait_all_tasks_blocked()
        row = entry_of(there.db, entry)
        assert row is not None
        assert messages.is_own_output(there.db, row["message_id"])
