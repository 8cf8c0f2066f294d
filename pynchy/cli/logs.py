"""`pynchy logs`: show or follow the daemon's log, for all groups or one."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

import click

from pynchy.cli import words
from pynchy.cli.client import Failure, printable
from pynchy.config.paths import Home
from pynchy.exits import Exit

LOOK: Final = 0.5  # seconds between two looks at a file that grows


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on as it is written; Ctrl-C ends it.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(0, 100_000))
@click.option(
    "--group", shell_complete=words.groups, default="", help="Only lines that name this group."
)
def command(follow: bool, lines: int, group: str) -> None:
    """Show the end of the daemon's log. Works with the daemon down.

    \b
    pynchy logs -f
    pynchy logs --group main -n 200
    """
    path = Home.of(os.environ).log
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            kept = deque((line for line in file if group in line), maxlen=lines)
            for line in kept:
                click.echo(printable(line.rstrip("\n")))
            if follow:
                for line in _coming(file, path):
                    if group in line:
                        click.echo(printable(line.rstrip("\n")))
    except FileNotFoundError:
        raise Failure(f"there is no {path} yet", Exit.NOT_RUNNING) from None
    except PermissionError:
        raise Failure(f"{path} cannot be read: pynchy doctor", Exit.OURS) from None


def _coming(file: TextIO, path: Path) -> Iterator[str]:
    """Lines as they come, over rotations: a new file of that name is read from its beginning."""
    half = ""
    while True:
        while part := file.readline():
            half += part
            if half.endswith("\n"):
                yield half
                half = ""
        try:
            if path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                fresh = path.open(encoding="utf-8", errors="replace")
                yield from file
                with fresh:
                    yield from _coming(fresh, path)
        except FileNotFoundError:  # between two names, at a rotation
            pass
        time.sleep(LOOK)
