"""The control socket: how tools of the same user talk to the daemon. docs/control.md is its manual.

One JSON object a line. A request ``{"id": 1, "op": "status"}`` gets one answer with the same id,
``{"id": 1, "ok": true, "result": …}`` or ``{"id": 1, "ok": false, "code": "…", "error": "…"}``; events,
``{"event": …}``, come in between. Requests of one client are answered in order.

The rule that keeps it so: this module knows sockets and lines, and not one op. The ops are a table
of async functions that the daemon hands in; what they take is read off their signatures.
"""

from __future__ import annotations

import inspect
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import attrs
import trio

from pynchy.logs import logger
from pynchy_agent.wire import BadFrame, loads_strict

MAX_LINE: Final = 256 * 1024  # bytes of one request
MAX_CLIENTS: Final = 64
MAX_WAITING: Final = 4 * 1024 * 1024  # bytes a client may leave unread before it is dropped
FLUSH: Final = 5.0  # seconds a client that has finished gets to read its last answers

Op = Callable[..., Awaitable[object]]
"""``async def op(client, *, name: type, …) -> JSON``. Its keyword arguments are the request's."""


class OpFailed(Exception):
    """The op says no, in a sentence for the person who asked. ``code`` is for their program."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.define(eq=False)
class Client:
    """One connection, as ops see it."""

    _lines: trio.MemorySendChannel[bytes]
    _scope: trio.CancelScope
    _waiting: int = 0
    _goodbyes: list[Callable[[], None]] = attrs.field(factory=list)

    def tell(self, event: Mapping[str, object]) -> None:
        """Put an event on its way. Never waits: a client that does not read is dropped."""
        line = encode(event)
        try:
            if self._waiting + len(line) > MAX_WAITING:
                raise trio.WouldBlock
            self._lines.send_nowait(line)
        except trio.WouldBlock:
            self._scope.cancel("it does not read")
        except trio.ClosedResourceError:
            return  # it has finished asking, and is about to go
        else:
            self._waiting += len(line)

    def when_gone(self, goodbye: Callable[[], None]) -> None:
        """Call this once the connection is over, by whatever road."""
        self._goodbyes.append(goodbye)

    async def _answer(self, answer: Mapping[str, object]) -> None:
        line = encode(answer)
        self._waiting += len(line)
        await self._lines.send(line)

    async def _write(
        self, lines: trio.MemoryReceiveChannel[bytes], stream: trio.SocketStream
    ) -> None:
        async with lines:
            async for line in lines:
                await stream.send_all(line)
                self._waiting -= len(line)


async def run(
    path: Path,
    ops: Mapping[str, Op],
    *,
    fatal: tuple[type[Exception], ...] = (),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve the socket at ``path``. Runs until cancelled; the socket is gone after.

    Only we may connect: the file has mode 600 in a folder of our own, and the kernel is asked who
    called. What an op raises is told to its client and logged, except for ``fatal`` errors, which go
    up. The caller holds the instance lock, so a socket that is already there is a dead daemon's.
    """
    serve = partial(_converse, ops=ops, fatal=fatal, places=trio.CapacityLimiter(MAX_CLIENTS))
    with _listen(path) as listener:
        await trio.serve_listeners(serve, [listener], task_status=_Quiet(task_status))
    raise AssertionError("serve_listeners returned")


@contextmanager
def _listen(path: Path) -> Iterator[trio.SocketListener]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            listening.bind(str(path))
            path.chmod(0o600)
            listening.listen(64)  # nobody could have connected before
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        finally:
            path.unlink(missing_ok=True)


@attrs.frozen
class _Quiet:
    """Passes "started" on without the listeners, which are nobody's business."""

    task_status: trio.TaskStatus[None]

    def started(self, _listeners: object = None) -> None:
        self.task_status.started()


async def _converse(
    stream: trio.SocketStream,
    *,
    ops: Mapping[str, Op],
    fatal: tuple[type[Exception], ...],
    places: trio.CapacityLimiter,
) -> None:
    async with stream:
        if (uid := peer_uid(stream.socket)) != os.getuid():
            logger.warning("control: refused a connection of uid {}", uid)
            return
        with trio.CancelScope() as scope:
            try:
                places.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                await stream.send_all(encode(_failure(None, "busy", "too many connections")))
                return
            try:
                await _serve(stream, scope, ops, fatal)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client went away: its right
            finally:
                places.release_on_behalf_of(stream)


