"""`pynchy why`: trace one message, or list those that have not ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.output import json_option, show
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
@json_option
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
        raise click.UsageError("name a message or give --unended, not both")
    if message is not None:
        show(reading.ask("why", message=message), _traces, as_json=as_json)
    elif unended:
        show(reading.ask("unended"), _unended, as_json=as_json)
    else:
        show(reading.ask("recent", group=group), _newest, as_json=as_json)


def _traces(found: list[dict[str, Any]]) -> Iterator[str]:
    for trace in found:
        yield f"message {trace['seq']} in {trace['chat']}: {trace['state']}"
        rows = [(moment(s["at"], seconds=True), s["what"], s["detail"]) for s in trace["steps"]]
        yield from (f"  {line}" for line in list(table(("at", "step", "detail"), rows))[1:])


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
    head = ("message", "at", "chat", "became", "text")
    yield from table(head, rows, empty="no messages yet")
