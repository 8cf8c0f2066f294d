"""Traffic with one container: order, floods, and every odd way to end."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from pynchy.container.engines.runtime import ContainerGone
from pynchy.container.session import (
    MAX_BAD_FRAMES,
    MAX_TURN_BYTES,
    MAX_UNSENT,
    Broken,
    ContainerStuck,
    Gone,
    Heard,
    Traffic,
    open_session,
)
from pynchy_agent import wire
from tests.guest import START

IDLE = wire.encode_frame(wire.Idle())


@attrs.define(eq=False)
class Box:
    """A container made of memory: what it prints is pushed, what it is told is kept."""

    name: str = "pynchy-test"
    reads: bool = True
    told: list[bytes] = attrs.field(factory=list)
    exited: trio.Event = attrs.field(factory=trio.Event)
    status: int = 0
    killed: bool = False
    _print: trio.MemorySendChannel[bytes] = attrs.field(init=False)
    _stdout: trio.MemoryReceiveChannel[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._print, self._stdout = trio.open_memory_channel[bytes](10_000)

    def prints(self, data: bytes) -> None:
        self._print.send_nowait(data)

    def ends(self, status: int) -> None:
        self.status = status
        self._print.close()
        self.exited.set()

    def closes_stdout(self) -> None:
        self._print.close()

    async def send(self, data: bytes) -> None:
        if self.exited.is_set():
            raise ContainerGone
        if not self.reads:
            await trio.sleep_forever()
        self.told.append(data)

    async def receive(self) -> bytes:
        try:
            return await self._stdout.receive()
        except trio.EndOfChannel:
            return b""

    def stderr_tail(self) -> bytes:
        return b""

    async def wait(self) -> int:
        await self.exited.wait()
        return self.status

    def kill(self) -> None:
        self.killed = True
        self.ends(137)


def hear(box: Box, play: Callable[[Box], None]) -> list[Traffic]:
    """All that is heard of a box that does ``play``, until it is gone or broken."""

    async def main() -> list[Traffic]:
        heard_in, heard = trio.open_memory_channel[Traffic](0)
        found: list[Traffic] = []
        async with open_session(box, heard_in, START):
            play(box)
            while not found or isinstance(found[-1], Heard):
                found.append(await heard.receive())
        return found

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_what_was_said_comes_before_the_exit() -> None:
    def play(box: Box) -> None:
        box.prints(b"noise\n" + IDLE[:10])
        box.prints(IDLE[10:] + IDLE)
        box.ends(3)

    assert hear(Box(), play) == [Heard(wire.Idle()), Heard(wire.Idle()), Gone(3)]


def test_stdout_held_open_by_a_stray_process_does_not_hide_the_exit() -> None:  # threat S5
    def play(box: Box) -> None:
        box.prints(IDLE)
        box.exited.set()

    assert hear(Box(), play) == [Heard(wire.Idle()), Gone(0)]


def test_stdout_closed_by_a_process_that_runs_on_is_noticed() -> None:  # threat S5
    [end] = hear(Box(), Box.closes_stdout)
    assert isinstance(end, Broken)


def test_a_line_without_end_and_a_flood_are_cut_off() -> None:  # threat S3, invariant 94
    [end] = hear(Box(), lambda box: box.prints(b"x" * (wire.MAX_LINE + 2)))
    assert isinstance(end, Broken)

    def flood(box: Box) -> None:
        for _ in range((MAX_TURN_BYTES >> 16) + 1):
            box.prints((b"y" * 1023 + b"\n") * 64)

    [end] = hear(Box(), flood)
    assert isinstance(end, Broken)


def test_a_result_begins_a_new_allowance() -> None:
    result = wire.encode_frame(wire.Result(text="so", answered=(), session=None))

    def play(box: Box) -> None:
        for _ in range(3):
            for _ in range((MAX_TURN_BYTES >> 16) // 2):
                box.prints((b"y" * 1023 + b"\n") * 64)
            box.prints(result)
        box.ends(0)

    assert len(hear(Box(), play)) == 4


def test_garbage_between_markers_is_borne_for_a_while() -> None:
    garbage = wire.START_MARKER + b"\n{]\n" + wire.END_MARKER + b"\n"

    def some(box: Box) -> None:
        box.prints(garbage * MAX_BAD_FRAMES + IDLE)
        box.ends(0)

    assert hear(Box(), some) == [Heard(wire.Idle()), Gone(0)]
    [end] = hear(Box(), lambda box: box.prints(garbage * (MAX_BAD_FRAMES + 1)))
    assert isinstance(end, Broken)


async def test_telling_never_waits_and_says_when_nobody_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    box = Box(reads=False)
    heard_in, _heard = trio.open_memory_channel[Traffic](0)
    async with open_session(box, heard_in, START) as session:
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(MAX_UNSENT):
            session.tell(wire.Interrupt())
        with pytest.raises(ContainerStuck):
            session.tell(wire.Interrupt())


async def test_close_is_said_once_and_the_start_comes_first(
    autojump_clock: trio.testing.MockClock,
) -> None:  # invariant 86
    box = Box()
    heard_in, _heard = trio.open_memory_channel[Traffic](0)
    async with open_session(box, heard_in, START) as session:
        session.close()
        session.close()
        await trio.testing.wait_all_tasks_blocked()
    assert [wire.decode_line(line[:-1]) for line in box.told] == [START, wire.Close()]


def test_output_in_lines_of_nothing_is_cut_off() -> None:  # threat N9
    [end] = hear(Box(), lambda box: box.prints(b"\n" * 100_000))
    assert end == Broken("its output comes in too many small pieces")
