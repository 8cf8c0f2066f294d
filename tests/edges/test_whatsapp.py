"""The WhatsApp channel over the real bridge process, with a stand-in below the real binding."""

import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import pytest
import trio
import trio.testing

from pynchy.chat.channel import (
    ChannelEvent,
    ChatSeen,
    Incoming,
    NotConnected,
    SendRefused,
    SendUncertain,
    SetAside,
    StateChanged,
)
from pynchy.model import ChatId, Outgoing
from pynchy.store import whatsapp_session as session
from pynchy.whatsapp import channel as whatsapp
from pynchy.whatsapp.channel import Terms, WhatsApp
from tests.edges.whatsapp_running import no_words, open_whatsapp

from .fake_whatsapp import CHAT, OTHER, protobufs_alone

GROUP = ChatId(f"{CHAT}@g.us")
FAKE = Path(__file__).with_name("fake_whatsapp.py")
HANG = 120.0  # seconds; nothing here takes a twentieth of it


def link(store: Path) -> None:
    """A database as the library leaves it after linking."""
    store.mkdir(exist_ok=True)
    with sqlite3.connect(store / "whatsapp.db") as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT)")
        db.execute(
            "INSERT INTO whatsmeow_device VALUES ('4917:3@s.whatsapp.net', '8001:3@lid', '')"
        )
    db.close()


def terms(
    tmp_path: Path,
    *steps: list[Any],
    linked: bool = True,
    chats: Sequence[str] = (CHAT,),
    **more: Any,
) -> Terms:
    store = tmp_path / "store"
    if linked and not store.exists():
        link(store)

    async def registered() -> Mapping[ChatId, Path]:
        return {
            ChatId(f"{chat}@g.us"): tmp_path / ("media" if chat == CHAT else chat) for chat in chats
        }

    return Terms(
        store=store,
        log=tmp_path / "bridge.log",
        name="Pynchy",
        own_number=True,
        media_limit=1000,
        transcribe=no_words,
        registered=registered,
        command=(sys.executable, str(FAKE), json.dumps(steps)),
        **more,
    )


@asynccontextmanager
async def connected(terms: Terms) -> AsyncIterator[WhatsApp]:
    with trio.fail_after(HANG):
        async with open_whatsapp(terms) as channel:
            await state(channel, "connected")
            yield channel


_HEARD: WeakKeyDictionary[WhatsApp, list[ChannelEvent]] = WeakKeyDictionary()


async def hear(channel: WhatsApp, wanted: Callable[[ChannelEvent], bool]) -> ChannelEvent:
    """The next event that is wanted; the others are kept for whoever wants them."""
    heard = _HEARD.setdefault(channel, [])
    while not any(map(wanted, heard)):
        heard.append(await channel.receive())
    return heard.pop(next(n for n, event in enumerate(heard) if wanted(event)))


async def state(channel: WhatsApp, name: str) -> StateChanged:
    event = await hear(channel, lambda e: isinstance(e, StateChanged) and e.state == name)
    assert isinstance(event, StateChanged)
    return event


async def incoming(channel: WhatsApp) -> Incoming:
    event = await hear(channel, lambda e: isinstance(e, Incoming))
    assert isinstance(event, Incoming)
    return event


def out(text: str, message_id: str = "ours-1", **more: Any) -> Outgoing:
    return Outgoing(1, GROUP, message_id, "text", text, **more)


def journal(tmp_path: Path, sql: str) -> list[Any]:
    db = sqlite3.connect(tmp_path / "store" / "whatsapp-journal.db")
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


