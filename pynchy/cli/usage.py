"""`pynchy usage`: tokens and dollars, by group, day and model."""

from __future__ import annotations

import json

import click

from pynchy.cli.client import open_connection, printable


@click.command()
@click.option("--days", default=30, show_default=True, help="How far back, today included.")
@click.option("--group", default="", help="Of this group only.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(days: int, group: str, as_json: bool) -> None:
    """What was used of the model, as the gateway counted it. Silent turns count, too.

    \b
    pynchy usage
    pynchy usage --days 7 --group family
    """
    if not 1 <= days <= 3660:
        raise click.UsageError("--days: expected 1 to 3660")
    with open_connection() as connection:
        lines = connection.ask("usage", days=days, group=group)
    if as_json:
        click.echo(json.dumps(lines, indent=2))
        return
    row = "{:10}  {:20}  {:26}  {:>6}  {:>12}  {:>10}  {:>10}"
    click.echo(row.format("day", "group", "model", "calls", "in", "out", "dollars"))
    for line in lines:
        taken = line["input"] + line["cache_read"] + line["cache_write"]
        cells = (line["day"], line["group"], line["model"], line["calls"], taken, line["output"])
        click.echo(printable(row.format(*cells, f"{line['cost']:.4f}")))
    click.echo(f"{'in all':10}  {sum(line['cost'] for line in lines):.4f} dollars")
