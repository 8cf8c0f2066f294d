"""The command line as a person or a script uses it: the real program, a real socket, a real store."""

import json
import os
import re
import socket
import sys
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import trio

import pynchy
from pynchy.config.paths import Home
from pynchy.control.server import MAX_CLIENTS
from pynchy.model import Message, Seq, TurnId, TurnTold
from tests.edges.small_daemon import MAIN, Daemon, running
from tests.terminal import terminal


async def cli(home: Home, *arguments: str, stdin: bytes = b"") -> CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, "-m", "pynchy", *arguments],
        env={"PYNCHY_HOME": str(home.root), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        stdin=stdin,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def test_send_prints_the_replies_and_exits_0(home: Home) -> None:
    async with running(home):
        done = await cli(home, "send", "main", "hello")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"one moment\n[31mecho hello\n"  # nothing colours the terminal


async def test_send_as_json(home: Home) -> None:
    async with running(home) as daemon:
        done = await cli(home, "send", "console:main", "hello", "--sender", "Alice", "--json")
        assert daemon.heard[0].sender_name == "Alice"
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert (found["chat"], found["turn"], found["state"]) == (MAIN, 1, "done")
    assert [reply["text"] for reply in found["replies"]] == ["one moment", "\x1b[31mecho hello"]


async def test_what_others_hear_meanwhile_is_not_the_answer(home: Home) -> None:
    async def busy(daemon: Daemon, message: Message, seq: Seq) -> None:
        await daemon.reply(message.chat, "for somebody else", TurnId(99))
        daemon.console.turn(TurnTold(message.chat, TurnId(99), "done", replies=(1,)))
        daemon.console.turn(TurnTold(message.chat, TurnId(100), "started", seqs=(seq,)))
        last = await daemon.reply(message.chat, "for you", TurnId(100))
        daemon.console.turn(TurnTold(message.chat, TurnId(100), "done", replies=(last,)))

    async with running(home, busy):
        assert (await cli(home, "send", "main", "hello")).stdout == b"for you\n"


async def test_no_answer_in_time_is_3(home: Home) -> None:
    async def silent(daemon: Daemon, message: Message, seq: Seq) -> None:
        await trio.lowlevel.checkpoint()

    async with running(home, silent):
        done = await cli(home, "send", "main", "hello", "--wait", "0.3")
        assert (done.returncode, done.stdout) == (3, b"")
        assert b"no answer within 0.3 s" in done.stderr
        assert (await cli(home, "send", "main", "hello", "--wait", "0")).returncode == 0


async def test_a_turn_that_fails_is_5_and_one_that_is_tried_again_is_waited_for(
    home: Home,
) -> None:
    async def fail(daemon: Daemon, message: Message, seq: Seq) -> None:
        tell = daemon.console.turn
        tell(TurnTold(message.chat, TurnId(1), "started", seqs=(seq,)))
        tell(TurnTold(message.chat, TurnId(1), "retry", error="outage"))
        await trio.sleep(0.1)
        tell(TurnTold(message.chat, TurnId(1), "started", seqs=(seq,)))
        tell(TurnTold(message.chat, TurnId(1), "failed", error="overloaded six times"))

    async with running(home, fail):
        done = await cli(home, "send", "main", "hello")
    assert done.returncode == 5
    assert b"overloaded six times" in done.stderr


async def test_only_console_chats_can_be_sent_to(home: Home) -> None:
    async with running(home) as daemon:
        for chat in ("123@g.us", "4917@s.whatsapp.net", "whatsapp:x", "console:Bad!"):
            assert (await cli(home, "send", chat, "x")).returncode == 2, chat
        done = await cli(home, "send", "family", "x")
        assert done.returncode == 2
        assert b"pynchy groups add console:family" in done.stderr
        assert [message.chat for message in daemon.heard] == ["console:family"]


async def test_a_daemon_that_is_not_running_or_goes_away_is_4(home: Home) -> None:
    for command in (["send", "main", "x"], ["status"], ["groups", "list"], ["chat"]):
        done = await cli(home, *command)
        assert done.returncode == 4, command
        assert b"pynchy is not running" in done.stderr
    assert json.loads((await cli(home, "status", "--json")).stdout)["running"] is False

    async def die(daemon: Daemon, message: Message, seq: Seq) -> None:
        daemon.nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        got: list[CompletedProcess[bytes]] = []

        async def send() -> None:
            got.append(await cli(home, "send", "main", "x"))

        async with running(home, die):
            nursery.start_soon(send)
            await trio.sleep_forever()
    assert got[0].returncode == 4
    assert b"went away" in got[0].stderr


async def test_a_daemon_that_lives_and_hangs_up_is_not_called_gone(home: Home) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.aclose()

    async def evict(stream: trio.SocketStream) -> None:
        async with stream:
            said = {"id": None, "ok": False, "code": "evicted", "error": "somebody else came"}
            await stream.send_all(json.dumps(said).encode() + b"\n")

    home.make()
    path = home.control_socket
    for answer, words in ((hang_up, b"still running"), (evict, b"somebody else came")):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen(8)
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.dup()))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, answer, [listener])
                done = await cli(home, "status")
                nursery.cancel_scope.cancel()
        path.unlink()
        assert done.returncode == 1
        assert words in done.stderr
        assert b"went away" not in done.stderr


