"""Shell completion of an installation's own names: groups, chats, tasks, memories, codes.

The rule that keeps it so: the shell waits at each press of Tab, so only a running daemon is asked, and if anything
goes wrong nothing is offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from pynchy.cli.client import Failure, ask, printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHORT: Final = 8  # letters of a task's id that are shown
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _offering(op: str, item: Callable[[dict[str, Any]], list[tuple[str, str]]]) -> Complete:
    def offer(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # most commands complete nothing

        try:
            found = ask(op)
        except Failure:
            return []
        pairs = [pair for each in found for pair in item(each)]
        return [
            CompletionItem(printable(word), help=printable(" ".join(told.split())[:60]))
            for word, told in pairs
            if word.startswith(begun)
        ]

    return offer


def _chats(group: dict[str, Any]) -> list[tuple[str, str]]:
    ours = [chat for chat in group["chats"] if chat.startswith("console:")]
    return [(chat.removeprefix("console:"), group["name"]) for chat in ours]


def _task(task: dict[str, Any]) -> list[tuple[str, str]]:
    name = str(task["name"])
    return [(name if name and " " not in name else task["id"][:SHORT], name or task["prompt"])]


groups: Complete = _offering("groups.list", lambda group: [(group["folder"], group["name"])])
chats: Complete = _offering("groups.list", _chats)
tasks: Complete = _offering("tasks.list", _task)
memories: Complete = _offering("memory.list", lambda each: [(each["id"][:SHORT], each["text"])])
codes: Complete = _offering("approvals", lambda each: [(each["code"], each["text"])])
