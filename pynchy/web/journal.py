"""Read the daemon's log and the logs of runs, also while the daemon is down.

Edge to `logs/`. The rule that keeps it so: the kernel says when to look again; what is read is bounded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from pynchy.files.changes import Watch, open_watch

TAIL: Final = 256 * 1024  # bytes at the end of the log that are shown at first
STEP: Final = 256 * 1024  # bytes read at once
MAX_RUN_LOG: Final = 512 * 1024  # bytes
_RUN: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)

Tell = Callable[[list[str]], Awaitable[None]]


async def follow(path: Path, tell: Tell) -> NoReturn:
    """Report the last lines of a log, then each new one, across rotations. Never returns."""
    first = True
    while True:
        with _folder(path.parent) as folder:
            file = _open(path)
            if file is None:
                with open_watch(folder, every_write=True) as watch:
                    if not _is_there(path):  # else it came before we listened
                        await watch.changed()
                first = False  # what begins while somebody looks is shown from its beginning
                continue
            with file:
                if first and (size := os.fstat(file.fileno()).st_size) > TAIL:
                    file.seek(size - TAIL)
                    file.readline()  # half a line
                first = False
                await _follow(path, folder, file, tell)


async def _follow(path: Path, folder: int, file: BinaryIO, tell: Tell) -> None:
    """Follow one file until another one takes its name."""
    half = b""
    with open_watch(folder, file.fileno(), every_write=True) as watch:
        while True:
            over = _replaced(path, file)  # before the last look, so that no line is missed
            while chunk := file.read(STEP):
                *lines, half = (half + chunk).split(b"\n")
                if lines:
                    await tell([line.decode("utf-8", "replace") for line in lines])
                if len(half) > STEP:
                    half = b""
            if over:
                return
            await watch.changed()


def run_log(folder: Path, run: str) -> str | None:
    """The end of the log of a run that is over; None if there is none."""
    if not _RUN.fullmatch(run):
        return None
    for path in sorted(folder.glob(f"*-{run}.log")):
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MAX_RUN_LOG))
            return file.read(MAX_RUN_LOG).decode("utf-8", "replace")
    return None


@contextmanager
def watched(folder: Path) -> Iterator[Watch]:
    """Watch a folder for new names and writes for the length of the block."""
    with _folder(folder) as fd, open_watch(fd, every_write=True) as watch:
        yield watch


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _is_there(path: Path) -> bool:
    return path.exists()


def _replaced(path: Path, file: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return True
