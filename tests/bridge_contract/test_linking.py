"""Linking: `--pair`, and how it ends."""

from pathlib import Path

from tests.bridge_contract.frames import Chat, Failed, IsLinked, Qr, Taken, Unlinked
from tests.bridge_contract.running import Linked, open_world
from tests.whatsapp_server.faults import Refusal
from tests.whatsapp_server.household import real_library

pytestmark = real_library
NUMBER = "15550001111@s.whatsapp.net"


def test_a_scanned_code_links_and_the_groups_are_told(linked: Linked) -> None:
    assert linked.code == 0
    kinds = [type(each) for each in linked.said]
    assert kinds[0] is Qr
    assert kinds.index(Taken) < kinds.index(IsLinked) < kinds.index(Chat)
    assert IsLinked(NUMBER, new=True) in linked.said
    assert [each.name for each in linked.said if isinstance(each, Chat)] == ["Family"]


async def test_a_code_that_is_refused_ends_in_words_and_exit_code_1(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.whatsapp.faults.code_error = "429"
        async with world.process("--pair", "--phone", "15550001111", linking=True) as bridge:
            assert (await bridge.hear(Failed)).reason
            assert await bridge.process.wait() == 1


async def test_whether_a_link_holds_is_asked_of_whatsapp(linked: Linked, tmp_path: Path) -> None:
    async with open_world(tmp_path, linked) as world:
        async with world.process("--pair", linking=True) as bridge:
            assert await bridge.hear(IsLinked) == IsLinked(NUMBER, new=False)
            assert await bridge.process.wait() == 0
        world.whatsapp.faults.login = Refusal(401)
        async with world.process("--pair", linking=True) as bridge:
            await bridge.hear(Unlinked)
            assert await bridge.process.wait() == 0
        # And it is not only told: the store has no link any more.
        async with world.started() as bridge:
            await bridge.until_state("logged_out")
