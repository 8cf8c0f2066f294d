"""`pynchy export`: write one group to an archive, to keep or to move."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click

from pynchy.cli import words
from pynchy.cli.backup import make_copy
from pynchy.cli.client import Failure, printable
from pynchy.cli.output import json_option, show
from pynchy.config.paths import Home
from pynchy.exits import of_disk


@click.command()
@click.argument("group", shell_complete=words.groups)
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def command(group: str, path: Path, as_json: bool) -> None:
    """Export GROUP to the archive PATH (.tar.gz): messages, files, memory, tasks.

    GROUP is its folder's name. Works with the daemon up or down. Only you can read the archive
    (mode 600). It holds plain files and JSON, which need no Pynchy to be read.

    \b
    pynchy export family ~/family.tar.gz
    """
    from pynchy.model import GroupId
    from pynchy.moving import exporter

    home = Home.of(os.environ)
    if path.is_dir():
        raise click.UsageError(f"{path} is a folder; give the name of an archive in it")
    if not _may_replace(path):
        raise click.UsageError(f"{path} already exists and is not an archive: choose another name")
    copy = home.store / f"export-{os.getpid()}.db"
    try:
        make_copy(copy)
        progress = _hide if as_json or not os.isatty(2) else _show
        found = exporter.write(home, copy, GroupId(group), path.absolute(), told=progress)
        progress("")
    except exporter.NoSuchGroup as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        code, why = of_disk(error)
        raise Failure(why if error.filename else f"{path}: {why}", code) from None
    finally:
        copy.unlink(missing_ok=True)
    size = path.stat().st_size
    show({"path": str(path), "bytes": size, **attrs.asdict(found)}, _lines, as_json=as_json)
    if as_json:
        return
    for each in found.left_out:
        click.echo(f"left out: {printable(each)}", err=True)
    if (more := found.left_out_count - len(found.left_out)) > 0:
        click.echo(f"left out: {more} more", err=True)


def _lines(told: dict[str, Any]) -> Iterator[str]:
    kinds = ("messages", "files", "memories", "tasks", "bytes")
    yield f"{told['path']}: " + ", ".join(f"{told[kind]} {kind}" for kind in kinds)


def _may_replace(path: Path) -> bool:
    """Whether nothing is lost with what is there: nothing, an empty file, an older archive."""
    try:
        with path.open("rb") as there:
            return there.read(2) in (b"", b"\x1f\x8b")
    except OSError:  # not there, or said when it is written
        return True


def _hide(name: str) -> None:
    """Nobody looks on."""


def _show(name: str) -> None:
    """The file that is being written, on a line that the next one takes."""
    click.echo(f"\r\x1b[K{printable(name)[:78]}", nl=False, err=True)
