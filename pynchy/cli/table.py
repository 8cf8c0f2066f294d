"""Print rows as a table.

The rule that keeps it so: through a pipe nothing is cut; on a terminal only the last column is, so that
a row is a line, or two where it is too narrow for one.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from pynchy.cli.client import printable

GAP: Final = "  "
LEAST: Final = 20  # columns of a terminal that the last column needs to stand beside the others
INDENT: Final = 4


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str = ""
) -> Iterator[str]:
    """The lines of a table, its head first; without rows the sentence ``empty``, if any. Numbers are to the right."""
    if not rows:
        yield from [empty] * bool(empty)
        return
    cells = [[_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    numbers = [all(isinstance(row[n], int | float) for row in rows) for n in range(len(head))]
    room = below = None
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        room = columns - sum(widths[:-1]) - len(GAP) * (len(head) - 1)
        if room < min(LEAST, widths[-1]):
            below = " " * INDENT
            room = max(LEAST, columns - INDENT)
    for row in ([each.upper() for each in head], *cells):
        *before, last = row
        if room is not None and len(last) > room:
            last = last[: room - 1] + "…"
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(before, widths[:-1], numbers[:-1], strict=True)
        ]
        if below is None:
            padded.append(last.rjust(widths[-1]) if numbers[-1] else last)
        yield GAP.join(padded).rstrip()
        if below is not None and last:
            yield below + last


def _line(cell: object) -> str:
    return " ".join(printable(f"{cell:.4f}" if isinstance(cell, float) else str(cell)).split())


def moment(at: str | int | None, *, seconds: bool = False) -> str:
    """A moment as an op gives it (2026-11-24T15:09:28+01:00, or microseconds), as one would write it."""
    if isinstance(at, int):
        at = time.strftime("%FT%T", time.localtime(at / 1e6))
    return "" if at is None else at[: 19 if seconds else 16].replace("T", " ")