async def test_a_message_comes_in_and_a_reply_goes_out(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"], ["messages", 1])) as channel:
        event = await incoming(channel)
        assert event.number == 1
        assert event.message.chat == GROUP
        assert event.message.sender == "491700000001@s.whatsapp.net"  # invariant 59
        assert (event.message.text, event.message.sender_name) == ("message 0", "Ann")
        assert event.message.sent_at == 1_700_000_000_000_000  # invariant 71
        await channel.send(out("**hello**"))
        assert await channel.was_sent("ours-1") is True
        assert await channel.was_sent("another") is False
        await channel.acknowledge(1)
    assert journal(tmp_path, "SELECT payload FROM events") == [(None,)]  # erased
    assert b"message 0" not in (tmp_path / "store" / "whatsapp-journal.db").read_bytes()


async def test_what_is_not_acknowledged_comes_again(tmp_path: Path) -> None:  # threat D9
    how = terms(tmp_path, ["connected"], ["messages", 3])
    async with connected(how) as channel:
        first = [await incoming(channel) for _ in range(3)]
        await channel.acknowledge(1)
    async with connected(how) as channel:  # the same three events come from the library again too
        again = [await incoming(channel) for _ in range(2)]
        assert again == first[1:]
        for each in again:
            assert each.number is not None
            await channel.acknowledge(each.number)
    assert journal(tmp_path, "SELECT count(*) FROM events") == [(3,)]


async def test_other_chats_leave_a_name_and_a_time(tmp_path: Path) -> None:
    # invariant 153
    async with connected(terms(tmp_path, ["connected"], ["messages", 1, OTHER])) as channel:
        event = await incoming(channel)
        assert event.message.chat == f"{OTHER}@g.us"
        assert event.message.text == ""
    assert "message 0" not in journal(tmp_path, "SELECT payload FROM events")[0][0]


async def test_a_malformed_message_does_not_stop_the_next(tmp_path: Path) -> None:
    # invariant 64
    async with connected(terms(tmp_path, ["connected"], ["bad"], ["messages", 1])) as channel:
        assert (await incoming(channel)).message.text == "message 0"


async def test_an_own_message_is_held_until_its_send_is_known(tmp_path: Path) -> None:
    """The echo of a send comes before its id; it is never input. A person's same words are."""
    async with connected(terms(tmp_path, ["connected"])) as channel:  # invariant 69
        await channel.send(out("echo this"))
        event = await incoming(channel)
        assert (event.message.id, event.message.from_me) == ("HUMAN001", True)
    ids = journal(tmp_path, "SELECT wa_id FROM events WHERE payload IS NOT NULL")
    assert ids == [("HUMAN001",)]


async def test_an_uncertain_send_is_known_by_its_echo(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        with pytest.raises(SendUncertain):
            await channel.send(out("timeout"))
        assert await channel.was_sent("ours-1") is None
        with pytest.raises(SendUncertain):
            await channel.send(out("timeout echo", "ours-2"))
        assert await channel.was_sent("ours-2") is True


async def test_a_time_lock_is_hopeless(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        with pytest.raises(SendRefused) as refused:
            await channel.send(out("463"))
        assert refused.value.hopeless


async def test_an_abort_of_the_library_is_a_restart(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        first = channel._bridge
        with pytest.raises(SendUncertain):
            await channel.send(out("die"))
        await state(channel, "disconnected")
        with pytest.raises(NotConnected):
            await channel.send(out("hello", "ours-2"))
        channel.start_again()
        await state(channel, "connected")
        assert channel._bridge is not first
        assert await channel.was_sent("ours-1") is None


@pytest.mark.parametrize(
    ("event", "fields", "wanted"),
    [
        ("LoggedOutEv", {"OnConnect": True, "Reason": 2}, "logged_out"),
        ("ClientOutdatedEv", {}, "outdated"),
        ("TemporaryBanEv", {"Code": 1, "Expire": 3600}, "banned"),
        ("StreamReplacedEv", {}, "replaced"),
    ],
)
async def test_what_ends_a_connection_is_a_state(
    tmp_path: Path, event: str, fields: dict[str, Any], wanted: str
) -> None:  # threat D9
    """The messages before it are still handed over, and the process goes."""
    how = terms(tmp_path, ["connected"], ["messages", 2], ["event", event, fields])
    async with connected(how) as channel:
        taken = [await incoming(channel) for _ in range(2)]
        await state(channel, wanted)
        bridge = channel._bridge
        assert bridge is not None
        for each in taken:
            assert each.number is not None
            await channel.acknowledge(each.number)
        await bridge.wait()
        assert bridge.returncode == 0


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("LoggedOutEv", {"OnConnect": True, "Reason": 2}), ("ConnectFailureEv", {"Reason": 4})],
)
async def test_the_library_gets_to_forget_a_link_that_is_over(
    tmp_path: Path, kind: str, fields: dict[str, Any]
) -> None:
    steps: list[list[Any]] = [["connected"], ["messages", 1], ["unlinked", kind, fields]]
    async with connected(terms(tmp_path, *steps)) as channel:
        event = await incoming(channel)
        await state(channel, "logged_out")
        assert event.number is not None
        await channel.acknowledge(event.number)  # and the process does not leave before it
        while channel._bridge is not None:
            await trio.testing.wait_all_tasks_blocked(0.05)
    assert session.linked(tmp_path / "store" / session.NAME, ours=False) is None


async def test_the_link_is_lent_and_comes_back(tmp_path: Path) -> None:
    """Whoever links an account has the library's files alone, for as long as they stay."""
    goodbyes: list[Callable[[], None]] = []

    class Client:
        def when_gone(self, goodbye: Callable[[], None]) -> None:
            goodbyes.append(goodbye)

    async with connected(terms(tmp_path, ["connected"])) as channel:
        lend = channel.ops["whatsapp.lend"]
        assert await lend(Client()) == {"number": "4917@s.whatsapp.net"}
        assert goodbyes == []  # it is connected, and stays so
        assert await lend(Client(), force=True) == {"number": ""}
        assert channel._bridge is None
        await state(channel, "disconnected")
        channel.start_again()
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert channel._bridge is None
        goodbyes.pop()()
        await state(channel, "connected")


async def test_not_linked_says_how_to_link(tmp_path: Path) -> None:
    # invariant 72
    with trio.fail_after(HANG):
        async with open_whatsapp(terms(tmp_path, linked=False)) as channel:
            assert "pynchy auth whatsapp" in (await state(channel, "logged_out")).words


async def test_a_dead_pump_is_a_new_process(tmp_path: Path) -> None:
    """The library's connect returns in mid-session: only another process helps."""
    how = terms(tmp_path, ["connected"], ["return", "required field not set"])
    async with connected(how) as channel:
        assert "required field" in (await state(channel, "disconnected")).detail


async def test_the_bridge_ends_when_its_daemon_is_gone(tmp_path: Path) -> None:
    # invariant 190
    how = terms(tmp_path, ["connected"])
    async with connected(how) as channel:
        bridge = channel._bridge
        assert bridge is not None
    assert bridge.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.kill(bridge.pid, 0)


async def test_typing_is_shown_while_it_is_on(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        await channel.set_typing(GROUP, True)
        await channel.set_typing(GROUP, True)
        assert len(channel._typing) == 1
        await channel.set_typing(GROUP, False)
        assert not channel._typing


async def test_a_picture_is_fetched_into_the_groups_folder(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"], ["picture", 7])) as channel:
        message = (await incoming(channel)).message
        (kept,) = message.attachments
        assert (message.text, kept.media_type, kept.size) == ("see", "image/png", 7)
        assert (tmp_path / "media" / kept.path).read_bytes() == b"picture"


async def test_a_picture_that_is_too_large_is_not_fetched(tmp_path: Path) -> None:  # threat P7
    async with connected(terms(tmp_path, ["connected"], ["picture", 5000])) as channel:
        message = (await incoming(channel)).message
        assert not message.attachments
        assert message.text == "[image, not fetched: 5000 bytes are too many] see"
    assert not (tmp_path / "media").exists()


async def test_what_is_answered_is_marked_as_read(tmp_path: Path) -> None:
    how = terms(tmp_path, ["connected"], ["messages", 2], read_receipts=True)
    async with connected(how) as channel:
        for _ in range(2):
            await incoming(channel)
        await channel.send(out("yes"))
    assert "marked as read: M00000000 M00000001" in (tmp_path / "bridge.log").read_text()


def sent(tmp_path: Path) -> list[Any]:
    """What went out, as the messages that WhatsApp got."""
    with protobufs_alone():
        from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message

    lines = (tmp_path / "bridge.log").read_text(errors="replace").splitlines()
    return [
        Message.FromString(bytes.fromhex(line.rpartition(" ")[2]))
        for line in lines
        if line.startswith("sent ")
    ]


#: The head of a picture, 640 by 480; more of it nobody on this side reads.
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000280000001e00802000000")


async def test_each_file_goes_out_as_its_kind(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PNG)
    for name in ("film.mp4", "song.mp3", "note.ogg", "paper.pdf", "broken.jpg"):
        (tmp_path / name).write_bytes(b"content of " + name.encode())
    async with connected(terms(tmp_path, ["connected"])) as channel:
        for name in ("photo.png", "film.mp4", "song.mp3", "note.ogg", "paper.pdf", "broken.jpg"):
            await channel.send(file_out(tmp_path / name))
        await channel.send(file_out(tmp_path / "song.mp3", "a caption"))
        with pytest.raises(SendRefused, match="nowhere"):
            await channel.send(file_out(tmp_path / "nowhere.pdf"))
    photo, film, song, note, paper, broken, captioned = sent(tmp_path)
    image = photo.imageMessage
    assert (image.mimetype, image.width, image.height) == ("image/png", 640, 480)
    assert (film.videoMessage.mimetype, film.videoMessage.fileLength) == ("video/mp4", 19)
    assert song.audioMessage.mimetype == "audio/mpeg"
    assert note.audioMessage.mimetype == "audio/ogg; codecs=opus"
    assert (paper.documentMessage.mimetype, paper.documentMessage.fileName) == (
        "application/pdf",
        "paper.pdf",
    )
    assert broken.documentMessage.fileName == "broken.jpg"
    assert captioned.documentMessage.caption == "a caption"  # audio has no place for it
    log = (tmp_path / "bridge.log").read_text()
    kinds = [line[12] for line in log.splitlines() if line.startswith("uploaded")]
    assert kinds == ["0", "1", "2", "2", "3", "3", "3"]


def file_out(path: Path, caption: str = "") -> Outgoing:
    return Outgoing(1, GROUP, f"ours-{path.name}{caption}", "file", caption, path=str(path))


async def test_quotes_and_reactions_name_the_message_as_phones_know_it(tmp_path: Path) -> None:
    """By the hidden id under which its sender wrote it, though to us it is a number."""
    step = ["hidden", "H1", "8009"]
    async with connected(terms(tmp_path, ["connected"], step)) as channel:
        heard = (await incoming(channel)).message
        assert heard.sender == "491709@s.whatsapp.net"
        about: dict[str, Any] = {"target": heard.id, "target_sender": heard.sender}
        await channel.send(out("yes", target_text="will you?", **about))
        await channel.send(attrs.evolve(out("👍", "ours-2", **about), kind="reaction"))
        await channel.send(attrs.evolve(out("", "ours-3", **about), kind="reaction"))
        unknown = out("and?", "ours-4", target="X", target_sender="4918@s.whatsapp.net")
        await channel.send(unknown)
    quote, sign, back, other = sent(tmp_path)
    context = quote.extendedTextMessage.contextInfo
    assert quote.extendedTextMessage.text == "yes"
    assert (context.stanzaID, context.participant) == ("H1", "8009@lid")
    assert context.quotedMessage.conversation == "will you?"
    key = sign.reactionMessage.key
    assert (sign.reactionMessage.text, key.ID, key.participant) == ("👍", "H1", "8009@lid")
    assert (key.remoteJID, key.fromMe) == (GROUP, False)
    assert back.reactionMessage.text == ""
    assert other.extendedTextMessage.contextInfo.participant == "4918@s.whatsapp.net"


async def test_who_changes_from_a_hidden_id_to_a_number_says_nothing_twice(tmp_path: Path) -> None:
    # invariant 58
    async with connected(terms(tmp_path, ["connected"], ["switch"])) as channel:
        heard = [(await incoming(channel)).message for _ in range(3)]
    assert [(each.id, each.sender) for each in heard] == [
        ("S1", "8010@lid"),
        ("S2", "491710@s.whatsapp.net"),
        ("S1", "491700000001@s.whatsapp.net"),  # an id is its sender's own
    ]


async def test_a_quote_of_ours_names_it_by_the_id_that_we_chose(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        await channel.send(out("a question", "ours-1"))
        await channel.send(out("who quotes what you said before?", "ours-2"))
        quoted = (await incoming(channel)).message.quoted
        assert quoted is not None
        assert (quoted.id, quoted.sender_name) == ("ours-1", "Pynchy")


async def test_we_are_announced_and_typing_is_taken_back(tmp_path: Path) -> None:
    # invariants 67, 68
    log = tmp_path / "bridge.log"
    async with connected(terms(tmp_path, ["connected"])) as channel:
        await channel.set_typing(GROUP, True)
        await logged(log, f"typing 0 in {CHAT}")
        await channel.set_typing(GROUP, False)
        await logged(log, f"typing 1 in {CHAT}")
        await logged(log, "presence b'available'")


async def test_a_bridge_that_stands_still_is_ended_and_another_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatsapp, "PULSE", 0.2)
    monkeypatch.setattr(whatsapp, "PULSE_WAIT", 3.0)
    async with connected(terms(tmp_path, ["connected"])) as channel:
        stopped = channel._bridge
        assert stopped is not None
        stopped.send_signal(signal.SIGSTOP)
        assert (await state(channel, "disconnected")).detail == whatsapp.STANDS_STILL
        await state(channel, "connected")
        assert channel._bridge is not stopped
        assert stopped.returncode == -signal.SIGKILL


async def test_a_bridge_whose_words_nobody_takes_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers wait behind what we do not take: that is not its standing still."""
    monkeypatch.setattr(whatsapp, "PULSE", 0.1)
    monkeypatch.setattr(whatsapp, "PULSE_WAIT", 3.0)
    how = terms(tmp_path, ["connected"], ["messages", 2 * whatsapp.BURST])
    async with connected(how) as channel:
        bridge = channel._bridge
        await trio.sleep(5)
        assert bridge is not None
        assert bridge.returncode is None
        for _ in range(2 * whatsapp.BURST):
            await incoming(channel)


async def test_the_bridge_leaves_a_daemon_that_stands_still(tmp_path: Path) -> None:
    """What comes then stays with WhatsApp."""
    how = terms(tmp_path, ["silence", 0.5], ["connected"])
    async with connected(how) as channel:
        bridge = channel._bridge
        assert (await state(channel, "disconnected")).detail == "the WhatsApp process ended"
        assert bridge is not None
        assert bridge.returncode == 0


async def test_the_networks_return_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatsapp, "FIRST_WAIT", 10 * HANG)
    async with connected(terms(tmp_path, ["connected"])) as channel:
        assert channel._bridge is not None
        channel.network_is_back()  # no trouble of ours
        channel._bridge.kill()
        await state(channel, "disconnected")
        while channel._bridge is not None:  # noqa: ASYNC110 - its pipes are closed after
            await trio.sleep(0.02)
        channel.network_is_back()
        await state(channel, "connected")


async def test_the_networks_return_does_not_wait_for_the_librarys_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatsapp, "PATIENT", 0.0)
    monkeypatch.setattr(whatsapp, "FIRST_WAIT", 10 * HANG)
    steps = (["connected"], ["event", "DisconnectedEv", {"status": True}])
    async with connected(terms(tmp_path, *steps)) as channel:
        old = channel._bridge
        await state(channel, "disconnected")
        await trio.sleep(0.01)
        channel.network_is_back()
        await state(channel, "connected")
        assert channel._bridge is not old


async def test_no_chat_waits_for_what_another_is_never_acknowledged(tmp_path: Path) -> None:
    """What had to wait was not sent, for certain; what nobody acknowledged is uncertain."""
    how = terms(tmp_path, ["patience", 0.5], ["connected"])
    async with connected(how) as channel:

        async def send_first(task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            with pytest.raises(SendUncertain):
                await channel.send(out("never"))

        async with trio.open_nursery() as nursery:
            await nursery.start(send_first)
            while b"never".hex() not in how.log.read_text():  # noqa: ASYNC110 - another's file
                await trio.sleep(0.02)
            other = Outgoing(2, ChatId(f"{OTHER}@g.us"), "ours-2", "text", "hello")
            with pytest.raises(NotConnected):
                await channel.send(other)
        assert "does not acknowledge" in (await state(channel, "disconnected")).detail
        await state(channel, "connected")
        await channel.send(other)
        assert await channel.was_sent("ours-1") is None
    assert how.log.read_text().count(b"hello".hex()) == 1


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([["lasting", "L1", 86400]], 86400),
        ([["lasting", "L1", 86400], ["messages", 1]], 0),
        ([["messages", 1], ["timer", "T1", 604800]], 604800),
        ([["lasting", "L1", 86400], ["timer", "T1", 0]], 0),
    ],
)
async def test_what_we_send_disappears_as_the_chats_messages_do(
    tmp_path: Path, steps: list[list[Any]], seconds: int
) -> None:
    how = terms(tmp_path, ["connected"], *steps)
    async with connected(how) as channel:
        for _ in steps:
            await incoming(channel)
        (tmp_path / "notes.txt").write_text("notes")
        await channel.send(out("hello"))
        await channel.send(file_out(tmp_path / "notes.txt"))
    words, file = sent(tmp_path)
    assert words.extendedTextMessage.contextInfo.expiration == seconds
    assert (words.conversation or words.extendedTextMessage.text) == "hello"
    assert file.documentMessage.contextInfo.expiration == seconds


async def test_nothing_is_taken_from_whatsapp_while_the_disk_is_full(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        async with open_whatsapp(terms(tmp_path, ["full"], ["connected"])) as channel:
            assert "the disk is nearly full" in (await state(channel, "disconnected")).detail
    assert "subscribed" not in (tmp_path / "bridge.log").read_text()


async def test_the_bridge_leaves_when_the_disk_fills_up(tmp_path: Path) -> None:
    """What it was given before is kept."""
    how = terms(tmp_path, ["connected"], ["messages", 1], ["fills up"], ["messages", 2])
    async with connected(how) as channel:
        bridge = channel._bridge
        assert "the disk is nearly full" in (await state(channel, "disconnected")).detail
        ids = [(await incoming(channel)).message.id for _ in range(2)]
        assert ids == ["M00000000", "M00000001"]
        assert bridge is not None


async def test_only_its_author_or_an_admin_takes_back_what_was_written(tmp_path: Path) -> None:
    number = "@s.whatsapp.net"
    how = terms(
        tmp_path,
        ["connected"],
        ["revoke", "R1", CHAT, f"491702{number}", f"491701{number}"],  # no admin
        ["revoke", "R2", CHAT, f"491709{number}", f"491701{number}"],  # not even there
        ["revoke", "R3", CHAT, f"491701{number}", f"491702{number}"],  # an admin
        ["revoke", "R4", CHAT, f"491702{number}", f"491702{number}"],
        ["revoke", "R5", CHAT, "8002@lid", f"491702{number}"],  # the same person
        ["messages", 1],
    )
    async with connected(how) as channel:
        taken = [(await incoming(channel)).message for _ in range(4)]
        assert [each.id for each in taken] == ["R3", "R4", "R5", "M00000000"]
        assert {each.sender for each in taken[:3]} == {f"491702{number}"}
        assert journal(tmp_path, "SELECT count(*) FROM events WHERE payload IS NULL") == [(2,)]


async def test_a_deletion_is_set_aside_where_nobody_says_who_is_an_admin(tmp_path: Path) -> None:
    number = "@s.whatsapp.net"
    revoke = ["revoke", "R1", OTHER, f"491701{number}", f"491702{number}"]
    how = terms(tmp_path, ["connected"], revoke, chats=[OTHER])
    async with connected(how) as channel:
        aside = await hear(channel, lambda event: isinstance(event, SetAside))
        assert isinstance(aside, SetAside)
        assert "who is in the group: no answer" in aside.reason


async def test_on_a_shared_number_we_are_online_only_while_we_answer(tmp_path: Path) -> None:
    how = attrs.evolve(terms(tmp_path, ["connected"]), own_number=False)
    async with connected(how) as channel:
        for on in (True, False):
            await channel.set_typing(GROUP, on)
            await logged(how.log, f"typing {int(not on)} in {CHAT}")
        while len(presences(how.log)) < 3:  # noqa: ASYNC110 - another's file
            await trio.sleep(0.02)
    assert presences(how.log) == ["unavailable", "available", "unavailable"]
    lines = how.log.read_text().splitlines()
    online = lines.index("presence b'available'")
    assert online < lines.index(f"typing 0 in {CHAT}") < lines.index(f"typing 1 in {CHAT}")


async def test_presence_waits_for_the_name_of_a_new_link(tmp_path: Path) -> None:
    steps = (["nameless"], ["connected"], ["named"], ["messages", 1])
    how = attrs.evolve(terms(tmp_path, *steps), own_number=False)
    async with connected(how) as channel:
        await incoming(channel)  # which brings another attempt
        while len(presences(how.log)) < 2:  # noqa: ASYNC110 - another's file
            await trio.sleep(0.02)
    assert presences(how.log) == ["unavailable", "unavailable"]


def presences(log: Path) -> list[str]:
    return re.findall(r"^presence b'(\w+)'$", log.read_text(errors="replace"), re.MULTILINE)


async def logged(path: Path, line: str) -> None:
    while line not in path.read_text(errors="replace").splitlines():  # noqa: ASYNC110 - another's file
        await trio.sleep(0.02)


async def test_on_a_shared_number_the_name_is_in_front(tmp_path: Path) -> None:
    how = attrs.evolve(terms(tmp_path, ["connected"]), own_number=False)
    async with connected(how) as channel:
        await channel.send(out("echo **this**"))
        assert (await incoming(channel)).message.text == "Pynchy: echo *this*"


async def test_the_groups_are_told_at_the_start_and_when_asked(tmp_path: Path) -> None:
    async with connected(terms(tmp_path, ["connected"])) as channel:
        family = ChatSeen(GROUP, "Family")
        chess = ChatSeen(ChatId(f"{OTHER}@g.us"), "Chess club")
        for each in (family, chess):
            assert await hear(channel, lambda event: isinstance(event, ChatSeen)) == each
        assert await channel.refresh_groups() == [family, chess]
        assert await hear(channel, lambda event: isinstance(event, ChatSeen)) == family


async def test_nobody_is_asked_for_groups_while_not_connected(tmp_path: Path) -> None:
    with trio.fail_after(HANG):
        async with open_whatsapp(terms(tmp_path)) as channel:
            with pytest.raises(NotConnected):
                await channel.refresh_groups()


async def test_a_group_that_is_joined_or_renamed_is_told_at_once(tmp_path: Path) -> None:
    new = "120363000000000009"
    how = terms(tmp_path, ["connected"], ["joined", new, "Choir"], ["renamed", new, "Chorus"])
    async with connected(how) as channel:
        told = [
            await hear(channel, lambda each: isinstance(each, ChatSeen) and new in each.chat)
            for _ in range(2)
        ]
    assert told == [ChatSeen(ChatId(f"{new}@g.us"), name) for name in ("Choir", "Chorus")]


async def test_what_a_voice_note_says_is_its_text(tmp_path: Path) -> None:
    async def heard(note: Path) -> str:
        return f"[voice note] heard {await trio.Path(note).read_text()}"

    how = attrs.evolve(terms(tmp_path, ["connected"], ["voice"]), transcribe=heard)
    async with connected(how) as channel:
        message = (await incoming(channel)).message
        assert message.text == "[voice note] heard picture"
        (kept,) = message.attachments
        assert (kept.media_type, kept.size) == ("audio/ogg", 7)


async def test_nobody_waits_for_a_file_or_the_words_of_another_chat(tmp_path: Path) -> None:
    """Ten files that never come and a voice note that is never put into words, in one chat; and another chat."""
    hangs: list[list[Any]] = [["file", "hang", f"HANG{n:04}", CHAT] for n in range(10)]
    more: list[list[Any]] = [
        ["messages", 1],
        ["file", "come", "VOICE002", OTHER],
        ["messages", 2, OTHER],
    ]
    how = terms(tmp_path, ["connected"], ["voice"], *hangs, *more, chats=(CHAT, OTHER))
    asked = trio.Event()

    async def never(note: Path) -> str:
        if note.parent.name == "media":
            asked.set()
            await trio.sleep_forever()
        return "[voice note] of the other"

    async with connected(attrs.evolve(how, transcribe=never)) as channel:
        told = [(await incoming(channel)).message for _ in range(3)]
        assert {message.chat for message in told} == {f"{OTHER}@g.us"}
        assert [message.text for message in told] == [
            "[voice note] of the other",
            "message 0",
            "message 1",
        ]
        await asked.wait()
        assert [event for event in _HEARD[channel] if isinstance(event, Incoming)] == []


async def test_a_chat_keeps_its_order_whichever_file_comes_first(tmp_path: Path) -> None:
    steps: list[list[Any]] = [
        ["file", "slow", "SLOW0001", CHAT],
        ["file", "come", "QUICK001", CHAT],
        ["messages", 1],
    ]
    async with connected(terms(tmp_path, ["connected"], *steps)) as channel:
        numbers = [(await incoming(channel)).number for _ in range(3)]
        assert numbers == [1, 2, 3]


async def test_a_voice_note_is_put_into_words_once_though_it_is_delivered_again(
    tmp_path: Path,
) -> None:
    times = 0

    async def heard(note: Path) -> str:
        nonlocal times
        times += 1
        await trio.lowlevel.checkpoint()
        return f"[voice note] for the {times}. time"

    how = attrs.evolve(terms(tmp_path, ["connected"], ["voice"]), transcribe=heard)
    for _ in range(2):
        async with connected(how) as channel:
            assert (await incoming(channel)).message.text == "[voice note] for the 1. time"


async def test_a_voice_note_with_which_the_daemon_ends_is_a_file_in_the_end(tmp_path: Path) -> None:
    begun = trio.Event()

    async def never(note: Path) -> str:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    how = attrs.evolve(terms(tmp_path, ["connected"], ["voice"]), transcribe=never)
    for _ in range(2):
        begun = trio.Event()
        with pytest.RaisesGroup(pytest.RaisesExc(KeyError), flatten_subgroups=True):
            async with connected(how) as channel:
                while not begun.is_set():
                    with trio.move_on_after(0.05):
                        await channel.receive()
                raise KeyError("the daemon crashes")
    async with connected(how) as channel:
        message = (await incoming(channel)).message
        assert message.text.startswith("[voice note: could not be transcribed (")
        assert len(message.attachments) == 1


async def test_what_would_end_the_pump_is_not_subscribed(tmp_path: Path) -> None:
    """A kind of these that the binding does not know ends its loop, with messages acknowledged into the void."""
    receipt, chat_presence = 18, 19
    async with connected(terms(tmp_path, ["connected"])):
        pass
    log = (tmp_path / "bridge.log").read_text()
    line = next(each for each in log.splitlines() if each.startswith("subscribed to "))
    codes = json.loads(line.removeprefix("subscribed to "))
    assert {3, 17} <= set(codes)
    assert not {receipt, chat_presence} & set(codes)
