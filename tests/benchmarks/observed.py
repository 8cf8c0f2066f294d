"""`pynchy run`, watched from within: how long its loop is held up, and how many tasks it has.

``python -m tests.benchmarks.observed run …`` is the daemon as it is, with an instrument on its loop. At SIGUSR1 it
writes what it saw since the last one to the file named by ``PYNCHY_TEST_OBSERVED``. A stall is one step of one task,
in which nobody else gets a turn; of each the processor time is told beside the time on the wall, for on a busy
machine the latter is the machine's.
"""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

from pynchy import __main__


class Watcher(trio.abc.Instrument):
    """Counts tasks and keeps the longest step."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._tasks = 0
        self._wall = self._cpu = 0.0
        self._began = (0.0, 0.0)

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._tasks += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._tasks -= 1

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = (time.perf_counter(), time.thread_time())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        wall, cpu = self._began
        self._wall = max(self._wall, time.perf_counter() - wall)
        self._cpu = max(self._cpu, time.thread_time() - cpu)

    def tell(self, number: int, frame: object) -> None:
        """The signal's handler."""
        seen = {"tasks": self._tasks, "wall": self._wall * 1000, "cpu": self._cpu * 1000}
        self._wall = self._cpu = 0.0
        aside = self._file.with_suffix(".new")
        aside.write_text(json.dumps(seen), encoding="utf-8")
        aside.rename(self._file)


def look(process: int, file: Path) -> dict[str, Any]:
    """What it saw since the last look. It answers at once, or is stuck."""
    file.unlink(missing_ok=True)
    os.kill(process, signal.SIGUSR1)
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    seen: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return seen


def main() -> None:
    watcher = Watcher(Path(os.environ.pop("PYNCHY_TEST_OBSERVED")))
    signal.signal(signal.SIGUSR1, watcher.tell)
    vars(trio)["run"] = partial(trio.run, instruments=[watcher])
    __main__.main()


if __name__ == "__main__":
    main()
