"""Copy a file tree safely when both source and target may be hostile.

The rule that keeps it so: each name is opened below the folder that was opened before, and no link is
ever followed, on neither side. A file that is there already is never changed, unless the caller says
of its content that it may be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from itertools import islice
from pathlib import Path
from typing import Final

import attrs

from pynchy.files.walk import DEEPEST, FOLDER, MOST, OTHER_DISK, TOO_DEEP, TOO_MANY

_ASIDE: Final = ".pynchy-import.part"
_BLOCK: Final = 1 << 20
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@attrs.define
class Copied:
    """The result: how many files were new, and the paths of those left as they were."""

    new: int = 0
    same: int = 0
    kept: list[str] = attrs.field(factory=list)  # there already, and different
    refused: list[str] = attrs.field(factory=list)  # links, and what is no file


@attrs.frozen
class _Terms:
    """The settings for the whole tree."""

    copied: Copied
    dry: bool
    owner: tuple[int, int] | None
    may_replace: Callable[[str, bytes], bool]


def merge(
    source: Path,
    target: Path,
    *,
    skip: frozenset[str] = frozenset(),
    dry: bool = False,
    may_replace: Callable[[str, bytes], bool] = lambda path, content: False,
) -> Copied:
    """Copy files that ``target`` does not have. ``skip``: top-level names to leave out; ``dry``: only look.

    ``may_replace`` decides about a file that exists and differs, by its path and content.
    """
    copied = Copied()
    with suppress(FileNotFoundError, NotADirectoryError), _opened(source) as theirs:
        if not dry:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened_or_none(target) as ours:
            owner = None
            if ours is not None and os.geteuid() == 0:
                seen = os.fstat(ours)
                owner = (seen.st_uid, seen.st_gid)
            terms = _Terms(copied, dry, owner, may_replace)
            _merge(theirs, ours, terms, skip)
    return copied


@contextmanager
def _opened(path: Path | str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_or_none(path: Path | str, folder: int | None = None) -> Iterator[int | None]:
    """Open a folder, or None if there is nothing. Raises OSError if it is not a real folder."""
    try:
        descriptor = os.open(path, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _merge(theirs: int, ours: int | None, terms: _Terms, skip: frozenset[str]) -> None:
    """Go folder by folder, with a stack of open folders and the names still to visit in each."""
    stack = [_Level(theirs, ours, "", _names(theirs, "", terms, skip))]
    left = MOST
    try:
        while stack:
            level = stack[-1]
            if not level.names:
                _close(stack.pop(), keep=not stack)
                continue
            name = level.names.pop()
            inner = f"{level.path}/{name}" if level.path else name
            left -= 1
            if left < 0:
                terms.copied.refused.append(f"{inner}: {TOO_MANY}")
                return
            try:
                below = _merge_name(level, name, inner, terms, deep=len(stack) >= DEEPEST)
            except OSError:  # contained here: one name that cannot be copied, or is not what it was
                terms.copied.refused.append(inner)
                continue
            if below is not None:
                stack.append(below)
    finally:
        for level in stack[1:]:
            _close(level)


@attrs.frozen
class _Level:
    """Two folders that are open, the second if it is there, and the names of the first yet to visit."""

    theirs: int
    ours: int | None
    path: str
    names: list[str]


def _names(theirs: int, path: str, terms: _Terms, skip: frozenset[str] = frozenset()) -> list[str]:
    """The names in a folder, in reverse order, up to the tree's limit."""
    with os.scandir(theirs) as entries:
        found = [entry.name for entry in islice(entries, MOST) if entry.name not in skip]
        if next(entries, None) is not None:
            terms.copied.refused.append(f"{path}: {TOO_MANY}")
    return sorted(found, reverse=True)


def _close(level: _Level, *, keep: bool = False) -> None:
    if not keep:  # those at the top are the caller's
        os.close(level.theirs)
        if level.ours is not None:
            os.close(level.ours)


