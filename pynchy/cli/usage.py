"""`pynchy usage`: show tokens and dollars by group, day and model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading, words
from pynchy.cli.output import json_option, show
from pynchy.cli.table import table


@click.command()
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3660),
    help="How far back, today included.",
)
@click.option("--group", shell_complete=words.groups, default="", help="Of this group only.")
@json_option
def command(days: int, group: str, as_json: bool) -> None:
    """Show model usage as the gateway counted it, silent turns included, and what may be spent.

    Dollars are list prices. The last lines are of one group, main if none is named: its model,
    today's budgets, and about what a short message costs now.

    \b
    pynchy usage
    pynchy usage --days 7 --group family
    """
    show(reading.ask("usage", days=days, group=group), _lines, as_json=as_json)
    if not as_json:
        show(reading.ask("bill", group=group or "main"), _bill, as_json=False)


def _bill(found: dict[str, Any]) -> Iterator[str]:
    words = found["words"]
    yield f"model: {words['model']}"
    yield f"{found['group']} today: {words['today']}"
    yield f"all groups today: {words['of_all']}"
    yield f"a message in {found['group']} now costs {words['message']}"


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            line["day"],
            line["group"],
            line["model"],
            line["calls"],
            line["input"] + line["cache_read"] + line["cache_write"],
            line["output"],
            line["cost"],
        )
        for line in found
    ]
    head = ("day", "group", "model", "calls", "in", "out", "dollars")
    yield from table(head, rows, empty="no calls to the model in this time")
    if not rows:
        return
    yield f"in all {sum(line['cost'] for line in found):.4f} dollars"
    if estimated := sum(line["estimated"] for line in found):
        yield f"of which {estimated:.4f} is an upper bound: calls that were cut off or are still running"
