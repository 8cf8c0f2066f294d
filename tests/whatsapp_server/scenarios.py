"""What can happen to the whole daemon on WhatsApp, each as a story that is played once and counted.

A story says what is sent, makes something go wrong, and waits for what must come. `Row` is what came of it: messages
without an answer, answers that came twice, seconds until it worked again, and every promise that was broken.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.whatsapp_server.faults import Media, Network, Refusal
from tests.whatsapp_server.household import Household, Linked, open_household
from tests.whatsapp_server.people import Group, Person
from tests.whatsapp_server.protobufs import ImageMessage, Message, ProtocolMessage

SOON: Final = 45.0  # seconds for what takes one or two on a machine that has nothing else to do
PATIENT: Final = 120.0  # for what the product or the library waits with
_MARK: Final = re.compile(r"\bmark-(\d+)\b")


@attrs.define
class Row:
    """What came of a story."""

    sent: int = 0
    lost: list[int] = attrs.field(factory=list)
    doubled: list[int] = attrs.field(factory=list)
    recovered: float | None = None  # seconds from the fault's end, or the fault, to the next answer
    broken: list[str] = attrs.field(factory=list)  # promises
    notes: list[str] = attrs.field(factory=list)

    def promise(self, kept: object, words: str) -> None:
        """Note that something should have been so, if it is not."""
        if not kept:
            self.broken.append(words)

    def note(self, words: str) -> None:
        self.notes.append(words)


Play = Callable[["Stage"], Awaitable[None]]


@attrs.frozen
class Story:
    """One, with what it promises."""

    name: str
    promise: str
    play: Play
    in_ci: bool  # seconds, and steady on a busy machine
    start: bool  # with a daemon that is connected
    linked: bool  # from a home that is linked already


STORIES: Final[dict[str, Story]] = {}


def story(
    name: str, promise: str, *, in_ci: bool = False, start: bool = True, linked: bool = True
) -> Callable[[Play], Play]:
    """A function that plays the story of this name."""

    def add(play: Play) -> Play:
        STORIES[name] = Story(name, promise, play, in_ci, start, linked)
        return play

    return add


@attrs.define(eq=False)
class Stage:
    """Where a story plays: the household, and what is counted of it."""

    house: Household
    row: Row
    _marks: int = 0

    def ask(self, who: Person | None = None, to: Group | None = None, words: str = "") -> int:
        """Say something that is to be answered; its mark. Without anybody, the account's owner says it to itself."""
        mark = self.new_mark()
        speaker = self.house.whatsapp.phone if who is None else who
        speaker.say(f"{words} mark-{mark}".strip(), to=to)
        return mark

    def new_mark(self) -> int:
        """For something that is to be answered, and is said in another way."""
        self._marks += 1
        self.row.sent += 1
        return self._marks

    def ask_family(self, words: str = "") -> int:
        return self.ask(self.house.alice, self.house.family, words)

    async def burst(self, count: int, per_second: float) -> None:
        """So many in a row in the family's group, at that pace."""
        for _ in range(count):
            self.ask_family()
            await trio.sleep(1 / per_second)

    def answers(self, mark: int) -> int:
        """How many messages of the client answer this; the same one again does not count."""
        return self._counted()[mark]

    def _counted(self) -> Counter[int]:
        found: Counter[int] = Counter()
        seen = set[str]()
        for said in self.house.whatsapp.said:
            if said.id not in seen:
                seen.add(said.id)
                found.update({int(mark) for mark in _MARK.findall(said.text)})
        return found

    async def answered(self, mark: int, *, limit: float = SOON) -> float:
        """Wait for the answer to this; the seconds that it took. After the limit it is lost."""
        began = time.monotonic()
        with trio.move_on_after(limit):
            await self.house.whatsapp.until(lambda: self.answers(mark), limit=2 * limit)
        return time.monotonic() - began

    async def all_answered(self, *, limit: float = PATIENT) -> None:
        """Wait for the answers to all, and a little for any that should not come; count."""
        marks = range(1, self._marks + 1)
        with trio.move_on_after(limit):
            await self.house.whatsapp.until(
                lambda: all(map(self._counted().__getitem__, marks)), limit=2 * limit
            )
        await trio.sleep(1)
        self.count()

    def count(self) -> None:
        counted = self._counted()
        marks = range(1, self._marks + 1)
        self.row.lost = [mark for mark in marks if not counted[mark]]
        self.row.doubled = [mark for mark in marks if counted[mark] > 1]

    def none_lost(self, *, doubled: int = 0, lost: int = 0) -> None:
        """What holds nearly always; ``doubled`` and ``lost`` where the docs name a bound."""
        row = self.row
        row.promise(len(row.lost) <= lost, f"{len(row.lost)} lost: {row.lost[:10]}")
        row.promise(
            len(row.doubled) <= doubled, f"{len(row.doubled)} answered twice: {row.doubled[:10]}"
        )

    async def works_again(self, *, limit: float = SOON) -> None:
        """Ask once more, and note how long the answer takes from now."""
        self.row.recovered = await self.answered(self.ask(), limit=limit)

    def inbox(self, prefix: str) -> list[str]:
        """The texts that begin so and are in the database, in its order."""
        rows = self.house.pynchy.rows(
            "SELECT text FROM inbox WHERE text LIKE ? ORDER BY seq", f"{prefix}%"
        )
        return [text for (text,) in rows]


