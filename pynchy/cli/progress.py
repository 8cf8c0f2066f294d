"""A progress bar, shown only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHORT: Final = 32 << 20  # bytes that are there before a bar is


@contextmanager
def growing(part: Path, whole: int, what: str) -> Iterator[None]:
    """While the block writes ``part``, show on stderr how much of ``whole`` bytes it has.

    Nothing is shown for little, or where stderr is no terminal.
    """
    if whole < SHORT or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    class Bar(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            for each in self.tasks:
                self.update(each.id, completed=_size(part))
            return super().get_renderables()

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=whole)
        yield


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:  # not begun, or done
        return 0
