"""Read a folder that a container may write and that may be hostile.

Every name in it is chosen, and every byte written, by somebody we do not trust, who may change both
at any moment. The rule that keeps it so: the folder is opened once and held by its descriptor;
names are looked up in it only, never as a path; what is read is a regular file with one link, at
most so large, opened without following and without waiting. Nothing is ever written in it, and
only single names are removed from it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

from pynchy.files.changes import Watch, open_watch
from pynchy_agent.wire import COMMAND_NAME, MAX_COMMAND

SCAN_LIMIT: Final = 4096  # entries looked at in one scan

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class BadFile(Exception):
    """A file that is not what a command file must be: theirs. ``head``: what of it may be kept."""

    def __init__(self, reason: str, head: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.head = head


class BrokenSpool(Exception):
    """The folder itself is not there, or is not a folder. Its group is set aside; others go on."""


@attrs.frozen
class Scan:
    """What is in the folder: command files by name, so in order, and how many other entries.

    ``whole`` is False if there was more than a scan looks at. ``stuck`` counts what could not be
    removed and is not named again.
    """

    names: tuple[str, ...]
    strange: tuple[bytes, ...]
    whole: bool
    stuck: int = 0


Watching = Callable[[int], AbstractContextManager[Watch]]
"""How a folder is watched, which is given by its descriptor."""


@contextmanager
def open_spool(path: Path, *, watch: Watching = open_watch) -> Iterator[Spool]:
    """Hold the folder ``path`` for the length of the block. Raises `BrokenSpool`.

    The last component is opened without following a link. Those above it are ours: no container
    can write there.
    """
    try:
        fd = os.open(path, _FOLDER)
    except OSError as error:
        raise BrokenSpool(f"{path}: {error.strerror}") from error
    try:
        yield Spool(fd, watch)
    finally:
        os.close(fd)


class Spool:
    """A folder held by its descriptor. Whatever happens to its name, this stays that folder."""

    def __init__(self, fd: int, watch: Watching) -> None:
        self._fd = fd
        self._watch = watch
        self._stuck: set[bytes] = set()  # what could not be removed: looked at once, not for ever

    def scan(self) -> Scan:
        """List the folder, as far as a scan goes."""
        names: list[str] = []
        strange: list[bytes] = []
        whole = True
        stuck = 0
        try:
            # A descriptor of its own: `scandir` moves, and closes, the one that it is given.
            with _scan(self._fd) as entries:
                for count, entry in enumerate(entries):
                    if count == SCAN_LIMIT:
                        whole = False
                        break
                    raw = os.fsencode(entry.name)
                    if raw in self._stuck:
                        stuck += 1
                    elif COMMAND_NAME.fullmatch(entry.name):
                        names.append(entry.name)
                    else:
                        strange.append(raw)
        except OSError as error:
            raise BrokenSpool(f"cannot list the commands: {error.strerror}") from error
        return Scan(tuple(sorted(names)), tuple(strange), whole, stuck)

    def read(self, name: str) -> bytes | None:
        """The bytes of a command file; None if it is gone. Raises `BadFile`.

        Never waits, never follows, never reads more than a command may have and one byte.
        """
        if COMMAND_NAME.fullmatch(name) is None:
            raise ValueError(f"{name!r} is no name of a command file")
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadFile(f"cannot be opened: {_word(error)}") from error
        try:
            size = _check(os.fstat(fd))
            data = _read(fd, MAX_COMMAND + 1)
        except OSError as error:
            raise BadFile(f"cannot be read: {_word(error)}") from error
        finally:
            os.close(fd)
        if size > MAX_COMMAND or len(data) > MAX_COMMAND:
            raise BadFile(f"more than {MAX_COMMAND} bytes", data[:MAX_COMMAND])
        return data

    def remove(self, name: str | bytes) -> bool:
        """Take one name out of the folder; False if it stays. What stays is not listed again."""
        raw = os.fsencode(name)
        try:
            os.unlink(raw, dir_fd=self._fd)
        except FileNotFoundError:
            return True
        except OSError:
            with suppress(OSError):  # perhaps it is a folder; an empty one can go
                os.rmdir(raw, dir_fd=self._fd)
                return True
            if len(self._stuck) < SCAN_LIMIT:
                self._stuck.add(raw)
            return False
        return True

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Hear of changes for the length of the block, from its first moment on."""
        with self._watch(self._fd) as watch:
            yield watch


@contextmanager
def _scan(folder: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    fd = os.open(".", _FOLDER, dir_fd=folder)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


def _check(seen: os.stat_result) -> int:
    """Raise `BadFile` unless this is a plain file with one name; its size."""
    if not stat.S_ISREG(seen.st_mode):
        raise BadFile(f"{_KINDS.get(stat.S_IFMT(seen.st_mode), 'something')}, not a file")
    if seen.st_nlink != 1:
        raise BadFile(f"{seen.st_nlink} names")
    if seen.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise BadFile("a set-user or set-group bit")
    return seen.st_size


_KINDS: Final = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _read(fd: int, most: int) -> bytes:
    parts = []
    while most > 0 and (part := os.read(fd, most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


def _word(error: OSError) -> str:
    nobody = "a socket or a device"
    known = {errno.ELOOP: "a link", errno.ENXIO: nobody, errno.EOPNOTSUPP: nobody}
    return known.get(error.errno or 0) or errno.errorcode.get(error.errno or 0, "an error")
