"""Write the log of one run: its events with their times, and the end of its stderr.

It is bounded and does not repeat what was said: frames are named, not quoted. A log that cannot be written (a full
disk) is a warning and never ends the run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pynchy.limits import RUN_LOGS
from pynchy.logs import logger
from pynchy.text import safe


class Diary:
    """What happened in a run so far, one line each."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=RUN_LOGS.lines)
        self._dropped = 0

    def note(self, at: float, what: str) -> None:
        """``at``: seconds since the run began."""
        if len(self._lines) == RUN_LOGS.lines:
            self._dropped += 1
        self._lines.append(f"{at:9.3f}  {safe.escaped(what[: RUN_LOGS.line])}")

    def lines(self) -> Iterable[str]:
        if self._dropped:
            yield f"({self._dropped} earlier lines dropped)"
        yield from self._lines


class RunLog:
    """What will be written when the run ends."""

    def __init__(self) -> None:
        self.diary = Diary()
        self.stderr: Callable[[], bytes] = bytes

    def of(self, diary: Diary, stderr: Callable[[], bytes]) -> None:
        """Set the diary and where the end of stderr is read."""
        self.diary, self.stderr = diary, stderr


@contextmanager
def kept(folder: Path, name: str, *, secret: str) -> Iterator[RunLog]:
    """Write the run's log when the block ends, however it ends. ``secret`` is blotted out wherever it appears."""
    log = RunLog()
    try:
        yield log
    finally:
        try:
            _write(folder, name, log.diary, stderr=log.stderr(), secret=secret)
        except OSError as error:
            logger.warning("the log of run {} cannot be written: {}", name, error)


def _write(folder: Path, name: str, diary: Diary, *, stderr: bytes, secret: str) -> None:
    tail = stderr[-RUN_LOGS.stderr :].decode("utf-8", "backslashreplace").replace(secret, "[token]")
    shown = safe.escaped(tail, lines=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}.log"
    with open(path, "w", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
        file.writelines(f"{line}\n" for line in diary.lines())
        if shown:
            file.write("--- stderr, its end ---\n")
            file.writelines(f"| {each}\n" for each in shown.removesuffix("\n").split("\n"))
    logs = sorted(folder.glob("*.log"))  # names begin with the time
    for old in logs[: -RUN_LOGS.kept]:
        old.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
