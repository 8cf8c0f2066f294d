"""Print what was asked for: as JSON for a script, as lines for a person.

The rule that keeps it so: whatever somebody else wrote passes `printable` on its way to the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from pynchy.cli.client import printable

json_option: Final = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


def show(found: Any, lines: Callable[[Any], Iterable[str]], *, as_json: bool) -> None:
    """Print ``found`` as JSON, or the lines that say it to a person."""
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for line in lines(found):
        click.echo(printable(line))
