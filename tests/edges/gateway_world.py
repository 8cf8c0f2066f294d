"""What the gateway's tests share: a gateway on a real socket, a model API on loopback, raw calls."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import h11
import trio

from pynchy.gateway.egress import Network
from pynchy.gateway.exchange import (
    Ledger,
    OverBudget,
    Reserved,
    RunIdentity,
    Upstream,
    Usage,
    Wanted,
)
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.gateway.shared import Report, Tell
from pynchy.model import GroupId, RunId

TOKEN = "run-token-of-a-test"
KEY = "sk-ant-CANARY-0123456789"
WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), TOKEN)


@asynccontextmanager
async def served(
    directory: Path,
    upstream: Upstream | None = None,
    who: RunIdentity = WHO,
    *,
    ledger: Ledger | None = None,
    network: Network | None = None,
    tell: Tell | None = None,
    report: Report | None = None,
) -> AsyncIterator[Path]:
    """A gateway that serves one run; its socket."""
    gateway = Gateway(
        upstream=upstream or OfflineModel(),
        ledger=ledger,
        network=network,
        tell=tell,
        report=report,
    )
    async with gateway.open_run(who, directory):
        yield directory / SOCKET


async def exchange(path: Path, request: bytes) -> bytes:
    """Send raw bytes, and read until the gateway is done with us."""
    with trio.fail_after(20):
        async with await trio.open_unix_socket(str(path)) as stream:
            with suppress(trio.BrokenResourceError):  # it may hang up while we talk
                await stream.send_all(request)
            return await read_all(stream)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    answer = b""
    with suppress(trio.BrokenResourceError):  # it hung up on what we sent: what it said is here
        while part := await stream.receive_some():
            answer += part
    return answer


def post(
    document: Any,
    *,
    path: str = "/v1/messages?beta=true",
    token: str = TOKEN,
    more: str = "connection: close\r\n",
) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    ).encode() + body


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool

    @property
    def error(self) -> str:
        kind = json.loads(self.body)["error"]["type"]
        assert isinstance(kind, str)
        return kind


def parse(answer: bytes) -> Answer:
    """Read an answer the way a client does; ``whole`` is False for one that broke off."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    connection.receive_data(b"")
    status, body = 0, b""
    headers: dict[str, str] = {}
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Answer(status, headers, body, False)
        if isinstance(event, h11.Response):
            status = event.status_code
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, headers, body, True)
        elif not isinstance(event, h11.InformationalResponse):
            return Answer(status, headers, body, False)


def call(text: str, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "claude-opus-5-5", "max_tokens": 2_000, "messages": [message], **more}


def sse(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


START = sse("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}})
END = sse("message_delta", delta={}, usage={"output_tokens": 50}) + sse("message_stop")


# --- a model API on loopback ---------------------------------------------------------------------


@attrs.define
class Seen:
    """One request as the API saw it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    gone: trio.Event = attrs.field(factory=trio.Event)  # its client hung up before the answer's end

    @property
    def document(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


Send = Callable[[bytes], Awaitable[None]]
Answering = Callable[[Seen, Send], Awaitable[None]]


@attrs.define
class Api:
    base_url: str
    seen: list[Seen] = attrs.field(factory=list)


@asynccontextmanager
async def api(answering: Answering) -> AsyncIterator[Api]:
    """A server that reads requests and hands each to ``answering``, which writes raw bytes."""

    async def serve(stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER)
        request: Seen | None = None
        async with stream:
            while True:
                try:
                    event = http.next_event()
                except (
                    h11.RemoteProtocolError
                ):  # whoever asked was cut off before the request was whole
                    return
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Request):
                    headers = {name.decode(): value.decode() for name, value in event.headers}
                    request = Seen(event.method.decode(), event.target.decode(), headers, b"")
                elif isinstance(event, h11.Data):
                    assert request is not None
                    request.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert request is not None
            found.seen.append(request)
            async with trio.open_nursery() as nursery:

                async def watch(request: Seen) -> None:
                    with suppress(trio.BrokenResourceError):
                        await stream.receive_some(1)
                    request.gone.set()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch, request)
                with suppress(trio.BrokenResourceError):  # it has heard enough
                    await answering(request, stream.send_all)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        found = Api(f"http://127.0.0.1:{port}")
        yield found
        nursery.cancel_scope.cancel()


def response(
    body: bytes, *, status: int = 200, kind: str = "application/json", more: str = ""
) -> bytes:
    return (
        f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\n{more}\r\n"
    ).encode() + body


def stream_head(more: str = "") -> bytes:
    return (
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        f"connection: close\r\n{more}\r\n"
    ).encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# --- a ledger to look into -----------------------------------------------------------------------


@attrs.define
class Book:
    """A ledger that grants what it is told to, and keeps what it hears."""

    grants: int | None = 1_000_000
    wanted: list[Wanted] = attrs.field(factory=list)
    settled: list[Usage] = attrs.field(factory=list)

    async def reserve(self, who: RunIdentity, wanted: Wanted) -> Reserved | OverBudget:
        await trio.lowlevel.checkpoint()
        self.wanted.append(wanted)
        if self.grants is None:
            return OverBudget("the budget of $1.00 for today is used up", "day 2026-01-01")
        output = min(wanted.output, self.grants)
        return Reserved(len(self.wanted), wanted.model, output, wanted.free)

    async def settle(self, reserved: Reserved, usage: Usage) -> None:
        await trio.lowlevel.checkpoint()
        self.settled.append(usage)