async def play(story: Story, root: Path, linked: Linked) -> Row:
    """Play a story in a folder of its own."""
    row = Row()
    home = linked if story.linked else None
    try:
        async with open_household(root, linked=home, link=False, start=story.start) as house:
            try:
                await story.play(Stage(house, row))
            finally:
                for said in house.whatsapp.said:
                    if said.error or said.repeated:
                        what = said.error or "a part of it, keys that were used before"
                        row.note(f"a phone could not read {said.id}: {what}")
    except* (AssertionError, trio.TooSlowError) as errors:
        row.broken.append(repr(_first(errors))[:400])
    return row


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


# --- linking


@story("link: a code is scanned", "linked within seconds", start=False, linked=False)
async def link_by_scan(stage: Stage) -> None:
    began = time.monotonic()
    done = await stage.house.pynchy.link()
    stage.row.recovered = time.monotonic() - began
    stage.row.promise(done.code == 0, done.text[-200:])


@story("link: a code is typed in", "linked within seconds", start=False, linked=False)
async def link_by_typing(stage: Stage) -> None:
    began = time.monotonic()
    done = await stage.house.pynchy.link_by_code()
    stage.row.recovered = time.monotonic() - began
    stage.row.promise(done.code == 0, done.text[-200:])


@story("link: no code is given", "refused with words, in each case", start=False, linked=False)
async def link_refused(stage: Stage) -> None:
    house = stage.house
    for error in ("400", "429"):
        house.whatsapp.faults.code_error = error
        done = await house.pynchy.run("auth", "whatsapp", "--phone", house.whatsapp.phone.number)
        stage.row.promise(done.code == 1 and "not linked" in done.text, f"{error}: {done}")
        stage.row.note(f"{error}: {_last_line(done.text)}")


@story("link: no way to WhatsApp", "ends with words, in each case", start=False, linked=False)
async def link_without_network(stage: Stage) -> None:
    house = stage.house
    ways: list[Network] = ["reset", "proxy refuses", "not WhatsApp", "no TLS", "no hello"]
    for way in ways:
        house.whatsapp.faults.network = way
        began = time.monotonic()
        done = await house.pynchy.run("auth", "whatsapp", limit=PATIENT)
        stage.row.promise(done.code == 1 and "not linked" in done.text, f"{way}: {done}")
        stage.row.note(f"{way}: {time.monotonic() - began:.0f} s, {_last_line(done.text)}")


@story("link: ended by the phone, made again", "told; linked anew; the chats stay", in_ci=True)
async def unlinked(stage: Stage) -> None:
    house = stage.house
    house.whatsapp.phone.unlink()
    await house.daemon.until_state("logged_out", limit=SOON)
    done = await house.pynchy.link(main="none")
    stage.row.promise(done.code == 0, done.text[-200:])
    await house.whatsapp.until_connected(limit=SOON)
    mark = stage.ask_family()
    stage.row.recovered = await stage.answered(mark)
    await stage.all_answered(limit=1)
    stage.none_lost()