async def _serve(
    stream: trio.SocketStream,
    scope: trio.CancelScope,
    ops: Mapping[str, Op],
    fatal: tuple[type[Exception], ...],
) -> None:
    sender, receiver = trio.open_memory_channel[bytes](256)  # lines; bytes are bounded in Client
    client = Client(sender, scope)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._write, receiver, stream)
            async with sender:
                await _read(stream, client, ops, fatal)
            nursery.cancel_scope.deadline = trio.current_time() + FLUSH
    finally:
        for goodbye in client._goodbyes:
            goodbye()


async def _read(
    stream: trio.SocketStream,
    client: Client,
    ops: Mapping[str, Op],
    fatal: tuple[type[Exception], ...],
) -> None:
    """Answer a client's requests one after the other, until it has no more."""
    buffer = bytearray()
    while True:
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if len(line) > MAX_LINE:
                break
            if line.strip():
                await client._answer(await _handle(line, client, ops, fatal))
        if len(buffer) > MAX_LINE or end > MAX_LINE:
            message = f"a request of more than {MAX_LINE} bytes"
            await client._answer(_failure(None, "too_long", message))
            return
        chunk = await stream.receive_some(64 * 1024)
        if not chunk:
            return
        buffer += chunk


async def _handle(
    line: bytes, client: Client, ops: Mapping[str, Op], fatal: tuple[type[Exception], ...]
) -> dict[str, object]:
    try:
        request = loads_strict(line, max_bytes=MAX_LINE)
    except BadFrame as error:
        return _failure(None, "bad_request", str(error))
    number = request.pop("id", None)
    if not isinstance(number, int | str | None):
        return _failure(None, "bad_request", "id: expected a number or a text")
    name = request.pop("op", None)
    if not isinstance(name, str) or name not in ops:
        return _failure(number, "unknown_op", f"op: expected one of {', '.join(sorted(ops))}")
    if problem := mismatch(ops[name], request):
        return _failure(number, "bad_request", problem)
    try:
        result = await ops[name](client, **request)
    except OpFailed as error:
        return _failure(number, error.code, str(error))
    except fatal:
        raise
    except Exception:  # contained here, and only here: one request's trouble
        logger.exception("control: {} failed", name)
        return _failure(number, "internal", "the daemon failed to do this; its log says why")
    return {"id": number, "ok": True, "result": result}


def mismatch(op: Op, arguments: Mapping[str, object]) -> str | None:
    """What is wrong with these arguments for this op, or None. The op's signature is the rule."""
    wanted = {
        name: parameter
        for name, parameter in inspect.signature(op, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for name, value in arguments.items():
        if name not in wanted:
            return f"{name[:40]}: unknown; expected {', '.join(wanted) or 'nothing'}"
        kind = wanted[name].annotation
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, float)):
            return f"{name}: expected {getattr(kind, '__name__', kind)}"
    for name, parameter in wanted.items():
        if parameter.default is parameter.empty and name not in arguments:
            return f"{name}: missing"
    return None


def _failure(number: object, code: str, message: str) -> dict[str, object]:
    return {"id": number, "ok": False, "code": code, "error": message}


def encode(value: Mapping[str, object]) -> bytes:
    """One line. ASCII throughout, so that nothing in a text can end it or colour a terminal."""
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def peer_uid(connection: trio.socket.SocketType | socket.socket) -> int:
    """The user at the other end of a unix socket, as the kernel has it."""
    if hasattr(socket, "SO_PEERCRED"):  # Linux
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", credentials)[1])
    return xucred_uid(connection.getsockopt(0, 1, 76))  # SOL_LOCAL, LOCAL_PEERCRED


def xucred_uid(data: bytes) -> int:
    """The uid in macOS's ``struct xucred``."""
    version, uid = struct.unpack_from("=II", data)
    if version != 0:
        raise OSError(f"xucred of version {version}")
    return int(uid)
