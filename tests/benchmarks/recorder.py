"""A model on loopback that answers whoever asks, and remembers when each request reached it.

It speaks the two dialects that assistants speak to models, Messages and chat completions, as a stream or in one piece,
and says the same few words to everybody. The time of an arrival is taken when a request's first line is there, by the
clock of the process that sent the message.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

SAID = "Hello from loopback."
MODEL = "claude-sonnet-4-5"


@attrs.define(eq=False)
class Recorder:
    """Where the model listens, and what arrived there."""

    port: int
    arrivals: list[tuple[float, str, bytes]] = attrs.field(factory=list)
    _changed: threading.Condition = attrs.field(factory=threading.Condition)

    def note(self, at: float, path: str, body: bytes) -> None:
        with self._changed:
            self.arrivals.append((at, path, body))
            self._changed.notify_all()

    def first(self, words: str, limit: float) -> float | None:
        """When the first request that carries these words came, waited for so long; None if none did."""
        wanted = words.encode()

        def found() -> float | None:
            return next((at for at, _, body in self.arrivals if wanted in body), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, limit)
            return found()


def _sse(*events: tuple[str, object]) -> bytes:
    """Server-sent events, with their names where they have one."""
    return b"".join(
        (f"event: {name}\n" if name else "").encode()
        + b"data: "
        + (data if isinstance(data, str) else json.dumps(data)).encode()
        + b"\n\n"
        for name, data in events
    )


def _message(asked: dict[str, Any]) -> tuple[str, bytes]:
    """An answer of the Messages API."""
    usage = {"input_tokens": 7, "output_tokens": 5}
    message = {
        "id": "msg_loopback",
        "type": "message",
        "role": "assistant",
        "model": asked.get("model", MODEL),
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not asked.get("stream"):
        return "application/json", json.dumps(message).encode()
    kinds: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": SAID},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
    ]
    return "text/event-stream", _sse(*((str(each["type"]), each) for each in kinds))


def _completion(asked: dict[str, Any]) -> tuple[str, bytes]:
    """An answer of the chat completions API."""
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    base = {"id": "chatcmpl-loopback", "created": int(time.time()), "model": asked.get("model")}
    said = {"role": "assistant", "content": SAID}
    if not asked.get("stream"):
        whole = [{"index": 0, "message": said, "finish_reason": "stop"}]
        answer = base | {"object": "chat.completion", "choices": whole, "usage": usage}
        return "application/json", json.dumps(answer).encode()
    part = base | {"object": "chat.completion.chunk"}
    return "text/event-stream", _sse(
        ("", part | {"choices": [{"index": 0, "delta": said, "finish_reason": None}]}),
        ("", part | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
        ("", part | {"choices": [], "usage": usage}),
        ("", "[DONE]"),
    )


@contextmanager
def open_recorder() -> Iterator[Recorder]:
    """A model on a port of its own on loopback, for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            self.at = time.perf_counter()  # its first line is read
            return super().parse_request()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            recorder.note(self.at, self.path, body)
            path = self.path.partition("?")[0]
            asked = json.loads(body or b"{}")
            if path.endswith("/count_tokens"):
                self._answer("application/json", b'{"input_tokens": 7}')
            elif path.endswith("/messages"):
                self._answer(*_message(asked))
            elif path.endswith("/chat/completions"):
                self._answer(*_completion(asked))
            else:
                self._answer("application/json", b'{"error": {"message": "not here"}}', 404)

        def do_GET(self) -> None:
            models = [{"id": MODEL, "object": "model", "type": "model", "display_name": MODEL}]
            self._answer("application/json", json.dumps({"data": models}).encode())

        def _answer(self, kind: str, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads along."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        recorder = Recorder(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.5})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
