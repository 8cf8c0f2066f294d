"""Rows as a table that a person can read.

The rule that keeps it so: through a pipe nothing is cut; on a terminal only the last column is, so that
a row is a line.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from pynchy.cli.client import printable

GAP: Final = "  "
LEAST: Final = 12  # columns of the last column that are never cut


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """The lines of a table, its head first; none at all without rows. Numbers are to the right."""
    if not rows:
        return
    cells = [[_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    numbers = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]
    room = None
    if sys.stdout.isatty():
        before = sum(widths[:-1]) + len(GAP) * (len(head) - 1)
        room = max(LEAST, shutil.get_terminal_size().columns - before)
    for row in ([each.upper() for each in head], *cells):
        last = row[-1] if room is None or len(row[-1]) <= room else row[-1][: room - 1] + "…"
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip((*row[:-1], last), widths, numbers, strict=True)
        ]
        yield GAP.join(padded).rstrip()


def _line(cell: object) -> str:
    return " ".join(printable(f"{cell:.4f}" if isinstance(cell, float) else str(cell)).split())


def moment(spelled: str | None, *, seconds: bool = False) -> str:
    """A moment as an op spells it (2026-11-24T15:09:28+01:00), as one would write it."""
    return "" if spelled is None else spelled[: 19 if seconds else 16].replace("T", " ")
