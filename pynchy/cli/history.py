"""`pynchy history`: show what was said, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import Refused, indented
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment


@click.command()
@click.argument("chat", metavar="[CHAT|QUERY]", default="main", shell_complete=words.groups)
@click.option("--day", default="", help="Of this day: yesterday, monday, 2026-11-24.")
@click.option(
    "--since", default="", help="From then on: yesterday, 8:00, 3 days, 2026-11-24T08:00."
)
@click.option("--group", shell_complete=words.groups, help="Search for QUERY in this group.")
@click.option("--limit", default=50, show_default=True, help="At most how many; the newest.")
@json_option
def command(chat: str, day: str, since: str, group: str | None, limit: int, as_json: bool) -> None:
    """Show what was said in CHAT, a group or one of its chats, in order. Without CHAT: in main.

    Other words are searched for, in main or in --group, best matches first.

    \b
    pynchy history family --day yesterday
    pynchy history family --since "3 days" --json
    pynchy history "train tickets" --group family
    """
    if day and since:
        raise click.UsageError("--day and --since exclude each other")
    if group is not None and (day or since):
        raise click.UsageError(
            "--group searches all days; for one of them: pynchy history CHAT --day"
        )
    if group is None:
        try:
            found = reading.ask("history.said", chat=chat, day=day, since=since, limit=limit)
        except Refused as error:
            if error.code != "unknown_chat" or day or since:
                raise
        else:
            show(found, _transcript, as_json=as_json)
            if found["earlier"] and not as_json:
                click.echo(f"there is more before this; --limit shows more than {limit}", err=True)
            return
    matches = reading.ask("history.search", query=chat, group=group or "main", limit=limit)
    show(matches, _matches, as_json=as_json)


def _transcript(found: dict[str, Any]) -> Iterator[str]:
    several = len(found["chats"]) > 1
    for each in found["said"]:
        where = f"{each['chat']}  " if several else ""
        who = "assistant" if each["who"] is None else each["who"] or "somebody"
        text = " ".join([*(f"[{name}]" for name in each["files"]), each["text"]]).strip()
        yield f"{moment(each['at'])}  {where}{who}: {indented(text)}"
    if not found["said"]:
        yield "nothing was said then"


def _matches(found: list[dict[str, Any]]) -> Iterator[str]:
    for each in found:
        yield f"{moment(each['at'])}  {each['who'] or 'assistant'}: {indented(each['text'])}"
    if not found:
        yield "nothing found; to see what was said in a group: pynchy history GROUP"
