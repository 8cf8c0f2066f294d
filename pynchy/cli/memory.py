"""`pynchy memory`: show what a group's agent remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import indented
from pynchy.cli.output import json_option, show
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
@json_option
def search(query: str, group: str, limit: int, as_json: bool) -> None:
    """Search for QUERY; without it, show the newest.

    \b
    pynchy memory search allergies --group family
    """
    found = reading.ask("memory.search", query=query, group=group, limit=limit)
    show(found, _lines, as_json=as_json)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    for each in found:
        shared = "  (for all groups)" if each["shared"] else ""
        yield f"{moment(each['created_at'])}  {indented(each['text'])}{shared}"
    if not found:
        yield "nothing found"
