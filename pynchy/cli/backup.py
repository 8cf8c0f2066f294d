"""`pynchy backup`: copy the database while the daemon runs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Final

import click

from pynchy.cli.client import NotRunning, open_connection
from pynchy.cli.output import json_option, show
from pynchy.cli.progress import growing
from pynchy.config.paths import Home, part_of

PATIENCE: Final = 6 * 3600.0  # seconds: a large database on a slow disk


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@json_option
def command(path: Path | None, as_json: bool) -> None:
    """Back the database up to PATH (by default in store/backups/) and check the backup. An older
    backup there is overwritten, never another file.

    Works with the daemon up or down. It holds no files of groups: those are plain files that you
    can copy as usual.

    \b
    pynchy backup
    pynchy backup /mnt/usb/pynchy.db
    """
    show(make_copy(path), lambda made: [f"{made['path']}: {made['bytes']} bytes"], as_json=as_json)


def make_copy(path: Path | None) -> dict[str, Any]:
    """Have the daemon copy its database, or do it while none runs; where it is, and how large."""
    from pynchy.store.database import size_of

    home = Home.of(os.environ)
    target = home.backups / f"pynchy-{int(time.time())}.db" if path is None else path.absolute()
    with growing(part_of(target), size_of(home.database), f"copying to {target.name}"):
        try:
            with open_connection() as connection:
                made: dict[str, Any] = connection.ask_patiently(
                    PATIENCE, "backup", path=str(target)
                )
                return made
        except NotRunning:
            return _copy(home, target)


def _copy(home: Home, path: Path) -> dict[str, Any]:
    """The same while no daemon runs, under its lock."""
    from pynchy.daemon.lock import open_lock
    from pynchy.store import backup
    from pynchy.store.database import see_that_it_is_ours

    see_that_it_is_ours(home.database, home.store_mark)
    if not home.database.exists():
        raise click.ClickException(f"there is no database in {home.store}")
    with open_lock(home.lock):
        backup.write_copy(home.database, path)
    return {"path": str(path), "schema": backup.check(path), "bytes": path.stat().st_size}
