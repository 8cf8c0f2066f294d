"""`pynchy restore`: put a backup of the database back, or name the one to use."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from pynchy.cli.progress import growing
from pynchy.config.paths import Home, part_of, stamp_of


@click.command()
@click.argument(
    "path", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--accept", is_flag=True, help="Go on with the database that is there.")
@click.option("--empty", is_flag=True, help="Begin with an empty database.")
def command(path: Path | None, accept: bool, empty: bool) -> None:
    """Replace the database by the backup at PATH. The daemon must be down.

    The backup is checked first, and the replaced database is kept beside it. If a start refuses
    because the database is missing, older or a different one, this says which one to use. Without
    PATH and options it lists the backups.

    \b
    pynchy restore ~/.pynchy/store/backups/pynchy-1795000000.db
    pynchy restore --accept
    """
    from pynchy.daemon.lock import open_lock

    home = Home.of(os.environ)
    if (path is not None) + accept + empty != 1:
        raise click.UsageError(f"name a copy, or say --accept or --empty\n\n{_copies(home)}")
    if path is not None and home.database.exists() and path.samefile(home.database):
        raise click.UsageError(
            f"{path} is the database itself; name a copy, as pynchy backup makes them"
        )
    home.make()
    with open_lock(home.lock):
        told = _empty(home) if empty else _accept(home) if path is None else _put(home, path)
    click.echo(told)


def _copies(home: Home) -> str:
    """The copies that this home has, the newest first, as lines."""
    found = [(each.stat(), each) for each in home.backups.glob("*.db")]
    if not found:
        return f"There are no copies in {home.backups}."
    found.sort(key=lambda pair: pair[0].st_mtime, reverse=True)
    lines = ["Copies, the newest first:"]
    for seen, each in found:
        made = datetime.fromtimestamp(seen.st_mtime, UTC).astimezone()
        lines.append(f"  {made:%Y-%m-%d %H:%M}  {seen.st_size / 1e6:8.1f} MB  {each}")
    return "\n".join(lines)


def _put(home: Home, path: Path) -> str:
    from pynchy.store import backup

    size = path.stat().st_size
    with growing(part_of(home.database), size, "restoring"):
        kept = backup.restore(
            path, home.database, stamp=stamp_of(time.time()), mark=home.store_mark
        )
    return f"restored from {path}" + (f"; what was there is {kept}" if kept else "")


def _accept(home: Home) -> str:
    from pynchy.store import backup
    from pynchy.store.connection import StoreBroken

    if not home.database.exists() or not home.database.stat().st_size:
        raise StoreBroken(f"there is no database in {home.store}: name a copy, or say --empty")
    aside = backup.accept(home.database, stamp=stamp_of(time.time()), mark=home.store_mark)
    told = f"{home.database} is sound, and the next start goes on with it"
    return told + "".join(f"; {each} was set aside" for each in aside)


def _empty(home: Home) -> str:
    from pynchy.store import backup

    kept = backup.begin_anew(home.database, stamp=stamp_of(time.time()), mark=home.store_mark)
    told = "the next start begins with an empty database"
    return told + (f"; what was there is {kept}" if kept else "")
