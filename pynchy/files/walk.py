"""Walk a tree that an agent wrote and that may be hostile.

Every walk over such a tree goes through here, but for the one that deletes it. Each folder is opened below the one that
was opened before, so no link is ever followed and no path can grow too long. Nothing recurses; a walk has a deepest
level and a most of entries, and says what it leaves out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import attrs

DEEPEST: Final = 128  # levels of folders; nobody needs half of them
MOST: Final = 2_000_000  # entries of one tree
SAID: Final = 20  # places that are named of those that were left out
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

TOO_DEEP: Final = f"folders more than {DEEPEST} levels deep"
SHUT: Final = "a folder that cannot be looked into"
OTHER_DISK: Final = "a folder of another disk"
TOO_MANY: Final = f"more than {MOST} files and folders"


@attrs.define
class Entry:
    """One name in a tree. ``folder`` is the open folder that it is in, as long as it is looked at. Set ``enter`` to
    False to keep the walk out of it."""

    folder: int
    name: str
    path: str  # below the top
    seen: os.stat_result
    enter: bool = True

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.seen.st_mode)


@attrs.define
class Walk:
    """What is below a top, folder by folder: iterate over it once. ``skipped`` says what was left out so
    far, and why. ``one_disk``: stay on the top's disk."""

    top: Path
    most: int = MOST
    one_disk: bool = True
    skipped: dict[str, list[str]] = attrs.field(init=False, factory=dict)
    _left: int = attrs.field(init=False, default=0)

    def __iter__(self) -> Generator[Entry, None, None]:
        """Every entry but the top. A top that is not there, or is no folder, has none."""
        self._left = self.most
        stack: list[
            tuple[int, str, list[str]]
        ] = []  # open folders, each with those in it yet to visit
        try:
            yield from self._enter(None, str(self.top), "", stack)
            while stack:
                folder, path, names = stack[-1]
                if names:
                    name = names.pop()
                    yield from self._enter(folder, name, f"{path}{name}/", stack)
                else:
                    os.close(stack.pop()[0])
        finally:
            for folder, _, _ in stack:
                os.close(folder)

    def _enter(
        self, above: int | None, name: str, path: str, stack: list[tuple[int, str, list[str]]]
    ) -> Iterator[Entry]:
        if len(stack) >= DEEPEST:
            self._skip(TOO_DEEP, path)
            return
        try:
            folder = os.open(name, FOLDER, dir_fd=above)
        except PermissionError:
            self._skip(SHUT, path)
            return
        except OSError:
            return  # it has gone, or is no folder any more
        names: list[str] = []
        stack.append((folder, path, names))
        if self.one_disk and os.fstat(folder).st_dev != os.fstat(stack[0][0]).st_dev:
            self._skip(OTHER_DISK, path)
            return
        with os.scandir(folder) as names_here:
            for each in names_here:
                if self._left <= 0:
                    self._skip(TOO_MANY, path)
                    return
                self._left -= 1
                try:
                    seen = each.stat(follow_symlinks=False)
                except OSError:
                    continue  # it has gone
                entry = Entry(folder, each.name, path + each.name, seen)
                yield entry
                if entry.is_folder and entry.enter:
                    names.append(entry.name)
        names.sort(reverse=True)

    def _skip(self, why: str, path: str) -> None:
        places = self.skipped.setdefault(why, [])
        if len(places) < SAID:
            places.append(path.rstrip("/"))
