"""The control socket, over real sockets."""

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

import attrs
import pytest
import trio
import trio.testing

from pynchy.config.paths import Home, NotPrivate, make_private
from pynchy.control import server
from pynchy.control.server import (
    MAX_CLIENTS,
    MAX_LINE,
    MAX_WAITING,
    Client,
    OpFailed,
    mismatch,
    xucred_uid,
)


class Lines:
    """A client that speaks the protocol byte by byte."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def say(self, **request: object) -> None:
        await self.stream.send_all(json.dumps(request).encode() + b"\n")

    async def hear(self) -> dict[str, object] | None:
        while b"\n" not in self.buffer:
            if not (chunk := await self.stream.receive_some()):
                return None
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        found: dict[str, object] = json.loads(line)
        return found

    async def ask(self, **request: object) -> dict[str, object] | None:
        await self.say(**request)
        return await self.hear()


class Broken(Exception):
    pass


class World:
    """A few ops to serve."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.left = trio.Event()

    async def echo(self, client: Client, *, text: str, times: int = 1) -> object:
        return [text] * times

    async def refuse(self, client: Client) -> object:
        raise OpFailed("not_today", "no, not today")

    async def stumble(self, client: Client) -> object:
        raise LookupError("a bug")

    async def crash(self, client: Client) -> object:
        raise Broken("the store is gone")

    async def join(self, client: Client) -> object:
        self.clients.append(client)
        client.when_gone(self.left.set)
        return None

    @property
    def ops(self) -> dict[str, server.Op]:
        return {n: getattr(self, n) for n in ("echo", "refuse", "stumble", "crash", "join")}


@asynccontextmanager
async def serving(path: Path, world: World) -> AsyncIterator[Callable[[], Awaitable[Lines]]]:
    """The server for the length of the block; gives what connects one more client to it."""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, AsyncExitStack() as clients:

            async def connect() -> Lines:
                return Lines(await clients.enter_async_context(await trio.open_unix_socket(path)))

            run = server.run
            await nursery.start(lambda task_status: run(path, world.ops, task_status=task_status))
            yield connect
            nursery.cancel_scope.cancel()


async def test_an_answer_has_the_id_of_its_request(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", World()) as connect:
        client = await connect()
        assert await client.ask(id=7, op="echo", text="a\nb", times=2) == {
            "id": 7,
            "ok": True,
            "result": ["a\nb", "a\nb"],
        }
        assert await client.ask(id="x", op="refuse") == {
            "id": "x",
            "ok": False,
            "code": "not_today",
            "error": "no, not today",
        }


async def test_requests_sent_at_once_are_answered_in_order_also_after_a_half_close(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path / "s", World()) as connect:
        client = await connect()
        lines = [{"id": n, "op": "echo", "text": str(n)} for n in range(500)]
        await client.stream.send_all(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        await client.stream.send_eof()
        answers = [await client.hear() for _ in lines]
        assert [answer and answer["id"] for answer in answers] == list(range(500))
        assert await client.hear() is None


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        (b"nonsense", "bad_request", "not JSON"),
        (b"[1]", "bad_request", "not an object"),
        (b'{"op":"echo","op":"echo"}', "bad_request", "twice"),
        (b"\xff", "bad_request", "UTF-8"),
        (b"[" * 100_000, "bad_request", "deep"),
        (b'{"op":"ekko"}', "unknown_op", "crash, echo"),
        (b'{"op":["echo"]}', "unknown_op", "expected one of"),
        (b'{"id":[1],"op":"echo"}', "bad_request", "id: "),
        (b'{"op":"echo"}', "bad_request", "text: missing"),
        (b'{"op":"echo","text":3}', "bad_request", "text: expected a text, found 3"),
        (
            b'{"op":"echo","text":"","times":true}',
            "bad_request",
            "times: expected a whole number, found true",
        ),
        (b'{"op":"echo","text":"","client":1}', "bad_request", "client: unknown"),
        (b'{"op":"stumble"}', "internal", "log"),
    ],
)
async def test_a_bad_request_is_told_why_and_the_connection_lives(
    tmp_path: Path, line: bytes, code: str, says: str
) -> None:
    async with serving(tmp_path / "s", World()) as connect:
        client = await connect()
        await client.stream.send_all(line + b"\n")
        answer = await client.hear()
        assert answer is not None
        assert answer["code"] == code
        assert says in str(answer["error"])
        assert await client.ask(id=1, op="echo", text="alive") is not None


