"""`pynchy approvals`: list what agents ask for, and approve or deny it."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from pynchy.cli import words
from pynchy.cli.client import open_connection, printable
from pynchy.exits import Exit


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List, approve and deny what agents ask permission for. Without a subcommand: the list.

    A message `/approve CODE` or `/deny CODE` in main does the same.

    \b
    pynchy approvals
    """
    if context.invoked_subcommand is None:
        show(every=False, as_json=False)


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Those that are over, too.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def list_approvals(every: bool, as_json: bool) -> None:
    """List the open requests, each in full.

    \b
    pynchy approvals list --all
    """
    show(every=every, as_json=as_json)


def show(*, every: bool, as_json: bool) -> None:
    with open_connection() as connection:
        found = connection.ask("approvals", every=every)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        click.echo(printable(render(each)))
    if not found:
        click.echo("nothing waits for a person")


def render(found: dict[str, Any]) -> str:
    if found["state"] == "asked":
        until = time.strftime("%F %R", time.localtime(found["expires_at"] / 1e6))
        head = f"{found['code']}  until {until}"
    else:
        at = time.strftime("%F %R", time.localtime(found["decided_at"] / 1e6))
        head = f"{found['code']}  {found['state']} {at}, by {found['decided_by']}"
    return "\n    ".join([head, *found["text"].split("\n")])


@command.command("approve")
@click.argument("code", shell_complete=words.codes)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def approve(code: str, as_json: bool) -> None:
    """Approve the request CODE. It is carried out at once, or the output says why it cannot be.

    \b
    pynchy approvals approve K7M2-9QXD
    """
    _decide("approve", code, as_json=as_json)


@command.command("deny")
@click.argument("code", shell_complete=words.codes)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def deny(code: str, as_json: bool) -> None:
    """Deny the request CODE. The agent is told.

    \b
    pynchy approvals deny K7M2-9QXD
    """
    _decide("deny", code, as_json=as_json)


def _decide(op: str, code: str, *, as_json: bool) -> None:
    with open_connection() as connection:
        found = connection.ask(op, code=code)
    click.echo(json.dumps(found, indent=2) if as_json else printable(found["text"]))
    if found["state"] == "failed":
        raise SystemExit(Exit.OURS.value)
