"""A Messages API for tests: real HTTP on a unix socket or a loopback port, and answers that a script decides.

The script is an async function from a request to a reply, so it can wait for what a test does meanwhile. It speaks
just enough HTTP for the CLI: one request after the other on a connection, bodies with a length, streams in chunks.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import attrs
import h11
import trio

Block = dict[str, Any]


@attrs.frozen
class Request:
    """One call of the model as the script sees it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the last message of a user; the CLI also puts messages of its own behind it."""
        for message in reversed(self.body["messages"]):
            if message["role"] == "user":
                content = message["content"]
                return [{"type": "text", "text": content}] if isinstance(content, str) else content
        return []

    @property
    def prompt(self) -> str:
        """What was last typed, without the CLI's reminders."""
        texts = [block["text"] for block in self.blocks if block["type"] == "text"]
        return "\n".join(text for text in texts if not text.startswith("<system-reminder>"))

    @property
    def tool_results(self) -> list[str]:
        """What tools gave back to this call, as text, in order."""
        found = [block for block in self.blocks if block["type"] == "tool_result"]
        return [
            block["content"]
            if isinstance(block["content"], str)
            else "".join(part.get("text", "") for part in block["content"])
            for block in found
        ]

    @property
    def mid_turn(self) -> str:
        """All that stands in messages of the system: among it what was typed while the turn ran."""
        said = [
            message["content"] for message in self.body["messages"] if message["role"] == "system"
        ]
        return "\n".join(
            text if isinstance(text, str) else "".join(part["text"] for part in text)
            for text in said
        )

    @property
    def system(self) -> str:
        return "\n".join(block["text"] for block in self.body["system"])

    @property
    def tools(self) -> set[str]:
        return {tool["name"] for tool in self.body["tools"]}


@attrs.frozen
class Reply:
    """What the model answers: blocks of content, or an error. ``before_last`` is waited for before the stream ends.

    ``stop`` is why the model stopped, if not because it was done or called a tool. A stream that ends in silence ends
    in the middle of its last block; one that ends in an error says so there.
    """

    blocks: tuple[Block, ...] = ()
    stop: str | None = None
    status: int = 200
    error: tuple[str, str] = ("", "")
    headers: tuple[tuple[str, str], ...] = ()
    input_tokens: int = 10
    searches: int = 0  # that it made itself
    ends: Literal["well", "in silence", "in an error"] = "well"
    before_last: Callable[[], Awaitable[Any]] | None = None


# The CLI takes two messages with one id for one message.
_ids = count(1)


def says(text: str, **more: Any) -> Reply:
    return Reply(blocks=({"type": "text", "text": text},), **more)


def blocks(*found: Block | str, **more: Any) -> Reply:
    """A message of several blocks; a string is a block of text."""
    texts = ({"type": "text", "text": each} if isinstance(each, str) else each for each in found)
    return Reply(blocks=tuple(texts), **more)


def uses(*calls: tuple[str, dict[str, Any]]) -> Reply:
    """One or more tool calls at once."""
    return Reply(
        blocks=tuple(
            {"type": "tool_use", "id": f"toolu_{next(_ids):020}", "name": name, "input": args}
            for name, args in calls
        )
    )


def fails(status: int, kind: str, message: str = "no") -> Reply:
    return Reply(status=status, error=(kind, message))


Script = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def open_messages_api(script: Script, socket: Path) -> AsyncIterator[list[Request]]:
    """Serve on the unix socket for the length of the block; gives the list of the calls so far."""
    log: list[Request] = []
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(str(socket))
    listener.listen(50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            trio.serve_listeners, partial(_serve, script, log), [trio.SocketListener(listener)]
        )
        yield log
        nursery.cancel_scope.cancel("the test is over")


async def _serve(script: Script, log: list[Request], stream: trio.SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            request, body = await _read(connection, stream)
            if request is None:
                return
            called = Request(
                path=request.target.decode(),
                headers={name.decode(): value.decode() for name, value in request.headers},
                body=json.loads(body or b"{}"),
            )
            log.append(called)
            reply = await script(called)
            await _write(connection, stream, called, reply)
            connection.start_next_cycle()
    except (trio.BrokenResourceError, h11.ProtocolError):
        return  # the client went away, as an interrupted one does
    finally:
        await trio.aclose_forcefully(stream)


async def _read(
    connection: h11.Connection, stream: trio.SocketStream
) -> tuple[h11.Request | None, bytes]:
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return request, body
        else:
            return None, b""


async def _write(
    connection: h11.Connection, stream: trio.SocketStream, called: Request, reply: Reply
) -> None:
    async def send(event: h11.Event) -> None:
        await stream.send_all(connection.send(event) or b"")

    if reply.status != 200 or not called.body.get("stream"):
        data = json.dumps(_whole(called, reply)).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(data)))]
        headers += reply.headers
        await send(h11.Response(status_code=reply.status, headers=headers))
        await send(h11.Data(data=data))
    else:
        await send(h11.Response(status_code=200, headers=[("content-type", "text/event-stream")]))
        for name, body in _cut(_events(called, reply), reply):
            if name == "message_delta" and reply.before_last is not None:
                await reply.before_last()
            await send(h11.Data(data=f"event: {name}\ndata: {json.dumps(body)}\n\n".encode()))
    await send(h11.EndOfMessage())


def _whole(called: Request, reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        kind, message = reply.error
        return {"type": "error", "error": {"type": kind, "message": message}}
    return {**_head(called, reply), "content": list(reply.blocks), "stop_reason": _stop(reply)}


def _head(called: Request, reply: Reply) -> dict[str, Any]:
    usage = {"input_tokens": reply.input_tokens, "output_tokens": 5}
    model = called.body.get("model", "")
    return {
        "id": f"msg_{next(_ids):020}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "usage": usage,
    }


def _stop(reply: Reply) -> str:
    if reply.stop is not None:
        return reply.stop
    return "tool_use" if any(block["type"] == "tool_use" for block in reply.blocks) else "end_turn"


def _cut(
    events: list[tuple[str, dict[str, Any]]], reply: Reply
) -> list[tuple[str, dict[str, Any]]]:
    if reply.ends == "well":
        return events
    last = [name for name, _ in events].index("message_delta") - 1
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    return events[:last] + ([("error", error)] if reply.ends == "in an error" else [])


def _events(called: Request, reply: Reply) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": _head(called, reply)})
    ]
    delta: Block | None
    for index, block in enumerate(reply.blocks):
        if block["type"] == "text":
            begun, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        elif block["type"] == "thinking":
            begun = {**block, "thinking": "", "signature": ""}
            delta = {"type": "thinking_delta", "thinking": block["thinking"]}
        elif block["type"].endswith("_result"):
            begun, delta = block, None
        else:
            begun = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append(("content_block_start", {"index": index, "content_block": begun}))
        if delta is not None:
            events.append(("content_block_delta", {"index": index, "delta": delta}))
        events.append(("content_block_stop", {"index": index}))
    usage: dict[str, Any] = {"output_tokens": 5}
    if reply.searches:
        usage["server_tool_use"] = {"web_search_requests": reply.searches}
    events.append(("message_delta", {"delta": {"stop_reason": _stop(reply)}, "usage": usage}))
    events.append(("message_stop", {}))
    return [(name, {"type": name, **body}) for name, body in events]