async def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", World()) as connect:
        client = await connect()
        await client.stream.send_all(b"x" * (MAX_LINE + 1))
        answer = await client.hear()
        assert answer is not None
        assert answer["code"] == "too_long"
        assert await client.hear() is None


async def test_what_an_op_raises_is_contained_but_not_what_is_fatal(tmp_path: Path) -> None:
    world, path = World(), tmp_path / "s"

    async def serve_and_crash() -> None:
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: server.run(
                    path, world.ops, fatal=(Broken,), task_status=task_status
                )
            )
            client = Lines(await stack.enter_async_context(await trio.open_unix_socket(path)))
            assert (answer := await client.ask(op="stumble")) is not None
            assert answer["code"] == "internal"
            await client.say(op="crash")
            await trio.sleep_forever()

    with trio.fail_after(20), pytest.RaisesGroup(Broken, flatten_subgroups=True):
        await serve_and_crash()
    assert not (tmp_path / "s").exists()


async def test_events_reach_a_client_and_its_leaving_is_seen(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        client = await connect()
        await client.ask(op="join")
        world.clients[0].tell({"event": "hello"})
        assert await client.hear() == {"event": "hello"}
        await client.stream.aclose()
        await world.left.wait()
        world.clients[0].tell({"event": "too late"})


async def test_a_client_that_does_not_read_is_dropped_and_nobody_waits(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        deaf, other = await connect(), await connect()
        await deaf.ask(op="join")
        text = "x" * 100_000
        for _ in range(MAX_WAITING // len(text) + 20):
            world.clients[0].tell({"event": text})
        await world.left.wait()
        assert await other.ask(op="echo", text="still here") is not None


async def test_any_number_of_small_events_below_the_bound_is_kept(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        client = await connect()
        await client.ask(op="join")
        for number in range(50_000):
            world.clients[0].tell({"event": number})
        assert [await client.hear() for _ in range(50_000)] == [{"event": n} for n in range(50_000)]


async def test_a_client_that_asks_and_does_not_read_is_answered_no_further(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        deaf = await connect()
        await deaf.ask(op="join")
        line = json.dumps({"op": "echo", "text": "x" * 100_000}).encode() + b"\n"
        with trio.move_on_after(5):
            for _ in range(3 * MAX_WAITING // len(line)):
                await deaf.stream.send_all(line)
                await trio.testing.wait_all_tasks_blocked()
        assert world.clients[0]._waiting <= MAX_WAITING + 2 * len(line)


async def test_there_is_always_room_for_one_more_client(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        listener = await connect()
        await listener.ask(op="join")
        silent = [await connect() for _ in range(MAX_CLIENTS - 1)]
        await trio.testing.wait_all_tasks_blocked(0.05)
        for _ in range(3):
            answer = await (await connect()).ask(op="echo", text="I am the owner")
            assert answer is not None
            assert answer["ok"]
        for gone in silent[:3]:  # the oldest of those that never asked
            answer = await gone.hear()
            assert answer is not None
            assert answer["code"] == "evicted"
            assert await gone.hear() is None
        assert (await silent[3].ask(op="echo", text="")) is not None
        world.clients[0].tell({"event": "hello"})
        assert await listener.hear() == {"event": "hello"}


async def test_who_asked_longest_ago_gives_way_and_who_listens_later(tmp_path: Path) -> None:
    world = World()
    async with serving(tmp_path / "s", world) as connect:
        listener = await connect()
        await listener.ask(op="join")
        others = [await connect() for _ in range(MAX_CLIENTS - 1)]
        for other in [*others[1:], others[0]]:
            await other.ask(op="echo", text="")
        await (await connect()).ask(op="echo", text="")
        answer = await others[1].hear()
        assert answer is not None
        assert answer["code"] == "evicted"
        assert await others[0].ask(op="echo", text="") is not None
        assert not world.left.is_set()


async def test_only_we_may_connect(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", World()):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert server.peer_uid(ours) == os.getuid()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_refused(tmp_path: Path) -> None:
    tmp = Path("/tmp") / f"pynchy-test-{os.getpid()}"
    tmp.mkdir(mode=0o755)
    path = tmp / "s"
    try:
        async with serving(path, World()):
            path.chmod(0o666)  # as if the mode had not kept them out
            program = (
                "import os,socket,sys; os.setuid(65534); s=socket.socket(socket.AF_UNIX);"
                's.connect(sys.argv[1]); s.sendall(b\'{"op":"echo","text":""}\\n\');'
                "print(s.recv(100))"
            )
            done = await trio.run_process(
                ["/usr/bin/env", "python3", "-c", program, str(path)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )
            assert done.stdout in (b"b''\n", b"")
            assert b"Permission" not in done.stderr
    finally:
        tmp.rmdir()


async def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    async with serving(tmp_path / "s", World()) as connect:
        assert await (await connect()).ask(op="echo", text="") is not None
    assert not (tmp_path / "s").exists()


@pytest.fixture
def long_home(tmp_path: Path) -> Iterator[Home]:
    home = Home((tmp_path / ("h" * 200)).absolute())
    yield home
    if home.control_socket.parent.exists() and not home.control_socket.is_relative_to(tmp_path):
        home.control_socket.parent.rmdir()


async def test_a_home_of_200_bytes_has_a_socket_too(long_home: Home) -> None:
    long_home.make()
    assert len(os.fsencode(long_home.control_socket)) <= 100
    assert stat.S_IMODE(long_home.control_socket.parent.stat().st_mode) == 0o700
    async with serving(long_home.control_socket, World()) as connect:
        client = await connect()
        assert await client.ask(op="echo", text="") is not None


def test_a_socket_folder_that_somebody_made_first_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="not a folder of ours"):
        make_private(tmp_path / "link")
    (tmp_path / "open").mkdir(mode=0o777)
    make_private(tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


def test_the_home_itself_is_closed_to_others(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.root.mkdir(mode=0o755)
    home.make()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    home.root.chmod(0o750)  # by hand, later
    home.make()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700


def test_a_folder_with_other_files_is_not_taken_for_a_home_while_others_may_enter(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "shared")
    home.root.mkdir(mode=0o755)
    (home.root / "letter.txt").touch()
    with pytest.raises(NotPrivate, match="chmod 700"):
        home.make()
    assert not home.store.exists()
    home.root.chmod(0o700)
    home.make()
    assert home.store.is_dir()


def test_the_credentials_as_macos_lays_them_out() -> None:
    xucred = bytes.fromhex("00000000f501000003000000" + "14000000" * 16)
    assert xucred_uid(xucred) == 501
    with pytest.raises(OSError, match="version 1"):
        xucred_uid(bytes.fromhex("01000000") + xucred[4:])


def test_optional_arguments_may_be_left_out_or_null_only_where_the_signature_says_so() -> None:
    async def op(client: Client, *, a: str, b: int | None = None) -> object:
        return None

    assert mismatch(op, {"a": ""}) is None
    assert mismatch(op, {"a": "", "b": None}) is None
    assert mismatch(op, {"a": None}) == "a: expected a text, found nothing"


def test_an_argument_that_is_one_of_some_words_is_none_but_these() -> None:
    async def op(client: Client, *, how: Literal["fast", "slow"] = "fast") -> object:
        return None

    assert mismatch(op, {"how": "slow"}) is None
    assert mismatch(op, {"how": "well"}) == "how: expected one of fast, slow, found 'well'"


async def test_the_arguments_of_an_op_may_be_the_fields_of_one_value() -> None:
    @attrs.frozen
    class Meal:
        what: str
        guests: int = 2

    async def op(client: Client, meal: Meal) -> object:
        return meal.guests

    assert mismatch(op, {"what": "soup"}) is None
    assert mismatch(op, {"guests": 3}) == "what: missing"
    assert mismatch(op, {"what": "soup", "more": 1}) is not None
    assert await server.call(op, Client(trio.CancelScope()), {"what": "soup", "guests": 3}) == 3
