"""One connection of a client: its handshake, and then stanzas both ways."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

import attrs
import trio

from tests.whatsapp_server.noise import Cipher, Handshake
from tests.whatsapp_server.protobufs import ClientPayload
from tests.whatsapp_server.stanza import Codec, Node
from tests.whatsapp_server.transport import Ended, Frames

if TYPE_CHECKING:
    from tests.whatsapp_server.server import WhatsApp

LINGER: Final = 0.2  # seconds from the last word to the end: the client may hang up first
_LAST: Final = None  # in place of a stanza: hang up now


@attrs.define(eq=False)
class Gate:
    """Open, or closed: then the connections that go through it neither read nor write, and stay."""

    _opened: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened = trio.Event()

    def open(self) -> None:
        self._opened.set()

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    async def passed(self) -> None:
        await self._opened.wait()


class Connection:
    """A client that has said who it is. Stanzas go out in the order of `send`."""

    def __init__(self, frames: Frames, codec: Codec, gate: Gate) -> None:
        self._frames, self._codec, self._gate = frames, codec, gate
        self._scope = trio.CancelScope()
        self._out, self._waiting = trio.open_memory_channel[Node | None](math.inf)
        self._outgoing: Cipher | None = None
        self.payload = ClientPayload()
        self.began = time.monotonic()
        self.is_open = False
        self.active = False  # it takes messages

    def send(self, node: Node) -> None:
        """Send a stanza, if the connection is still open."""
        if self.is_open:
            self._out.send_nowait(node)

    def hang_up(self) -> None:
        """Close it, once all that was sent before is on its way."""
        if self.is_open:
            self._out.send_nowait(_LAST)
        self.is_open = False

    def drop(self) -> None:
        """Close it now."""
        self.is_open = False
        self._scope.cancel("dropped")

    async def run(self, whatsapp: WhatsApp) -> None:
        """Shake hands, tell of the login and of each stanza, until the end of the connection."""
        hello = await self._frames.receive()
        handshake = Handshake(whatsapp.identity, self._frames.header)
        await self._frames.send(handshake.answer(hello))
        self.payload, incoming, self._outgoing = handshake.finish(await self._frames.receive())
        self.is_open = True
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    whatsapp.on_login(self)
                    while True:
                        frame = await self._frames.receive()
                        if pause := whatsapp.faults.slowness:
                            await trio.sleep(pause)
                        await self._gate.passed()
                        whatsapp.on_node(self, self._codec.decode(incoming.decrypt(frame)))
        except* Ended:
            pass
        finally:
            self.is_open = self.active = False

    async def _write(self) -> None:
        async for node in self._waiting:
            await self._gate.passed()
            if node is _LAST:
                await trio.sleep(LINGER)
                raise Ended
            assert self._outgoing is not None
            await self._frames.send(self._outgoing.encrypt(self._codec.encode(node)))
