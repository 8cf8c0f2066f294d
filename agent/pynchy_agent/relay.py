"""Relay a loopback port in the container to the gateway's socket.

The model's program speaks HTTP over TCP; the container has no network, only the gateway's unix socket. This service
carries bytes between the two: whom a byte belongs to is decided where the socket is served. It reads only why the
gateway refused to connect somewhere, because the programs that asked hardly ever say it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

import trio

#: What every refusal of the gateway begins with.
OURS: Final = "pynchy gateway: "
MAX_WORDS: Final = 20  # refusals that are kept until somebody takes them
MAX_ANSWER: Final = 16 << 10  # bytes of an answer that are looked into


class Refusals:
    """Why the gateway refused to connect, each reason once, until it is taken."""

    def __init__(self) -> None:
        self._words: dict[str, None] = {}

    def add(self, words: str) -> None:
        if len(self._words) < MAX_WORDS:
            self._words[words] = None

    def take(self) -> list[str]:
        words, self._words = list(self._words), {}
        return words


async def run(
    gateway: str,
    listener: socket.socket,
    refusals: Refusals,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Carry each connection to the unix socket ``gateway``. Runs until cancelled."""
    listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    task_status.started()
    await trio.serve_listeners(partial(_carry, gateway, refusals), [listening])
    raise AssertionError("serve_listeners returned")


async def _carry(gateway: str, refusals: Refusals, inside: trio.SocketStream) -> None:
    """One connection, until either end closes it. A broken one is that connection's trouble alone."""
    try:
        outside = await trio.open_unix_socket(gateway)
    except OSError:
        return  # the client sees its connection closed, and tries again by its own rules
    watch = _Watch(refusals)
    async with outside, trio.open_nursery() as nursery:
        nursery.start_soon(_pump, inside, outside, nursery.cancel_scope, watch.asked)
        nursery.start_soon(_pump, outside, inside, nursery.cancel_scope, watch.answered)


async def _pump(
    source: trio.SocketStream,
    sink: trio.SocketStream,
    both: trio.CancelScope,
    passes: Callable[[bytes | bytearray], bytes | bytearray],
) -> None:
    try:
        async for data in source:
            if ready := passes(data):
                await sink.send_all(ready)
        if rest := passes(b""):
            await sink.send_all(rest)
        await sink.send_eof()  # half-closed: an answer may still be on its way
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()


class _Watch:
    """The requests of one connection to be connected elsewhere, and the answers that refuse it.

    What refuses a tunnel goes on once its words are known, because who asked acts on the first line of it.
    """

    def __init__(self, refusals: Refusals) -> None:
        self._refusals = refusals
        self._tunnel = False  # the newest request is for one
        self._answer: bytearray | None = None  # to the newest request, while it is worth reading

    def asked(self, data: bytes | bytearray) -> bytes | bytearray:
        waits = self._tunnel and bool(self._answer)
        if not waits and (data.startswith(b"CONNECT ") or b" http://" in data[:16]):
            self._tunnel = data.startswith(b"CONNECT ")
            self._answer = bytearray()
        return data

    def answered(self, data: bytes | bytearray) -> bytes | bytearray:
        """What goes on to who asked, now; without ``data`` all that is left."""
        if self._answer is None:
            return data
        answer = self._answer
        answer += data
        if not data or self._is_known(bytes(answer)):
            self._answer = None
            return answer if self._tunnel else data
        return b"" if self._tunnel else data

    def _is_known(self, answer: bytes) -> bool:
        """Whether all is known of an answer that matters here; a refusal of the gateway's is kept."""
        if answer.startswith(b"HTTP/1.1 2") or len(answer) > MAX_ANSWER:
            return True
        _, _, body = answer.partition(b"\r\n\r\n")
        with suppress(ValueError, KeyError, TypeError):  # it is not whole yet, or not the gateway's
            words = json.loads(body)["error"]["message"]
            if isinstance(words, str) and words.startswith(OURS):
                self._refusals.add(words.removeprefix(OURS))
                return True
        return False
