"""`pynchy why`: the whole life of a message, and which messages have had no end."""

from __future__ import annotations

import json

import click

from pynchy.cli.client import open_connection, printable


@click.command()
@click.argument("message", required=False)
@click.option("--unended", is_flag=True, help="Messages that have had no end for two hours.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(message: str | None, unended: bool, as_json: bool) -> None:
    """What became of MESSAGE (its id, or its number), step by step, with times and reasons.

    \b
    pynchy why 3EB0C431C26A1916E07A
    pynchy why --unended
    """
    if unended == (message is not None):
        raise click.UsageError("name a message, or say --unended")
    with open_connection() as connection:
        found = connection.ask("unended") if unended else connection.ask("why", message=message)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif unended:
        for each in found:
            click.echo(printable(f"{each['seq']} in {each['chat']}"))
        click.echo(f"{len(found)} messages without an end")
    else:
        for life in found:
            click.echo(printable(f"message {life['seq']} in {life['chat']}: {life['state']}"))
            for step in life["steps"]:
                click.echo(printable(f"  {step['at']}  {step['what']}  {step['detail']}".rstrip()))