# --- logins that are refused

#: What the server says, and what the channel's state is to be.
REFUSED: Final = {
    401: "logged_out",
    403: "logged_out",
    406: "logged_out",
    402: "banned",
    405: "outdated",
    500: "disconnected",
    503: "disconnected",
}


@story("login refused: each reason", "the state that docs name", start=False)
async def refused(stage: Stage) -> None:
    house = stage.house
    for reason, state in REFUSED.items():
        more = {"code": "104", "expire": "600"} if reason == 402 else {}
        house.whatsapp.faults.login = Refusal(reason, more)
        if reason in (401, 403, 406):
            continue  # each ends the link: they have stories of their own
        await house.start()
        try:
            await house.daemon.until_state(state, limit=SOON)
        except AssertionError as error:
            stage.row.promise(False, f"{reason}: {error}")
        await house.daemon.stop()


def _logged_out(reason: int) -> Play:
    async def play(stage: Stage) -> None:
        house = stage.house
        house.whatsapp.faults.login = Refusal(reason)
        await house.start()
        await house.daemon.until_state("logged_out", limit=SOON)
        await house.daemon.stop()
        house.whatsapp.faults.login = None
        done = await house.pynchy.link(main="none")
        stage.row.promise(done.code == 0 and "Linked:" in done.text, done.text[-200:])
        await house.start_connected()
        stage.row.recovered = await stage.answered(stage.ask_family())
        stage.count()
        stage.none_lost()

    return play


for _reason in (401, 403, 406):
    story(
        f"login refused: {_reason}",
        "logged out; linked anew, it works",
        in_ci=_reason == 403,
        start=False,
    )(_logged_out(_reason))


@story("login refused for a minute", "it comes back by itself", start=False)
async def refused_for_a_while(stage: Stage) -> None:
    house = stage.house
    house.whatsapp.faults.login = Refusal(503)
    await house.start()
    await house.whatsapp.until(lambda: len(house.whatsapp.connections) >= 3, limit=PATIENT)
    house.whatsapp.faults.login = None
    began = time.monotonic()
    await house.whatsapp.until_connected(limit=PATIENT)
    stage.row.recovered = time.monotonic() - began
    await stage.answered(stage.ask())
    stage.count()
    stage.none_lost()


# --- connections that end

#: Stream errors after which the library connects again: code and conflict.
ENDED: Final = (("515", ""), ("503", ""), ("500", ""), ("", ""), ("999", ""))


@story("stream errors and drops", "connected again within seconds; none lost", in_ci=True)
async def stream_errors(stage: Stage) -> None:
    house = stage.house
    await stage.answered(stage.ask_family())
    for code, conflict in ENDED:
        before = len(house.whatsapp.connections)
        began = time.monotonic()
        house.whatsapp.end_stream(code, conflict=conflict)
        mark = stage.ask_family()
        await house.whatsapp.until_connected_anew(before)
        stage.row.note(f"{code or 'unknown'}: {time.monotonic() - began:.1f} s")
        await stage.answered(mark)
    for _ in range(3):
        house.whatsapp.drop()
        await house.whatsapp.until_connected()
        await stage.answered(stage.ask_family())
    await stage.all_answered(limit=SOON)
    stage.none_lost()
    await stage.works_again()


@story("replaced by another program", "the state says so; it comes back after half a minute")
async def replaced(stage: Stage) -> None:
    house = stage.house
    house.whatsapp.end_stream(conflict="replaced")
    await house.daemon.until_state("replaced", limit=SOON)
    began = time.monotonic()
    await house.whatsapp.until_connected(limit=PATIENT)
    stage.row.recovered = time.monotonic() - began
    stage.row.promise(stage.row.recovered < 60, "no sooner than 30 s, no later than a minute")
    await stage.answered(stage.ask())
    stage.count()
    stage.none_lost()


@story("half open: silence, then all at once", "none lost, none twice", in_ci=True)
async def silent_for_a_while(stage: Stage) -> None:
    house = stage.house
    await stage.answered(stage.ask_family())
    house.whatsapp.freeze()
    for _ in range(5):
        stage.ask_family()
    await trio.sleep(5)
    house.whatsapp.thaw()
    began = time.monotonic()
    await stage.all_answered()
    stage.row.recovered = time.monotonic() - began
    stage.none_lost()


