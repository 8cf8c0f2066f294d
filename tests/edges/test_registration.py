"""Finding the chats of a messenger, registering them, and choosing main's: by people and by main's agent."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
import trio

from pynchy.actions import groups as group_commands
from pynchy.actions.actor import OWNER
from pynchy.actions.call import Call
from pynchy.actions.refused import Refused
from pynchy.chat.channel import ChatSeen
from pynchy.config.paths import Home
from pynchy.limits import LISTS
from pynchy.model import MAIN, ChatId, GroupId, Message, Micros, RunId, SenderId, TurnId
from pynchy.policy.tools import Caller
from pynchy.store import groups, messages
from pynchy.store.database import Database, Tx
from tests.edges.small_daemon import Daemon, now, running
from tests.edges.test_cli import cli
from tests.edges.test_whatsapp import link
from tests.edges.test_whatsapp_library import NO_WAY_OUT
from tests.terminal import terminal
from tests.transactions import at

FAMILY = ChatId("120363000000000001@g.us")
CHESS = ChatId("120363000000000002@g.us")
LEFT = ChatId("120363000000000003@g.us")
ANNA = ChatId("491701234567@s.whatsapp.net")
OWN = "4917@s.whatsapp.net"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def somebody_wrote(daemon: Daemon) -> None:
    message = Message(
        chat=ANNA,
        id="1",
        sender=SenderId(ANNA),
        sender_name="Anna",
        sent_at=Micros(now() - 1),
        text="",
        chat_name="Anna",
    )
    await daemon.store.call(at(now(), messages.receive), message)
    await daemon.store.call(groups.see_chat, LEFT, name="Left long ago")


async def test_what_is_discovered_can_be_registered(home: Home) -> None:
    async with running(home) as daemon:
        await somebody_wrote(daemon)
        daemon.joined = [ChatSeen(FAMILY, "Our Fämily ❤"), ChatSeen(CHESS, "")]
        found = json.loads((await cli(home, "groups", "discover", "--json")).stdout)
        assert found["asked"] is True
        assert [(each["chat"], each["name"]) for each in found["chats"]] == [
            (ANNA, "Anna"),  # active last
            (FAMILY, "Our Fämily ❤"),
            (CHESS, ""),
        ]  # and not the group that was left
        added = await cli(home, "groups", "add", FAMILY, "--json")
        assert json.loads(added.stdout)["folder"] == "our-family"
        assert json.loads(added.stdout)["name"] == "Our Fämily ❤"
        assert (await cli(home, "groups", "add", CHESS)).stdout.startswith(b"120363000000000002: ")
        await cli(home, "groups", "add", "+49 170 1234567", "--folder", "anna")
        assert (await cli(home, "groups", "add", FAMILY)).returncode == 2  # it is registered
        assert (
            (await cli(home, "groups", "discover", "--json"))
            .stdout.strip()
            .endswith(b'"chats": []\n}')
        )
        for wrong in ("family@g.us", "1@example.org", "12", "120363000000000009@g.us;x"):
            assert (await cli(home, "groups", "add", wrong)).returncode == 2


async def test_without_an_answer_it_is_what_was_known(home: Home) -> None:
    async with running(home) as daemon:
        await somebody_wrote(daemon)
        done = await cli(home, "groups", "discover")
    assert b"what was known before" in done.stderr
    assert [line.split()[0].decode() for line in done.stdout.splitlines()] == [ANNA, LEFT]


def as_main(tx: Tx, args: Mapping[str, object]) -> Call:
    caller = Caller(
        folder=MAIN,
        is_main=True,
        trusted=True,
        chat=ChatId("console:main"),
        run=RunId("1" * 16),
        turn=TurnId(1),
    )
    return Call(tx, caller, args)


def register_on_approval(call: Call) -> None:
    group_commands.register_asked(call, OWNER)


async def test_the_agents_list_is_the_same(home: Home) -> None:
    async with running(home) as daemon:
        daemon.joined = [ChatSeen(FAMILY, "Family")]
        await cli(home, "groups", "discover")

        def list_groups(tx: Tx, /) -> str:
            return group_commands.HANDLERS["list_groups"](as_main(tx, {})).text

        def register(tx: Tx, chat: ChatId, /) -> None:
            register_on_approval(as_main(tx, {"chat": chat, "name": "F", "folder": "family"}))

        assert f"{FAMILY} (Family), never active" in await daemon.store.call(list_groups)
        with pytest.raises(Refused, match="no such chat"):
            await daemon.store.call(register, CHESS)
        await daemon.store.call(register, FAMILY)
        assert json.loads((await cli(home, "groups", "discover", "--json")).stdout)["chats"] == []
        assert await daemon.store.call(groups.chats_of, GroupId("family")) == [FAMILY]


async def test_a_list_that_is_cut_says_so_and_what_it_leaves_out_is_still_there(home: Home) -> None:
    async with running(home) as daemon:
        crowd = 10_100

        def meet(db: Database, /) -> None:
            for number in range(crowd):
                groups.see_chat(db, ChatId(f"{number:05}@g.us"), name=f"Group {number}")

        def list_groups(tx: Tx, /) -> str:
            return group_commands.HANDLERS["list_groups"](as_main(tx, {})).text

        def register(tx: Tx, /) -> None:
            args = {"chat": f"{crowd - 1:05}@g.us", "name": "Last", "folder": "last"}
            register_on_approval(as_main(tx, args))

        await daemon.store.call(meet)
        assert f"and {crowd - LISTS.chats} more" in await daemon.store.call(list_groups)
        await daemon.store.call(register)  # the last of them


async def test_main_moves_to_the_chat_that_is_chosen(home: Home) -> None:
    home.make()
    link(home.store)
    async with running(home) as daemon:
        for wanted, chats in (
            ("self", ["console:main", OWN]),
            (FAMILY, [FAMILY, "console:main"]),
            ("+49 170 1234567", [ANNA, "console:main"]),
            ("none", ["console:main"]),
        ):
            done = await cli(home, "auth", "whatsapp", "--main", wanted)
            assert done.returncode == 0, done.stderr
            assert sorted(await daemon.store.call(groups.chats_of, MAIN)) == sorted(chats)
        assert daemon.changes == 4
        await cli(home, "groups", "add", FAMILY, "--folder", "family")
        taken = await cli(home, "auth", "whatsapp", "--main", FAMILY)
        assert (taken.returncode, b"belongs to family" in taken.stderr) == (1, True)
        assert (await cli(home, "auth", "whatsapp", "--main", "me")).returncode == 2


async def test_who_is_not_allowed_is_context_or_nothing(home: Home) -> None:
    def wrote(sender: str, id: str) -> Message:
        who = SenderId(sender)
        return Message(FAMILY, id, who, "x", Micros(now() - 1), "@Pynchy hi")

    async with running(home) as daemon:

        async def hear(sender: str, id: str) -> tuple[bool, bool]:
            """Whether it is kept, and whether it wakes."""
            kept = await daemon.store.call(at(now(), messages.receive), wrote(sender, id))
            return kept.seq is not None, kept.wakes

        await cli(home, "groups", "add", FAMILY, "--folder", "family")
        assert await hear("4918@s.whatsapp.net", "1") == (True, True)
        done = await cli(home, "groups", "allow", "family", "+49 170 1234567")
        assert done.stdout == b"family listens to 491701234567@s.whatsapp.net; others: context\n"
        assert await hear("4918@s.whatsapp.net", "2") == (True, False)
        assert await hear(ANNA, "3") == (True, True)
        await cli(home, "groups", "allow", "family", ANNA, "--others", "ignored")
        assert await hear("4918@s.whatsapp.net", "4") == (False, False)
        assert await hear(ANNA, "5") == (True, True)
        await cli(home, "groups", "allow", "family", "--everybody")
        assert await hear("4918@s.whatsapp.net", "6") == (True, True)
        for wrong in (["family"], ["family", FAMILY], ["nobody", ANNA], ["family", "Anna"]):
            assert (await cli(home, "groups", "allow", *wrong)).returncode == 2


def main_chats(home: Home) -> list[str]:
    with closing(sqlite3.connect(home.database)) as db:
        rows = db.execute("SELECT chat FROM chats WHERE folder = 'main' AND chat LIKE '%@%'")
        return [row[0] for row in rows]


def test_it_is_settled_without_a_daemon_too(home: Home) -> None:
    home.make()
    link(home.store)

    def auth(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pynchy", "auth", "whatsapp", *flags],
            env={**NO_WAY_OUT, "PYNCHY_HOME": str(home.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    first = auth()
    assert "Main's chat: 4917@s.whatsapp.net" in first.stdout, first
    assert main_chats(home) == [OWN]
    assert f"is still {OWN}" in auth().stdout
    assert auth("--main", FAMILY).returncode == 0
    assert main_chats(home) == [FAMILY]
    assert auth("--main", "none").returncode == 0
    assert main_chats(home) == []


async def test_on_a_terminal_one_is_asked(home: Home) -> None:
    home.make()
    link(home.store)
    with trio.fail_after(120):
        async with terminal(home, "auth", "whatsapp", **os.environ) as person:
            await person.sees("Main [1]: ")
            await person.types("nobody\n")
            at = await person.sees("nobody is none of these")
            await person.sees("Main [1]: ", after=at)
            await person.types("+49 170 1234567\n")
            await person.sees(f"Main's chat: {ANNA}")
            assert await person.ended() == 0
    assert main_chats(home) == [ANNA]
