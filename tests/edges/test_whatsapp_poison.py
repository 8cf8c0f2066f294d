"""A message that nobody can take in is given up after three deliveries, told, and holds up no other."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio

from pynchy.chat.channel import Incoming, SetAside
from pynchy.whatsapp.channel import Terms, WhatsApp
from pynchy.whatsapp.journal import DELIVERIES, Journal
from tests.edges.whatsapp_running import open_whatsapp

from .fake_whatsapp import CHAT, OTHER
from .test_whatsapp import GROUP, connected, hear, incoming, journal, terms


class PowerCutError(Exception):
    """The daemon ends without a word."""


@asynccontextmanager
async def cut_short(how: Terms) -> AsyncIterator[WhatsApp]:
    try:
        async with connected(how) as channel:
            yield channel
            raise PowerCutError
    except* PowerCutError:
        pass


async def set_aside(channel: WhatsApp) -> SetAside:
    event = await hear(channel, lambda e: isinstance(e, SetAside))
    assert isinstance(event, SetAside)
    return event


def rewrite(tmp_path: Path, number: int, payload: str) -> None:
    with closing(sqlite3.connect(tmp_path / "store" / "whatsapp-journal.db")) as db, db:
        db.execute("UPDATE events SET payload = ? WHERE number = ?", (payload, number))


async def test_a_text_of_millions_is_cut_and_says_so(tmp_path: Path) -> None:
    how = terms(tmp_path, ["connected"], ["long", 2_900_000], ["messages", 1])
    async with connected(how) as channel:
        long, after = await incoming(channel), await incoming(channel)
    assert long.message.text.endswith("\n[cut: the first 64,900 of 2,900,000 characters]")
    assert len(long.message.text) <= 65_000
    assert after.message.text == "message 0"


SPOILT = [
    '{"message": {"chat": "120363000000000001@g.us", "from": "a newer version"}}',
    '{"message": 7}',
    "not JSON",
    "[" * 100_000,
    '{"media": {"kind": "hologram", "depth": 3}, "source": "", "message": {"text": ""}}',
]


async def test_events_that_are_no_messages_are_set_aside(tmp_path: Path) -> None:
    many = len(SPOILT) + 2
    async with connected(terms(tmp_path, ["connected"], ["messages", many])) as channel:
        for _ in range(many):
            await incoming(channel)
    for number, payload in enumerate(SPOILT, 2):
        rewrite(tmp_path, number, payload)
    async with connected(terms(tmp_path, ["connected"])) as channel:
        first, last = await incoming(channel), await incoming(channel)
        asides = [await set_aside(channel) for _ in SPOILT]
        assert (first.number, last.number) == (1, many)
        assert {aside.number for aside in asides} == set(range(2, many))
        assert {aside.chat for aside in asides} == {GROUP}
        for number in range(1, many + 1):
            await channel.acknowledge(number)
    async with connected(terms(tmp_path, ["connected"], ["messages", many + 1])) as channel:
        assert (await incoming(channel)).number == many + 1  # told once; the rest is known
    kept = {row[0] for row in journal(tmp_path, "SELECT payload FROM aside")}
    assert kept == {payload[: 64 * 1024] for payload in SPOILT}


async def test_a_message_that_ends_the_daemon_is_handed_out_three_times(tmp_path: Path) -> None:
    how = terms(tmp_path, ["connected"], ["messages", 3])
    async with cut_short(how) as channel:
        await incoming(channel)  # all three are in hand
    for _ in range(DELIVERIES - 1):
        async with cut_short(how) as channel:
            assert (await incoming(channel)).number == 1
            with trio.move_on_after(0.5) as silence:  # whoever was in hand before comes alone
                await incoming(channel)
            assert silence.cancelled_caught
    async with connected(how) as channel:
        aside = await set_aside(channel)
        assert (aside.number, aside.chat, aside.who) == (1, GROUP, "Ann")
        await channel.acknowledge(1)
        for number in (2, 3):
            assert (await incoming(channel)).number == number
            await channel.acknowledge(number)


async def test_an_orderly_end_blames_no_message(tmp_path: Path) -> None:
    how = terms(tmp_path, ["connected"], ["messages", 1])
    for _ in range(2):
        async with connected(how) as channel:
            assert (await incoming(channel)).number == 1
    assert journal(tmp_path, "SELECT deliveries FROM events") == [(0,)]


async def test_nothing_is_in_hand_before_somebody_takes_it(tmp_path: Path) -> None:
    """A daemon that is killed again and again while it starts has tried nothing."""
    how = terms(tmp_path, ["connected"], ["messages", 1])
    async with connected(how) as channel:
        await incoming(channel)
    for _ in range(DELIVERIES):
        try:
            async with open_whatsapp(how):
                await trio.sleep(1)  # more than enough for a bridge that would not wait
                raise PowerCutError
        except* PowerCutError:
            pass
    async with connected(how) as channel:
        assert (await incoming(channel)).number == 1


async def test_a_message_that_is_handed_back_comes_again_and_then_never(tmp_path: Path) -> None:
    how = terms(tmp_path, ["connected"], ["messages", 2])
    async with connected(how) as channel:
        seen: list[int | None] = []
        while True:
            event = await hear(channel, lambda e: isinstance(e, Incoming | SetAside))
            if isinstance(event, SetAside):
                break
            assert isinstance(event, Incoming)
            seen.append(event.number)
            if event.number == 1:
                await channel.reject(1, "UnicodeEncodeError: surrogates")
        assert sorted(filter(None, seen)) == [1, 1, 1, 2]
        assert event.reason == "UnicodeEncodeError: surrogates"


async def test_an_event_that_stumbles_is_set_aside_and_told(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"], ["bad"], ["messages", 1])) as channel:
        aside = await set_aside(channel)
        assert (aside.chat, aside.reason) == ("", "it is damaged")
        assert (await incoming(channel)).message.text == "message 0"


def test_little_is_kept_of_what_was_set_aside_and_only_of_our_chats(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "journal.db")
    for number in range(150):
        identity = json.dumps(["a", "b", str(number)])
        assert kept.put_aside(identity, chat="a@g.us", payload="x" * 100_000, reason="?")
        assert not kept.put_aside(identity, chat="a@g.us", payload="", reason="?")
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        assert db.execute("SELECT count(*), max(length(payload)) FROM aside").fetchone() == (
            100,
            64 * 1024,
        )
        kept.forget_aside(["b@g.us"])
        assert db.execute("SELECT count(*) FROM aside").fetchone() == (0,)


async def test_not_even_the_notice_is_told_for_ever(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "journal.db")
    kept.put_aside('["a","b","c"]', chat="a@g.us", payload="", reason="?")
    for _ in range(DELIVERIES):
        kept = Journal(tmp_path / "journal.db")
        (waits,) = kept.waiting(0, limit=9)
        assert [entry.number for entry in kept.hand_out([waits.number])] == [1]
    assert Journal(tmp_path / "journal.db").waiting(0, limit=9) == []


async def test_a_file_with_which_the_process_ends_is_given_up_and_holds_up_nobody(
    tmp_path: Path,
) -> None:
    steps: list[list[Any]] = [["file", "abort", "ABORT001", CHAT], ["messages", 1, OTHER]]
    how = terms(tmp_path, ["connected"], *steps, chats=(CHAT, OTHER))
    async with connected(how) as channel:  # whose bridge ends three times, and is started again
        other = await incoming(channel)
        assert (other.number, other.message.chat) == (2, f"{OTHER}@g.us")
        await channel.acknowledge(2)
        aside = await set_aside(channel)
        assert (aside.number, aside.chat, aside.who) == (1, GROUP, "Ann")