def _merge_name(level: _Level, name: str, path: str, terms: _Terms, *, deep: bool) -> _Level | None:
    """Copy one name; for a folder, return both sides, to continue there."""
    seen = os.stat(name, dir_fd=level.theirs, follow_symlinks=False)
    if stat.S_ISREG(seen.st_mode):
        _merge_file(level.theirs, level.ours, name, path, terms)
        return None
    if not stat.S_ISDIR(seen.st_mode):
        terms.copied.refused.append(path)
        return None
    if deep or seen.st_dev != os.fstat(level.theirs).st_dev:
        terms.copied.refused.append(f"{path}: {TOO_DEEP if deep else OTHER_DISK}")
        return None
    if level.ours is not None and not terms.dry:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=level.ours)
            _give(name, level.ours, terms)
    theirs = os.open(name, FOLDER, dir_fd=level.theirs)
    ours = None
    try:
        if level.ours is not None:
            with suppress(FileNotFoundError):
                ours = os.open(name, FOLDER, dir_fd=level.ours)
        return _Level(theirs, ours, path, _names(theirs, path, terms))
    except BaseException:
        os.close(theirs)
        if ours is not None:
            os.close(ours)
        raise


def _merge_file(theirs: int, ours: int | None, name: str, path: str, terms: _Terms) -> None:
    with open(os.open(name, _FILE, dir_fd=theirs), "rb") as source:
        seen = os.fstat(source.fileno())
        if not stat.S_ISREG(seen.st_mode):
            raise OSError(f"{path} is no file")
        there = None if ours is None else _open_ours(ours, name)
        if there is not None:
            with there:
                if _same(source, there):
                    terms.copied.same += 1
                    return
                if not _may_replace(there, path, terms):
                    terms.copied.kept.append(path)
                    return
        terms.copied.new += 1
        if ours is None or terms.dry:
            return
        with suppress(FileNotFoundError):
            os.unlink(_ASIDE, dir_fd=ours)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o700 if seen.st_mode & 0o100 else 0o600
        with open(os.open(_ASIDE, flags, mode, dir_fd=ours), "wb") as aside:
            _copy(source, aside, seen.st_size)
        _give(_ASIDE, ours, terms)
        os.rename(_ASIDE, name, src_dir_fd=ours, dst_dir_fd=ours)


def _copy(source: BufferedReader, aside: BufferedWriter, size: int) -> None:
    """Copy a file, holes as holes, up to its size when it was opened."""
    here = 0
    while here < size:
        try:
            start = os.lseek(source.fileno(), here, os.SEEK_DATA)
        except OSError:  # only a hole is left
            break
        here = min(os.lseek(source.fileno(), start, os.SEEK_HOLE), size)
        os.lseek(source.fileno(), start, os.SEEK_SET)
        os.lseek(aside.fileno(), start, os.SEEK_SET)
        left = here - start
        while left > 0 and (block := os.read(source.fileno(), min(left, _BLOCK))):
            left -= len(block)
            while block:
                block = block[os.write(aside.fileno(), block) :]
    os.ftruncate(aside.fileno(), size)


def _same(one: BufferedReader, other: BufferedReader) -> bool:
    """Whether two files are equal. Holes are compared as holes, which is fast."""
    size = os.fstat(one.fileno()).st_size
    if size != os.fstat(other.fileno()).st_size:
        return False
    here = 0
    while here < size:
        here = min(_data_from(one, here), _data_from(other, here))
        first, second = (os.pread(each.fileno(), _BLOCK, here) for each in (one, other))
        if first != second:
            return False
        here += max(len(first), 1)
    return True


def _data_from(file: BufferedReader, here: int) -> int:
    """The next offset with data, or the end of the file."""
    try:
        return os.lseek(file.fileno(), here, os.SEEK_DATA)
    except OSError:
        return os.fstat(file.fileno()).st_size


def _may_replace(there: BufferedReader, path: str, terms: _Terms) -> bool:
    """Whether the caller allows replacing the file; asked for small files only."""
    if os.fstat(there.fileno()).st_size > _BLOCK:
        return False
    return terms.may_replace(path, os.pread(there.fileno(), _BLOCK, 0))


def _open_ours(folder: int, name: str) -> BufferedReader | None:
    """Open a file of ours, or None. Raises OSError for a link or anything that is no file."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(f"{name} is no file")
    return file


def _give(name: str, folder: int, terms: _Terms) -> None:
    if terms.owner is not None:
        os.chown(name, *terms.owner, dir_fd=folder, follow_symlinks=False)
