"""Find the data of sparse files, so that holes are neither read nor written."""

from __future__ import annotations

import os
from collections.abc import Iterator


def data_in(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that hold data, up to ``size``: starts and lengths."""
    here = 0
    while here < size:
        try:
            start = os.lseek(descriptor, here, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        here = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        if here > start:
            yield start, here - start
