"""`pynchy history`: show what was said, and by whom."""

from __future__ import annotations

import json

import click

from pynchy.cli import reading, words
from pynchy.cli.client import indented, printable
from pynchy.cli.table import moment


@click.command()
@click.argument("query")
@click.option(
    "--group", shell_complete=words.groups, default="main", show_default=True, help="Where."
)
@click.option("--limit", default=50, show_default=True, help="At most how many.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(query: str, group: str, limit: int, as_json: bool) -> None:
    """Search what was said in a group for the words of QUERY, best matches first.

    \b
    pynchy history "train tickets" --group family
    """
    found = reading.ask("history.search", query=query, group=group, limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        click.echo(
            printable(
                f"{moment(each['at'])}  {each['who'] or 'assistant'}: {indented(each['text'])}"
            )
        )
    if not found:
        click.echo("nothing fits")
