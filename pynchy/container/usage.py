"""How much an agent's folders hold: trees that are written while they are looked at, and may be built to hurt.

Edge to the file system. The rule that keeps it so: a look has an end. It stops at the first thing that is
too much, follows no link, opens nothing but folders, and holds one descriptor for each level, of which
there is a most. Nothing is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

DEEPEST: Final = 128  # levels of folders; nobody needs half of them
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@attrs.frozen
class Usage:
    """What was counted: bytes on the disk, files and folders. ``hidden`` says what could not be looked
    into, if anything."""

    bytes: int
    files: int
    hidden: str = ""


@attrs.frozen
class Most:
    """How much may be there; None is no limit."""

    bytes: int | None
    files: int | None

    def is_passed(self, bytes: int, files: int) -> bool:
        return (self.bytes is not None and bytes > self.bytes) or (
            self.files is not None and files > self.files
        )


def usage_of(tops: Iterable[Path], *, most: Most) -> Usage:
    """Count what is below ``tops``; no further than to where it is more than ``most``."""
    count = _Count(most)
    for top in tops:
        count.tree(top)
    return Usage(count.bytes, count.files, count.hidden)


@attrs.define
class _Count:
    most: Most
    bytes: int = 0
    files: int = 0
    hidden: str = ""
    linked: set[tuple[int, int]] = attrs.field(factory=set)  # files of several names, counted once

    @property
    def enough(self) -> bool:
        return bool(self.hidden) or self.most.is_passed(self.bytes, self.files)

    def tree(self, top: Path) -> None:
        """Depth first; on the stack are the folders above, open, each with the names still to visit."""
        stack: list[tuple[int, list[str]]] = []
        try:
            self._enter(top, None, stack)
            while stack and not self.enough:
                folder, names = stack[-1]
                if names:
                    self._enter(names.pop(), folder, stack)
                else:
                    os.close(stack.pop()[0])
        finally:
            for folder, _ in stack:
                os.close(folder)

    def _enter(
        self, name: str | Path, above: int | None, stack: list[tuple[int, list[str]]]
    ) -> None:
        if len(stack) >= DEEPEST:
            self.hidden = f"are folders more than {DEEPEST} levels deep"
            return
        try:
            folder = os.open(name, _FOLDER, dir_fd=above)
        except PermissionError:
            self.hidden = "is a folder that cannot be looked into"
            return
        except OSError:
            return  # it has gone, or is no folder any more
        names: list[str] = []
        stack.append((folder, names))
        with os.scandir(folder) as entries:
            for entry in entries:
                if self.enough:
                    return
                try:
                    seen = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it has gone
                self._add(seen)
                if stat.S_ISDIR(seen.st_mode):
                    names.append(entry.name)

    def _add(self, seen: os.stat_result) -> None:
        self.files += 1
        if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
            if (seen.st_dev, seen.st_ino) in self.linked:
                return
            self.linked.add((seen.st_dev, seen.st_ino))
        self.bytes += seen.st_blocks * 512  # holes take nothing
