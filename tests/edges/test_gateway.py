"""The gateway on a real socket: what passes, what is refused, and that it lives on after each."""

import json
import os
import stat
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from pynchy.gateway.connection import MAX_CONNECTIONS
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.model import GroupId, RunId
from pynchy.reader_budget import Account, charged_to, open_loop_time
from tests.edges.gateway_world import (
    TOKEN,
    WHO,
    call,
    exchange,
    parse,
    post,
    read_all,
    served,
)


async def test_a_call_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        answer = parse(await exchange(path, post(call("echo hello"))))
    assert answer.status == 200
    assert json.loads(answer.body)["content"] == [{"type": "text", "text": "hello"}]


async def test_a_stream_comes_as_events(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        answer = parse(await exchange(path, post(call("echo hello", stream=True))))
    events = [line for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    assert events[0] == "event: message_start"
    assert events[-1] == "event: message_stop"


async def test_the_socket_is_private_and_gone_with_its_run(tmp_path: Path) -> None:
    async with served(tmp_path / "gw") as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_root_daemon_gives_the_socket_to_the_agent(tmp_path: Path) -> None:
    gateway = Gateway(upstream=OfflineModel())
    async with gateway.open_run(WHO, tmp_path / "gw", owner=(12345, 12346)):
        for path in (tmp_path / "gw", tmp_path / "gw" / SOCKET):
            assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


async def test_a_socket_that_a_dead_daemon_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / SOCKET).touch()
    async with served(tmp_path) as path:
        assert parse(await exchange(path, post(call("echo x")))).status == 200


async def test_a_connection_serves_many_calls(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        two = post(call("echo one"), more="") + post(call("echo two"))
        answer = await exchange(path, two)  # the second does not even wait for the first
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'"one"') < answer.index(b'"two"')


async def test_a_client_may_ask_before_it_sends_its_body(tmp_path: Path) -> None:
    request = post(call("echo x"), more="expect: 100-continue\r\nconnection: close\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    with trio.fail_after(20):
        async with served(tmp_path) as path, await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(head + b"\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(body)
            assert parse(await read_all(stream)).status == 200


GOOD = json.dumps(call("echo x")).encode()


def raw(
    line: str = "POST /v1/messages HTTP/1.1",
    *headers: str,
    body: bytes = GOOD,
    token: str | None = TOKEN,
    host: str | None = "x",
    length: str | None = "",
) -> bytes:
    lines = [line, "content-type: application/json", "connection: close", *headers]
    if host is not None:
        lines.append(f"host: {host}")
    if token is not None:
        lines.append(f"authorization: Bearer {token}")
    if length is not None:
        lines.append(f"content-length: {length or len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def bad(**more: Any) -> bytes:
    return raw(body=json.dumps({**call("x"), **more}).encode())


HOSTILE: dict[str, tuple[bytes, int]] = {
    "wrong token": (raw(token="wrong"), 401),
    "other run's token": (raw(token="run-token-of-another"), 401),
    "empty token": (raw(token=""), 401),
    "no token": (raw(token=None), 401),
    "other path": (raw("POST /v1/files HTTP/1.1"), 403),
    "batches": (raw("POST /v1/messages/batches HTTP/1.1"), 403),
    "other method": (raw("GET /v1/messages HTTP/1.1", body=b"", length=None), 405),
    "absolute form": (raw("POST http://api.anthropic.com/v1/messages HTTP/1.1"), 403),
    "absolute form inside": (raw("POST http://169.254.169.254/latest HTTP/1.1"), 403),
    "connect": (raw("CONNECT api.anthropic.com:443 HTTP/1.1", body=b"", length=None), 403),
    "two slashes": (raw("POST //v1/messages HTTP/1.1"), 403),
    "dots": (raw("POST /v1/messages/../files HTTP/1.1"), 403),
    "two lengths": (raw("POST /v1/messages HTTP/1.1", "content-length: 3"), 400),
    "two hosts": (raw("POST /v1/messages HTTP/1.1", "host: y"), 400),
    "no host": (raw(host=None), 400),
    "length and coding": (raw("POST /v1/messages HTTP/1.1", "transfer-encoding: chunked"), 400),
    "odd coding": (raw("POST /v1/messages HTTP/1.1", "transfer-encoding: gzip", length=None), 501),
    "negative length": (raw(length="-1"), 400),
    "length in hex": (raw(length="0x10"), 400),
    "huge length": (raw(length=str(1 << 40)), 413),
    "bad json": (raw(body=b"{nope"), 400),
    "deep json": (raw(body=b'{"a":' * 5_000), 400),
    "huge max_tokens": (bad(max_tokens=10**9), 400),
    "negative max_tokens": (bad(max_tokens=-5), 400),
    "64 KiB of head": (raw("POST /v1/messages HTTP/1.1", "x: " + "y" * 70_000), 431),
    "bare line feeds and a space": (b"POST /v1/messages HTTP/1.1\nhost : x\n\n", 400),
    "a NUL in the head": (raw("POST /v1/messages HTTP/1.1", "x: a\0b"), 400),
    "folded header": (raw("POST /v1/messages HTTP/1.1", "x: a\r\n b"), 200),
    "not http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n", 400),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "websocket": (raw("POST /v1/messages HTTP/1.1", "upgrade: websocket"), 400),
    "mcp servers": (bad(mcp_servers=[{"url": "https://evil.example"}]), 403),
    "server tool": (bad(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]), 403),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_request_gets_its_no(tmp_path: Path, name: str) -> None:  # threat N2
    request, status = HOSTILE[name]
    async with served(tmp_path) as path:
        answer = parse(await exchange(path, request))
        assert answer.status == status
        if status not in (200, 501):
            assert answer.whole
            assert TOKEN.encode() not in answer.body
        # and the gateway is there for the next one
        assert parse(await exchange(path, post(call("echo alive")))).status == 200


async def test_nothing_is_smuggled_behind_a_refusal(tmp_path: Path) -> None:  # threat N2
    inner = post(call("echo smuggled"))
    chunked = raw("POST /v1/messages HTTP/1.1", "transfer-encoding: chunked", body=b"0\r\n\r\n")
    async with served(tmp_path) as path:
        for request in (chunked, raw(length="3"), raw(token="wrong")):
            assert b"smuggled" not in await exchange(path, request + inner)


async def test_identity_is_the_socket(tmp_path: Path) -> None:
    other = RunIdentity(RunId("f" * 16), GroupId("work"), "token-of-work")
    gateway = Gateway(upstream=OfflineModel())
    async with (
        gateway.open_run(WHO, tmp_path / "a"),
        gateway.open_run(other, tmp_path / "b"),
    ):
        request = post(call("echo x"), token="token-of-work")
        assert parse(await exchange(tmp_path / "a" / SOCKET, request)).status == 401
        assert parse(await exchange(tmp_path / "b" / SOCKET, request)).status == 200


async def test_a_body_that_is_too_large_is_refused_as_it_comes(tmp_path: Path) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = raw("POST /v1/messages HTTP/1.1", "transfer-encoding: chunked", body=b"", length=None)
    async with served(tmp_path) as path:
        answer = parse(await exchange(path, head + piece * (33 * 16)))
    assert answer.status == 413


async def test_the_bodies_of_a_run_are_bounded_together(tmp_path: Path) -> None:  # threat X6
    whole = post(b" " * (24 << 20), more="")
    refused = trio.Semaphore(0)

    async def send_most_of_it(path: Path) -> None:
        async with await trio.open_unix_socket(str(path)) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(whole[: 20 << 20])
            assert parse(await read_all(stream)).status == 413
            refused.release()

    with trio.fail_after(20):
        async with served(tmp_path) as path:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(send_most_of_it, path)
                for _ in range(2):
                    await refused.acquire()
                # Two fit, and wait for their rest; when they are gone there is room again.
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert refused.value == 0
                nursery.cancel_scope.cancel()
            assert parse(await exchange(path, post(b" " * (24 << 20)))).status == 400


async def test_a_thousand_half_open_connections_are_bounded(tmp_path: Path) -> None:  # threat N8
    if not FILES.is_dir():  # /proc does not block
        pytest.skip("open files are counted in /proc")
    streams: list[trio.SocketStream] = []
    hung_up = trio.Semaphore(0)

    async def knock(path: Path) -> None:
        stream = await trio.open_unix_socket(str(path))
        streams.append(stream)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"POST /v1/messages HTTP/1.1\r\nx: ")
        if await read_all(stream) == b"":
            await stream.aclose()
            hung_up.release()

    with trio.fail_after(60):
        async with served(tmp_path / "gw") as path:
            before = open_files()
            async with trio.open_nursery() as nursery:
                for at in range(1_000):
                    nursery.start_soon(knock, path)
                    if at % 50 == 49:
                        await trio.testing.wait_all_tasks_blocked(0.01)
                for _ in range(1_000 - MAX_CONNECTIONS):
                    await hung_up.acquire()
                # Our ends and theirs of those that are still open, and nothing of the others.
                assert open_files() - before <= 2 * MAX_CONNECTIONS + 2
                # The run is deaf while it does that to itself, and hears again after.
                assert await exchange(path, post(call("echo x"))) == b""
                nursery.cancel_scope.cancel()
            for stream in streams:
                await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert parse(await exchange(path, post(call("echo x")))).status == 200


FILES = Path("/proc/self/fd")


def open_files() -> int:
    return sum(1 for _ in FILES.iterdir())


async def test_another_run_is_served_while_one_storms(tmp_path: Path) -> None:  # threat X5
    other = RunIdentity(RunId("f" * 16), GroupId("work"), "token-of-work")

    async def storm() -> None:
        while True:
            await exchange(tmp_path / "a" / SOCKET, post(b"[" * (4 << 20)))

    gateway = Gateway(upstream=OfflineModel())
    async with (
        gateway.open_run(WHO, tmp_path / "a"),
        gateway.open_run(other, tmp_path / "b"),
        trio.open_nursery() as nursery,
    ):
        for _ in range(8):
            nursery.start_soon(storm)
        for _ in range(20):
            request = post(call("echo x"), token="token-of-work")
            assert parse(await exchange(tmp_path / "b" / SOCKET, request)).status == 200
        nursery.cancel_scope.cancel()


PIECES = b"1\r\n \r\n" * 10_000


def chunked() -> bytes:
    return raw("POST /v1/messages HTTP/1.1", "transfer-encoding: chunked", body=b"", length=None)


async def test_a_body_in_tiny_pieces_is_refused(tmp_path: Path) -> None:  # threat N9
    async with served(tmp_path) as path:
        answer = parse(await exchange(path, chunked() + PIECES))
    assert answer.status == 413
    assert b"comes in too many small pieces; send it in one piece" in answer.body


async def test_a_run_has_its_share_of_the_loop_and_no_more(tmp_path: Path) -> None:  # threat N9
    account, other = (
        Account(share=0.05, burst=0.05),
        RunIdentity(RunId("f" * 16), GroupId("b"), "t"),
    )
    served_others = trio.Event()

    async def storm() -> None:
        while True:
            with suppress(trio.BrokenResourceError, OSError):
                async with await trio.open_unix_socket(str(tmp_path / "a" / SOCKET)) as stream:
                    await stream.send_all(chunked())
                    while True:
                        await stream.send_all(PIECES)

    async def ask() -> None:
        for _ in range(20):
            request = post(call("echo x"), token="t")
            assert parse(await exchange(tmp_path / "b" / SOCKET, request)).status == 200
        served_others.set()

    gateway = Gateway(upstream=OfflineModel())
    with trio.fail_after(60), open_loop_time() as measure:
        async with AsyncExitStack() as runs:
            with charged_to(account):
                await runs.enter_async_context(gateway.open_run(WHO, tmp_path / "a"))
            await runs.enter_async_context(gateway.open_run(other, tmp_path / "b"))
            async with trio.open_nursery() as nursery:
                began = trio.current_time()
                for _ in range(8):
                    nursery.start_soon(storm)
                nursery.start_soon(ask)
                await served_others.wait()
                await trio.sleep(1)
                took = trio.current_time() - began
                nursery.cancel_scope.cancel()
    # What a step overdraws is paid after it: one step of each of its connections.
    assert 0.05 < account.used < 0.05 + 0.05 * took + 0.25
    served = [took for name, took in measure.longest.items() if "Run.serve" in name]
    assert max(served, default=0) < 0.1


async def test_what_a_run_was_refused_is_reported_once_for_each_kind(tmp_path: Path) -> None:
    told: list[tuple[str, str, int]] = []

    async def report(who: RunIdentity, words: str, times: int) -> None:
        await trio.lowlevel.checkpoint()
        told.append((who.group, words, times))

    with trio.CancelScope() as scope:  # a run that is cancelled is reported as well
        async with served(tmp_path, report=report) as path:
            for _ in range(3):
                await exchange(path, raw(token="wrong"))
            await exchange(path, raw("POST /v1/files HTTP/1.1"))
            await exchange(path, raw(body=b"{nope"))  # clumsy, and no more than that
            for at in range(100):
                await exchange(path, bad(tools=[{"type": f"tool{at}"}]))
            assert told == []
            scope.cancel()
            await trio.sleep_forever()
    assert ("family", "this is not the token of this run", 3) in told
    assert ("family", "only /v1/messages and its count_tokens pass here", 1) in told
    assert told[-1] == ("family", "other things", 70)
    assert sum(times for _, _, times in told) == 104
