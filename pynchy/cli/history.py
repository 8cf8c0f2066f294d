"""`pynchy history`: show what was said, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import indented
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment


@click.command()
@click.argument("query")
@click.option(
    "--group", shell_complete=words.groups, default="main", show_default=True, help="Where."
)
@click.option("--limit", default=50, show_default=True, help="At most how many.")
@json_option
def command(query: str, group: str, limit: int, as_json: bool) -> None:
    """Search what was said in a group for the words of QUERY, best matches first.

    \b
    pynchy history "train tickets" --group family
    """
    found = reading.ask("history.search", query=query, group=group, limit=limit)
    show(found, _lines, as_json=as_json)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    for each in found:
        yield f"{moment(each['at'])}  {each['who'] or 'assistant'}: {indented(each['text'])}"
    if not found:
        yield "nothing found"
