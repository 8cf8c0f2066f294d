"""Any bytes from a container: the gateway answers or hangs up, and nothing in it breaks."""

import json
from collections.abc import Iterator
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.gateway.connection import Run
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.offline import Asked, OfflineModel, Reply, Text
from pynchy.gateway.proxy import Gateway
from pynchy.logs import logger
from pynchy.model import GroupId, RunId
from pynchy.policy.allowance import Egress

WHO = RunIdentity(
    RunId("0123456789abcdef"), GroupId("family"), "t", egress=Egress("allowlist", ("a.example",))
)
FIELD = b"tools system mcp_servers container max_tokens stream thinking metadata".split()

bodies = st.builds(
    lambda base, more: json.dumps({**base, **more}).encode(),
    st.just({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "echo x"}]}),
    st.dictionaries(
        st.sampled_from([name.decode() for name in FIELD] + ["model", "messages"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda v: (
                st.lists(v, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "role", "content", "source", "url", "data", "input"]),
                    v | st.sampled_from(["file", "base64", "image", "url", "web_search_x"]),
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
        max_size=3,
    ),
)
lines = st.sampled_from(
    [
        b"POST /v1/messages HTTP/1.1",
        b"POST /v1/messages/count_tokens HTTP/1.1",
        b"POST /v1/messages?beta=true HTTP/1.0",
        b"GET / HTTP/1.1",
        b"CONNECT a.example:443 HTTP/1.1",
        b"CONNECT b.example:443 HTTP/1.1",
        b"GET http://a.example/ HTTP/1.1",
        b"GET http://127.0.0.1/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ]
)
headers = st.lists(
    st.sampled_from(
        [
            b"host: x",
            b"x-api-key: t",
            b"authorization: Bearer t",
            b"content-type: application/json",
            b"transfer-encoding: chunked",
            b"connection: close",
            b"connection: keep-alive",
            b"expect: 100-continue",
            b"anthropic-beta: a,b",
            b"upgrade: x",
        ]
    ),
    unique=True,
    max_size=8,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Something near to a request: valid, or not quite."""
    body, head = draw(bodies), [draw(lines), *draw(headers)]
    if draw(st.integers(0, 9)):  # mostly
        head += [b"host: x", b"x-api-key: t", b"content-type: application/json"]
        head = list(dict.fromkeys(head))
        head.append(
            b"content-length: %d" % max(0, len(body) + draw(st.sampled_from([0, 0, 0, 0, -3, 5])))
        )
    whole = bytearray(b"\r\n".join([*head, b"", b""]) + body)
    for at, value in draw(
        st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=2)
    ):
        if draw(st.integers(0, 3)) == 0:
            whole[at % len(whole)] = value
    return bytes(whole)


@pytest.fixture(scope="module")
def broken() -> Iterator[list[str]]:
    """What the gateway logs when something in it broke."""
    kept: list[str] = []
    sink = logger.add(kept.append, level="ERROR", format="{message}")
    yield kept
    logger.remove(sink)


class Net:
    """A network on which every name is public, and nobody answers."""

    async def resolve(self, host: str, port: int) -> list[str]:
        assert host == "a.example"  # nothing else is looked up
        await trio.lowlevel.checkpoint()
        return ["93.184.216.34"]

    async def dial(self, address: str, port: int) -> trio.abc.HalfCloseableStream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\nhello")
        await theirs.send_eof()
        return ours


class Watched(OfflineModel):
    """The offline model, and what was passed on to it."""

    def __init__(self) -> None:
        super().__init__(self.look)

    def look(self, asked: Asked) -> Reply | None:
        assert not {"mcp_servers", "container", "speed"} & asked.document.keys()
        assert asked.document.get("metadata", {"user_id": ""}).keys() == {"user_id"}
        return Reply((Text("answered"),))


def talk(pieces: list[bytes]) -> bytes:
    """Say it all, hang up our side, and hear the gateway out."""

    async def main() -> bytes:
        ours, theirs = trio.testing.memory_stream_pair()
        answer = b""
        gateway = Gateway(upstream=Watched(), network=Net())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Run(gateway, WHO).serve, ours)
            try:
                for piece in pieces:
                    await theirs.send_all(piece)
                    await trio.testing.wait_all_tasks_blocked()
                await theirs.send_eof()
                while part := await theirs.receive_some():
                    answer += part
            except trio.BrokenResourceError:
                pass
        return answer

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(0, 900), max_size=3))
def test_requests_that_are_not_quite_right(
    broken: list[str], said: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(said)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    answer = talk([data[a:b] for a, b in pairwise(edges)])
    assert broken == []
    assert answer == b"" or answer.startswith(b"HTTP/1.")


@given(st.lists(st.binary(max_size=100), max_size=5))
@example([b"\r\n\r\n"])
@example([b"\x16\x03\x01"])
def test_noise(broken: list[str], pieces: list[bytes]) -> None:
    talk([piece for piece in pieces if piece])
    assert broken == []


def test_the_fuzzer_gets_through() -> None:
    """What the two tests above send does reach the model, a tunnel and a page."""
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": []}).encode()
    head = b"host: x\r\nx-api-key: t\r\ncontent-type: application/json\r\n"
    call = b"POST /v1/messages HTTP/1.1\r\n" + head + b"content-length: %d\r\n\r\n" % len(body)
    answer = talk([call, body, b"GET http://a.example/ HTTP/1.1\r\nhost: x\r\n\r\n"])
    assert b"answered" in answer
    assert b"hello" in answer
    assert talk([b"CONNECT a.example:443 HTTP/1.1\r\nhost: x\r\n\r\n"]).startswith(b"HTTP/1.1 200")
