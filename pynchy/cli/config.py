"""`pynchy config`: show the settings in force, where each comes from, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from pynchy.cli.output import json_option, show
from pynchy.config.settings import SECTIONS
from pynchy.config.sources import Found, find
from pynchy.exits import Exit
from pynchy.logs import escape

ORDER = (
    "The first that has a value wins: the command line, the environment (PYNCHY_LIMITS_IDLE), "
    ".env, config.toml."
)


@click.group()
def command() -> None:
    """Show and check the settings.

    \b
    pynchy config show
    pynchy config check && pynchy service restart
    """


@command.command("show", epilog=ORDER)
@click.argument("name", default="")
@click.option("--changed", is_flag=True, help="Only what somebody has set.")
@json_option
def show_settings(name: str, changed: bool, as_json: bool) -> None:
    """Show every setting, or those of NAME, with its value and where that comes from.

    These are the values that a start would use. Secrets are never shown.

    \b
    pynchy config show --changed
    pynchy config show limits
    pynchy config show model.name --json
    """
    found = find(os.environ)
    rows = [
        {**row, "value": _hidden(row["value"]), "shown": escape(row["shown"])}
        for row in settings(found)
        if row["name"] == name or row["name"].startswith(f"{name}." if name else "")
        if not changed or row["from"] != "default"
    ]
    if not rows and name:
        raise click.UsageError(f"{name}: no such setting; docs/config.md lists them")
    show(rows, _rows, as_json=as_json)
    if found.problems:
        click.echo(
            "some settings are wrong, and a start would refuse them: pynchy config check", err=True
        )
        raise SystemExit(Exit.CONFIG)


def _rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield f"{row['name']:26}  {row['shown'] or '(empty)':32}  {row['from']}"


def settings(found: Found) -> Iterator[dict[str, Any]]:
    """Each setting in force. The credential is among them by its kind alone."""
    for section, cls in SECTIONS.items():
        for field in attrs.fields(cls):
            value = found.values[section].get(field.name, field.default)
            yield {
                "name": f"{section}.{field.name}",
                "value": value if isinstance(value, bool | int | float | str) else _plain(value),
                "shown": field.metadata["kind"].spell(value),
                "from": found.origins.get((section, field.name), "default"),
            }
    kind = "none" if found.credential is None else found.credential.kind
    yield {
        "name": "credential",
        "value": kind,
        "shown": kind,
        "from": found.credential_origin or "default",
    }


def _hidden(value: object) -> object:
    """A key that somebody has put in the wrong place is not shown there either."""
    return escape(value) if isinstance(value, str) else value


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else None if value is None else str(value)


@command.command("check")
@json_option
def check(as_json: bool) -> None:
    """Check the configuration as a start would, and say what is wrong and where. Changes nothing.

    Exits with 78 if a start would.

    \b
    pynchy config check
    """
    found = find(os.environ)
    problems = [escape(each) for each in found.problems]
    warnings = list(found.warnings)
    if found.credential is None and not found.values["model"].get("offline"):
        warnings.append(
            "no credential: put ANTHROPIC_API_KEY=… or CLAUDE_CODE_OAUTH_TOKEN=… into "
            f"{found.home.env}, or run pynchy init"
        )
    told = {"ok": not problems, "problems": problems, "warnings": warnings}
    show(told, partial(_verdict, root=found.home.root), as_json=as_json)
    if problems:
        raise SystemExit(Exit.CONFIG)


def _verdict(told: dict[str, Any], *, root: Path) -> Iterator[str]:
    yield from (f"wrong    {problem}" for problem in told["problems"])
    yield from (f"warning  {warning}" for warning in told["warnings"])
    if told["problems"]:
        yield (
            f"The files are in {root}; docs/config.md says what each setting may be. "
            "To take a setting back, remove its line."
        )
    else:
        yield "the configuration is valid"
