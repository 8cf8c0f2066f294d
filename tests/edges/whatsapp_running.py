"""The WhatsApp channel for the length of a block, as the daemon's nursery runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from pynchy.whatsapp.channel import Terms, WhatsApp


@asynccontextmanager
async def open_whatsapp(terms: Terms) -> AsyncIterator[WhatsApp]:
    """Run it; its process is gone after. Only a block that ends in order spares what is in hand."""
    channel = WhatsApp(terms)
    async with trio.open_nursery() as nursery:
        await nursery.start(channel.run)
        yield channel
        channel.spare()
        nursery.cancel_scope.cancel("the channel is closed")


async def no_words(note: Path) -> str:
    """A transcriber that is off."""
    await trio.lowlevel.checkpoint()
    return ""
