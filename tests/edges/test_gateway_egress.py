"""Ways out to the network over real sockets: tunnels, plain HTTP, and names that deceive."""

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from pynchy.gateway.egress import Internet, tunnel
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.hosts import Destination
from pynchy.gateway.shared import Report
from pynchy.logs import logger
from pynchy.policy.allowance import Egress
from pynchy.reader_budget import FREE_PIECES
from tests.edges.gateway_world import (
    TOKEN,
    WHO,
    Seen,
    Send,
    api,
    exchange,
    parse,
    read_all,
    response,
    served,
)

PUBLIC = Egress("public", ports=(80, 443))
SOMEWHERE = "93.184.216.34"


@attrs.define
class Net:
    """A network whose names a test decides, and where every address leads to one port of ours."""

    port: int
    names: dict[str, list[str]] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    dialled: list[str] = attrs.field(factory=list)

    async def resolve(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        return self.names.get(host, [SOMEWHERE])

    async def dial(self, address: str, port: int) -> trio.abc.HalfCloseableStream:
        self.dialled.append(f"{address}:{port}")
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def listening(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(
            partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        while piece := await stream.receive_some():
            await stream.send_all(piece)


async def refusal(
    directory: Path, request: bytes, *, egress: Egress = PUBLIC, net: Net | None = None
) -> int:
    async with served(
        directory, who=attrs.evolve(WHO, egress=egress), network=net or Net(1)
    ) as path:
        return parse(await exchange(path, request)).status


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n".encode()


def hello(name: str) -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


async def through(
    directory: Path, target: str, first: bytes, net: Net, report: Report | None = None
) -> tuple[bytes, bytes]:
    """Open a tunnel, say something, and read until it closes: its head, and what came through."""
    with trio.fail_after(20):
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with (
            served(directory, who=who, network=net, report=report) as path,
            await trio.open_unix_socket(str(path)) as stream,
        ):
            await stream.send_all(connect(target))
            head = await stream.receive_some()
            await stream.send_all(first)
            await stream.send_eof()
            return bytes(head), await read_all(stream)


async def test_a_tunnel_carries_tls_both_ways(tmp_path: Path) -> None:
    first = hello("example.org") + b"and more" * 20_000
    async with listening(echo) as port:
        net = Net(port)
        head, back = await through(tmp_path, "Example.org:443", first, net)
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")
    assert back == first
    assert net.asked == ["example.org"]
    assert net.dialled == [f"{SOMEWHERE}:443"]


async def test_a_tunnel_is_asked_for_without_a_host_header(tmp_path: Path) -> None:
    # As http.client of Python before 3.12 does, and with it pip, requests and urllib there.
    first = hello("example.org")
    async with listening(echo) as port:
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with (
            served(tmp_path, who=who, network=Net(port)) as path,
            await trio.open_unix_socket(str(path)) as stream,
        ):
            with trio.fail_after(20):
                await stream.send_all(b"CONNECT example.org:443 HTTP/1.0\r\n\r\n")
                head = await stream.receive_some()
                await stream.send_all(first)
                await stream.send_eof()
                assert await read_all(stream) == first
    assert head.split(b" ", 2)[1] == b"200"


async def test_a_refused_tunnel_says_why_in_its_status_line(tmp_path: Path) -> None:
    who = attrs.evolve(WHO, egress=Egress("allowlist"))
    async with served(tmp_path, who=who, network=Net(1)) as path:
        answer = await exchange(path, connect("example.org:443"))
    status, _, _ = answer.partition(b"\r\n")
    assert status == (
        b"HTTP/1.1 403 example.org is not on this group's list of hosts;"
        b" ask for it with the tool request_host"
    )


async def test_what_comes_with_the_request_is_not_lost(tmp_path: Path) -> None:
    first = hello("example.org")
    async with listening(echo) as port:
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with (
            served(tmp_path, who=who, network=Net(port)) as path,
            await trio.open_unix_socket(str(path)) as stream,
        ):
            with trio.fail_after(20):
                await stream.send_all(connect("example.org:443") + first)
                await stream.send_eof()
                answer = await read_all(stream)
    assert answer.partition(b"\r\n\r\n")[2] == first


@pytest.mark.parametrize(
    "first",
    [
        hello("evil.example"),
        hello("www.example.org"),
        b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"",
    ],
)
async def test_a_tunnel_for_one_host_serves_no_other(  # threat N5
    tmp_path: Path, first: bytes
) -> None:
    arrived: list[bytes] = []
    told: list[str] = []

    async def report(who: RunIdentity, words: str, times: int) -> None:
        await trio.lowlevel.checkpoint()
        told.append(words)

    async def keep(stream: trio.SocketStream) -> None:
        async with stream:
            arrived.append(await read_all(stream))

    async with listening(keep) as port:
        head, back = await through(tmp_path, "example.org:443", first, Net(port), report)
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert head.startswith(b"HTTP/1.1 200")
    assert back == b""
    assert b"".join(arrived) == b""
    assert len(told) == (1 if first else 0)


async def test_a_hello_in_crumbs_is_hung_up_on(tmp_path: Path) -> None:  # threat N9
    async def swallow(stream: trio.SocketStream) -> None:
        async with stream:
            await read_all(stream)

    async with listening(swallow) as port:
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with (
            served(tmp_path, who=who, network=Net(port)) as path,
            await trio.open_unix_socket(str(path)) as stream,
        ):
            with trio.fail_after(20):
                await stream.send_all(connect("example.org:443"))
                await stream.receive_some()
                for byte in hello("example.org")[:-1]:
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        return
                    await trio.testing.wait_all_tasks_blocked()
    raise AssertionError("it was listened to, a byte at a time")


class Crumbs(trio.abc.HalfCloseableStream):
    """A host that answers one byte at a time, for ever."""

    given = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self.given += 1
        return b"."

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_tunnel_in_crumbs_is_ended() -> None:  # threat N9
    ours, theirs = trio.testing.memory_stream_pair()
    remote = Crumbs()
    to = Destination("example.org", 443)
    with trio.fail_after(20):
        await tunnel(WHO, to, theirs, remote, hello("example.org"))
    assert remote.given == FREE_PIECES + 1
    await ours.aclose()


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["100.64.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fd00::1"],
        [SOMEWHERE, "127.0.0.1"],
        ["fe80::1%eth0"],
    ],
)
async def test_a_name_that_leads_inside_leads_nowhere(  # threat N4, invariant 165
    tmp_path: Path, addresses: list[str]
) -> None:
    net = Net(1, {"rebind.example.org": addresses})
    assert await refusal(tmp_path, connect("rebind.example.org:443"), net=net) == 403
    plain = b"GET http://rebind.example.org/ HTTP/1.1\r\nhost: x\r\n\r\n"
    assert await refusal(tmp_path, plain, net=net) == 403
    assert net.dialled == []


async def test_a_name_is_looked_up_once(tmp_path: Path) -> None:  # threat N4
    class Rebinding(Net):
        async def resolve(self, host: str, port: int) -> list[str]:
            await super().resolve(host, port)
            return [SOMEWHERE] if len(self.asked) == 1 else ["127.0.0.1"]

    async with listening(echo) as port:
        net = Rebinding(port)
        await through(tmp_path, "example.org:443", hello("example.org"), net)
    assert net.asked == ["example.org"]
    assert net.dialled == [f"{SOMEWHERE}:443"]


@pytest.mark.parametrize(
    ("egress", "target"),
    [
        (Egress("none"), "example.org:443"),
        (Egress("allowlist"), "example.org:443"),
        (Egress("allowlist", ("example.org",)), "evil.example:443"),
        (Egress("allowlist", ("example.org",)), "example.org:22"),
        (PUBLIC, "api.anthropic.com:443"),
        (PUBLIC, "127.0.0.1:443"),
        (PUBLIC, "[::1]:443"),
        (PUBLIC, "localhost:443"),
        (PUBLIC, "example.org:25"),
        (PUBLIC, "example.org.:443"),
        (PUBLIC, "user@example.org:443"),
    ],
)
async def test_what_is_not_allowed_is_not_even_looked_up(  # threat N3, N4, N6
    tmp_path: Path, egress: Egress, target: str
) -> None:
    net = Net(1)
    assert await refusal(tmp_path, connect(target), egress=egress, net=net) == 403
    assert net.asked == []


async def test_a_host_that_does_not_answer(tmp_path: Path) -> None:
    assert await refusal(tmp_path, connect("example.org:443"), net=Net(1)) == 502
    assert (
        await refusal(tmp_path, connect("nx.example.org:443"), net=Net(1, {"nx.example.org": []}))
        == 502
    )


# --- plain HTTP ----------------------------------------------------------------------------------


async def test_plain_http_is_passed_on(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(seen.body * 2, status=201, kind="text/x", more="x-their: own\r\n"))

    async with api(answering) as found:
        net = Net(int(found.base_url.rpartition(":")[2]))
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with served(tmp_path, who=who, network=net) as path:
            request = (
                b"PUT http://Example.org/a?b=c HTTP/1.1\r\nhost: somewhere.else\r\n"
                b"proxy-authorization: Basic x\r\nauthorization: Bearer " + TOKEN.encode() + b"\r\n"
                b"cookie: own\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
            )
            answer = parse(await exchange(path, request))
    assert (answer.status, answer.body, answer.headers["x-their"]) == (201, b"hellohello", "own")
    (seen,) = found.seen
    assert (seen.method, seen.target, seen.headers["host"]) == ("PUT", "/a?b=c", "example.org")
    assert seen.headers["cookie"] == "own"
    assert "proxy-authorization" not in seen.headers
    assert TOKEN not in str(seen)
    assert net.dialled == [f"{SOMEWHERE}:80"]


async def test_plain_http_goes_on_on_one_connection(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(seen.target.encode()))

    async with api(answering) as found:
        net = Net(int(found.base_url.rpartition(":")[2]))
        who = attrs.evolve(WHO, egress=Egress("allowlist", ("example.org",)))
        async with (
            served(tmp_path, who=who, network=net) as path,
            await trio.open_unix_socket(str(path)) as stream,
        ):
            for target in (b"/one", b"/two"):
                with trio.fail_after(20):
                    await stream.send_all(
                        b"GET http://example.org" + target + b" HTTP/1.1\r\nhost: example.org\r\n"
                        b"connection: keep-alive, x-private, upgrade, content-length\r\n"
                        b"upgrade: h2c\r\nx-private: theirs\r\ncontent-length: 1\r\n\r\nx"
                    )
                    answer = b""
                    while not answer.endswith(target):
                        more = await stream.receive_some()
                        assert more
                        answer += more
    assert [seen.target for seen in found.seen] == ["/one", "/two"]
    for seen in found.seen:
        assert not {"x-private", "upgrade"} & set(seen.headers)
        assert seen.body == b"x"


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_answers_without_a_length_and_without_a_body(tmp_path: Path, method: str) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        if seen.method == "HEAD":
            await send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        else:
            await send(b"HTTP/1.0 200 OK\r\n\r\nuntil it closes")

    async with api(answering) as found:
        net = Net(int(found.base_url.rpartition(":")[2]))
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with served(tmp_path, who=who, network=net) as path:
            request = (
                f"{method} http://example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            )
            answer = await exchange(path, request.encode())
    assert answer.startswith(b"HTTP/1.1 200")
    assert (b"until it closes" in answer) is (method == "GET")


async def test_an_answer_that_breaks_off_is_not_made_whole(tmp_path: Path) -> None:
    async def answering(seen: Seen, send: Send) -> None:
        await send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort")

    async with api(answering) as found:
        net = Net(int(found.base_url.rpartition(":")[2]))
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with served(tmp_path, who=who, network=net) as path:
            request = b"GET http://example.org/ HTTP/1.1\r\nhost: x\r\n\r\n"
            answer = parse(await exchange(path, request))
    assert (answer.body, answer.whole) == (b"short", False)


async def test_a_redirect_inside_is_asked_for_again(tmp_path: Path) -> None:  # threat N4
    async def answering(seen: Seen, send: Send) -> None:
        await send(response(b"", status=302, more="location: http://169.254.169.254/\r\n"))

    async with api(answering) as found:
        net = Net(int(found.base_url.rpartition(":")[2]))
        who = attrs.evolve(WHO, egress=PUBLIC)
        async with served(tmp_path, who=who, network=net) as path:
            request = b"GET http://example.org/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            assert parse(await exchange(path, request)).status == 302
    assert (
        await refusal(tmp_path, b"GET http://169.254.169.254/ HTTP/1.1\r\nhost: x\r\n\r\n") == 403
    )


# --- the real client, the real network -----------------------------------------------------------


async def test_curl_works_through_it(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = (
        f"openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -keyout {key}"
        f" -out {certificate} -subj /CN=x -addext subjectAltName=DNS:files.example.org"
    )
    try:
        await trio.run_process(make.split(), capture_stdout=True, capture_stderr=True)
        await trio.run_process(["curl", "--version"], capture_stdout=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("curl and openssl are not here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def secure(stream: trio.SocketStream) -> None:
        inside = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        async with inside:
            await inside.receive_some()
            await inside.send_all(response(b"behind tls", more=""))

    async def relay(path: Path, client: trio.SocketStream) -> None:
        async with client, await trio.open_unix_socket(str(path)) as inner:

            async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                # curl may leave with a reset, once it has what it wants
                with suppress(trio.BrokenResourceError):
                    async for piece in source:
                        await sink.send_all(piece)
                nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, client, inner)
                nursery.start_soon(carry, inner, client)

    async with listening(secure) as port:
        who = attrs.evolve(WHO, egress=Egress("allowlist", ("*.example.org",)))
        async with (
            served(tmp_path / "gw", who=who, network=Net(port)) as path,
            listening(partial(relay, path)) as proxy,
        ):
            with trio.fail_after(30):
                for host, code, said in (
                    ("files.example.org", 0, b"behind tls"),
                    ("example.com", 56, b""),
                ):
                    ask = f"curl -sS --max-time 20 --cacert {certificate} https://{host}/"
                    done = await trio.run_process(
                        [*ask.split(), "--proxy", f"http://127.0.0.1:{proxy}"],
                        capture_stdout=True,
                        capture_stderr=True,
                        check=False,
                    )
                    assert (done.returncode, done.stdout) == (code, said), done.stderr


async def test_the_real_resolver(tmp_path: Path) -> None:
    with trio.fail_after(20):
        assert "127.0.0.1" in await Internet().resolve("localhost", 443)
        assert await Internet().resolve("nothing.invalid", 443) == []
    async with listening(echo) as port, await Internet().dial("127.0.0.1", port) as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"


async def test_every_connection_is_in_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level="INFO", format="{message}")
    try:
        async with listening(echo) as port:
            await through(tmp_path, "example.org:443", hello("example.org"), Net(port))
            await trio.testing.wait_all_tasks_blocked(0.02)
    finally:
        logger.remove(sink)
    size = len(hello("example.org"))
    assert any(
        f"family example.org:443 sent {size} received {size} bytes" in str(line) for line in lines
    )
