"""Delete folders that an agent wrote, or change their owner. They may be hostile.

Nothing recurses, no link is followed, and the number of open descriptors does not grow with the depth: a tree ten
thousand folders deep costs what a flat one costs. No container that could write in the tree may exist.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pynchy.files.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH: Final = 4096  # entries looked at in one go
MOST: Final = 2_000_000  # entries of one tree; whatever is beyond stays


def clear(top: Path) -> bool:
    """Delete a tree. False if some of it is left: it has no end, or cannot be deleted.

    The contents of a folder are moved up to the top before it is removed, so that no path is ever deeper than one step.
    """
    try:
        with _folder(top) as here:
            left = _empty(here, os.fstat(here).st_dev)
        top.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return left


def _empty(here: int, disk: int) -> bool:
    serial = count()
    taken = 0
    while taken < MOST and (names := _names(here)):
        before = taken
        for name in names:
            with suppress(OSError):
                _take(name, here, disk, serial)
                taken += 1
        if taken == before:
            return False
    return not _names(here)


def _take(name: str, here: int, disk: int, serial: Iterator[int]) -> None:
    """Remove one entry of the top; the folders in it are moved up here first. What is on another disk is mounted there,
    and stays."""
    if os.stat(name, dir_fd=here, follow_symlinks=False).st_dev != disk:
        raise OSError(errno.EXDEV, "of another disk", name)
    if not stat.S_ISDIR(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=here)
        return
    with suppress(OSError):
        os.rmdir(name, dir_fd=here)
        return
    os.chmod(name, 0o700, dir_fd=here)  # its owner may have shut it; it is no link
    with _folder(name, here) as inner:
        for child in _names(inner):
            seen = os.stat(child, dir_fd=inner, follow_symlinks=False)
            if seen.st_dev != disk:
                raise OSError(errno.EXDEV, "of another disk", child)
            if stat.S_ISDIR(seen.st_mode):
                _move_up(child, inner, here, serial)
            else:
                os.unlink(child, dir_fd=inner)
    with suppress(OSError):  # more than a batch was in it: the next round goes on
        os.rmdir(name, dir_fd=here)


def _move_up(child: str, inner: int, here: int, serial: Iterator[int]) -> None:
    for number in islice(serial, 1000):  # the agent may have taken some of our names
        with suppress(OSError):
            os.chmod(child, 0o700, dir_fd=inner)
            os.rename(child, f".cleared-{number}", src_dir_fd=inner, dst_dir_fd=here)
            return


def give(top: Path, owner: tuple[int, int]) -> None:
    """Give a tree to ``owner``, as root. What lies too deep, or on another disk, keeps its owner."""
    uid, gid = owner
    for entry in Walk(top):
        with suppress(OSError):
            os.chown(entry.name, uid, gid, dir_fd=entry.folder, follow_symlinks=False)
    os.chown(top, uid, gid, follow_symlinks=False)


@contextmanager
def _folder(name: Path | str, at: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, BATCH)]
