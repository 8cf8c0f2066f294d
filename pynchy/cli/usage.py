"""`pynchy usage`: show tokens and dollars by group, day and model."""

from __future__ import annotations

import json

import click

from pynchy.cli import reading, words
from pynchy.cli.table import table


@click.command()
@click.option("--days", default=30, show_default=True, help="How far back, today included.")
@click.option("--group", shell_complete=words.groups, default="", help="Of this group only.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(days: int, group: str, as_json: bool) -> None:
    """Show model usage as the gateway counted it, silent turns included.

    \b
    pynchy usage
    pynchy usage --days 7 --group family
    """
    if not 1 <= days <= 3660:
        raise click.UsageError("--days: expected 1 to 3660")
    lines = reading.ask("usage", days=days, group=group)
    if as_json:
        click.echo(json.dumps(lines, indent=2))
        return
    rows = [
        (
            line["day"],
            line["group"],
            line["model"],
            line["calls"],
            line["input"] + line["cache_read"] + line["cache_write"],
            line["output"],
            line["cost"],
        )
        for line in lines
    ]
    for text in table(("day", "group", "model", "calls", "in", "out", "dollars"), rows):
        click.echo(text)
    if rows:
        click.echo(f"in all {sum(line['cost'] for line in lines):.4f} dollars")
        if estimated := sum(line["estimated"] for line in lines):
            click.echo(
                f"of which {estimated:.4f} is an upper bound: calls that were cut off, or are under way"
            )
    else:
        click.echo("the model was not asked yet" if days > 1 else "the model was not asked today")
