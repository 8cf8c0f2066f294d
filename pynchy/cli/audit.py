"""`pynchy audit`: list security decisions, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import reading
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment, table


@click.command()
@click.option("--limit", default=100, show_default=True, help="At most how many.")
@json_option
def command(limit: int, as_json: bool) -> None:
    """Show security decisions: who was refused what, and who changed what. Rows are never deleted.

    \b
    pynchy audit --limit 20
    """
    show(reading.ask("audit", limit=limit), _lines, as_json=as_json)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    rows = [
        (
            moment(row["at"], seconds=True),
            row["actor"],
            row["action"],
            row["folder"] or "",
            ", ".join(f"{key} {value}" for key, value in sorted((row["detail"] or {}).items())),
        )
        for row in found
    ]
    yield from table(("at", "who", "did", "group", "what"), rows, empty="no decisions yet")