@story("half open: for ever", "noticed within a minute, connected again within five; none lost")
async def silent(stage: Stage) -> None:
    house, whatsapp = stage.house, stage.house.whatsapp
    await stage.answered(stage.ask_family())
    before = len(whatsapp.connections)
    whatsapp.abandon()
    began = time.monotonic()
    stage.ask_family()
    await house.daemon.until_state("disconnected", limit=90)
    stage.row.note(f"noticed after {time.monotonic() - began:.0f} s")
    await whatsapp.until_connected_anew(before, limit=300)
    stage.row.recovered = time.monotonic() - began
    await stage.all_answered()
    stage.none_lost()


@story("no network for a minute", "it is back within ten seconds of the network")
async def no_network(stage: Stage) -> None:
    house = stage.house
    house.whatsapp.faults.network = "reset"
    house.whatsapp.drop()
    stage.ask_family()
    await trio.sleep(60)
    house.whatsapp.faults.network = "whole"
    began = time.monotonic()
    await house.whatsapp.until_connected(limit=PATIENT)
    stage.row.recovered = time.monotonic() - began
    stage.row.promise(
        stage.row.recovered <= 10, f"back {stage.row.recovered:.0f} s after the network"
    )
    await stage.all_answered()
    stage.none_lost()


@story("slow: a fifth of a second for each stanza", "none lost, none twice")
async def slow(stage: Stage) -> None:
    stage.house.whatsapp.faults.slowness = 0.2
    await stage.burst(20, 10)
    began = time.monotonic()
    await stage.all_answered()
    stage.row.recovered = time.monotonic() - began
    stage.none_lost()


# --- processes that are killed


async def _killed_in_a_burst(stage: Stage, kill: Callable[[], Awaitable[object]]) -> None:
    """Kill something in the middle of a burst, and see that it works again; count."""
    house = stage.house
    await stage.answered(stage.ask_family())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.burst, 60, 300)
        await trio.sleep(0.1)
        await kill()
    if house.daemon.process.returncode is not None:
        await house.start_connected()
    began = time.monotonic()
    await stage.answered(stage.ask_family())
    stage.row.recovered = time.monotonic() - began
    await stage.all_answered(limit=SOON)


@story("burst, the daemon killed", "none lost; what was being sent may come twice", in_ci=True)
async def daemon_killed(stage: Stage) -> None:
    await _killed_in_a_burst(stage, stage.house.daemon.kill)
    stage.none_lost(doubled=60)


@story("burst, the bridge killed", "what was in the library's hands may be lost", in_ci=True)
async def bridge_killed(stage: Stage) -> None:
    await _killed_in_a_burst(stage, stage.house.daemon.kill_bridge)
    stage.none_lost(lost=60, doubled=60)


@story("burst, both killed", "what was in the library's hands may be lost")
async def both_killed(stage: Stage) -> None:
    async def kill() -> None:
        await stage.house.daemon.kill_bridge()
        await stage.house.daemon.kill()

    await _killed_in_a_burst(stage, kill)
    stage.none_lost(lost=60, doubled=60)


@story("the bridge killed in traffic, ten times", "never logged out; it works after")
async def many_kills(stage: Stage) -> None:
    house = stage.house
    for _ in range(10):
        await house.whatsapp.until_connected(limit=90)
        await stage.burst(5, 20)
        await house.daemon.kill_bridge()
        await trio.sleep(0.5)
        stage.row.promise(await house.daemon.state() != "logged_out", "logged out by a kill")
    await house.whatsapp.until_connected(limit=PATIENT)
    began = time.monotonic()
    await stage.answered(stage.ask_family())
    stage.row.recovered = time.monotonic() - began
    await stage.all_answered(limit=SOON)
    stage.none_lost(lost=50, doubled=50)


