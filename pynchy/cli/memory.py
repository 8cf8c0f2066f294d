"""`pynchy memory`: show and correct what agents remember."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.client import ask, indented
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment


@click.group()
def command() -> None:
    """Show, add, change and delete what agents remember.

    A MEMORY is named by its id, or the beginning of its id, as the list shows it.

    \b
    pynchy memory list
    pynchy memory search allergies --group family
    pynchy memory add "the bins are emptied on Tuesdays" --group family
    """


@command.command("list")
@click.option("--group", default="", shell_complete=words.groups, help="Of this group only.")
@click.option("--limit", default=500, show_default=True, help="At most how many.")
@json_option
def list_memories(group: str, limit: int, as_json: bool) -> None:
    """List what is remembered, the newest first.

    \b
    pynchy memory list --group family
    """
    show(reading.ask("memory.list", group=group, limit=limit), _lines, as_json=as_json)


@command.command("search")
@click.argument("query", required=False, default="")
@click.option(
    "--group", shell_complete=words.groups, default="main", show_default=True, help="Whose memory."
)
@click.option("--limit", default=50, show_default=True, help="At most how many.")
@json_option
def search(query: str, group: str, limit: int, as_json: bool) -> None:
    """Search for QUERY, as an agent does; without it, show the newest.

    \b
    pynchy memory search allergies --group family
    """
    found = reading.ask("memory.search", query=query, group=group, limit=limit)
    show(found, _lines, as_json=as_json)


@command.command("add")
@click.argument("text")
@click.option(
    "--group", shell_complete=words.groups, default="main", show_default=True, help="Whose memory."
)
@click.option("--shared", is_flag=True, help="For all groups.")
@json_option
def add(text: str, group: str, shared: bool, as_json: bool) -> None:
    """Have TEXT remembered.

    \b
    pynchy memory add "the bins are emptied on Tuesdays" --group family
    """
    show(ask("memory.add", text=text, group=group, shared=shared), _line, as_json=as_json)


@command.command("edit")
@click.argument("memory", shell_complete=words.memories)
@click.argument("text")
@json_option
def edit(memory: str, text: str, as_json: bool) -> None:
    """Let MEMORY say TEXT.

    \b
    pynchy memory edit 3fa2c81b "the bins are emptied on Wednesdays"
    """
    show(ask("memory.edit", memory=memory, text=text), _line, as_json=as_json)


@command.command("delete")
@click.argument("memory", shell_complete=words.memories)
@json_option
def delete(memory: str, as_json: bool) -> None:
    """Delete MEMORY.

    \b
    pynchy memory delete 3fa2c81b
    """
    show(ask("memory.delete", memory=memory), _line, as_json=as_json)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    for each in found:
        yield from _line(each)
    if not found:
        yield "nothing found"


def _line(memory: dict[str, Any]) -> Iterator[str]:
    whose = "for all groups" if memory["shared"] else memory["group"]
    id = memory["id"][: words.SHORT]
    yield f"{id}  {moment(memory['created_at'])}  {whose}  {indented(memory['text'])}"
