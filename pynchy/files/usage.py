"""Measure how much an agent's folders hold. They change meanwhile and may be hostile.

Counting has an end: it stops at the first thing that is too much, or that cannot be looked into (`pynchy.files.walk`).
Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import attrs

from pynchy.files.walk import OTHER_DISK, TOO_DEEP, TOO_MANY, Walk


@attrs.frozen
class Usage:
    """What was counted: bytes on the disk, files and folders. ``hidden`` says what could not be looked into, if
    anything."""

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
    """Count what is below ``tops``, up to the point where it exceeds ``most`` or cannot be looked into."""
    bytes = files = 0
    linked: set[tuple[int, int]] = set()  # files of several names, counted once
    for top in tops:
        walk = Walk(top)
        with closing(iter(walk)) as entries:
            for entry in entries:
                files += 1
                node = (entry.seen.st_dev, entry.seen.st_ino)
                if node not in linked:
                    bytes += entry.seen.st_blocks * 512  # holes take nothing
                if entry.seen.st_nlink > 1 and not entry.is_folder:
                    linked.add(node)
                if walk.skipped.keys() - {OTHER_DISK} or most.is_passed(bytes, files):
                    break
        # What is on another disk is the owner's doing, and takes nothing of this one.
        for why in walk.skipped.keys() - {OTHER_DISK}:
            hidden = f"{'are' if why in (TOO_DEEP, TOO_MANY) else 'is'} {why}"
            return Usage(bytes, files, hidden)
        if most.is_passed(bytes, files):
            break
    return Usage(bytes, files)
