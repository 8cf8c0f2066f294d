"""`pynchy approvals`: list what agents ask for, and approve or deny it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pynchy.cli import words
from pynchy.cli.client import ask
from pynchy.cli.output import json_option, show
from pynchy.cli.table import moment
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
        context.invoke(list_approvals)


@command.command("list")
@click.option("--all", "every", is_flag=True, help="Include those that are over.")
@json_option
def list_approvals(every: bool, as_json: bool) -> None:
    """List the open requests, each in full.

    \b
    pynchy approvals list --all
    """
    show(ask("approvals", every=every), _lines, as_json=as_json)


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    for each in found:
        if each["state"] == "asked":
            state = f"until {moment(each['expires_at'])}"
        else:
            state = f"{each['state']} {moment(each['decided_at'])}, by {each['decided_by']}"
        yield "\n    ".join([f"{each['code']}  {state}", *each["text"].split("\n")])
    if not found:
        yield "nothing to approve"


@command.command("approve")
@click.argument("code", shell_complete=words.codes)
@json_option
def approve(code: str, as_json: bool) -> None:
    """Approve the request CODE. It is carried out at once, or the output says why it cannot be.

    \b
    pynchy approvals approve K7M2-9QXD
    """
    _decide("approve", code, as_json=as_json)


@command.command("deny")
@click.argument("code", shell_complete=words.codes)
@json_option
def deny(code: str, as_json: bool) -> None:
    """Deny the request CODE. The agent is told.

    \b
    pynchy approvals deny K7M2-9QXD
    """
    _decide("deny", code, as_json=as_json)


def _decide(op: str, code: str, *, as_json: bool) -> None:
    found = ask(op, code=code)
    show(found, lambda found: [found["text"]], as_json=as_json)
    if found["state"] == "failed":
        raise SystemExit(Exit.OURS)