@story("the bridge stopped", "noticed, told, and another started, within two minutes")
async def bridge_stopped(stage: Stage) -> None:
    house = stage.house
    bridge = await house.daemon.kill_bridge(signal.SIGSTOP)
    began = time.monotonic()
    mark = stage.ask_family()
    await stage.answered(mark, limit=PATIENT)
    stage.row.recovered = time.monotonic() - began
    with suppress(ProcessLookupError):
        os.kill(bridge, signal.SIGKILL)
    stage.count()
    stage.none_lost()


# --- acknowledgements and repetitions


@story("an acknowledgement is lost with the connection", "the answer is seen once", in_ci=True)
async def acknowledgement_lost(stage: Stage) -> None:
    stage.house.whatsapp.faults.acknowledgement = "connection lost once"
    began = time.monotonic()
    await stage.answered(stage.ask_family())
    await stage.all_answered(limit=SOON)
    await trio.sleep(5)
    stage.row.recovered = time.monotonic() - began
    stage.count()
    stage.none_lost()


@story("never acknowledged", "out at most twice; another chat does not wait")
async def never_acknowledged(stage: Stage) -> None:
    house = stage.house
    await stage.answered(stage.ask_family())
    await stage.answered(stage.ask())
    house.whatsapp.faults.acknowledgement = "never"
    hung = stage.ask_family()
    await stage.answered(hung)
    own = stage.ask()
    waited = await stage.answered(own, limit=90)
    stage.row.promise(waited < 10, f"the other chat waited {waited:.0f} s")
    await trio.sleep(200)
    times = stage.answers(hung)
    stage.row.note(f"out {times} times")
    stage.row.promise(times <= 2, f"out {times} times")
    house.whatsapp.faults.acknowledgement = "given"
    await stage.works_again(limit=PATIENT)
    stage.count()
    stage.row.promise(not stage.row.lost, f"lost: {stage.row.lost}")
    stage.row.doubled = [mark for mark in stage.row.doubled if mark not in (hung, own)]


@story("refused: 463", "never tried again; the other chat goes on", in_ci=True)
async def never_to_be_sent(stage: Stage) -> None:
    house = stage.house
    await stage.answered(stage.ask_family())
    house.whatsapp.faults.acknowledgement = "refused"
    mark = stage.ask_family()
    await stage.answered(mark)
    await trio.sleep(8)
    house.whatsapp.faults.acknowledgement = "given"
    stage.row.promise(stage.answers(mark) == 1, f"tried {stage.answers(mark)} times")
    await stage.works_again()
    stage.count()
    stage.none_lost()


@story("everything delivered again", "no second answer", in_ci=True)
async def redelivered(stage: Stage) -> None:
    house, whatsapp = stage.house, stage.house.whatsapp
    whatsapp.faults.receipts_lost = True
    await stage.burst(10, 20)
    await stage.all_answered()
    whatsapp.deliver_again()
    whatsapp.drop()
    await whatsapp.until_connected()
    await house.daemon.stop()
    await house.start_connected()
    whatsapp.faults.receipts_lost = False
    await stage.works_again()
    await trio.sleep(2)
    stage.count()
    stage.none_lost()


# --- much at once


def _offline(number: int) -> Play:
    async def play(stage: Stage) -> None:
        house = stage.house
        for n in range(number):
            house.alice.say(f"offline-{n:05}", to=house.family)
        stage.row.sent = number
        began = time.monotonic()
        await house.start()
        found: list[str] = []
        with trio.move_on_after(PATIENT + number / 20):
            while len(set(found)) < number:
                await trio.sleep(0.5)
                found = stage.inbox("offline-")
        stage.row.recovered = time.monotonic() - began
        counted = Counter(found)
        stage.row.lost = [n for n in range(number) if not counted[f"offline-{n:05}"]]
        stage.row.doubled = [n for n in range(number) if counted[f"offline-{n:05}"] > 1]
        swapped = sum(one > other for one, other in pairwise(found))
        stage.row.note(f"{number / stage.row.recovered:.0f} messages/s, {swapped} out of order")
        stage.row.promise(not swapped or number > 2000, f"{swapped} out of order")
        stage.none_lost()

    return play


story("500 while offline", "none lost, none twice, in order", in_ci=True, start=False)(
    _offline(500)
)
story("5,000 while offline", "none lost, none twice", start=False)(_offline(5000))


# --- files


