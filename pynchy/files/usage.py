"""Measure how much an agent's folders hold; they change meanwhile and may be hostile.

The rule that keeps it so: a look has an end. It stops at the first thing that is
too much, or that cannot be looked into (`pynchy.files.walk`). Nothing is changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import attrs

from pynchy.files.walk import OTHER_DISK, TOO_DEEP, TOO_MANY, Walk


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
        walk = Walk(top)
        with closing(iter(walk)) as entries:
            for entry in entries:
                self._add(entry.seen)
                self._note(walk)
                if self.enough:
                    break
        self._note(walk)

    def _note(self, walk: Walk) -> None:
        for why in walk.skipped:
            if why != OTHER_DISK:  # which is the owner's doing, and takes nothing of this one
                self.hidden = f"{'are' if why in (TOO_DEEP, TOO_MANY) else 'is'} {why}"

    def _add(self, seen: os.stat_result) -> None:
        self.files += 1
        if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
            if (seen.st_dev, seen.st_ino) in self.linked:
                return
            self.linked.add((seen.st_dev, seen.st_ino))
        self.bytes += seen.st_blocks * 512  # holes take nothing
