"""The control socket, by which the same user's tools talk to the daemon (docs/control.md).

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
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, cast

import attrs
import trio

from pynchy.limits import CLIENTS
from pynchy.logs import logger
from pynchy.reader_budget import Account, Reader, charged_to
from pynchy_agent.values import Record, kind_of
from pynchy_agent.wire import BadFrame, loads_strict

MAX_LINE: Final = CLIENTS.request
MAX_CLIENTS: Final = CLIENTS.most
MAX_WAITING: Final = CLIENTS.unread
FLUSH: Final = 5.0  # seconds a client that has finished gets to read its last answers
SHARE: Final = 0.25  # of the loop's time that one client may use in the long run
BURST: Final = 1.0  # seconds of the processor that it may use at once after a rest
EVICTED: Final = f"{MAX_CLIENTS} connections are open, and the least active gave way to a new one"

Op = Callable[..., Awaitable[object]]
"""``async def op(client, *, name: type, …) -> JSON``. Its keyword arguments are the request's; or
``async def op(client, wanted: Class) -> JSON``, of an attrs class that has them as its fields."""


F = TypeVar("F", bound=Op)


def op(name: str) -> Callable[[F], F]:
    """Offer a method as the op of this name, see `ops_of`."""

    def offered(method: F) -> F:
        method.op_name = name  # type: ignore[attr-defined]
        return method

    return offered


def ops_of(*tables: object) -> dict[str, Op]:
    """The ops that these offer, by name; those of a class as functions."""
    return {
        method.op_name: getattr(table, name)
        for table in tables
        for name, method in vars(table if isinstance(table, type) else type(table)).items()
        if hasattr(method, "op_name")
    }


class OpFailed(Exception):
    """The op says no, in a sentence for the person who asked. ``code`` is for their program."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@attrs.define(eq=False)
class Client:
    """One connection, as ops see it."""

    _scope: trio.CancelScope
    _reading: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _lines: deque[bytes] = attrs.field(factory=deque)
    _waiting: int = 0  # bytes in ``_lines``, and in the one that is being written
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _done: bool = False  # it has finished asking, and is about to go
    _goodbyes: list[Callable[[], None]] = attrs.field(factory=list)
    _asked_at: float | None = None  # when it asked last; None if never
    _busy: bool = False  # something that it asked is being done

    def tell(self, event: Mapping[str, object]) -> None:
        """Put an event on its way. Never waits: a client that leaves `MAX_WAITING` bytes unread is dropped."""
        line = encode(event)
        if self._done:
            return
        if self._waiting + len(line) > MAX_WAITING:
            self._scope.cancel("it does not read")
        else:
            self._put(line)

    def when_gone(self, goodbye: Callable[[], None]) -> None:
        """Call this once the connection is over, by whatever road."""
        self._goodbyes.append(goodbye)

    @property
    def _rank(self) -> tuple[int, float]:
        """Who gives way first: those that never asked, then those that wait for nothing, then for events,
        then for an answer; of each the one that has been silent longest."""
        if self._asked_at is None:
            return 0, 0.0
        kind = 3 if self._busy else 2 if self._goodbyes else 1
        return kind, self._asked_at

    def _give_way(self) -> None:
        """End the connection, with the reason, as far as that can be said without waiting."""
        self._put(encode(_failure(None, "evicted", EVICTED)))
        self._done = True
        self._reading.cancel("it gives way to a new connection")

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._waiting += len(line)
        self._ring()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _answer(self, answer: Mapping[str, object]) -> None:
        """Put an answer on its way, once there is room for it."""
        await trio.lowlevel.checkpoint()
        while self._waiting > MAX_WAITING:
            await self._changed.wait()
        self._put(encode(answer))

    async def _write(self, stream: trio.SocketStream) -> None:
        """Write lines until the client has finished asking and all are written."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                await stream.send_all(line)
                self._waiting -= len(line)
                self._ring()
            if self._done:
                return
            await self._changed.wait()


async def run(
    path: Path,
    ops: Mapping[str, Op],
    *,
    fatal: tuple[type[Exception], ...] = (),
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve the socket at ``path``. Runs until cancelled; the socket is gone after.

    Only we may connect: the file has mode 600 in a folder of our own, and the kernel is asked who
    called. What an op raises is told to its client and logged, except for ``fatal`` errors, which go
    up. The caller holds the instance lock, so a socket that is already there is a dead daemon's.
    """
    with _listen(path) as listener:
        converse = _Server(ops, fatal).converse
        await trio.serve_listeners(converse, [listener], task_status=task_status)
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


