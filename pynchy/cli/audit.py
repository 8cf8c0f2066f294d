"""`pynchy audit`: decisions about security, the newest first."""

from __future__ import annotations

import json

import click

from pynchy.cli.client import open_connection, printable


@click.command()
@click.option("--limit", default=100, show_default=True, help="At most how many.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(limit: int, as_json: bool) -> None:
    """Who was refused what, who changed what. The table only grows.

    \b
    pynchy audit --limit 20
    """
    with open_connection() as connection:
        rows = connection.ask("audit", limit=limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        where = f" in {row['folder']}" if row["folder"] else ""
        detail = json.dumps(row["detail"], sort_keys=True) if row["detail"] else ""
        click.echo(printable(f"{row['at']}  {row['actor']}: {row['action']}{where}  {detail}"))
    if not rows:
        click.echo("nothing to tell")
