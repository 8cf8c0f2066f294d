"""The two streams of the wire as the guest has them: lines from the host, frames to it."""

from __future__ import annotations

from contextlib import suppress

import trio

from pynchy_agent import wire


class Lines:
    """What the host says, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream, received: wire.LineBuffer) -> None:
        self._stream = stream
        self._received = received

    async def read(self) -> wire.ToContainer | None:
        """The next line, or None at the end of the stream; half a line at the end is dropped."""
        while (line := self._received.pop()) is None:
            data = await self._stream.receive_some()
            if not data:
                return None
            self._received.feed(data)
        return wire.decode_line(line)


class Frames:
    """What the host hears; one frame at a time, whoever says it."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._turn = trio.Lock()

    async def say(self, frame: wire.Frame) -> None:
        """Say it. A host that reads no more is told nothing: the end of stdin ends the run."""
        async with self._turn:
            with suppress(trio.BrokenResourceError):
                await self._stream.send_all(wire.encode_frame(frame))
