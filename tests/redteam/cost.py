"""What costs the daemon most per byte: a search over everything that reads what a container, or a client, wrote.

Each reader is the real one, on a loop whose steps are measured as processor time, so that other programs on the machine
do not count. The search begins with what is known to hurt, and goes on from whatever cost most.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio
import trio.testing

from pynchy.container.session import Heard, Traffic, open_session
from pynchy.control import server
from pynchy.gateway import egress
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.hosts import Destination
from pynchy.gateway.offline import OfflineModel
from pynchy.gateway.policy import MAX_BODY
from pynchy.gateway.proxy import SOCKET, Gateway
from pynchy.ipc.spool import SCAN_LIMIT, open_spool
from pynchy.model import GroupId, RunId
from pynchy.policy.allowance import Egress
from pynchy.reader_budget import Account, charged_to, open_loop_time
from pynchy_agent import wire
from tests.guest import START

SIZE: Final = 192 << 10  # bytes of one try
LONGEST: Final = 0.1  # seconds of the processor that one step of the loop may take
ATTACKERS: Final = 8  # connections that send what costs most, while main asks

TOKEN: Final = "run-token-of-a-test"
WHO: Final = RunIdentity(RunId("0" * 16), GroupId("hostile"), TOKEN, egress=Egress(kind="public"))
MAIN: Final = RunIdentity(RunId("f" * 16), GroupId("main"), TOKEN)

# What attacks are made of: pieces that some parser looks at closely.
CRUMBS: Final = (
    b"1\r\n \r\n", b"1;a=b\r\n[\r\n", b"2\r\n[]\r\n", b"a: b\r\n", b"\r\n", b"\n", b"\r", b" ", b"0", b"]", b"[",
    b"{", b"}", b'"', b'\\"', b"\\\\", b"\\u0041", b",", b":", b'{"a":1},', b"1e1,", b"\xc3\xa9", b"\xf0\x9f\x98\x80",
    b"\x16\x03\x01\x00\x01\x01", b"\x16\x03\x01\x00\x01\x00", wire.START_MARKER + b"\n", wire.END_MARKER + b"\n",
    wire.encode_frame(wire.Idle()), wire.encode_frame(wire.Progress("x")), b'{"op":"echo"}\n', b"{}\n",
)  # fmt: skip


@attrs.frozen
class Found:
    """One try: what was repeated, and what reading it cost."""

    reader: str
    unit: bytes
    size: int  # bytes that were read, or waited to be
    used: float  # seconds of the processor
    longest: float  # seconds of one step

    @property
    def per_byte(self) -> float:
        return self.used / self.size

    def __str__(self) -> str:
        unit = self.unit if len(self.unit) <= 40 else self.unit[:37] + b"..."
        return (
            f"{self.reader}: {self.per_byte * 1e9:.0f} ns a byte, longest step "
            f"{self.longest * 1000:.1f} ms, by {unit!r}"
        )


Reader = Callable[[Path, bytes], Awaitable[None]]
"""Has one reader read these bytes, until it has had enough of them."""


async def _pour(path: Path, *parts: bytes) -> None:
    """Send it all, as far as it is wanted, at somebody else's expense."""
    with charged_to(Account()), trio.move_on_after(30):
        async with await trio.open_unix_socket(str(path)) as stream, trio.open_nursery() as nursery:

            async def drain() -> None:
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(drain)
            with suppress(trio.BrokenResourceError):
                for part in parts:
                    await stream.send_all(part)
                await stream.send_eof()


def _head(more: str) -> bytes:
    return (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {TOKEN}\r\n"
        f"content-type: application/json\r\n{more}\r\n\r\n"
    ).encode()