async def test_sixty_four_silent_clients_leave_room_for_the_owner(home: Home) -> None:
    async with running(home):
        silent = []
        try:
            for _ in range(MAX_CLIENTS):
                silent.append(await trio.open_unix_socket(str(home.control_socket)))
            done = await cli(home, "status")
        finally:
            for each in silent:
                await each.aclose()
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_home_that_is_a_file_is_a_sentence_for_every_command(tmp_path: Path) -> None:
    home = Home(tmp_path / "file")
    home.root.write_text("")
    asked = (["logs"], ["web", "--port", "0"], ["why"], ["status"], ["backup"], ["config", "check"])
    for command in asked:
        done = await cli(home, *command)
        assert done.returncode != 0, command
        assert b"Traceback" not in done.stderr, command


async def test_groups_are_added_listed_and_removed(home: Home) -> None:
    async with running(home) as daemon:
        add = ("groups", "add", "console:family", "--name", "Family", "--folder", "family")
        done = await cli(home, *add, "--trigger", "@Andy")
        assert done.stdout == b"family: Family, console:family, answers @Andy\n"
        assert (await cli(home, *add)).stdout == done.stdout
        other = await cli(home, "groups", "add", "console:family", "--folder", "other")
        assert (other.returncode, b"belongs to family" in other.stderr) == (2, True)
        again = await cli(home, "groups", "add", "console:kids", "--folder", "family")
        assert b"console:family, console:kids" in again.stdout
        assert (await cli(home, "groups", "add", "console:x", "--folder", "../x")).returncode == 2
        assert (await cli(home, "groups", "add", "console:global")).returncode == 2
        await cli(home, "groups", "add", "console:open", "--trigger", "Pynchy")
        await cli(home, "groups", "add", "console:open", "--no-trigger")
        listed = json.loads((await cli(home, "groups", "list", "--json")).stdout)
        assert [(g["folder"], g["requires_trigger"]) for g in listed] == [
            ("main", False),
            ("family", True),
            ("open", False),
        ]
        context = await cli(home, "send", "family", "just talking", "--wait", "20")
        assert (context.returncode, context.stdout) == (0, b"")
        assert b"stored, but not answered" in context.stderr
        assert b"(@Andy)" in context.stderr
        assert (await cli(home, "groups", "pause", "family")).returncode == 0
        asleep = await cli(home, "send", "family", "@andy hi", "--wait", "20")
        assert b"family is paused; to resume: pynchy groups resume family" in asleep.stderr
        assert b"paused" in (await cli(home, "groups")).stdout
        assert (await cli(home, "groups", "resume", "family")).returncode == 0
        assert daemon.paused == [("family", True), ("family", False)]
        assert b"nothing to stop" in (await cli(home, "groups", "stop", "family")).stdout
        assert (await cli(home, "groups", "pause", "nobody")).returncode == 2
        assert (await cli(home, "send", "family", "@andy hi")).returncode == 0
        assert (await cli(home, "groups", "remove", "family")).returncode == 0
        assert (await cli(home, "groups", "remove", "family")).returncode == 2
        assert (await cli(home, "groups", "remove", "main")).returncode == 2
        assert (await cli(home, "groups")).stdout.count(b"\n") == 3  # with its head
        assert b"Did you mean groups?" in (await cli(home, "gropus")).stderr


async def test_status_for_people_and_for_programs(home: Home) -> None:
    async with running(home):
        found = json.loads((await cli(home, "status", "--json")).stdout)
        assert found["running"] is True
        assert found["pid"] == os.getpid()
        assert found["version"] == pynchy.__version__
        assert found["groups"][0]["folder"] == "main"
        assert found["outbox"] == {"pending": 0, "sending": 0, "uncertain": 0}
        text = (await cli(home, "status")).stdout
        assert b"containers 0 of 5" in text
        assert b"main: console:main, every message" in text


