"""A linked bridge: what comes in, what goes out, and how it begins and ends."""

from pathlib import Path
from typing import Any

import trio

from pynchy.model import Attachment, Quoted
from tests.bridge_contract.frames import Answer, Arrived, Aside, Chat, Me, StateIs, Transcribe
from tests.bridge_contract.running import Bridge, Linked, ask_again, open_world
from tests.whatsapp_server.faults import Refusal
from tests.whatsapp_server.household import real_library
from tests.whatsapp_server.people import Said
from tests.whatsapp_server.protobufs import ImageMessage, Message

pytestmark = real_library
NUMBER = "15550001111@s.whatsapp.net"
PICTURE = b"\x89PNG\r\n\x1a\n and so on"


def parts(**fields: Any) -> Message:
    """A message of these parts, which may be given as plain dictionaries."""
    return Message(**fields)


async def test_it_says_who_it_is_and_hands_over_nothing_before_it_may(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.started() as bridge:
        await bridge.until_state("connected")
        await bridge.hear(Chat, lambda each: each.name == "Family")
        states = [each.state for each in bridge.of(StateIs)]
        assert states == ["connecting", "connected"]
        assert bridge.of(Me) == [Me(NUMBER)]
        asked = world.alice.say("early", to=world.family)
        await world.whatsapp.until(lambda: world.whatsapp.is_delivered(asked))
        # A daemon of another version may say more than this bridge knows.
        await bridge.say("something that nobody has thought of yet", request=900)
        await bridge.ask("pulse")
        groups = await bridge.ask("groups")
        assert groups.groups == ((world.family.jid, "Family"),)
        with trio.move_on_after(1):  # time enough for a bridge that does not wait
            await bridge.hear_text("early")
        assert bridge.texts == []
        await bridge.say("ready")
        await bridge.hear_text("early")
        assert await bridge.leave() == 0


async def test_messages_come_until_they_are_acknowledged_in_order_and_never_after(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world:
        texts = [f"text {n}" for n in range(6)]
        async with world.connected() as bridge:
            ids = [world.alice.say(text, to=world.family) for text in texts]
            await bridge.hear_text(texts[-1])
            before = bridge.of(Arrived)
            assert [each.message.text for each in before] == texts
            numbers = [each.number for each in before]
            assert numbers == sorted(set(numbers))
            await bridge.acknowledge(*numbers[:2])
            await bridge.ask("pulse")  # lines are obeyed in order: the acknowledgement is taken
            await bridge.kill()
        async with world.connected() as bridge:
            world.whatsapp.faults.receipts_lost = True
            await bridge.hear_text(texts[2])
            world.alice.say(texts[0], to=world.family, id=ids[0])  # WhatsApp brings it once more
            world.alice.say("the last", to=world.family)
            while texts[-1] not in bridge.texts or "the last" not in bridge.texts:
                arrived = bridge.of(Arrived)[-1]
                await bridge.acknowledge(*(each.number for each in bridge.of(Arrived)))
                await bridge.hear(Arrived, lambda each, last=arrived: each.number > last.number)  # type: ignore[misc]
            assert bridge.texts == [*texts[2:], "the last"]
            assert [each.number for each in bridge.of(Arrived)][:4] == numbers[2:]


async def test_what_is_given_back_three_times_is_set_aside_and_the_rest_goes_on(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        world.alice.say("poison", to=world.family)
        for time in (1, 2, 3):
            found = await bridge.hear_text("poison", times=time)
            await bridge.say("reject", number=found.number, reason="it does not fit")
        aside = await bridge.hear(Aside)
        assert aside.number == found.number
        assert (aside.chat, aside.who) == (world.family.jid, "Alice")
        assert aside.reason == "it does not fit"
        await bridge.acknowledge(aside.number)
        world.alice.say("wholesome", to=world.family)
        await bridge.hear_text("wholesome")
        assert bridge.texts.count("poison") == 3


async def test_a_message_has_canonical_ids_and_all_that_phones_show(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        alice, family = world.alice, world.family
        first = alice.say("plain", to=family, at=1_700_000_000)
        plain = (await bridge.hear_text("plain")).message
        assert (plain.chat, plain.id, plain.sender) == (str(family.jid), first, str(alice.jid))
        assert (plain.sender_name, plain.sent_at) == ("Alice", 1_700_000_000_000_000)
        assert plain.quoted is None
        assert not any([plain.from_me, plain.mentions_me, plain.remark])

        context: dict[str, object] = {"stanzaID": first, "participant": alice.hidden_jid}
        context |= {"quotedMessage": {"conversation": "plain"}, "mentionedJID": [NUMBER]}
        said = {"text": "@15550001111 yes", "contextInfo": context}
        world.bob.send(parts(extendedTextMessage=said), to=family)
        quoting = (await bridge.hear_text("@Pynchy yes")).message
        assert quoting.mentions_me
        assert quoting.quoted == Quoted(first, "+" + alice.number, "plain")

        key = {"remoteJID": family.jid, "ID": first, "fromMe": False}
        alice.send(parts(reactionMessage={"key": key, "text": "!"}), to=family)
        assert (await bridge.hear_text("[reacted with !]")).message.remark
        edit = {"key": key, "type": 14, "editedMessage": {"conversation": "mended"}}
        alice.send(parts(protocolMessage=edit), to=family)
        assert (await bridge.hear_text("mended")).message.edits == first
        alice.send(parts(protocolMessage={"key": key, "type": 0}), to=family)
        taken_back = await bridge.hear(Arrived, lambda each: each.message.revokes == first)
        assert str(taken_back.message.sender) == alice.jid

        world.whatsapp.phone.say("a note of mine")
        own = await bridge.hear(Arrived, lambda each: each.message.chat == NUMBER)
        assert own.message.from_me
        assert own.message.text == ""  # that chat is not registered: a name and a time, no content
        await bridge.say("chats", chats={**world.chats, NUMBER: str(world.root / "main")})
        await bridge.ask("pulse")
        world.whatsapp.phone.say("another")
        assert (await bridge.hear_text("another")).message.from_me
        alice.say("directly")
        direct = (await bridge.hear_text("directly")).message
        assert (str(direct.chat), direct.chat_name) == (str(alice.jid), "Alice")


async def test_a_file_is_there_when_its_message_is_handed_over(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        media, alice = world.whatsapp.media, world.alice
        folder = tmp_path / "family"

        def show(caption: str, content: bytes = PICTURE) -> None:
            told = media.put(content, "Image")
            picture = ImageMessage(**told, mimetype="image/png", caption=caption)
            alice.send(Message(imageMessage=picture), to=world.family)

        show("look")
        shown = (await bridge.hear_text("look")).message
        (kept,) = shown.attachments
        assert kept == Attachment(kept.path, "image/png", len(PICTURE))
        assert (folder / kept.path).read_bytes() == PICTURE

        show("large", b"\x89PNG" * 1000)
        large = await bridge.hear(Arrived, lambda each: each.message.text.endswith(" large"))
        assert not large.message.attachments
        assert large.message.text.startswith("[image, not fetched: ")

        note = {**media.put(b"OggS", "Audio"), "mimetype": "audio/ogg", "PTT": True}
        alice.send(parts(audioMessage=note), to=world.family)
        asked = await bridge.hear(Transcribe)
        assert asked.chat == world.family.jid
        assert (folder / asked.file).read_bytes() == b"OggS"
        await bridge.say("transcribed", number=asked.number, text="what was spoken")
        spoken = await bridge.hear_text("what was spoken")
        assert spoken.number == asked.number
        assert [each.path for each in spoken.message.attachments] == [asked.file]


async def test_what_is_sent_arrives_once_for_each_id(linked: Linked, tmp_path: Path) -> None:
    async with open_world(tmp_path, linked) as world:
        whatsapp, family = world.whatsapp, world.family
        async with world.connected() as bridge:
            asked = world.alice.say("a question", to=family)
            await bridge.hear_text("a question")
            target = {
                "target": asked,
                "target_sender": world.alice.jid,
                "target_text": "a question",
            }
            sent = await bridge.send("ours-1", family.jid, "an answer", **target)
            assert (sent.outcome, sent.reason) == ("sent", "")
            said = await whatsapp.hear("an answer", chat=family.jid)
            assert _quoted(said) == (asked, world.alice.hidden_jid)

            file = tmp_path / "picture.png"
            file.write_bytes(PICTURE)
            await bridge.send("ours-2", family.jid, "a file", kind="file", path=str(file))
            shown = await whatsapp.hear("a file", chat=family.jid)
            assert shown.body is not None
            part = shown.body.documentMessage  # it is no picture, for all its name
            assert whatsapp.media.read(part, "Document") == PICTURE
            gone = await bridge.send("ours-3", family.jid, kind="file", path=str(tmp_path / "gone"))
            assert gone.outcome == "refused"
            await bridge.send("ours-4", family.jid, "+", kind="reaction", **target)
            reaction = await whatsapp.hear("+", chat=family.jid)
            assert reaction.body is not None
            assert asked == reaction.body.reactionMessage.key.ID

            # A quote of it names it by the caller's id; and it is not taken for something new.
            context = {"stanzaID": said.id, "participant": whatsapp.phone.hidden_jid}
            quoting = parts(extendedTextMessage={"text": "thanks", "contextInfo": context})
            world.bob.send(quoting, to=family)
            thanks = (await bridge.hear_text("thanks")).message
            assert thanks.quoted is not None
            assert (thanks.quoted.id, thanks.quoted.sender_name) == ("ours-1", "Pynchy")
            assert "an answer" not in bridge.texts
            await bridge.kill()
        async with world.connected() as bridge:  # it is remembered, by the next one too
            assert (await bridge.ask("was_sent", message_id="ours-1")).sent is True
            assert (await bridge.ask("was_sent", message_id="ours-9")).sent is False
            assert (await bridge.send("ours-1", family.jid, "an answer")).outcome == "sent"
            await bridge.send("ours-5", family.jid, "the last")
            await whatsapp.hear("the last")
            assert [each.text for each in whatsapp.said].count("an answer") == 1


def _quoted(said: Said) -> tuple[str, str]:
    assert said.body is not None
    context = said.body.extendedTextMessage.contextInfo
    return context.stanzaID, context.participant


async def test_a_send_that_fails_says_whether_another_try_is_of_use(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.started() as bridge:
        world.whatsapp.faults.acknowledgement = "refused"
        early = await bridge.send("ours-0", world.alice.jid, "too early")
        assert early.outcome == "not_connected"
        assert (await bridge.ask("groups")).groups is None
        await bridge.until_state("connected")
        await world.whatsapp.until_connected()
        for code, outcome in [("463", "never"), ("429", "retry"), ("400", "refused")]:
            world.whatsapp.faults.refusal = code
            answer = await bridge.send(f"ours-{code}", world.alice.jid, f"refused with {code}")
            assert answer.outcome == outcome
            assert code in answer.reason
            assert (await bridge.ask("was_sent", message_id=f"ours-{code}")).sent is False


async def test_typing_receipts_and_a_second_copy_reach_the_phones(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        asked = world.alice.say("hello", to=world.family)
        await bridge.hear_text("hello")
        await bridge.say("typing", chat=world.family.jid, on=True)
        await bridge.say("typing", chat=world.family.jid, on=False)
        await bridge.say("read", chat=world.family.jid)
        jid, whatsapp = world.family.jid, world.whatsapp
        shown = [(jid, "composing"), (jid, "paused")]
        await whatsapp.until(lambda: whatsapp.typing == shown)
        await whatsapp.until(lambda: "read" in [each.kind for each in whatsapp.receipts[asked]])

        await bridge.send("ours-1", world.alice.jid, "hard to read")
        await ask_again(whatsapp, await whatsapp.hear("hard to read"))


async def test_what_ends_a_connection_for_good_is_told_and_ends_the_bridge(
    linked: Linked, tmp_path: Path
) -> None:
    async def refused(state: str, reason: int) -> None:
        async with open_world(tmp_path / state, linked) as world:
            world.whatsapp.faults.login = Refusal(reason)
            async with world.started() as bridge:
                await _ends(bridge, state)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, "outdated", 405)
        nursery.start_soon(refused, "logged_out", 403)
        async with open_world(tmp_path / "replaced", linked) as world, world.connected() as bridge:
            world.whatsapp.end_stream("409", conflict="replaced")
            await _ends(bridge, "replaced")


async def _ends(bridge: Bridge, state: str) -> None:
    told = await bridge.until_state(state)
    assert told.detail
    with trio.fail_after(30):
        assert await bridge.process.wait() == 0
    assert bridge.of(StateIs)[-1] == told


async def test_without_a_link_it_says_so_and_ends(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.started() as bridge:
        await bridge.until_state("logged_out")
        with trio.fail_after(30):
            assert await bridge.process.wait() == 0
        assert world.whatsapp.tries == 0
        assert bridge.of(Answer) == []


async def test_a_connection_that_drops_is_told_and_made_again(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        world.whatsapp.drop()
        await bridge.until_state("disconnected")
        world.alice.say("still there?", to=world.family)
        await bridge.hear_text("still there?")
        assert [each.state for each in bridge.of(StateIs)][-2:] == ["disconnected", "connected"]
