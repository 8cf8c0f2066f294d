"""Talk with one container: send lines and receive frames.

`open_session` handles the traffic of a run for the length of a block: one task reads stdout and decodes it, one waits
for the exit, one writes stdin. What is received arrives in order as `Heard`, `Broken` or `Gone` on the channel that the
caller provides. It decides nothing, knows no store, has no clock but the two short limits below, and the caller never
waits for the container (`Session.tell` does not block).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

from pynchy.container.engines.runtime import Container, ContainerGone
from pynchy.container.runlog import Diary
from pynchy.limits import AGENTS
from pynchy.reader_budget import Reader, TooManyPieces
from pynchy_agent import wire

MAX_TURN_BYTES: Final = AGENTS.output
MAX_BAD_FRAMES: Final = AGENTS.bad_frames
STEP: Final = 4 << 10  # bytes of stdout that are decoded in one go
SMALLEST: Final = 16  # bytes of its lines, on average, once they are many
MAX_UNSENT: Final = 1000  # lines that wait for a container which does not read
LAST_WORDS: Final = 1.0  # seconds for what is still in the pipe once the container has exited
SILENT_EXIT: Final = 5.0  # seconds between the end of stdout and the exit that must follow


@attrs.frozen
class Heard:
    """The container said something well-formed."""

    frame: wire.Frame


@attrs.frozen
class Broken:
    """The container cannot go on: it breaks the protocol (floods, sends garbage, runs on with its stdout closed), or
    takes up too much room. ``kind`` is the kind of failure that it is."""

    reason: str
    kind: str = "agent"


@attrs.frozen
class Gone:
    """The container exited with ``status`` (137 and the like when it was killed). Nothing is heard after this."""

    status: int


Traffic = Heard | Broken | Gone


class ContainerStuck(Exception):
    """The container has not read its stdin for so long that nothing more can be queued for it."""


class Session:
    """One container's traffic, as its caller sees it."""

    def __init__(self, container: Container, lines: trio.MemorySendChannel[bytes]) -> None:
        self._container = container
        self._lines = lines
        self.noise = 0  # lines of stdout that belonged to no frame
        self.closing = False
        self.diary = Diary()
        self._began = trio.current_time()

    def note(self, what: str) -> None:
        """A line for the run's log: what happened, never what was said."""
        self.diary.note(trio.current_time() - self._began, what)

    def tell(self, message: wire.ToContainer) -> None:
        """Queue a line for the container and return at once. Raises `ContainerStuck` if it has stopped reading. What is
        told to a container that is gone is dropped: `Gone` follows."""
        self.note(f"-> {_named(message)}")
        try:
            self._lines.send_nowait(wire.encode_line(message))
        except trio.WouldBlock:
            raise ContainerStuck(f"{MAX_UNSENT} lines unread by {self._container.name}") from None
        except trio.BrokenResourceError:
            pass

    def close(self) -> None:
        """Ask the container to finish its turn and exit. Sent once, however often this is called."""
        if not self.closing:
            self.closing = True
            self.tell(wire.Close())

    def kill(self) -> None:
        """End the whole process tree now. `Gone` follows."""
        self._container.kill()

    def stderr_tail(self) -> bytes:
        return self._container.stderr_tail()


@asynccontextmanager
async def open_session(
    container: Container, heard: trio.MemorySendChannel[Traffic], start: wire.Start
) -> AsyncIterator[Session]:
    """Talk to a container for the length of the block; ``start`` is its first line."""
    lines_in, lines = trio.open_memory_channel[bytes](MAX_UNSENT)
    session = Session(container, lines_in)
    session.tell(start)
    listener = _Listener(session, container, heard)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, container, lines, name=f"stdin {container.name}")
        nursery.start_soon(listener.read, name=f"stdout {container.name}")
        nursery.start_soon(listener.await_exit, name=f"exit {container.name}")
        yield session
        nursery.cancel_scope.cancel("the conversation is over")


async def _write(container: Container, lines: trio.MemoryReceiveChannel[bytes]) -> None:
    with lines:
        async for line in lines:
            try:
                await container.send(line)
            except ContainerGone:
                return


@attrs.define(eq=False)
class _Listener:
    """Decodes what a container writes, passes on the well-formed frames, and tells of its exit."""

    session: Session
    container: Container
    heard: trio.MemorySendChannel[Traffic]
    decoder: wire.FrameDecoder = attrs.field(init=False, factory=wire.FrameDecoder)
    reader: Reader = attrs.field(init=False, factory=lambda: Reader("its output", SMALLEST))
    bad: int = attrs.field(init=False, default=0)
    drained: trio.Event = attrs.field(init=False, factory=trio.Event)
    exited: trio.Event = attrs.field(init=False, factory=trio.Event)

    async def read(self) -> None:
        while chunk := await self.container.receive():
            for at in range(0, len(chunk), STEP):
                if (broken := await self.take(chunk[at : at + STEP])) is not None:
                    await self.heard.send(broken)
                    return
        self.drained.set()
        with trio.move_on_after(SILENT_EXIT) as scope:
            await self.exited.wait()
        if scope.cancelled_caught:
            await self.heard.send(Broken("its output is closed and it goes on running"))

    async def await_exit(self) -> None:
        status = await self.container.wait()
        self.session.note(f"exit {status}")
        self.exited.set()
        with trio.move_on_after(LAST_WORDS):
            await self.drained.wait()
        await self.heard.send(Gone(status))

    async def take(self, piece: bytes) -> Broken | None:
        """Read the next piece; returns why nothing more can be read, or None."""
        try:
            await self.reader.took(len(piece), piece.count(b"\n"))
            if self.reader.size > MAX_TURN_BYTES:
                return Broken(f"more than {MAX_TURN_BYTES >> 20} MiB of output in one turn")
            for item in self.decoder.feed(piece):
                if isinstance(item, wire.BadFrame):
                    self.bad += 1
                    self.session.note(f"<- malformed: {item}")
                    if self.bad > MAX_BAD_FRAMES:
                        return Broken(f"{self.bad} malformed frames, the last: {item}")
                    continue
                if isinstance(item, wire.Result):
                    self.reader.start_again()
                self.session.note(f"<- {_named(item)}")
                await self.heard.send(Heard(item))
        except (wire.BadFrame, TooManyPieces) as error:
            return Broken(str(error))
        self.session.noise = self.decoder.noise
        return None


def _named(message: wire.ToContainer | wire.Frame) -> str:
    """A message without its content."""
    match message:
        case wire.Start():
            return f"start {' '.join(each.id for each in message.prompts)}"
        case wire.Prompt(id):
            return f"prompt {id}"
        case wire.Answer(id, ok):
            return f"answer {id} {'ok' if ok else 'refused'}"
        case wire.Accepted(prompts):
            return f"accepted {' '.join(prompts)}"
        case wire.Progress(what):
            return f"progress {what}"
        case wire.Result(text, answered, session):
            return f"result of {len(text or '')} characters for {' '.join(answered)}, session {session}"
        case wire.Retrying(attempt, delay, reason):
            return f"retrying {attempt} in {delay:g} s: {reason}"
        case wire.Error(kind, said, prompts):
            return f"error {kind} for {' '.join(prompts)}: {said}"
        case _:
            return type(message).__name__.lower()
