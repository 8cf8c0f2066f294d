"""`pynchy memory`: show what a group's agent remembers."""

from __future__ import annotations

import json

import click

from pynchy.cli import reading, words
from pynchy.cli.client import indented, printable
from pynchy.cli.table import moment


@click.group()
def command() -> None:
    """Show what agents remember.

    \b
    pynchy memory search allergies
    """


@command.command("search")
@click.argument("query", required=False, default="")
@click.option(
    "--group", shell_complete=words.groups, default="main", show_default=True, help="Whose memory."
)
@click.option("--limit", default=50, show_default=True, help="At most how many.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def search(query: str, group: str, limit: int, as_json: bool) -> None:
    """Search for QUERY; without it, show the newest.

    \b
    pynchy memory search allergies --group family
    """
    found = reading.ask("memory.search", query=query, group=group, limit=limit)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        shared = "  (for all)" if each["shared"] else ""
        click.echo(printable(f"{moment(each['created_at'])}  {indented(each['text'])}{shared}"))
    if not found:
        click.echo("nothing fits")