def _picture(stage: Stage, words: str) -> int:
    """Somebody sends a picture with words that are to be answered."""
    house = stage.house
    mark = stage.new_mark()
    told = house.whatsapp.media.put(b"\x89PNG\r\n\x1a\n" + bytes(1000), "Image")
    caption = f"{words} mark-{mark}"
    part = ImageMessage(**told, mimetype="image/png", caption=caption)
    house.alice.send(Message(imageMessage=part), to=house.family)
    return mark


@story("files in: each failure", "the message is answered without its file", in_ci=True)
async def files_in(stage: Stage) -> None:
    house, faults = stage.house, stage.house.whatsapp.faults
    await stage.answered(_picture(stage, "whole"))
    stage.row.promise(len(house.pynchy.media("family")) == 1, "the whole file did not come")
    failures: list[tuple[Media, int]] = [
        ("refused", 404),
        ("refused", 410),
        ("refused", 500),
        ("cut short", 200),
        ("damaged", 200),
    ]
    for faults.media, faults.media_status in failures:
        took = await stage.answered(_picture(stage, faults.media))
        stage.row.note(f"{faults.media} {faults.media_status}: {took:.1f} s")
    faults.media = "given"
    stage.row.promise(len(house.pynchy.media("family")) == 1, "a file that did not come is there")
    await stage.all_answered(limit=SOON)
    stage.none_lost()


@story("files in: the host hangs", "other chats do not wait; the message is answered in a minute")
async def files_hang(stage: Stage) -> None:
    house = stage.house
    await stage.answered(stage.ask())
    house.whatsapp.faults.media = "hangs"
    pictures = [_picture(stage, "hangs") for _ in range(3)]
    await trio.sleep(1)
    waited = await stage.answered(stage.ask(), limit=PATIENT)
    stage.row.promise(waited < 10, f"another chat waited {waited:.0f} s")
    began = time.monotonic()
    for each in pictures:
        await stage.answered(each, limit=240)
    stage.row.recovered = time.monotonic() - began
    stage.row.promise(stage.row.recovered < 90, f"the pictures took {stage.row.recovered:.0f} s")
    house.whatsapp.faults.media = "given"
    stage.count()
    stage.none_lost()


@story("files out: refused and hanging", "the answer comes; a file that failed is told of")
async def files_out(stage: Stage) -> None:
    whatsapp = stage.house.whatsapp
    await stage.answered(stage.ask_family("file:first.png"))
    await whatsapp.hear("here is first.png", limit=SOON)
    whatsapp.faults.media = "refused"
    await stage.answered(stage.ask_family("file:second.png"), limit=PATIENT)
    whatsapp.faults.media = "given"
    with trio.move_on_after(90):
        await whatsapp.hear("here is second.png", limit=PATIENT)
    sent = [said.text for said in whatsapp.said if "second.png" in said.text]
    stage.row.note(f"the second: {sent}")
    stage.row.promise(sent, "nothing was heard of the second file")
    await stage.all_answered(limit=SOON)
    stage.none_lost()


# --- who is who


@story("one person, two ids", "a chat under the number goes on under the hidden id", in_ci=True)
async def two_ids(stage: Stage) -> None:
    house, alice = stage.house, stage.house.alice
    added = await house.pynchy.run("groups", "add", alice.jid, "--folder", "alice", "--no-trigger")
    assert added.code == 0, added.text
    for by_number in (True, False, True, False):
        mark = stage.new_mark()
        alice.say(f"mark-{mark}", by_number=by_number)
        await stage.answered(mark)
    await stage.all_answered(limit=SOON)
    stage.none_lost()


@story("a burst in a direct chat, answered meanwhile", "every answer can be read")
async def direct_burst(stage: Stage) -> None:
    house, alice = stage.house, stage.house.alice
    added = await house.pynchy.run("groups", "add", alice.jid, "--folder", "alice", "--no-trigger")
    assert added.code == 0, added.text
    for _ in range(300):
        stage.ask(alice)
        await trio.sleep(0.02)
    await stage.all_answered()
    unread = [said.id for said in house.whatsapp.said if said.body is None]
    stage.row.promise(not unread, f"{len(unread)} answers could not be read")
    stage.none_lost()


