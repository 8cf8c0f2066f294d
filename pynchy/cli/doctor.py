"""`pynchy doctor`: find what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pynchy.cli.client import printable
from pynchy.cli.output import json_option, show
from pynchy.exits import Exit

if TYPE_CHECKING:
    from pynchy.doctor import checks


@click.command()
@click.option(
    "--fix", is_flag=True, help="Fix what is safe to fix: permissions, folders, leftovers."
)
@click.option(
    "--online",
    is_flag=True,
    help="Ask the model API about the credential, and try the proxy; it costs nothing.",
)
@json_option
def command(fix: bool, online: bool, as_json: bool) -> None:
    """Check everything that can be wrong. Works with the daemon down; costs nothing.

    Exits with 1 if a check fails; warnings are not failures.

    \b
    pynchy doctor
    pynchy doctor --fix
    pynchy doctor --online
    """
    from tempfile import TemporaryDirectory

    import trio

    from pynchy.doctor import checks

    async def ask() -> list[tuple[str, checks.Finding]]:
        with TemporaryDirectory(prefix="pynchy-doctor-") as aside:
            patient = await checks.examine(
                os.environ, user_home=Path.home(), online=online, aside=Path(aside)
            )
            return await checks.diagnose(patient)

    async def look() -> list[tuple[str, checks.Finding]]:
        found = await ask()
        mendable = [(name, each.fix) for name, each in found if each.fix is not None]
        if not fix or not mendable:
            return found
        before = dict(found)
        for name, mend in mendable:
            try:
                await mend()
            except Exception as error:
                click.echo(printable(f"{name}: could not be fixed: {error}"), err=True)
        found = await ask()
        for name, after in found:
            if after.level == "ok" and before[name].fix is not None:
                click.echo(printable(f"fixed {name}: {before[name].what}"), err=True)
        return found

    found = trio.run(look)
    rows = [
        {"check": name, "level": each.level, "what": each.what, "advice": each.advice}
        for name, each in found
    ]
    show(rows, _lines, as_json=as_json)
    if not as_json:
        click.echo(_summary([each for _, each in found]))
    if any(each.level == "fail" for _, each in found):
        raise SystemExit(Exit.OURS)


def _lines(rows: list[dict[str, str]]) -> Iterator[str]:
    for row in rows:
        yield f"{row['level']:4}  {row['check']}: {row['what']}"
        if row["advice"]:
            yield f"      -> {row['advice']}"


def _summary(found: list[checks.Finding]) -> str:
    """The last line: how it is, and what can be done about it at once."""
    failed, warned = (sum(each.level == level for each in found) for level in ("fail", "warn"))
    if not failed and not warned:
        return f"all {len(found)} checks passed"
    words = [f"{failed} failed" * bool(failed), f"{warned} to look at" * bool(warned)]
    mendable = sum(each.fix is not None for each in found)
    mend = f"; pynchy doctor --fix can fix {mendable} of them" if mendable else ""
    return f"of {len(found)} checks {' and '.join(filter(None, words))}{mend}"
