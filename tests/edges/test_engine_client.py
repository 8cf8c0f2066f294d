"""The client process of a container: the order of its end, on every road out. The engine here only writes down what
is asked of it; the clients are real processes."""

import os
import signal

import attrs
import pytest
import trio
import trio.testing

from pynchy.container.engines import client as clients
from pynchy.container.engines.client import Attached, attach
from pynchy.container.engines.runtime import ContainerStays, SpawnFailed

POLITE = "cat; echo goodbye >&2"
STUBBORN = "trap '' TERM; exec <&-; echo up; while :; do sleep 0.1; done"
FLOOD = "trap '' PIPE; echo up; cat >/dev/null; head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2"
ENV = {"PATH": "/usr/bin:/bin"}


@attrs.define
class Engine:
    """``stops`` and ``kills``: whether the client ends by it."""

    stops: bool = True
    kills: bool = True
    stays: bool = False
    asked: list[str] = attrs.field(factory=list)
    engine: str = "none"

    async def stop(self, client: trio.Process) -> None:
        self.asked.append("stop")
        if self.stops:
            client.send_signal(signal.SIGKILL)
        await trio.sleep(0.05)  # goes on although the client has ended
        self.asked.append("stopped")

    async def kill(self, client: trio.Process) -> None:
        self.asked.append("kill")
        if self.kills:
            client.send_signal(signal.SIGKILL)
        await trio.lowlevel.checkpoint()

    async def see_gone(self) -> None:
        self.asked.append("see gone")
        await trio.lowlevel.checkpoint()
        if self.stays:
            raise ContainerStays("it is still there")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "STOP_GRACE", 0.2)
    monkeypatch.setattr(clients, "KILL_GRACE", 0.2)


async def run(engine: Engine, script: str, *, grace: float = 20.0) -> Attached:
    async with attach(
        ["sh", "-c", script], name="c", env=ENV, grace=grace, ending=engine
    ) as container:
        if script != POLITE:
            assert await container.receive() == b"up\n"
    return container


async def test_it_is_asked_by_the_end_of_its_input() -> None:
    engine = Engine()
    container = await run(engine, POLITE)
    assert engine.asked == ["see gone"]
    assert await container.wait() == 0
    assert container.stderr_tail() == b"goodbye\n"


async def test_one_that_does_not_end_is_stopped_and_the_stop_is_not_cut_short() -> None:
    engine = Engine()
    container = await run(engine, STUBBORN, grace=0.1)
    assert engine.asked == ["stop", "stopped", "see gone"]
    assert await container.wait() == 137


async def test_one_that_is_not_stopped_is_killed() -> None:
    engine = Engine(stops=False)
    await run(engine, STUBBORN, grace=0.1)
    assert engine.asked == ["stop", "stopped", "kill", "see gone"]


async def test_where_the_engine_can_do_nothing_the_client_is_killed() -> None:
    engine = Engine(stops=False, kills=False)
    container = await run(engine, STUBBORN, grace=0.1)
    assert engine.asked == ["stop", "stopped", "kill", "see gone"]
    assert await container.wait() == 137


async def test_a_client_that_dies_by_itself_leaves_no_container() -> None:
    engine = Engine()
    async with attach(
        ["sh", "-c", STUBBORN], name="c", env=ENV, grace=20.0, ending=engine
    ) as container:
        os.kill(container.pid, signal.SIGKILL)
        assert await container.wait() == 137
    assert engine.asked == ["see gone"]


async def test_what_it_still_writes_does_not_keep_it() -> None:
    engine = Engine()
    container = await run(engine, FLOOD)
    assert engine.asked == ["see gone"]
    assert await container.wait() == 0


async def test_an_error_of_the_block_does_not_wait_and_comes_out_as_it_is() -> None:
    engine = Engine()

    async def fail() -> None:
        async with attach(
            ["sh", "-c", STUBBORN], name="c", env=ENV, grace=1000.0, ending=engine
        ) as container:
            await container.receive()
            raise ValueError("the block")

    with pytest.raises(ValueError, match="the block"):
        await fail()
    assert engine.asked == ["stop", "stopped", "see gone"]


async def test_cancelled_it_ends_in_the_same_order() -> None:
    engine = Engine(stops=False)
    with trio.CancelScope() as scope:
        async with attach(
            ["sh", "-c", STUBBORN], name="c", env=ENV, grace=1000.0, ending=engine
        ) as container:
            await container.receive()
            scope.cancel()
            await trio.sleep_forever()
    assert engine.asked == ["stop", "stopped", "kill", "see gone"]
    assert await container.wait() == 137


async def test_cancelled_while_it_starts_nothing_is_left() -> None:
    engine = Engine()
    with trio.CancelScope() as scope:
        scope.cancel()
        await run(engine, STUBBORN)
    assert engine.asked[-1] == "see gone"


async def test_a_kill_comes_first_and_it_is_not_asked_to_stop() -> None:
    engine = Engine(kills=False)
    async with attach(
        ["sh", "-c", STUBBORN], name="c", env=ENV, grace=0.0, ending=engine
    ) as container:
        await container.receive()
        container.kill()
        container.kill()
        await trio.testing.wait_all_tasks_blocked()
        assert engine.asked == ["kill"]
    assert engine.asked == ["kill", "kill", "see gone"]


async def test_somebody_who_still_reads_does_not_hold_it_up() -> None:
    engine = Engine()

    async def read(container: Attached) -> None:
        with trio.CancelScope(shield=True):
            while await container.receive():
                pass

    async with (
        trio.open_nursery() as nursery,
        attach(["sh", "-c", STUBBORN], name="c", env=ENV, grace=0.1, ending=engine) as container,
    ):
        nursery.start_soon(read, container)
        await trio.testing.wait_all_tasks_blocked()
    assert engine.asked == ["stop", "stopped", "see gone"]


async def test_a_program_that_is_not_there_is_told_and_nothing_is_looked_for() -> None:
    engine = Engine()
    with pytest.raises(SpawnFailed, match="none: /nope"):
        async with attach(["/nope"], name="c", env={}, grace=1.0, ending=engine):
            pass
    assert engine.asked == []


async def test_a_container_that_stays_is_told() -> None:
    with pytest.raises(ContainerStays):
        await run(Engine(stays=True), POLITE)
