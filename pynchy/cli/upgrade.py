"""`pynchy upgrade`: migrate the database to this version's schema, or try that on a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli.backup import make_copy
from pynchy.cli.output import json_option, show
from pynchy.config.paths import Home
from pynchy.exits import Exit


@click.command()
@click.option("--check", is_flag=True, help="Try it on a copy; change nothing.")
@json_option
def command(check: bool, as_json: bool) -> None:
    """Migrate the database to this version's schema, as the next start would.

    With --check it is tried on a copy, with the daemon up or down: do that after installing a new
    version and before restarting. Without --check the daemon must be down; the database is backed up
    to store/backups first, and put back if anything fails.

    \b
    pynchy upgrade --check && pynchy service restart
    """
    from pynchy.config.sources import find
    from pynchy.logs import escape
    from pynchy.store.database import see_that_it_is_ours

    home = Home.of(os.environ)
    problems = [escape(each) for each in find(os.environ).problems]
    see_that_it_is_ours(home.database, home.store_mark)
    told: dict[str, object] = {"before": 0, "after": 0, "seconds": 0.0}
    if home.database.exists():
        told = _try(home) if check else _do(home)
    show({**told, "checked": check, "problems": problems}, _lines, as_json=as_json)
    if problems:
        raise SystemExit(Exit.CONFIG)


def _try(home: Home) -> dict[str, object]:
    import attrs

    from pynchy.store import upgrade

    copy = home.store / f"upgrade-{os.getpid()}.db"
    try:
        make_copy(copy)
        return attrs.asdict(upgrade.rehearse(copy))
    finally:
        for left in home.store.glob(f"{copy.name}*"):
            left.unlink()


def _do(home: Home) -> dict[str, object]:
    import time

    from pynchy.daemon.lock import open_lock
    from pynchy.store import backup
    from pynchy.store.database import open_file

    with open_lock(home.lock):
        began, before = time.monotonic(), backup.check(home.database)
        open_file(home.database, mark=home.store_mark).close()
        after = backup.check(home.database)
    return {"before": before, "after": after, "seconds": time.monotonic() - began}


def _lines(told: dict[str, Any]) -> Iterator[str]:
    before, after = told["before"], told["after"]
    if not after:
        yield "there is no database yet"
    elif before == after:
        yield f"schema {after} is this version's: nothing to do"
    elif told["checked"]:
        yield (
            f"schema {before} becomes {after}: tried on a copy in {told['seconds']:.1f} s, which is "
            "sound. The next start does it, after a copy into store/backups."
        )
    else:
        yield f"schema {before} is now {after}; the database as it was is in store/backups"
    yield from (f"wrong    {problem}" for problem in told["problems"])
