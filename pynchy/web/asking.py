"""Connect the page to the control socket: a connection for each question, and one for each stream.

Edge. The rule that keeps it so: what an answer means is the page's business, and nothing is kept.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from pynchy.limits import CLIENTS

MAX_LINE: Final = 16 * 1024 * 1024  # bytes of one answer


class NotRunning(Exception):
    """There is no daemon, or it went away."""


class Evicted(NotRunning):
    """The daemon disconnected us to make room for another client; asking again is fine."""


class NoAnswer(Exception):
    """The daemon runs, but did not answer in time."""


class Refused(Exception):
    """The daemon refused the request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.define(eq=False)
class Connection:
    """One connection to the daemon."""

    _stream: trio.SocketStream
    _buffer: bytearray = attrs.field(factory=bytearray)

    async def ask(self, op: str, arguments: Mapping[str, object]) -> Any:
        """The result of an op. Raises `Refused`, `NotRunning`, or `NoAnswer`."""
        request = {**arguments, "id": 1, "op": op}
        with trio.move_on_after(CLIENTS.answer):
            try:
                await self._stream.send_all(json.dumps(request).encode() + b"\n")
            except trio.BrokenResourceError as error:
                raise NotRunning from error
            while True:
                line = await self.line()
                if "event" not in line:
                    break
            if not line.get("ok"):
                raise Refused(str(line.get("code")), str(line.get("error")))
            return line["result"]
        raise NoAnswer

    async def line(self) -> dict[str, Any]:
        """The next line, an answer or an event. Raises `NotRunning` when there are no more."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > MAX_LINE:
                raise NotRunning
            try:
                chunk = await self._stream.receive_some(256 * 1024)
            except trio.BrokenResourceError as error:
                raise NotRunning from error
            if not chunk:
                raise NotRunning
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        found: dict[str, Any] = json.loads(line)
        if found.get("code") == "evicted":
            raise Evicted
        return found


@asynccontextmanager
async def open_connection(path: Path) -> AsyncIterator[Connection]:
    """Connect to the daemon at this socket for the length of the block; raises `NotRunning`."""
    try:
        stream = await trio.open_unix_socket(path)
    except (OSError, RuntimeError) as error:
        raise NotRunning from error
    async with stream:
        yield Connection(stream)


async def ask(path: Path, op: str, arguments: Mapping[str, object]) -> Any:
    """The result of one op, over a connection of its own."""
    async with open_connection(path) as connection:
        return await connection.ask(op, arguments)
