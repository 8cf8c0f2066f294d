"""`pynchy audit`: list security decisions, newest first."""

from __future__ import annotations

import json

import click

from pynchy.cli import reading
from pynchy.cli.table import moment, table


@click.command()
@click.option("--limit", default=100, show_default=True, help="At most how many.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(limit: int, as_json: bool) -> None:
    """Show security decisions: who was refused what, and who changed what. Rows are never deleted.

    \b
    pynchy audit --limit 20
    """
    rows = reading.ask("audit", limit=limit)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    lines = [
        (
            moment(row["at"], seconds=True),
            row["actor"],
            row["action"],
            row["folder"] or "",
            ", ".join(f"{key} {value}" for key, value in sorted((row["detail"] or {}).items())),
        )
        for row in rows
    ]
    for line in table(("at", "who", "did", "group", "what"), lines):
        click.echo(line)
    if not rows:
        click.echo("nothing to tell")
