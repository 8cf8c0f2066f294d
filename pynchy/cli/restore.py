"""`pynchy restore`: put a copy of the database back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from pynchy.cli.client import STOP_FIRST
from pynchy.cli.progress import growing
from pynchy.exits import Exit
from pynchy.home import Home, part_of, stamp_of


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def command(path: Path) -> None:
    """Put the copy at PATH in the place of the database. The daemon must be down.

    The copy is checked first; what was there is kept beside it.

    \b
    pynchy restore ~/.pynchy/store/backups/pynchy-1795000000.db
    """
    from pynchy.lock import AlreadyRunning, open_lock
    from pynchy.store import backup
    from pynchy.store.database import StoreError

    home = Home.of(os.environ)
    if home.database.exists() and path.samefile(home.database):
        raise click.UsageError(
            f"{path} is the database itself; say a copy, as pynchy backup makes them"
        )
    home.make()
    size = path.stat().st_size if path.exists() else 0
    try:
        with open_lock(home.lock), growing(part_of(home.database), size, "restoring"):
            kept = backup.restore(path, home.database, stamp=stamp_of(time.time()))
    except AlreadyRunning as error:
        click.echo(f"pynchy: {error}; {STOP_FIRST}", err=True)
        raise SystemExit(Exit.ALREADY_RUNNING) from None
    except StoreError as error:
        click.echo(f"pynchy: {error}", err=True)
        raise SystemExit(Exit.STORE) from None
    click.echo(f"restored from {path}" + (f"; what was there is {kept}" if kept else ""))