@story("one person, first under the hidden id", "a chat goes on when the number becomes known")
async def hidden_first(stage: Stage) -> None:
    house, bob = stage.house, stage.house.bob
    added = await house.pynchy.run(
        "groups", "add", bob.hidden_jid, "--folder", "bob", "--no-trigger"
    )
    assert added.code == 0, added.text
    for known in (False, True, True):
        mark = stage.new_mark()
        if known:
            bob.say(f"mark-{mark}")
        else:
            bob.say(f"mark-{mark}", sender_pn="")
        await stage.answered(mark, limit=20)
    await stage.all_answered(limit=5)
    stage.none_lost()


@story("a group of numbers, and one that is renamed", "answered; the name is seen")
async def groups(stage: Stage) -> None:
    house, whatsapp = stage.house, stage.house.whatsapp
    old = whatsapp.group("Old", [house.alice, house.bob], by_number=True)
    await house.pynchy.register(old, "old")
    await stage.answered(stage.ask(house.bob, old))
    whatsapp.rename(old, house.bob, "Young")
    await trio.sleep(2)
    listed = await house.pynchy.run("groups", "list")
    stage.row.promise("Young" in listed.text, "the new name is not in `pynchy groups`")
    stage.count()
    stage.none_lost()


# --- what people send


@story("unreadable, and far too long", "set aside or cut; the rest goes on", in_ci=True)
async def poison(stage: Stage) -> None:
    house = stage.house
    house.alice.send_garbage(to=house.family)
    house.alice.say("x" * 2_900_000, to=house.family)
    await stage.answered(stage.ask_family())
    await stage.works_again()
    stage.count()
    stage.none_lost()


@story("revoked by another than the author", "what was written stays")
async def revoked(stage: Stage) -> None:
    house = stage.house
    id = house.alice.say("offline-alice", to=house.family)
    await stage.answered(stage.ask_family())
    revoke = Message()
    revoke.protocolMessage.type = ProtocolMessage.REVOKE
    revoke.protocolMessage.key.remoteJID = house.family.jid
    revoke.protocolMessage.key.ID = id
    revoke.protocolMessage.key.participant = house.alice.hidden_jid
    house.bob.send(revoke, to=house.family)
    await stage.answered(stage.ask_family())
    rows = house.pynchy.rows("SELECT gone FROM inbox WHERE message_id = ?", id)
    stage.row.promise(rows == [(None,)], f"erased: {rows}")
    stage.count()
    stage.none_lost()


@story("a chat whose messages disappear", "answers carry its expiration")
async def disappearing(stage: Stage) -> None:
    house = stage.house
    mark = stage.new_mark()
    asked = Message()
    asked.ephemeralMessage.message.extendedTextMessage.text = f"mark-{mark}"
    asked.ephemeralMessage.message.extendedTextMessage.contextInfo.expiration = 604_800
    house.alice.send(asked, to=house.family)
    await stage.answered(mark)
    stage.count()
    stage.none_lost()
    said = await house.whatsapp.hear(f"mark-{mark}")
    body = said.body
    carried = body is not None and body.extendedTextMessage.contextInfo.expiration == 604_800
    stage.row.promise(carried, "the answer carries no expiration")


@story("presence on a shared number", "never available but while it answers")
async def presence(stage: Stage) -> None:
    await stage.answered(stage.ask_family())
    seen = stage.house.whatsapp.presence
    stage.row.note(f"presence: {seen}")
    stage.row.promise(not seen or seen[-1] == "unavailable", f"last: {seen[-1:]}")
    stage.count()
    stage.none_lost()


@story("a damaged session database", "a state that names it; the chats stay")
async def damaged(stage: Stage) -> None:
    house = stage.house
    await house.daemon.stop()
    path = house.pynchy.home.store / "whatsapp.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    await house.start()
    await house.daemon.until_state("unreadable", limit=SOON)
    done = await house.pynchy.link("--again", main="none")
    stage.row.promise(done.code == 0, done.text[-200:])
    await house.whatsapp.until_connected(limit=SOON)
    mark = stage.ask_family()
    stage.row.recovered = await stage.answered(mark)
    stage.count()
    stage.none_lost()


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""
