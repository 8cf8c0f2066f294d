"""What the contract asks for and the bridge over neonize cannot do. Each is a strict xfail: when a release of the
library can, the test says so; another bridge that is named is to pass them. docs/bridge.md says what each costs."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio

from tests.bridge_contract.running import NEONIZE, Linked, ask_again, open_world
from tests.whatsapp_server.household import real_library

pytestmark = real_library
SLOW_DISK = 2.0  # seconds; far more than a bridge needs to take a message in, less than it waits for its journal


def lacking(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(
        NEONIZE,
        reason=f"neonize 0.5.2: {reason}",
        strict=True,
        raises=pytest.RaisesGroup(
            AssertionError, flatten_subgroups=True
        ),  # nothing but the promise
    )


@contextmanager
def nothing_can_be_kept(store: Path) -> Iterator[None]:
    """Lock the bridge's journal, as a disk does that is slow."""
    with closing(sqlite3.connect(store / "whatsapp-journal.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@lacking(
    "acknowledges to WhatsApp before its callback has returned (no synchronous acknowledgement)"
)
async def test_what_is_not_kept_is_not_acknowledged_to_whatsapp(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world, world.connected() as bridge:
        with nothing_can_be_kept(world.store):
            asked = world.alice.say("to be kept", to=world.family)
            with trio.move_on_after(SLOW_DISK):
                await world.whatsapp.until(lambda: world.whatsapp.receipts[asked])
            early = list(world.whatsapp.receipts[asked])
        await bridge.hear_text("to be kept")
        assert early == []


@lacking(
    "has no buffer for what is decrypted and not handled (a key is used up by the first reading)"
)
async def test_what_was_decrypted_and_not_kept_is_read_when_it_comes_again(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world:
        whatsapp = world.whatsapp
        async with world.connected() as bridge:
            whatsapp.faults.receipts_lost = True
            with nothing_can_be_kept(world.store):
                asked = world.alice.say("to be read twice", to=world.family)
                with trio.move_on_after(SLOW_DISK):
                    await whatsapp.until(lambda: whatsapp.receipts[asked])
                await bridge.kill()
        async with world.connected() as bridge:
            world.alice.say("the next", to=world.family)
            await bridge.hear_text("the next")
            assert bridge.texts == ["to be read twice", "the next"]


@lacking("chooses the id of a message itself, and another one in its next life")
async def test_a_send_whose_answer_was_lost_goes_out_again_under_the_same_id(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world:
        whatsapp = world.whatsapp
        whatsapp.faults.acknowledgement = "never"
        async with world.connected() as bridge, trio.open_nursery() as nursery:
            nursery.start_soon(bridge.send, "ours-1", world.alice.jid, "once")
            await whatsapp.hear("once")
            await bridge.kill()
            nursery.cancel_scope.cancel("it is gone")
        whatsapp.faults.acknowledgement = "given"
        async with world.connected() as bridge:
            assert (await bridge.ask("was_sent", message_id="ours-1")).sent is None
            assert (await bridge.send("ours-1", world.alice.jid, "once")).outcome == "sent"
            await whatsapp.until(lambda: len(whatsapp.said) == 2)
        assert len({each.id for each in whatsapp.said}) == 1


@lacking("keeps what it sent for a phone's second request in memory alone")
async def test_a_phone_that_could_not_read_is_sent_it_again_by_the_next_bridge(
    linked: Linked, tmp_path: Path
) -> None:
    async with open_world(tmp_path, linked) as world:
        async with world.connected() as bridge:
            await bridge.send("ours-1", world.alice.jid, "hard to read")
            said = await world.whatsapp.hear("hard to read")
        async with world.connected() as bridge:
            await ask_again(world.whatsapp, said, limit=SLOW_DISK)
