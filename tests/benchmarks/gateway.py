"""What the gateway adds to a call of the model API.

Three processes, as in life: an API on loopback that answers at once, a gateway with its ledger in a store on the
disk, and a client. Each call is made twice, straight and through the gateway, one after the other, so that whatever
else the machine does happens to both.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.gateway.upstream import ApiKey, open_anthropic
from pynchy.model import GroupId, Micros, RunId
from pynchy.store.database import open_store
from pynchy.store.ledger import StoreLedger
from tests.processes import processor_time

TOKEN = "0" * 64
WHO = RunIdentity(RunId("0123456789abcdef"), GroupId("family"), TOKEN)
PROMPT = 60_000  # bytes: the system prompt and the tools come with each call
RATE = 20  # events a second of one stream, about as a model writes
END = b"0\r\n\r\n"  # of an answer in chunks


# --- the two servers -------------------------------------------------------------------------------


def _event(kind: str, **more: object) -> bytes:
    data = f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
START = _event("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}})
WORD = _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a word "})
STOP = _event("message_delta", delta={}, usage={"output_tokens": 50}) + _event("message_stop") + END


def _say(word: object) -> None:
    """The line that whoever started us waits for."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _api() -> None:
    """Answers each call at once; one that asks for "seconds" goes on for so long, a word at a time."""

    async def serve(stream: trio.SocketStream) -> None:
        waiting = b""
        while True:
            while b"\r\n\r\n" not in waiting:
                if not (part := await stream.receive_some()):
                    return
                waiting += part
            head, _, body = waiting.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            while len(body) < size:
                body += await stream.receive_some()
            waiting = body[size:]
            seconds = float(body[:size].rpartition(b"seconds ")[2].split(b" ")[0])
            await stream.send_all(HEAD + START)
            for _ in range(round(seconds * RATE)):
                await trio.sleep(1 / RATE)
                await stream.send_all(WORD)
            await stream.send_all(STOP)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        _say(listeners[0].socket.getsockname()[1])


async def _serve(folder: Path, port: int) -> None:
    def now() -> Micros:
        return Micros(time.time_ns() // 1000)

    async with (
        open_store(folder / "db") as store,
        open_anthropic(ApiKey("sk-ant-x"), base_url=f"http://127.0.0.1:{port}") as upstream,
    ):
        ledger = StoreLedger(store, now=now, day_of=lambda _: "2026-01-01")
        async with Gateway(upstream=upstream, ledger=ledger).open_run(WHO, folder):
            _say("ready")
            await trio.sleep_forever()


# --- the client ------------------------------------------------------------------------------------


def _request(seconds: float) -> bytes:
    said = f"seconds {seconds} {'x' * PROMPT}"
    document = {
        "model": "claude-opus-5-5",
        "max_tokens": 2000,
        "stream": True,
        "messages": [{"role": "user", "content": said}],
    }
    body = json.dumps(document).encode()
    head = (
        f"POST /v1/messages?beta=true HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _call(connection: socket.socket, request: bytes) -> float:
    """Milliseconds to the first byte of the answer, which is read to its end."""
    began = time.perf_counter()
    connection.sendall(request)
    answer = connection.recv(1 << 16)
    spent = (time.perf_counter() - began) * 1000
    assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
    while not answer.endswith(END):
        answer += connection.recv(1 << 16)
    return spent


@contextmanager
def _process(*argv: str) -> Iterator[tuple[int, str]]:
    """A server of ours, and the line it said first."""
    command = [sys.executable, "-m", "tests.benchmarks.gateway", *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[int, int]]:
    """The API's port, and the gateway's process."""
    folder.mkdir(parents=True, exist_ok=True)
    with _process("api") as (_, port), _process("serve", str(folder), port) as (gateway, _):
        yield int(port), gateway


def added(folder: Path, pairs: int) -> tuple[list[float], float]:
    """Milliseconds that the gateway adds to the first byte of an answer, one for each pair of calls; and those of a
    processor that it spends on a call."""
    request = _request(0)
    with (
        _servers(folder) as (port, gateway),
        socket.create_connection(("127.0.0.1", port)) as straight,
        socket.socket(socket.AF_UNIX) as through,
    ):
        through.connect(str(folder / SOCKET))
        found: list[float] = []
        for number in range(pairs + 5):
            if number == 5:
                before = processor_time(gateway)
            ways = (straight, through) if number % 2 else (through, straight)
            times = {way: _call(way, request) for way in ways}
            if number >= 5:  # the first ones connect and load
                found.append(times[through] - times[straight])
        return found, (processor_time(gateway) - before) * 1000 / pairs


def streams(folder: Path, count: int, seconds: float) -> float:
    """The share of a processor, in percent, that so many streams at once cost the gateway."""
    request = _request(seconds)
    with _servers(folder) as (_, gateway), selectors.DefaultSelector() as selector:
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(folder / SOCKET))
            _call(first, _request(0))  # loads what is loaded late
        tails: dict[socket.socket, bytes] = {}
        for _ in range(count):
            ours = socket.socket(socket.AF_UNIX)
            ours.connect(str(folder / SOCKET))
            ours.sendall(request)
            selector.register(ours, selectors.EVENT_READ)
            tails[ours] = b""
        began, before = time.perf_counter(), processor_time(gateway)
        while tails:
            for key, _ in selector.select():
                stream = key.fileobj
                assert isinstance(stream, socket.socket)
                data = stream.recv(1 << 16)
                tails[stream] = (tails[stream] + data)[-len(END) :]
                if not data or tails[stream] == END:
                    selector.unregister(stream)
                    stream.close()
                    del tails[stream]
        return (processor_time(gateway) - before) / (time.perf_counter() - began) * 100


if __name__ == "__main__":
    if sys.argv[1] == "api":
        trio.run(_api)
    else:
        trio.run(_serve, Path(sys.argv[2]), int(sys.argv[3]))
