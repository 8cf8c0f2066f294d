"""`pynchy chat` on a real (pseudo) terminal."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
import trio

from pynchy.config.paths import Home
from pynchy.model import Message, Seq, TurnId, TurnTold
from tests.edges.small_daemon import MAIN, Daemon, running
from tests.terminal import terminal


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


async def slow(daemon: Daemon, message: Message, seq: Seq) -> None:
    turn = TurnId(next(daemon.turns))
    daemon.console.turn(TurnTold(message.chat, turn, "started", seqs=(seq,)))
    await daemon.console.set_typing(message.chat, True)
    await trio.sleep(0.2)
    await daemon.console.set_typing(message.chat, False)
    last = await daemon.reply(message.chat, f"You said **{message.text}**\x1b]0;pwn\x07", turn)
    daemon.console.turn(TurnTold(message.chat, turn, "done", replies=(last,)))


async def test_a_conversation(home: Home) -> None:
    async with running(home, slow) as daemon, terminal(home, "chat") as screen:
        await screen.sees("you> ")
        await screen.types("hello\r")
        typing = await screen.sees("Pynchy is typing")
        at = await screen.sees("You said \x1b[1mhello\x1b[0m", after=typing)  # markdown
        assert b"\x1b[A\x1b[K" in screen.seen[typing:at]  # "is typing" made room for it
        assert b"\x07" not in screen.seen  # nothing retitles the terminal
        assert b"\x1b]" not in screen.seen
        at = await screen.sees("you> ", after=at)
        await screen.types("half a li")
        await screen.sees("half a li", after=at)
        at = len(screen.seen)
        await daemon.reply(MAIN, "by the way", None)
        at = await screen.sees("by the way", after=at)
        await screen.sees("you> half a li", after=at)  # what was being typed is back
        await screen.types("\x15")  # Ctrl-U
        await screen.types("\x04")  # Ctrl-D
        assert await screen.ended() == 0


async def test_quit_leaves_and_history_is_shown_next_time(home: Home) -> None:
    async with running(home, slow):
        async with terminal(home, "chat") as screen:
            await screen.sees("you> ")
            await screen.types("remember me\r")
            at = await screen.sees("You said")
            await screen.sees("you> ", after=at)
            await screen.types("/quit\r")
            assert await screen.ended() == 0
        async with terminal(home, "chat") as screen:
            at = await screen.sees("Owner: remember me")
            await screen.sees("You said", after=at)


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_a_signal_ends_it_and_the_terminal_is_as_before(
    home: Home, sent: signal.Signals, code: int
) -> None:
    async with running(home), terminal(home, "chat") as screen:
        await screen.sees("you> ")
        if sent is signal.SIGINT:
            await screen.types("\x03")
        else:
            screen.process.send_signal(sent)
        assert await screen.ended() == code


async def test_a_daemon_that_stops_ends_it_too(home: Home) -> None:
    with trio.fail_after(60):
        async with running(home) as daemon, terminal(home, "chat") as screen:
            await screen.sees("you> ")
            daemon.nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                # The daemon's block ends before we may look: let it.
                await trio.lowlevel.checkpoint()
                await screen.sees("the daemon stopped")
                assert await screen.ended() == 4


LONG = "Use a List<String>\nand a <div>; see [the page](https://a.example/b).\n\n    x = '%s'" % (
    "y" * 50
)


async def says_long(daemon: Daemon, message: Message, seq: Seq) -> None:
    turn = TurnId(next(daemon.turns))
    daemon.console.turn(TurnTold(message.chat, turn, "started", seqs=(seq,)))
    last = await daemon.reply(message.chat, LONG, turn)
    daemon.console.turn(TurnTold(message.chat, turn, "done", replies=(last,)))


@pytest.mark.parametrize(
    "environ",
    [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}],
    ids=["colours", "no colours", "no escape sequences"],
)
async def test_an_answer_is_whole_in_forty_columns(home: Home, environ: dict[str, str]) -> None:
    async with (
        running(home, says_long),
        terminal(home, "chat", **{"COLUMNS": "40"} | environ) as screen,
    ):
        at = await screen.sees("you> ")
        await screen.types("hello\r")
        await screen.sees("you> ", after=await screen.sees("yyy'", after=at))
        seen = screen.seen[at:].decode()
        plain = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", "")
        assert "Use a List<String>\nand a <div>; see the page \n(https://a.example/b).\n" in plain
        assert "\n x = " in plain
        assert all(len(line) <= 40 for line in plain.split("\n"))
        assert plain.count("y") >= 50  # the long word goes on in the next line
        if "TERM" in environ:
            assert "\x1b" not in seen
        if "NO_COLOR" in environ:
            assert not re.search("\x1b\\[[0-9;]*(3[0-8]|4[0-8]|9[0-7])[;m]", seen)
        await screen.types("\x04")
        assert await screen.ended() == 0


async def test_a_pipe_gets_the_words_that_were_sent(home: Home) -> None:
    async with running(home, says_long):
        done = await trio.run_process(
            [sys.executable, "-m", "pynchy", "chat"],
            stdin=b"hello\n",
            capture_stdout=True,
            env=os.environ | {"PYNCHY_HOME": str(home.root)},
        )
    assert done.stdout.decode() == LONG + "\n"
