"""A trio run that a seed decides, with a clock that jumps.

Two engines that must agree on every step:

* *stepped* drives trio's own loop by hand and feeds it no I/O at all. It can hold a runnable task
  back for a while, which is legal (any checkpoint may be slow) and gives races between two awaits a
  width; and when nobody can run and nobody waits for a time, that is `Deadlock` with the names of
  the tasks, instead of a test that hangs;
* *public* is `trio.run` with a `MockClock`: slower, without holds, on trio's public interface.

What makes either deterministic: trio sorts and shuffles each batch by a generator that we seed; no
threads, no I/O; no clock, randomness or hash order in the code under test (`poisoned` sees to it).
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, NoReturn, TypeVar

import attrs
import trio
import trio._core._run as loop
from trio.testing import MockClock

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everybody waits and nothing is coming, or the world turns without getting anywhere."""


@attrs.frozen
class Hold:
    """Hold one runnable task back now and then: with ``chance`` per pass and task, for a time drawn
    around one of ``means`` (virtual seconds)."""

    chance: float
    means: tuple[float, ...]


@attrs.frozen
class Simulated(Generic[T]):
    """What a run came to. ``schedule`` is a digest of every step of every task and its time."""

    value: T
    schedule: str
    steps: int
    seconds: float


def simulate(
    main: Callable[[], Awaitable[T]],
    *,
    seed: int,
    hold: Hold | None = None,
    public: bool = False,
    traced: bool = False,
    max_passes: int = 20_000_000,
) -> Simulated[T]:
    """Run ``main`` to its end as ``seed`` decides. Raises what it raises, or `Deadlock`."""
    clock: trio.abc.Clock = MockClock(autojump_threshold=0) if public else _Clock()
    trace = _Trace(clock)
    instruments: list[trio.abc.Instrument] = [trace] if traced else []
    with _seeded(seed), poisoned():
        if public:
            value = trio.run(main, clock=clock, instruments=instruments)
        else:
            assert isinstance(clock, _Clock)
            value = _Stepper(clock, instruments, hold, seed, max_passes).run(main)
    return Simulated(value, trace.digest.hexdigest(), trace.steps, clock.current_time())


class _Clock(trio.abc.Clock):
    """Stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if deadline <= self.now else 1e9


class _Trace(trio.abc.Instrument):
    def __init__(self, clock: trio.abc.Clock) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self.steps = 0
        self._clock = clock

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self.digest.update(f"{task.name}|{self._clock.current_time():.9f};".encode())


class _Stepper:
    def __init__(
        self,
        clock: _Clock,
        instruments: list[trio.abc.Instrument],
        hold: Hold | None,
        seed: int,
        max_passes: int,
    ) -> None:
        self.clock = clock
        self.hold = hold
        self.max_passes = max_passes
        self.rng = random.Random(f"hold {seed}")
        self.held: list[tuple[float, int, Any]] = []  # until, task's number, task
        self.runner = loop.setup_runner(clock, instruments, True, True)

    def run(self, main: Callable[[], Awaitable[T]]) -> T:
        runner = self.runner
        steps = loop.unrolled_run(runner, main, ())
        passes = 0
        events: Any = None
        while True:
            try:
                steps.send(events)
            except StopIteration:
                break
            events = []
            passes += 1
            if passes > self.max_passes:
                self._abandon(f"{passes} passes")
            if self.hold is not None:
                self._hold_back(self.hold)
            if not runner.runq and not runner.waiting_for_idle:
                events = self._jump()
        assert runner.main_task_outcome is not None
        value: Any = runner.main_task_outcome.unwrap()
        return value  # type: ignore[no-any-return]

    def _hold_back(self, hold: Hold) -> None:
        self._let_go()
        queue = self.runner.runq
        if not queue or self.rng.random() >= hold.chance * len(queue):
            return
        tasks = sorted(queue, key=lambda task: task._counter)
        chosen = tasks[self.rng.randrange(len(tasks))]
        if chosen is self.runner.init_task:
            return
        queue.remove(chosen)
        wait = self.rng.expovariate(1 / self.rng.choice(hold.means))
        self.held.append((self.clock.now + wait, chosen._counter, chosen))
        self.held.sort(key=lambda each: each[:2])

    def _let_go(self) -> None:
        while self.held and self.held[0][0] <= self.clock.now:
            self.runner.runq.append(self.held.pop(0)[2])

    def _jump(self) -> Any:
        """Nobody can run: move the clock to the next moment at which somebody can."""
        runner = self.runner
        deadline = runner.deadlines.next_deadline()
        if self.held and self.held[0][0] <= deadline:
            self.clock.now = max(self.clock.now, self.held[0][0])
            self._let_go()
            return []
        queued = runner.entry_queue
        if deadline == math.inf or queued.queue or queued.idempotent_queue:
            # Only what trio tells itself, at its own shutdown.
            events = runner.io_manager.get_events(0)
            if events:
                return events
        if deadline == math.inf:
            self._abandon("nobody can ever run again")
        self.clock.now = max(self.clock.now, deadline)
        return []

    def _abandon(self, why: str) -> NoReturn:
        """Throw the run away as a SIGKILL would, without running any more of it."""
        tasks = sorted(self.runner.tasks, key=lambda task: -task._counter)
        names = sorted(task.name for task in tasks)
        loop.GLOBAL_RUN_CONTEXT.__dict__.clear()
        self.runner.ki_manager.close()
        self.runner.io_manager.close()
        self.runner.entry_queue.close()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            for task in tasks:
                with suppress(BaseException):
                    task.coro.close()
        finally:
            sys.unraisablehook = hook
        raise Deadlock(f"{why}, at {self.clock.now:.3f} s: {names}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    allowed, state, collecting = (
        loop._ALLOW_DETERMINISTIC_SCHEDULING,
        loop._r.getstate(),
        gc.isenabled(),
    )
    loop._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    loop._r.seed(seed)
    gc.disable()  # a finalizer that runs when it likes is a step that nobody planned
    try:
        yield
    finally:
        loop._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        loop._r.setstate(state)
        if collecting:
            gc.enable()


_POISON = [
    (time, "time"),
    (time, "time_ns"),
    (uuid, "uuid4"),
    (uuid, "uuid1"),
    (os, "urandom"),
    (secrets, "token_hex"),
    (secrets, "token_bytes"),
    (secrets, "token_urlsafe"),
    (random, "random"),
    (random, "uniform"),
    (random, "randrange"),
    (random, "choice"),
]


@contextmanager
def poisoned() -> Iterator[None]:
    """Make every source of chance that code could reach for by itself an error."""
    kept = [(module, name, getattr(module, name)) for module, name in _POISON]
    for module, name in _POISON:
        setattr(module, name, _refuse(f"{module.__name__}.{name}"))
    try:
        yield
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError(f"{name} was called in a simulation")

    return refuse
