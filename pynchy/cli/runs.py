"""`pynchy runs`: the newest containers, why they ended, and where each one's log is."""

from __future__ import annotations

import json
import os

import click

from pynchy.cli.client import open_connection, printable
from pynchy.home import Home


@click.command()
@click.option("--group", default="", help="Of this group only.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500))
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(group: str, limit: int, as_json: bool) -> None:
    """The newest runs first: kind, group, times, reason, and the path of the run's log.

    \b
    pynchy runs
    pynchy runs --group family --limit 5
    """
    with open_connection() as connection:
        found = connection.ask("runs", group=group, limit=limit)
    folder = Home.of(os.environ).run_logs
    for run in found:
        run["log"] = next((str(path) for path in folder.glob(f"*-{run['id']}.log")), None)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for run in found:
        end = f"{run['ended_at']} ({run['reason']})" if run["ended_at"] else run["state"]
        click.echo(printable(f"{run['started_at']}  {run['group']}  {run['kind']}  {end}"))
        if run["log"]:
            click.echo(printable(f"  {run['log']}"))
    if not found:
        click.echo("nothing has run yet")
