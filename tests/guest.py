"""A guest under test: any program that speaks the wire, with the host's side of it in the test's hands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import attrs
import trio

from pynchy.policy.tools import TOOLS
from pynchy_agent import wire
from tests.processes import below

Said = TypeVar("Said", bound=wire.Frame)

RUNNER = (sys.executable, "-I", "-m", "pynchy_agent")


@attrs.frozen
class Home:
    """The folders of one group, as the host mounts them."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Home:
        home = cls(root)
        for folder in (home.group, home.shared, home.media, home.commands, home.config):
            folder.mkdir(parents=True)
        return home

    @property
    def group(self) -> Path:
        return self.root / "workspace" / "group"

    @property
    def shared(self) -> Path:
        return self.root / "workspace" / "global"

    @property
    def media(self) -> Path:
        return self.root / "workspace" / "media"

    @property
    def commands(self) -> Path:
        return self.root / "workspace" / "ipc" / "commands"

    @property
    def config(self) -> Path:
        return self.root / "claude"

    @property
    def gateway(self) -> Path:
        return self.root / "gateway.sock"

    def environ(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "PYNCHY_WORKSPACE": str(self.root / "workspace"),
            "PYNCHY_ANSWERS": str(self.root / "answers"),
            "CLAUDE_CONFIG_DIR": str(self.config),
            "CLAUDE_CODE_MAX_RETRIES": "1",
            **more,
        }


def prompt(text: str, *images: wire.Image) -> wire.Prompt:
    return wire.Prompt(id=str(uuid4()), text=text, images=images)


#: What a run of a group that is not main is told at its start.
START = wire.Start(
    run="0" * 16,
    group="family",
    chat="console:family",
    is_main=False,
    scheduled=False,
    session=None,
    model=None,
    tools=(),
    timezone="UTC",
    assistant="Pynchy",
    token="token",
    gateway="/run/pynchy/gateway.sock",
)


def start(
    home: Home, *prompts: wire.Prompt, session: str | None = None, tools: Sequence[str] = ()
) -> wire.Start:
    return attrs.evolve(
        START,
        run="00112233aabbccdd",
        session=session,
        tools=tuple(TOOLS[name].on_the_wire for name in tools),
        timezone="Europe/Berlin",
        token="run-token",
        gateway=str(home.gateway),
        prompts=prompts,
    )


class Guest:
    """The program, what it said so far, and what can be said to it."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said: list[wire.Frame] = []
        self.noise = 0
        self._heard = trio.Condition()
        self._ended = False

    async def tell(self, *lines: wire.ToContainer) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"".join(map(wire.encode_line, lines)))

    async def hang_up(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def until(self, kind: type[Said], like: Callable[[Said], bool] = lambda _: True) -> Said:
        """The next frame of a kind that has not been waited for yet; what comes before it is passed over."""
        async with self._heard:
            while True:
                while self.said:
                    frame = self.said.pop(0)
                    if isinstance(frame, kind) and like(frame):
                        return frame
                    assert not isinstance(frame, wire.Error) or kind is wire.Error, frame
                assert not self._ended, f"the guest ended and never said {kind.__name__}"
                await self._heard.wait()

    async def rest(self) -> list[wire.Frame]:
        """Everything that is said until the program's end."""
        async with self._heard:
            while not self._ended:
                await self._heard.wait()
        return self.said

    async def listen(self) -> None:
        assert self.process.stdout is not None
        decoder = wire.FrameDecoder()
        async for data in self.process.stdout:
            for frame in decoder.feed(bytes(data)):
                assert not isinstance(frame, wire.BadFrame), frame
                async with self._heard:
                    self.said.append(frame)
                    self._heard.notify_all()
        self.noise = decoder.noise
        async with self._heard:
            self._ended = True
            self._heard.notify_all()


@asynccontextmanager
async def open_guest(
    argv: Sequence[str], environ: Mapping[str, str], *lines: wire.ToContainer, seconds: float = 20
) -> AsyncIterator[Guest]:
    """Run a guest for the block, at most so long; it and all its children are gone after."""
    with trio.fail_after(seconds):
        process = await trio.lowlevel.open_process(
            argv,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        guest = Guest(process)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(guest.listen)
                await guest.tell(*lines)
                yield guest
                nursery.cancel_scope.cancel("the test is over")
        finally:
            if process.returncode is None:
                process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()


def children(pid: int) -> dict[int, str]:
    """All living descendants of a process, with their command lines."""
    return {child: _command_line(child) for child in below(pid)}


def _command_line(pid: int) -> str:
    try:
        return (
            (Path("/proc") / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
        )
    except OSError:
        return ""


def waiting_commands(home: Home) -> list[str]:
    return sorted(
        path.name for path in home.commands.iterdir() if wire.COMMAND_NAME.fullmatch(path.name)
    )


async def next_command(home: Home, *, seen: set[str]) -> tuple[str, dict[str, Any]]:
    """The next command file in the folder, taken in the order of names, and its id."""
    while True:
        for name in waiting_commands(home):
            if name not in seen:
                seen.add(name)
                command = wire.decode_command((home.commands / name).read_bytes())
                return name.removesuffix(".json"), {"name": command.name, **command.args}
        await trio.sleep(0.02)  # the test's own watcher; the real one is tested in its own room
