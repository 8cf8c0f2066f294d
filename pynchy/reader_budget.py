"""Limit how long parsing other people's bytes may block the event loop.

Whoever reads such bytes in a loop counts them with a `Reader`: after so many bytes or pieces it lets other tasks go
first, and a source that sends absurdly small pieces raises `TooManyPieces`, so that its connection or run can be ended.
The processor time that the loop spends for one run, or for one client, is charged to its `Account`. An account that has
used more than its share waits until the share has caught up, one reader at a time, so that opening more connections
gains nothing.

Counts decide when to pause, so that a simulation plays the same every time; processor time is measured only where
`LoopTime` is installed, which is in the real daemon.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import attrs
import trio

PASS_BYTES: Final = 256 << 10  # that a reader takes before others have their turn
PASS_PIECES: Final = 32
PASS_TIME: Final = 0.005  # seconds of the processor, the same
SHARE: Final = 0.15  # of the loop's time that one account may use in the long run
BURST: Final = 0.25  # seconds of the processor that it may use at once after a rest
FREE_PIECES: Final = 4096  # pieces of any size that no reader complains of
LONGEST: Final = 50  # tasks whose longest step is remembered


class TooManyPieces(Exception):
    """A source sends its bytes in pieces so small that reading them costs more than they are worth."""


class Account:
    """Processor time of the loop used on behalf of one run or client, held to a share of it."""

    def __init__(self, *, share: float = SHARE, burst: float = BURST) -> None:
        self.used = 0.0  # seconds in all
        self.longest = 0.0  # seconds of one step
        self._share = share
        self._burst = burst
        self._left = burst
        self._at = trio.current_time()
        self._turns = trio.Lock()

    def charge(self, seconds: float) -> None:
        self._refill()
        self.used += seconds
        self.longest = max(self.longest, seconds)
        self._left = max(self._left - seconds, -self._burst)  # what is owed is bounded, too

    @property
    def in_debt(self) -> bool:
        self._refill()
        return self._left < 0

    async def repay(self) -> None:
        """Wait until the share has caught up with what was used. Waiters go on one at a time."""
        async with self._turns:
            while self.in_debt:  # noqa: ASYNC110 - the wait is computed, nothing can announce it
                await trio.sleep(-self._left / self._share)

    def _refill(self) -> None:
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._share)
        self._at = now


_account: ContextVar[Account | None] = ContextVar("account", default=None)


@contextmanager
def charged_to(account: Account) -> Iterator[None]:
    """Charge the account for what this task, and every task that it starts, does in the block."""
    token = _account.set(account)
    try:
        yield
    finally:
        _account.reset(token)


def account_here() -> Account:
    """The account of this task, or a new one."""
    return _account.get() or Account()


class LoopTime(trio.abc.Instrument):
    """Measures each step of each task, and charges the account that the task belongs to.

    ``longest`` has the longest steps by task name, in seconds of the processor: other programs on a busy
    machine do not count.
    """

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self._began: float | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._began is None:
            return
        took = time.thread_time() - self._began
        self._began = None
        if (account := task.context.get(_account)) is not None:
            account.charge(took)
        if took > self.longest.get(task.name, PASS_TIME):
            self.longest[task.name] = took
            if len(self.longest) > LONGEST:
                del self.longest[min(self.longest, key=self.longest.__getitem__)]

    def longest_by_kind(self) -> dict[str, float]:
        """The longest steps by the first word of the tasks' names, which says what a task is without saying whose."""
        found: dict[str, float] = {}
        for name, took in self.longest.items():
            kind = name.partition(" ")[0]
            found[kind] = max(took, found.get(kind, 0.0))
        return found

    @property
    def step(self) -> float:
        """Seconds of the processor that the step under way has taken so far."""
        return 0.0 if self._began is None else time.thread_time() - self._began


_loop_time: ContextVar[LoopTime | None] = ContextVar("loop_time", default=None)


def loop_time() -> LoopTime | None:
    """The instrument that measures this task's loop, if any."""
    return _loop_time.get()


@contextmanager
def open_loop_time() -> Iterator[LoopTime]:
    """Measure the loop that this runs in, for the length of the block. Tasks started in it are charged."""
    measure = LoopTime()
    trio.lowlevel.add_instrument(measure)
    token = _loop_time.set(measure)
    try:
        yield measure
    finally:
        _loop_time.reset(token)
        trio.lowlevel.remove_instrument(measure)


@attrs.define
class Reader:
    """Counts what is read from one source. ``smallest``: bytes that its pieces must have on average, after the
    first `FREE_PIECES`; 0 where small pieces are all right. ``what`` names the source in an error."""

    what: str
    smallest: int = 0
    size: int = attrs.field(default=0, init=False)
    pieces: int = attrs.field(default=0, init=False)
    _pass_bytes: int = attrs.field(default=0, init=False)
    _pass_pieces: int = attrs.field(default=0, init=False)

    async def took(self, size: int, pieces: int = 1) -> None:
        """Count what was read, and let others go first when it is their turn. Raises `TooManyPieces`."""
        self.size += size
        self.pieces += pieces
        if self.pieces > FREE_PIECES and self.size < self.pieces * self.smallest:
            raise TooManyPieces(f"{self.what} comes in too many small pieces")
        self._pass_bytes += size
        self._pass_pieces += pieces
        await self._give_way()

    async def worked(self, size: int = 0) -> None:
        """Let others go first when it is their turn, after work on ``size`` bytes that were counted already."""
        self._pass_bytes += size
        await self._give_way()

    def start_again(self) -> None:
        """Forget what was read so far: another request, or another turn, of the same source."""
        self.size = self.pieces = 0

    async def _give_way(self) -> None:
        account, measure = _account.get(), _loop_time.get()
        due = self._pass_bytes >= PASS_BYTES or self._pass_pieces >= PASS_PIECES
        if not due and measure is not None:
            due = measure.step >= PASS_TIME
        if account is not None and account.in_debt:
            self._pass_bytes = self._pass_pieces = 0
            await account.repay()
        elif due:
            self._pass_bytes = self._pass_pieces = 0
            await trio.lowlevel.checkpoint()


@attrs.frozen
class PacedListener(trio.abc.Listener[trio.SocketStream]):
    """A listener that takes no new connection while its account is in debt."""

    listener: trio.SocketListener

    async def accept(self) -> trio.SocketStream:
        account = _account.get()
        if account is not None and account.in_debt:
            await account.repay()
        return await self.listener.accept()

    async def aclose(self) -> None:
        await self.listener.aclose()
