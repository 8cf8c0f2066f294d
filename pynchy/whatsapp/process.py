"""What the bridge's process is made of: its way up to the daemon, its log, its lock and its threads."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pynchy.whatsapp import lines

LOG_LIMIT: Final = 1024 * 1024  # bytes of Go's own prints that are kept over a start
LOCK_WAIT: Final = 20.0  # for an earlier bridge to be gone


class ToDaemon:
    """The way up. Lines for a reader that is gone go nowhere: our input closes too, and ends us."""

    def __init__(self, fd: int) -> None:
        self._file = os.fdopen(fd, "wb")
        self._lock = threading.Lock()

    def say(self, line: str, **fields: object) -> None:
        self.say_all([{"line": line, **fields}])

    def say_all(self, many: Sequence[dict[str, object]]) -> None:
        with self._lock:
            try:
                self._file.write(b"".join(map(lines.encode, many)))
                self._file.flush()
            except OSError:
                self._file = open(os.devnull, "wb")  # noqa: SIM115 - for what is left of this life

    def state(self, state: str, detail: str = "") -> None:
        self.say("state", state=state, detail=detail)

    def failed(self, error: BaseException) -> None:
        """Say why this process ends."""
        logging.getLogger("bridge").error("the bridge failed", exc_info=error)
        self.state("disconnected", words_of(error))

    def guard(self, task: Callable[[], None]) -> None:
        """Run a task on a thread of its own. If it fails, this process ends and the daemon hears why."""

        def run() -> None:
            try:
                task()
            except Exception as error:
                self.failed(error)
                os._exit(1)

        start(run)


def start(task: Callable[..., object], *args: object) -> threading.Thread:
    """Run a task on a thread of its own, which nothing waits for at the end."""
    thread = threading.Thread(target=task, args=args, daemon=True)
    thread.start()
    return thread


def words_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def keep_prints(log: Path) -> None:
    """Give descriptors 1 and 2 to a file: a pipe without a reader would kill us at Go's next print."""
    if log.is_file() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".old"))
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    # Before the library is imported: it would set the root logger up for itself, and log all.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("neonize.utils.log").setLevel(logging.ERROR)


def lock(path: Path) -> None:
    """Be the one bridge of this store, to our end: two on one link throw each other out."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError("another bridge holds the WhatsApp link") from None
            time.sleep(0.1)
