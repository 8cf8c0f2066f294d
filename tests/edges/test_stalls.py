"""A task that holds the loop is named while it does, and a loop that waits costs nothing."""

import threading
import time

import pytest
import trio

from pynchy.daemon import loop_watchdog
from pynchy.daemon.loop_watchdog import Stall, Watch, open_watch

HANG = 60.0  # seconds; nothing here takes one of them


async def holder(until: threading.Event) -> None:
    """Blocks the loop as a bug would, until somebody has noticed."""
    until.wait(HANG)


async def test_the_task_that_holds_the_loop_is_named() -> None:
    seen: list[Stall] = []
    noticed = threading.Event()

    def told(stall: Stall) -> None:
        seen.append(stall)
        noticed.set()

    with trio.fail_after(2 * HANG):
        async with open_watch(limit=0.05, look=0.01, told=told) as watch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 0)
                nursery.start_soon(holder, noticed, name="turns of family")
            await trio.sleep(0.01)
            assert watch.count >= 1
            assert watch.longest > 0.05
    assert seen[0].task == "turns of family"
    assert "test_stalls.py:" in seen[0].where
    assert "holder" in seen[0].where


async def test_a_stall_that_nobody_saw_is_counted_and_told() -> None:
    seen: list[Stall] = []
    with trio.fail_after(HANG):
        async with open_watch(limit=0.05, look=HANG, told=seen.append) as watch:
            await trio.sleep(0.01)
            time.sleep(0.2)  # noqa: ASYNC251 - this is the stall
            await trio.sleep(0.01)
            assert watch.count == 1
    (stall,) = seen
    assert (stall.task, stall.where) == ("", "")
    assert stall.seconds >= 0.2


def looks_while_nothing_happens(watch: Watch) -> int:
    """Called in a thread that the loop waits for."""
    while not watch.is_asleep:
        time.sleep(0.01)
    before = watch.looks
    time.sleep(1.0)  # a hundred looks long
    return watch.looks - before


async def test_while_nothing_happens_nobody_looks() -> None:
    with trio.fail_after(HANG):
        async with open_watch(limit=HANG, look=0.01) as watch:
            for _ in range(3):
                await trio.sleep(0.03)  # something happens
            assert await trio.to_thread.run_sync(looks_while_nothing_happens, watch) == 0
            assert watch.looks > 0


async def test_it_leaves_with_the_block() -> None:
    async with open_watch(look=HANG) as watch:
        (thread,) = (each for each in threading.enumerate() if each.name == "stalls")
    assert not thread.is_alive()
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(watch)


def test_the_log_says_who_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    from pynchy import logs

    logs.configure(logs.Setup(file=None))
    loop_watchdog.tell_log(Stall(1.25, "turns of family", "x.py:3 wait"))
    loop_watchdog.tell_log(Stall(1.25))
    told = capsys.readouterr().err
    assert "held since 1.2 s by turns of family: x.py:3 wait" in told
    assert "it was over before it was seen" in told