@attrs.define(eq=False)
class _Server:
    """Whose connections are open, and what they may ask. There is always room for one more: the least active gives
    way."""

    _ops: Mapping[str, Op]
    _fatal: tuple[type[Exception], ...]
    _clients: dict[Client, None] = attrs.field(factory=dict)  # in the order in which they came

    async def converse(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        async with stream:
            if (uid := peer_uid(stream.socket)) != os.getuid():
                logger.warning("control: refused a connection of uid {}", uid)
                return
            with trio.CancelScope() as scope, charged_to(Account(share=SHARE, burst=BURST)):
                client = Client(scope)
                with self._place(client):
                    try:
                        await self._serve(stream, client)
                    except* (trio.BrokenResourceError, trio.ClosedResourceError):
                        pass  # the client went away: its right

    @contextmanager
    def _place(self, client: Client) -> Iterator[None]:
        if len(self._clients) >= MAX_CLIENTS:
            least = min(self._clients, key=lambda each: each._rank)
            del self._clients[least]
            least._give_way()
        self._clients[client] = None
        try:
            yield
        finally:
            self._clients.pop(client, None)

    async def _serve(self, stream: trio.SocketStream, client: Client) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client._write, stream)
                with client._reading:
                    await self._read(stream, client)
                client._done = True
                client._ring()
                nursery.cancel_scope.deadline = trio.current_time() + FLUSH
        finally:
            for goodbye in client._goodbyes:
                goodbye()

    async def _read(self, stream: trio.SocketStream, client: Client) -> None:
        """Answer a client's requests one after the other, until it has no more."""
        buffer = bytearray()
        reader = Reader("what the client asks")
        while True:
            while (end := buffer.find(b"\n")) >= 0:
                await reader.took(end + 1)
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                if len(line) > MAX_LINE:
                    break
                if line.strip():
                    client._asked_at, client._busy = trio.current_time(), True
                    await client._answer(await self._handle(line, client))
                    client._busy = False
            if len(buffer) > MAX_LINE or end > MAX_LINE:
                message = f"a request of more than {MAX_LINE} bytes"
                await client._answer(_failure(None, "too_long", message))
                return
            chunk = await stream.receive_some(64 * 1024)
            if not chunk:
                return
            buffer += chunk

    async def _handle(self, line: bytes, client: Client) -> dict[str, object]:
        try:
            request = loads_strict(line, max_bytes=MAX_LINE)
        except BadFrame as error:
            return _failure(None, "bad_request", str(error))
        number = request.pop("id", None)
        if not isinstance(number, int | str | None):
            return _failure(None, "bad_request", "id: expected a number or a text")
        name = request.pop("op", None)
        if not isinstance(name, str) or name not in self._ops:
            known = ", ".join(sorted(self._ops))
            return _failure(number, "unknown_op", f"op: expected one of {known}")
        if problem := mismatch(self._ops[name], request):
            return _failure(number, "bad_request", problem)
        try:
            result = await call(self._ops[name], client, request)
        except OpFailed as error:
            return _failure(number, error.code, str(error))
        except self._fatal:
            raise
        except Exception:  # contained here, and only here: one request's trouble
            logger.exception("control: {} failed", name)
            return _failure(number, "internal", "the daemon failed to do this; its log says why")
        return {"id": number, "ok": True, "result": result}


def mismatch(op: Op, arguments: Mapping[str, object]) -> str | None:
    """What is wrong with these arguments for this op, or None."""
    return arguments_of(op).wrong(arguments)


def call(op: Op, client: Client, arguments: Mapping[str, Any]) -> Awaitable[object]:
    """Do what an op does, with arguments that fit."""
    value = _value_of(_written(op))
    return op(client, **arguments) if value is None else op(client, value(**arguments))


def arguments_of(op: Op) -> Record:
    """What an op takes, as its signature says."""
    return _arguments(_written(op))


def _written(op: Op) -> Callable[..., Any]:
    """The function behind an op, which stays the same while those who are bound to it come and go."""
    function: Callable[..., Any] = getattr(op, "__func__", op)
    return function


@cache
def _arguments(function: Callable[..., Any]) -> Record:
    signature = inspect.signature(_value_of(function) or function, eval_str=True)
    wanted = [each for each in signature.parameters.values() if each.name not in ("self", "client")]
    return Record(
        {each.name: kind_of(each.annotation) for each in wanted if each.default is each.empty},
        {each.name: kind_of(each.annotation) for each in wanted if each.default is not each.empty},
    )


@cache
def _value_of(function: Callable[..., Any]) -> type | None:
    """The class of the one value that an op takes, if it takes one."""
    for each in inspect.signature(function, eval_str=True).parameters.values():
        if attrs.has(each.annotation) and each.annotation is not Client:
            return cast("type", each.annotation)
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
