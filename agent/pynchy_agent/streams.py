"""The two streams of the wire as the guest has them: lines from the host, frames to it."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from pynchy_agent import wire

MAX_LINE: Final = 64 << 20  # bytes of one line from the host


class Lines:
    """What the host says, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream, received: bytes) -> None:
        self._stream = stream
        self._buffer = bytearray(received)

    async def read(self) -> wire.ToContainer | None:
        """The next line, or None at the end of the stream; half a line at the end is dropped."""
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            if scanned > MAX_LINE:
                raise wire.BadFrame(f"a line of more than {MAX_LINE} bytes")
            data = await self._stream.receive_some()
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
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