async def test_chat_through_a_pipe_ends_when_all_lines_are_answered(home: Home) -> None:
    async def answer(daemon: Daemon, message: Message, seq: Seq) -> None:
        turn = TurnId(next(daemon.turns))
        daemon.console.turn(TurnTold(message.chat, turn, "started", seqs=(seq,)))
        await trio.sleep(0.1)
        last = await daemon.reply(message.chat, f"**{message.text}**", turn)
        daemon.console.turn(TurnTold(message.chat, turn, "done", replies=(last,)))

    async with running(home, answer):
        done = await cli(home, "chat", stdin=b"one\n\ntwo\nthree")
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.split()) == [b"**one**", b"**three**", b"**two**"]


async def test_a_home_of_200_bytes(tmp_path: Path) -> None:
    home = Home(tmp_path / ("h" * 200))
    try:
        async with running(home):
            assert (await cli(home, "send", "main", "hello")).returncode == 0
    finally:
        home.control_socket.parent.rmdir()


async def test_the_client_in_docs_control_md(tmp_path: Path, checkout: Path) -> None:
    async def answer(daemon: Daemon, message: Message, seq: Seq) -> None:
        await daemon.reply(message.chat, f"heard {message.text}", None)
        daemon.nursery.cancel_scope.cancel()

    page = (checkout / "docs" / "control.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done: list[CompletedProcess[bytes]] = []

    async def client() -> None:
        environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        run = partial(trio.run_process, capture_stdout=True, env=environ)
        done.append(await run([sys.executable, "-c", program]))

    async with trio.open_nursery() as nursery, running(Home(tmp_path / ".pynchy"), answer):
        nursery.start_soon(client)
        await trio.sleep_forever()
    assert done[0].stdout == b"heard hello\n"


async def test_version_and_help(home: Home) -> None:
    assert (await cli(home, "--version")).stdout == f"pynchy {pynchy.__version__}\n".encode()
    helped = await cli(home, "--help")
    for command in (b"run", b"chat", b"send", b"status", b"groups"):
        assert command in helped.stdout
    assert (await cli(home, "nonsense")).returncode == 2
    assert (await cli(home, "run", "--set", "limits.idle")).returncode == 2


async def test_starts_that_cannot_be_say_why_in_a_sentence(home: Home) -> None:
    # invariant 72: no terminal, no credential, not told to do without: it asks nobody
    done = await cli(home, "run")
    assert done.returncode == 78
    assert done.stderr.count(b"\n") == 1
    assert b"ANTHROPIC_API_KEY" in done.stderr
    assert not home.root.exists()
    for setting in ("limits.idel=3", "limits.idle=soon"):
        done = await cli(home, "run", "--offline", "--set", setting)
        assert (done.returncode, done.stderr.count(b"\n")) == (78, 1)
    home.root.mkdir()
    home.config.write_text("[limit]\n")
    assert (await cli(home, "run", "--offline")).returncode == 78


async def test_clients_import_neither_trio_nor_the_rest_of_the_daemon(home: Home) -> None:
    async with running(home):
        program = (
            "import sys; sys.argv[1:] = ['send', 'main', 'hello']\n"
            "from pynchy.__main__ import main\n"
            "try: main()\n"
            "finally: print(*sorted(sys.modules), file=sys.stderr)"
        )
        done = await trio.run_process(
            [sys.executable, "-c", program],
            env=os.environ | {"PYNCHY_HOME": str(home.root)},
            capture_stdout=True,
            capture_stderr=True,
        )
    loaded = set(done.stderr.decode().split())
    heavy = {"trio", "loguru", "rich", "sqlite3", "httpx", "mcp", "asyncio", "cattrs"}
    assert not loaded & heavy


async def test_ctrl_c_leaves_off_waiting_and_says_where_the_answer_is_found(home: Home) -> None:
    asked = trio.Event()

    async def think(daemon: Daemon, message: Message, seq: Seq) -> None:
        daemon.console.turn(TurnTold(message.chat, TurnId(1), "started", seqs=(seq,)))
        await daemon.reply(message.chat, "one moment", TurnId(1))
        asked.set()

    async with running(home, think), terminal(home, "send", "main", "hello") as at:
        await at.sees("one moment")
        await asked.wait()
        await at.types("\x03")
        await at.sees("it will be answered all the same: pynchy why 1 shows")
        assert await at.ended() == 130
    (home.logs / "pynchy.log").write_text("ready\n")
    async with terminal(home, "logs", "-f") as at:
        await at.sees("ready")
        await at.types("\x03")
        assert await at.ended() == 130
    assert b"Abort" not in at.seen
