"""Copying a tree of files that anybody may have written, into one that anybody may have written.

The rule that keeps it so: each name is opened below the folder that was opened before, and no link is
ever followed, on neither side. A file that is there already is never changed, unless the caller says
of its content that it may be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import attrs

_ASIDE: Final = ".pynchy-import.part"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@attrs.define
class Copied:
    """What came of it: how many files were new, and the paths of those that were left as they were."""

    new: int = 0
    same: int = 0
    kept: list[str] = attrs.field(factory=list)  # there already, and different
    refused: list[str] = attrs.field(factory=list)  # links, and what is no file


@attrs.frozen
class _Terms:
    """What holds for the whole tree."""

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
    """Copy what ``target`` does not have. ``skip``: names at the top; ``dry``: only look.

    ``may_replace`` is asked about a file that is there and different, by its path and its content.
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
            _merge(theirs, ours, "", terms, skip)
    return copied


@contextmanager
def _opened(path: Path | str, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_or_none(path: Path | str, folder: int | None = None) -> Iterator[int | None]:
    """None if there is nothing. Raises OSError for what is there and no folder of its own."""
    try:
        descriptor = os.open(path, _FOLDER, dir_fd=folder)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _merge(
    theirs: int, ours: int | None, path: str, terms: _Terms, skip: frozenset[str] = frozenset()
) -> None:
    for name in sorted(os.listdir(theirs)):
        if name in skip:
            continue
        inner = f"{path}/{name}" if path else name
        kind = os.stat(name, dir_fd=theirs, follow_symlinks=False).st_mode
        try:
            if stat.S_ISDIR(kind):
                _merge_folder(theirs, ours, name, inner, terms)
            elif stat.S_ISREG(kind):
                _merge_file(theirs, ours, name, inner, terms)
            else:
                terms.copied.refused.append(inner)
        except OSError:  # contained here: one name that cannot be copied, or is not what it was
            terms.copied.refused.append(inner)


def _merge_folder(theirs: int, ours: int | None, name: str, path: str, terms: _Terms) -> None:
    if ours is not None and not terms.dry:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=ours)
            _give(name, ours, terms)
    with _opened(name, theirs) as inner:
        if ours is None:
            _merge(inner, None, path, terms)
            return
        with _opened_or_none(name, ours) as outer:
            _merge(inner, outer, path, terms)


def _merge_file(theirs: int, ours: int | None, name: str, path: str, terms: _Terms) -> None:
    with open(os.open(name, _FILE, dir_fd=theirs), "rb") as source:
        if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
            raise OSError(f"{path} is no file")
        there = None if ours is None else _read(ours, name)
        if there is not None and there == source.read():
            terms.copied.same += 1
            return
        if there is not None and not terms.may_replace(path, there):
            terms.copied.kept.append(path)
            return
        terms.copied.new += 1
        if ours is None or terms.dry:
            return
        source.seek(0)
        with suppress(FileNotFoundError):
            os.unlink(_ASIDE, dir_fd=ours)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o700 if os.fstat(source.fileno()).st_mode & 0o100 else 0o600
        with open(os.open(_ASIDE, flags, mode, dir_fd=ours), "wb") as aside:
            while block := source.read(1 << 20):
                aside.write(block)
        _give(_ASIDE, ours, terms)
        os.rename(_ASIDE, name, src_dir_fd=ours, dst_dir_fd=ours)


def _read(folder: int, name: str) -> bytes | None:
    """What a file holds; None if there is none. Raises OSError for a link, or what is no file."""
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{name} is no file")
        return file.read()


def _give(name: str, folder: int, terms: _Terms) -> None:
    if terms.owner is not None:
        os.chown(name, *terms.owner, dir_fd=folder, follow_symlinks=False)
