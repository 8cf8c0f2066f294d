"""`pynchy runs`: list the newest containers, why they ended, and where their logs are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import printable
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment, table
from pynchy.config.paths import Home


@click.command()
@click.option("--group", shell_complete=words.groups, default="", help="Of this group only.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@json_option
def command(group: str, limit: int, as_json: bool) -> None:
    """List runs, newest first: times, group, kind, why each ended, and its log.

    \b
    pynchy runs
    pynchy runs --group family --limit 5
    """
    found = reading.ask("runs", group=group, limit=limit)
    folder = Home.of(os.environ).run_logs
    for run in found:
        run["log"] = next((str(path) for path in folder.glob(f"*-{run['id']}.log")), None)
    show(found, _lines, as_json=as_json)
    if found and not as_json:
        click.echo(printable(f"the logs are in {folder}"), err=True)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            moment(run["started_at"], seconds=True),
            moment(run["ended_at"], seconds=True)[-8:],
            run["group"],
            run["kind"],
            run["reason"] or run["state"],
            "" if run["log"] is None else Path(run["log"]).name,
        )
        for run in found
    ]
    head = ("started", "ended", "group", "kind", "reason", "log")
    yield from table(head, rows, empty="nothing has run yet")
