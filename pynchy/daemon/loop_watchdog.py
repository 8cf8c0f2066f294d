"""Notice a task that blocks the event loop, while it blocks it, and name it.

In a loop where everybody waits for their turn, one who does not give it back stops all, the watchdog's
sign of life too. trio tells an instrument when a batch of tasks begins and when it waits again; a thread
looks at what lies in between.

The rule that keeps it so: nothing while nothing happens. The thread sleeps without a deadline as long as
the loop waits, and looks twice a second while it works; the loop pays two calls for each batch.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import PurePath
from types import FrameType
from typing import Final

import attrs
import trio

from pynchy.logs import logger

LIMIT: Final = 1.0  # seconds of one batch that nobody complains of
LOOK: Final = 0.5  # seconds between two looks while the loop works
_FRAMES: Final = 6  # of the stack, the innermost


@attrs.frozen
class Stall:
    """One time the loop was held. ``task`` is empty if it was over before anybody could look."""

    seconds: float
    task: str = ""
    where: str = ""


class Watch(trio.abc.Instrument):
    """What was noticed so far. Only the loop's thread writes it."""

    def __init__(self, limit: float, look: float, told: Callable[[Stall], None]) -> None:
        self.count = 0
        self.longest = 0.0
        self.looks = 0  # of the thread
        self._limit = limit
        self._look = look
        self._told = told
        self._loop = threading.get_ident()
        self._root: trio.lowlevel.Task | None = None
        self._busy_since: float | None = None
        self._seen: float | None = None  # the batch that was told of already
        self._asleep = False
        self._bell = threading.Lock()  # taken: released once to wake the thread
        self._bell.acquire()
        self._closed = threading.Event()

    @property
    def is_asleep(self) -> bool:
        """Whether the thread waits for the loop to do something."""
        return self._asleep

    def after_io_wait(self, timeout: float) -> None:
        self._busy_since = time.monotonic()
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def before_io_wait(self, timeout: float) -> None:
        since, self._busy_since = self._busy_since, None
        if since is None or (held := time.monotonic() - since) <= self._limit:
            return
        self.count += 1
        self.longest = max(self.longest, held)
        if self._seen != since:
            self._told(Stall(held))

    def run(self) -> None:
        """The thread's work, until `close`."""
        while not self._closed.is_set():
            self._asleep = True
            self._bell.acquire()
            while not self._closed.wait(self._look):
                self.looks += 1
                since = self._busy_since
                if since is None:
                    break
                held = time.monotonic() - since
                if held > self._limit and self._seen != since:
                    self._seen = since
                    self._told(Stall(held, *self._culprit()))

    def close(self) -> None:
        self._closed.set()
        with suppress(RuntimeError):  # it is awake
            self._bell.release()

    def _culprit(self) -> tuple[str, str]:
        """The task that runs, and where it is."""
        frame = sys._current_frames().get(self._loop)
        where = "" if frame is None else " < ".join(_places(frame))
        with suppress(RuntimeError):  # the tree changes while we look: it has gone on
            for task in _tasks(self._root):
                if getattr(task.coro, "cr_running", False):
                    return task.name, where
        return "", where


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    left = [] if root is None else [root]
    while left:
        task = left.pop()
        yield task
        for nursery in task.child_nurseries:
            left.extend(nursery.child_tasks)


def _places(frame: FrameType) -> Iterator[str]:
    """Where a stack is, the innermost first, without values and without the loop's own frames."""
    for count, (each, line) in enumerate(traceback.walk_stack(frame)):
        path = PurePath(each.f_code.co_filename)
        if count >= _FRAMES or path.parts[-3:-1] == ("trio", "_core"):
            return
        yield f"{path.name}:{line} {each.f_code.co_name}"


@asynccontextmanager
async def open_watch(
    *, limit: float = LIMIT, look: float = LOOK, told: Callable[[Stall], None] | None = None
) -> AsyncIterator[Watch]:
    """Watch the loop that this runs in, for the length of the block.

    ``told`` is called of each stall, from either thread; by default the log is told.
    """
    watch = Watch(limit, look, told or tell_log)
    watch._root = trio.lowlevel.current_root_task()
    thread = threading.Thread(target=watch.run, name="stalls", daemon=True)
    thread.start()
    trio.lowlevel.add_instrument(watch)
    try:
        yield watch
    finally:
        trio.lowlevel.remove_instrument(watch)
        watch.close()
        thread.join()


def tell_log(stall: Stall) -> None:
    """One line for whoever asks why nothing happened."""
    if not stall.where:
        logger.warning(
            "the loop was held for {:.1f} s; it was over before it was seen", stall.seconds
        )
    else:
        by = stall.task or "a task without a name"
        logger.warning("the loop is held since {:.1f} s by {}: {}", stall.seconds, by, stall.where)
