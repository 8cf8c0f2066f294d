"""How much room a file system has, and how little is too little.

statvfs answers from memory in microseconds. Nothing here writes, waits or decides what follows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

FEW_FILES: Final = 0.01  # of all the files a file system can hold
BACK: Final = 1.1  # times the threshold is room again; between the two nothing changes

_KIB: Final = 1024


@attrs.frozen
class Space:
    """Free and total space. ``files`` is 0 if the file system has no fixed number of them."""

    free: int  # bytes
    total: int
    files_free: int = 0
    files: int = 0

    def is_short_of_files(self, share: float = FEW_FILES) -> bool:
        """Whether fewer files than this share of all can still be created."""
        return self.files > 0 and self.files_free < share * self.files

    def less(self, taken: int) -> Space:
        """The space that is left after ``taken`` more bytes."""
        return attrs.evolve(self, free=self.free - taken)


ENDLESS: Final = Space(free=1 << 60, total=1 << 60)


@attrs.frozen
class Threshold:
    """The least free space that must remain: ``bytes``, or ``share`` of the whole if that is more."""

    bytes: int
    share: float

    def least(self, space: Space) -> int:
        """The bytes that must be free."""
        return max(self.bytes, int(self.share * space.total))

    def is_low(self, space: Space, *, was: bool = False) -> bool:
        """Whether there is too little room. If it ``was`` low, it stays low until there is a tenth more."""
        times = BACK if was else 1.0
        few = space.is_short_of_files(FEW_FILES * times)
        return few or space.free < self.least(space) * times

    def is_critical(self, space: Space) -> bool:
        """Whether even half of that is gone: running agents will soon fill the disk."""
        return space.is_short_of_files(FEW_FILES / 2) or space.free < self.least(space) / 2


def space_of(path: Path) -> Space:
    """The space of the file system of ``path``, as available to a user who is not root."""
    seen = os.statvfs(path)
    return Space(
        free=seen.f_bavail * seen.f_frsize,
        total=seen.f_blocks * seen.f_frsize,
        files_free=seen.f_favail,
        files=seen.f_files,
    )


def spell_bytes(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if abs(amount) < _KIB:
            return f"{amount:.0f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} GiB"