class Outside:
    """A network on which everything answers, and says nothing."""

    async def resolve(self, host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        return ["93.184.216.34"]

    async def dial(self, address: str, port: int) -> trio.abc.HalfCloseableStream:
        await trio.lowlevel.checkpoint()
        return trio.testing.memory_stream_pair()[0]


async def _gateway(folder: Path, *parts: bytes) -> None:
    gateway = Gateway(upstream=OfflineModel(), network=Outside())
    async with gateway.open_run(WHO, folder):
        await _pour(folder / SOCKET, *parts)


async def head(folder: Path, data: bytes) -> None:
    await _gateway(folder, b"POST /v1/messages HTTP/1.1\r\n", data)


async def chunked_body(folder: Path, data: bytes) -> None:
    await _gateway(folder, _head("transfer-encoding: chunked"), data)


async def json_body(folder: Path, data: bytes) -> None:
    before, after = b'{"model":"m","max_tokens":1,"messages":[', b"]}"
    size = len(before) + len(data) + len(after)
    await _gateway(folder, _head(f"content-length: {size}"), before, data, after)


async def text_body(folder: Path, data: bytes) -> None:
    say = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"'
    size = len(say) + len(data) + 4
    await _gateway(folder, _head(f"content-length: {size}"), say, data, b'"}]}')


async def tunnel(folder: Path, data: bytes) -> None:
    connect = b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n"
    await _gateway(folder, connect, data)


async def hello(folder: Path, data: bytes) -> None:
    """The beginning of a tunnel, a byte at a time."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def drip() -> None:
        with suppress(trio.BrokenResourceError):
            for at in range(min(len(data), 16 << 10)):
                await ours.send_all(data[at : at + 1])
                await trio.testing.wait_all_tasks_blocked()
            await ours.send_eof()

    async with trio.open_nursery() as nursery:
        with charged_to(Account()):
            nursery.start_soon(drip)
        remote = trio.testing.memory_stream_pair()[0]
        with suppress(Exception):  # a refusal is what it should come to
            await egress.tunnel(WHO, Destination("example.org", 443), theirs, remote, b"")
        await theirs.aclose()


@attrs.define(eq=False)
class Box:
    """A container that prints what it is given."""

    left: bytes
    name: str = "box"
    gone: trio.Event = attrs.field(factory=trio.Event)

    async def send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self.left = self.left[: 64 << 10], self.left[64 << 10 :]
        if not piece:
            self.gone.set()
        return piece

    async def wait(self) -> int:
        await self.gone.wait()
        return 0

    def stderr_tail(self) -> bytes:
        return b""

    def kill(self) -> None:
        self.gone.set()


async def frames(folder: Path, data: bytes) -> None:
    heard_in, heard = trio.open_memory_channel[Traffic](0)
    async with open_session(Box(data), heard_in, START):
        while isinstance(await heard.receive(), Heard):
            pass


async def control_lines(folder: Path, data: bytes) -> None:
    folder.mkdir(exist_ok=True)

    async def echo(client: server.Client, *, text: str = "") -> object:
        await trio.lowlevel.checkpoint()
        return text

    async with trio.open_nursery() as nursery:
        path = folder / "control.sock"
        await nursery.start(
            lambda task_status: server.run(path, {"echo": echo}, task_status=task_status)
        )
        await _pour(path, data)
        nursery.cancel_scope.cancel()


async def names(folder: Path, data: bytes) -> None:
    """A folder of commands, as full as a scan looks."""
    if not folder.exists():
        with charged_to(Account()):
            await trio.lowlevel.checkpoint()
            folder.mkdir()
            for number in range(SCAN_LIMIT):
                (folder / f"{number:032x}.json").touch()
            await trio.lowlevel.checkpoint()
    with open_spool(folder) as spool:
        spool.scan()
    await trio.lowlevel.checkpoint()  # a step is charged when it ends


READERS: Final[dict[str, Reader]] = {
    each.__name__: each
    for each in (
        head,
        chunked_body,
        json_body,
        text_body,
        tunnel,
        hello,
        frames,
        control_lines,
        names,
    )
}


WHOLE: Final = ("json_body", "text_body")  # what is read as a whole is tried at its largest, too


async def attempt(reader: str, folder: Path, unit: bytes, size: int = SIZE) -> Found:
    """Have one reader read ``unit`` again and again; what it cost."""
    data = unit * (size // len(unit))
    account = Account(share=100.0, burst=1000.0)  # nobody waits: the cost is what is asked for
    with charged_to(account):
        await READERS[reader](folder, data)
    return Found(reader, unit, len(data), account.used, account.longest)


async def search(folder: Path, *, tries: int, seed: int) -> list[Found]:
    """For each reader what cost most per byte, and what held the loop longest."""
    dice = random.Random(seed)
    found: dict[str, list[Found]] = {}
    with open_loop_time():
        for at, reader in enumerate(READERS):
            seen = found[reader] = [
                await attempt(
                    reader, folder / str(at), b"x", 1024
                )  # what is imported is imported now
            ]
            del seen[:]
            for unit in _units(dice, tries):
                seen.append(await attempt(reader, folder / str(at), unit))
            best = max(seen, key=lambda each: each.per_byte)
            for _ in range(tries // 4):  # and what is like the dearest
                unit = best.unit + dice.choice(CRUMBS)
                seen.append(await attempt(reader, folder / str(at), unit))
            if reader in WHOLE:
                worst = max(seen, key=lambda each: each.per_byte)
                for unit in (worst.unit, b"a", b"]", b'\\"'):
                    seen.append(await attempt(reader, folder / str(at), unit, MAX_BODY - 200))
    return [
        max(seen, key=key)
        for seen in found.values()
        for key in (lambda each: each.per_byte, lambda each: each.longest)
    ]


def _units(dice: random.Random, tries: int) -> Iterator[bytes]:
    known = list(CRUMBS)
    dice.shuffle(known)
    for at in range(tries):
        yield known[at] if at < len(known) else b"".join(dice.choices(CRUMBS, k=2))


@asynccontextmanager
async def besieged(folder: Path, unit: bytes) -> AsyncIterator[Path]:
    """Main's socket, while another run sends this over many connections, without end."""

    async def storm() -> None:
        data = unit * (SIZE // len(unit))
        while True:
            with suppress(OSError):
                await _pour(folder / "hostile" / SOCKET, _head("transfer-encoding: chunked"), data)

    with open_loop_time():
        gateway = Gateway(upstream=OfflineModel())
        async with AsyncExitStack() as runs:
            with charged_to(Account()):
                await runs.enter_async_context(gateway.open_run(WHO, folder / "hostile"))
            await runs.enter_async_context(gateway.open_run(MAIN, folder / "main"))
            async with trio.open_nursery() as nursery:
                for _ in range(ATTACKERS):
                    nursery.start_soon(storm)
                yield folder / "main" / SOCKET
                nursery.cancel_scope.cancel()


async def ask(path: Path) -> bytes:
    """One call of main's; its answer."""
    body = json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "echo hello"}]}
    ).encode()
    answer = b""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(_head(f"content-length: {len(body)}\r\nconnection: close") + body)
        while piece := await stream.receive_some():
            answer += piece
    return answer


def look(folder: Path, *, tries: int, seed: int) -> list[Found]:
    """`search`, on a loop of its own."""
    return trio.run(partial(search, folder, tries=tries, seed=seed))
