"""`pynchy why`: trace one message, or list those that have not ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import printable
from pynchy.cli.table import moment, table


@click.command()
@click.argument("message", required=False)
@click.option("--unended", is_flag=True, help="Messages that have had no end for two hours.")
@click.option(
    "--group",
    shell_complete=words.groups,
    default="",
    help="Of the newest messages, those of this group only.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def command(message: str | None, unended: bool, group: str, as_json: bool) -> None:
    """Trace MESSAGE (a number or an id), step by step, with times and reasons.

    Without MESSAGE: the newest messages with their numbers, and what became of each. Works with the daemon down.

    \b
    pynchy why
    pynchy why 17
    pynchy why 3EB0C431C26A1916E07A
    pynchy why --unended
    """
    if unended and message is not None:
        raise click.UsageError("name a message, or say --unended, not both")
    if message is not None:
        found = reading.ask("why", message=message)
    elif unended:
        found = reading.ask("unended")
    else:
        found = reading.ask("recent", group=group)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in (
        _lives(found) if message is not None else _unended(found) if unended else _newest(found)
    ):
        click.echo(printable(line))


def _lives(found: list[dict[str, Any]]) -> Iterator[str]:
    for life in found:
        yield f"message {life['seq']} in {life['chat']}: {life['state']}"
        rows = [(moment(s["at"], seconds=True), s["what"], s["detail"]) for s in life["steps"]]
        yield from (f"  {line}" for line in list(table(("at", "step", "what of"), rows))[1:])


def _unended(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [(each["seq"], each["chat"], each["reason"]) for each in found]
    yield from table(("message", "chat", "state"), rows)
    yield f"{len(found) or 'no'} message{'s' * (len(found) != 1)} without an end"


def _newest(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            each["seq"],
            moment(each["received_at"]),
            each["chat"],
            each["state"],
            f"{each['sender_name']}: {each['text']}",
        )
        for each in found
    ]
    yield from table(("message", "at", "chat", "became", "text"), rows)
    if not found:
        yield "nobody has written yet"
