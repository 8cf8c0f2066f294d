"""A daemon in small: takes in what WhatsApp brings, writes each id down, then acknowledges it.

``python whatsapp_consumer.py FOLDER TOTAL``: ends once TOTAL messages are written down.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from pynchy.chat.channel import Incoming
from pynchy.chat.whatsapp import Terms, open_whatsapp
from pynchy.model import ChatId


async def main(folder: Path, total: int) -> None:
    async def registered() -> Mapping[ChatId, Path]:
        return {ChatId("120363000000000001@g.us"): folder / "media"}

    steps = [["connected"], ["resume", str(folder / "given"), total]]
    fake = Path(__file__).with_name("fake_whatsapp.py")
    terms = Terms(
        store=folder / "store",
        log=folder / "log",
        name="Pynchy",
        own_number=True,
        media_limit=0,
        transcribe=(),
        registered=registered,
        command=(sys.executable, str(fake), json.dumps(steps)),
    )
    book = os.open(folder / "book", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    known = set(os.pread(book, 1 << 26, 0).decode().split())
    async with open_whatsapp(terms) as channel:
        while len(known) < total:
            event = await channel.receive()
            if isinstance(event, Incoming) and event.number is not None:
                if event.message.id not in known:
                    known.add(event.message.id)
                    os.write(book, f"{event.message.id}\n".encode())
                await channel.acknowledge(event.number)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
