"""Copy a file tree safely when both source and target may be hostile.

The rule that keeps it so: each name is opened below the folder that was opened before, and no link is
ever followed, on neither side. A file that is there already is never changed, unless the caller says
of its content that it may be.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Final

import attrs

from pynchy.files.extents import data_in
from pynchy.files.walk import FOLDER, Entry, Walk

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
    if not dry and source.is_dir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    walk = Walk(source)
    with closing(_Target(target)) as ours, closing(iter(walk)) as entries:
        terms = _Terms(copied, dry, ours.owner, may_replace)
        for entry in entries:
            if entry.path in skip:
                entry.enter = False
                continue
            try:
                _merge_entry(entry, ours.folder_of(entry.path), terms)
            except OSError:  # contained here: one name that cannot be copied, or is not what it was
                entry.enter = False
                copied.refused.append(entry.path)
    copied.refused += [
        f"{place}: {why}" for why, places in walk.skipped.items() for place in places
    ]
    return copied


class _Target:
    """The folders of the target that lie on the way to where the walk is, open."""

    def __init__(self, top: Path) -> None:
        """Raises OSError if there is something that is no folder."""
        self._open: list[tuple[str, int]] = []
        self.owner: tuple[int, int] | None = None
        with suppress(FileNotFoundError):
            self._open.append(("", os.open(top, FOLDER)))
            seen = os.fstat(self._open[0][1])
            self.owner = (seen.st_uid, seen.st_gid) if os.geteuid() == 0 else None

    def folder_of(self, path: str) -> int | None:
        """The folder that a name is to be in, or None if there is none. Raises OSError for what is no folder."""
        if not self._open:
            return None
        wanted = path.split("/")[:-1]
        while (here := self._open[-1][0]) and wanted[: here.count("/")] != here.split("/")[:-1]:
            os.close(self._open.pop()[1])
        here, folder = self._open[-1]
        for name in wanted[here.count("/") :]:
            try:
                folder = os.open(name, FOLDER, dir_fd=folder)
            except FileNotFoundError:
                return None
            here += f"{name}/"
            self._open.append((here, folder))
        return folder

    def close(self) -> None:
        for _, folder in self._open:
            os.close(folder)


def _merge_entry(entry: Entry, ours: int | None, terms: _Terms) -> None:
    if entry.is_file:
        _merge_file(entry.folder, ours, entry.name, entry.path, terms)
    elif not entry.is_folder:
        terms.copied.refused.append(entry.path)
    elif ours is not None:
        if not terms.dry:
            with suppress(FileExistsError):
                os.mkdir(entry.name, 0o700, dir_fd=ours)
                _give(entry.name, ours, terms)
        with suppress(FileNotFoundError):
            os.close(os.open(entry.name, FOLDER, dir_fd=ours))  # or it is in the way


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
    for start, left in data_in(source.fileno(), size):
        os.lseek(source.fileno(), start, os.SEEK_SET)
        os.lseek(aside.fileno(), start, os.SEEK_SET)
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
