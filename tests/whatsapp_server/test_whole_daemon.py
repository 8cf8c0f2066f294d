"""The whole daemon and the real library, linked to the WhatsApp of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.whatsapp_server.household import open_household, real_library
from tests.whatsapp_server.installation import Installation
from tests.whatsapp_server.protobufs import ImageMessage, Message
from tests.whatsapp_server.server import open_whatsapp_server

pytestmark = real_library


async def test_a_phone_scans_a_code_and_a_text_is_answered(tmp_path: Path) -> None:
    async with open_whatsapp_server(tmp_path / "whatsapp") as whatsapp:
        pynchy = Installation.make(tmp_path / "home", whatsapp)
        linked = await pynchy.link()
        assert linked.code == 0, linked.text
        assert "Linked: 15550001111@s.whatsapp.net" in linked.text
        async with pynchy.daemon() as daemon:
            await whatsapp.until_connected()
            asked = whatsapp.phone.say("good morning, mark-1")
            reply = await whatsapp.hear("answer to mark-1")
            assert reply.chat.user == whatsapp.phone.hidden
            await whatsapp.until(lambda: whatsapp.is_delivered(asked))
            assert await daemon.state() == "connected"
            assert await daemon.stop() == 0
        assert [said.text for said in whatsapp.said] == ["Pynchy: answer to mark-1"]


async def test_a_code_is_typed_in_on_the_phone(tmp_path: Path) -> None:
    async with open_whatsapp_server(tmp_path / "whatsapp") as whatsapp:
        pynchy = Installation.make(tmp_path / "home", whatsapp)
        linked = await pynchy.link_by_code()
        assert linked.code == 0, linked.text
        assert "Linked: 15550001111@s.whatsapp.net" in linked.text
        assert whatsapp.linking.linked == 1


async def test_a_group_is_answered_in_words_a_reaction_and_a_file(tmp_path: Path) -> None:
    async with open_household(tmp_path) as house:
        whatsapp, alice, family = house.whatsapp, house.alice, house.family
        picture = whatsapp.media.put(b"\x89PNG\r\n\x1a\n and so on", "Image")
        shown = Message(
            imageMessage=ImageMessage(**picture, mimetype="image/png", caption="mark-1")
        )
        alice.send(shown, to=family)
        await whatsapp.hear("answer to mark-1", chat=family.jid)
        assert [path.read_bytes()[:4] for path in house.pynchy.media("family")] == [b"\x89PNG"]

        asked = house.bob.say("please react, file:picture.png, mark-2", to=family)
        await whatsapp.hear("answer to mark-2", chat=family.jid)
        sent = await whatsapp.hear("here is picture.png", chat=family.jid)
        assert sent.body is not None
        assert whatsapp.media.read(sent.body.imageMessage, "Image").startswith(b"\x89PNG")
        reaction = await whatsapp.hear("\N{THUMBS UP SIGN}", chat=family.jid)
        assert reaction.body is not None
        assert asked == reaction.body.reactionMessage.key.ID
