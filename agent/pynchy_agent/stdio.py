"""The pipes to the host, and what is read from them before trio is there.

Whatever else this process or its children print lands on stderr: the two descriptors are moved away before anything
is imported that could write to them. Nothing heavy may be imported here.
"""

from __future__ import annotations

import os
from typing import Final

import attrs

from pynchy_agent import wire

MAX_LINE: Final = 64 << 20  # bytes of one line from the host


@attrs.frozen
class Stdio:
    """The descriptors of lines from the host and of frames to it, and what was read and not yet used."""

    lines: int
    frames: int
    received: wire.LineBuffer = attrs.field(factory=lambda: wire.LineBuffer(MAX_LINE))

    @classmethod
    def taken(cls) -> Stdio:
        """Copies of stdin and stdout that only we know; who uses the old ones reads nothing and writes to stderr."""
        stdio = cls(os.dup(0), os.dup(1))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        return stdio

    def say(self, frame: wire.Frame) -> None:
        os.write(self.frames, wire.encode_frame(frame))

    def read_start(self) -> wire.Start | None:
        """The first line; None when the host went away before it said one."""
        while (line := self.received.pop()) is None:
            data = os.read(self.lines, 1 << 20)
            if not data:
                return None
            self.received.feed(data)
        return wire.decode_start(line)
