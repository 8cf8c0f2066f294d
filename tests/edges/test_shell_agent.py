"""An agent written from docs/wire.md alone: thirty lines of shell that the host cannot tell from the real one."""

from __future__ import annotations

from pathlib import Path

from pynchy_agent import wire
from tests.guest import Home, next_command, open_guest, prompt, start

AGENT = (str(Path(__file__).parent.parent / "agents" / "shell_agent.sh"),)

HARD = (
    'a "quoted" \\ back\\slash\nnew line \N{GRINNING FACE} </x> $(id) `id` ---PYNCHY_OUTPUT_END---'
)


async def test_an_agent_in_shell_answers_says_and_closes(tmp_path: Path) -> None:
    home = Home.make(tmp_path)
    first, second, third = prompt(HARD), prompt("say hello \\ there"), prompt("")
    async with open_guest(AGENT, home.environ(), start(home, first)) as guest:
        await guest.until(wire.Ready)
        assert (await guest.until(wire.Accepted)).prompts == (first.id,)
        assert await guest.until(wire.Result) == wire.Result(
            text=HARD, answered=(first.id,), session=None
        )
        await guest.until(wire.Idle)

        await guest.tell(second)
        command_id, command = await next_command(home, seen=set())
        assert command == {"name": "send_message", "text": "hello \\ there"}
        await guest.tell(
            wire.Answer(id="0" * 32, ok=True, text="another's"),
            wire.Answer(id=command_id, ok=True, text="sent"),
        )
        assert await guest.until(wire.Result) == wire.Result(
            text="sent", answered=(second.id,), session=None
        )

        await guest.tell(third)
        assert (await guest.until(wire.Result)).answered == (third.id,)
        await guest.tell(wire.Close())
        await guest.rest()
        assert await guest.process.wait() == 0


async def test_it_ends_with_its_stdin(tmp_path: Path) -> None:
    home = Home.make(tmp_path)
    async with open_guest(AGENT, home.environ(), start(home)) as guest:
        await guest.until(wire.Ready)
        await guest.hang_up()
        assert await guest.process.wait() == 0
