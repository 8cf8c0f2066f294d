"""The way in, of a daemon in small: the bridge, the channel, the receiver, and the store on disk.

``python whatsapp_consumer.py FOLDER COUNT``: ends once COUNT messages of the group have been stored; a byte
in FOLDER/progress for each. It prints how many a second that were, from the first to the last. With a
third argument, the seconds between two events, FOLDER/latency has for each how many microseconds it took
from the library's callback into the store.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import trio

from pynchy.actions.effects import NOTHING, Effects
from pynchy.chat import receiver
from pynchy.model import ChatId, GroupId, Message, Micros
from pynchy.store import groups, messages
from pynchy.store.database import Database, Tx, open_store
from pynchy.whatsapp.channel import Terms, WhatsApp

CHAT = ChatId("120363000000000001@g.us")
FAKE = Path(__file__).with_name("fake_whatsapp.py")


def now() -> Micros:
    return Micros(time.time_ns() // 1000)


def begin(db: Database) -> int:
    """Register the group, once. How many of its messages are there."""
    groups.ensure_main(Tx(db, now()), name="Main", trigger="Pynchy")
    if groups.by_chat(db, CHAT) is None:
        groups.register(
            Tx(db, now()),
            folder=GroupId("family"),
            name="Family",
            chats=(CHAT,),
            trigger="Pynchy",
            requires_trigger=True,
        )
    return int(db.execute("SELECT count(*) FROM inbox").fetchone()[0])


async def carry_out(effects: Effects) -> None:
    await trio.lowlevel.checkpoint()


async def no_words(note: Path) -> str:
    await trio.lowlevel.checkpoint()
    return ""


async def main(folder: Path, total: int, pause: float | None) -> None:
    async def registered() -> Mapping[ChatId, Path]:
        return {CHAT: folder / "media"}

    paced = ["paced", total, pause]
    steps = [
        ["connected"],
        paced if pause is not None else ["resume", str(folder / "given"), total],
    ]
    terms = Terms(
        store=folder / "store",
        log=folder / "log",
        name="Pynchy",
        own_number=True,
        media_limit=1000,
        transcribe=no_words,
        registered=registered,
        command=(sys.executable, str(FAKE), json.dumps(steps)),
    )
    progress = os.open(folder / "progress", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    latency = os.open(folder / "latency", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    done = trio.Event()
    count = 0
    times: list[float] = []

    def stored(message: Message, received: messages.Received) -> None:
        nonlocal count
        if received.seq is None:
            return
        count += 1
        times.append(time.monotonic())
        os.write(progress, b".")
        if pause is not None:
            took = time.monotonic_ns() - int(message.text.removeprefix("at "))
            os.write(latency, f"{took // 1000}\n".encode())
        if count == total:
            done.set()

    async with (
        open_store(folder / "store" / "pynchy.db") as store,
        trio.open_nursery() as nursery,
    ):
        channel = WhatsApp(terms)
        await nursery.start(channel.run)
        count = await store.call(begin)
        if count < total:
            await nursery.start(
                receiver.Receiver(
                    channel,
                    store,
                    on_command=lambda tx, asked: NOTHING,
                    carry_out=carry_out,
                    stored=stored,
                ).run
            )
            await done.wait()
        channel.spare()
        nursery.cancel_scope.cancel()
    if len(times) > 1:
        sys.stdout.write(f"{(len(times) - 1) / (times[-1] - times[0]):.1f}\n")


if __name__ == "__main__":
    trio.run(
        main, Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if sys.argv[3:] else None
    )
