"""The console channel: what its ops promise, over a real control socket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from pynchy.chat.channel import Incoming
from pynchy.chat.console import Console, open_console
from pynchy.control import server
from pynchy.control.ops.console import OWNER, ConsoleOps, sender_id
from pynchy.model import ChatId, GroupId, Micros, Outgoing, Seq, TurnId, TurnTold

MAIN = ChatId("console:main")


class Talker:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def say(self, op: str, **arguments: object) -> None:
        await self.stream.send_all(json.dumps({"op": op, **arguments}).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        while b"\n" not in self.buffer:
            chunk = await self.stream.receive_some()
            assert chunk, "the server hung up"
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, op: str, **arguments: object) -> dict[str, Any]:
        await self.say(op, **arguments)
        return await self.hear()


@asynccontextmanager
async def consoled(
    tmp_path: Path,
) -> AsyncIterator[tuple[Console, Callable[[], Awaitable[Talker]]]]:
    ids = (f"{n:032x}" for n in count(1))
    with trio.fail_after(20):
        async with (
            open_console(now=lambda: Micros(1), new_id=lambda: next(ids)) as console,
            trio.open_nursery() as nursery,
            AsyncExitStack() as clients,
        ):

            async def connect() -> Talker:
                stream = await trio.open_unix_socket(tmp_path / "s")
                return Talker(await clients.enter_async_context(stream))

            await nursery.start(
                lambda task_status: server.run(
                    tmp_path / "s", server.ops_of(ConsoleOps(console)), task_status=task_status
                )
            )
            yield console, connect
            nursery.cancel_scope.cancel()


async def commit(console: Console, *, seq: int = 7, folder: str = "main") -> Incoming:
    """What the receiver does."""
    event = await console.receive()
    assert isinstance(event, Incoming)
    assert event.number is not None
    console.stored(event.message, seq=Seq(seq), folder=GroupId(folder), wakes=True)
    await console.acknowledge(event.number)
    return event


def reply(text: str, *, id: int = 1, chat: ChatId = MAIN) -> Outgoing:
    return Outgoing(id, chat, f"{id:032x}", "text", text, turn=TurnId(3))


async def test_send_answers_once_the_message_is_committed_and_not_before(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        client = await connect()
        await client.say("send", chat=MAIN, text="hello")
        event = await console.receive()
        assert isinstance(event, Incoming)
        with trio.move_on_after(0.1) as early:
            await client.hear()
        assert early.cancelled_caught
        assert event.number is not None
        console.stored(event.message, seq=Seq(7), folder=GroupId("main"), wakes=True)
        await console.acknowledge(event.number)
        answer = await client.hear()
        assert answer["result"] == {
            "chat": MAIN,
            "message_id": event.message.id,
            "seq": 7,
            "folder": "main",
            "wakes": True,
        }
        assert (event.message.sender, event.message.text) == (OWNER, "hello")
        assert not event.message.from_me


async def test_a_message_for_a_chat_without_a_group_is_refused(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        client = await connect()
        await client.say("send", chat="console:nobody", text="hello")
        event = await console.receive()
        assert isinstance(event, Incoming)
        assert event.number is not None
        console.stored(event.message, seq=None, folder=None, wakes=False)
        await console.acknowledge(event.number)
        answer = await client.hear()
        assert answer["code"] == "unknown_chat"
        assert "pynchy groups add console:nobody" in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"chat": "123@g.us", "text": "x"}, "not_a_console"),
        ({"chat": "console:../x", "text": "x"}, "not_a_console"),
        ({"chat": "console:Main", "text": "x"}, "not_a_console"),
        ({"chat": MAIN, "text": " \n"}, "bad_request"),
        ({"chat": MAIN, "text": "x" * 70_000}, "bad_request"),
        ({"chat": MAIN, "text": "x", "sender": "a\x1b[31m"}, "bad_request"),
        ({"chat": MAIN, "text": "x", "message_id": "../../x"}, "bad_request"),
    ],
)
async def test_what_cannot_be_a_message_is_refused(
    tmp_path: Path, arguments: dict[str, object], code: str
) -> None:
    async with consoled(tmp_path) as (_, connect):
        assert (await (await connect()).ask("send", **arguments))["code"] == code


async def test_the_attached_of_a_chat_see_what_happens_there_and_only_there(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        one, two, all_chats = await connect(), await connect(), await connect()
        await one.ask("attach", chat=MAIN)
        await two.ask("attach", chat="console:family")
        await all_chats.ask("attach", chat="*")
        await console.send(reply("for main"))
        await console.set_typing(MAIN, True)
        await console.set_typing(MAIN, True)  # said already
        console.turn(TurnTold(MAIN, TurnId(3), "done", replies=(1,)))
        await console.send(reply("for the family", id=2, chat=ChatId("console:family")))
        seen = [await one.hear() for _ in range(3)]
        assert seen[0] == {
            "event": "message",
            "chat": MAIN,
            "id": 1,
            "message_id": f"{1:032x}",
            "turn": 3,
            "kind": "text",
            "text": "for main",
            "path": None,
            "target": None,
        }
        assert seen[1] == {"event": "typing", "chat": MAIN, "on": True}
        assert (seen[2]["state"], seen[2]["turn"], seen[2]["replies"]) == ("done", 3, [1])
        assert (await two.hear())["text"] == "for the family"
        assert [(await all_chats.hear())["event"] for _ in range(4)] == [
            "message",
            "typing",
            "turn",
            "message",
        ]


async def test_who_attaches_later_learns_that_somebody_types(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        await console.set_typing(MAIN, True)
        assert (await (await connect()).ask("attach", chat=MAIN))["result"]["typing"] is True


async def test_others_in_the_chat_see_what_is_said(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        one, two = await connect(), await connect()
        await one.ask("attach", chat=MAIN)
        await two.say("send", chat=MAIN, text="hi", sender="Alice B", message_id="12345678")
        await commit(console)
        event = await one.hear()
        assert (event["event"], event["text"], event["message_id"]) == (
            "incoming",
            "hi",
            "12345678",
        )
        assert (event["sender"], event["sender_name"]) == ("console:alice-b", "Alice B")


async def test_a_reply_is_sent_whether_anybody_is_attached_or_not(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        await console.send(reply("to nobody"))
        client = await connect()
        await client.ask("attach", chat=MAIN)
        await client.ask("detach", chat=MAIN)
        await console.send(reply("to nobody still"))
        await client.say("attach", chat="nonsense")
        assert (await client.hear())["code"] == "not_a_console"


async def test_one_that_hangs_up_is_forgotten(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        client = await connect()
        await client.ask("attach", chat=MAIN)
        await client.stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await console.send(reply("anybody?"))
        assert not console._attached


async def test_the_same_message_from_two_at_once_is_told_to_both(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        one, two = await connect(), await connect()
        for client in (one, two):
            await client.say("send", chat=MAIN, text="hello", message_id="the-same-id")
        await trio.testing.wait_all_tasks_blocked(0.05)
        await commit(console)
        await commit(console)
        for client in (one, two):
            assert (await client.hear())["result"]["folder"] == "main"


async def test_one_that_hangs_up_in_mid_send_has_sent(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        client = await connect()
        await client.say("send", chat=MAIN, text="and off")
        await client.stream.aclose()
        assert (await commit(console)).message.text == "and off"


async def test_more_senders_than_there_is_room_for_wait_and_none_is_lost(tmp_path: Path) -> None:
    async with consoled(tmp_path) as (console, connect):
        clients = [await connect() for _ in range(60)]
        for n, client in enumerate(clients):
            await client.say("send", chat=MAIN, text=str(n))
            await client.say("send", chat=MAIN, text=str(n + 100))
        texts = [(await commit(console)).message.text for _ in range(120)]
        assert sorted(texts, key=int) == [str(n) for n in (*range(60), *range(100, 160))]


def test_who_speaks() -> None:
    assert sender_id("") == OWNER
    assert sender_id("Alice  B") == "console:alice-b"
