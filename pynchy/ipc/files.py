"""Copy a file out of a group's folder, to where no container can write.

The rule that keeps it so: the group's folder is opened once and every step below it goes through a
descriptor, following nothing; what is taken is copied before anybody is told of it, so what the
container does with its file later changes nothing that is sent.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from pynchy.limits import FILES
from pynchy.model import Staged, Unfit
from pynchy.text.names import clean_name

FILE_LIMIT: Final = FILES.one
_CHUNK: Final = 1 << 20
_DEEPEST: Final = 32

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

WORK: Final = "/workspace/group"  # the folder as its agent sees it


async def stage(asked: str, *, work: Path, outgoing: Path) -> Staged | Unfit:
    """Copy the file that an agent calls ``asked`` from its folder ``work`` below ``outgoing``, into a
    new folder of its own. On any failure nothing is left there."""
    steps = _steps(asked)
    if isinstance(steps, Unfit):
        return steps
    try:
        source = _open_below(work, steps)
    except OSError as error:
        return Unfit(_reason(error))
    try:
        return await _copy(source, steps[-1], outgoing)
    finally:
        os.close(source)


def drop(staged: Staged) -> None:
    """Remove a copy that nobody will send."""
    _remove(Path(staged.path).parent)


def clear(outgoing: Path, *, but: Iterable[str]) -> int:
    """Remove the copies that are not among the paths ``but``; how many."""
    kept = {Path(path).parent.name for path in but}
    removed = 0
    with suppress(FileNotFoundError):
        for entry in list(outgoing.iterdir()):
            if entry.name not in kept:
                _remove(entry)
                removed += 1
    return removed


def _steps(asked: str) -> list[str] | Unfit:
    """The names from the group's folder down to the file."""
    if asked == WORK or asked.startswith(WORK + "/"):
        asked = asked[len(WORK) :].lstrip("/")
    elif asked.startswith("/"):
        return Unfit(f"only files of your own folder, {WORK}, can be sent")
    steps = [step for step in asked.split("/") if step not in ("", ".")]
    if not steps or "\0" in asked:
        return Unfit("that is no path of a file")
    if ".." in steps:
        return Unfit('a path with ".." is not followed')
    if len(steps) > _DEEPEST or any(len(os.fsencode(step)) > 255 for step in steps):
        return Unfit("the path is too long")
    return steps


def _open_below(work: Path, steps: list[str]) -> int:
    """Open the file for reading. Raises OSError, `_NotPlain` included."""
    folder = os.open(work, _FOLDER)
    try:
        for step in steps[:-1]:
            below = os.open(step, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = below
        source = _open_last(steps[-1], folder)
    finally:
        os.close(folder)
    try:
        _check(os.fstat(source))
    except OSError:
        os.close(source)
        raise
    return source


def _open_last(name: str, folder: int) -> int:
    try:
        return os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _NotPlain("it is a link; send the file that it points to") from error
        raise


class _NotPlain(OSError):
    """What is there is no file that can be sent."""


def _check(seen: os.stat_result) -> None:
    if stat.S_ISDIR(seen.st_mode):
        raise _NotPlain("it is a folder")
    if not stat.S_ISREG(seen.st_mode):
        raise _NotPlain("it is not a plain file")
    if seen.st_nlink != 1:
        raise _NotPlain("it has more than one name; send a copy of it")
    if seen.st_size == 0:
        raise _NotPlain("it is empty")
    if seen.st_size > FILE_LIMIT:
        raise _NotPlain(f"it has {seen.st_size} bytes, the limit is {FILE_LIMIT}")


def _reason(error: OSError) -> str:
    if isinstance(error, _NotPlain):
        return str(error)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a folder on the way is a link or no folder"
    if error.errno == errno.ENOENT:
        return "there is no such file"
    return f"it cannot be read ({errno.errorcode.get(error.errno or 0, 'error')})"


async def _copy(source: int, name: str, outgoing: Path) -> Staged | Unfit:
    shown = _safe_name(name)
    folder = outgoing / secrets.token_hex(16)
    size = 0
    try:
        if _total(outgoing) + os.fstat(source).st_size > FILES.waiting:
            return Unfit("too much waits to be sent already; try again later")
        folder.mkdir(mode=0o700, parents=True)
        with os.fdopen(os.open(folder / shown, _NEW, 0o600), "wb") as target:
            while size <= FILE_LIMIT and (chunk := os.read(source, _CHUNK)):
                target.write(chunk)
                size += len(chunk)
                await trio.lowlevel.checkpoint()  # a megabyte a turn of the loop
    except OSError as error:
        _remove(folder)
        return Unfit(f"it could not be copied ({errno.errorcode.get(error.errno or 0, 'error')})")
    except BaseException:
        _remove(folder)
        raise
    if size > FILE_LIMIT or size == 0:
        _remove(folder)
        return Unfit("it changed while it was read")
    return Staged(path=str(folder / shown), name=shown, size=size)


def _safe_name(name: str) -> str:
    """A name that is no trouble on anybody's disk."""
    shown = clean_name(os.fsencode(name).decode("utf-8", "replace"), fallback="file")
    shown = "".join("_" if char in '/\\:*?"<>|' else char for char in shown).strip(". ")
    while len(shown.encode()) > 200:
        shown = shown[1:]  # the end says what it is
    return shown.strip(". ") or "file"


def _total(outgoing: Path) -> int:
    """Bytes of the copies that are there."""
    total = 0
    with suppress(FileNotFoundError):
        for folder in outgoing.iterdir():
            for file in folder.iterdir():
                total += file.lstat().st_size
    return total


def _remove(folder: Path) -> None:
    """A folder of ours with the one file in it."""
    with suppress(OSError):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
