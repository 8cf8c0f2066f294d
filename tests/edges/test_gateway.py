"""The gateway over real sockets: what passes, what is refused, and what happens to slow clients."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import trio

from pynchy.gateway.exchange import RunIdentity, Upstream
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.proxy import SOCKET, open_gateway
from pynchy.model import GroupId, RunId

TOKEN = "run-token-of-a-test"
WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), TOKEN)


@asynccontextmanager
async def served(
    directory: Path, upstream: Upstream | None = None, who: RunIdentity = WHO
) -> AsyncIterator[Path]:
    async with (
        open_gateway(upstream=upstream or OfflineModel()) as gateway,
        gateway.open_run(who, directory),
    ):
        yield directory / SOCKET


async def exchange(path: Path, request: bytes) -> bytes:
    """Send raw bytes, and read until the gateway is done with us."""
    with trio.fail_after(10):
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(request)
            answer = b""
            while part := await stream.receive_some():
                answer += part
            return answer


def post(
    document: Any, *, path: str = "/v1/messages?beta=true", token: str = TOKEN, close: bool = True
) -> bytes:
    body = json.dumps(document).encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{'connection: close' if close else 'x: y'}\r\n\r\n"
    ).encode() + body


def parse(answer: bytes) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    connection.receive_data(answer)
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        else:
            return status, body


def call(text: str, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"model": "claude-x", "max_tokens": 100, "messages": [message], **more}


async def test_a_call_is_answered_by_the_offline_model(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        status, body = parse(await exchange(path, post(call("echo hello"))))
    assert status == 200
    assert json.loads(body)["content"] == [{"type": "text", "text": "hello"}]
    assert not path.exists()


async def test_a_stream_comes_as_events(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        status, body = parse(await exchange(path, post(call("echo hello", stream=True))))
    assert status == 200
    events = [line for line in body.decode().split("\n") if line.startswith("event: ")]
    assert events[0] == "event: message_start"
    assert events[-1] == "event: message_stop"


async def test_another_token_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        status, body = parse(await exchange(path, post(call("echo x"), token="other")))
    assert status == 401
    assert TOKEN.encode() not in body
