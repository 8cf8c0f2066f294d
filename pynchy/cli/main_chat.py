"""Choose which WhatsApp chat is main's, when an account is linked.

The rule that keeps it so: a choice takes effect at once, whether the daemon runs or not; a chat that main has
already is left alone unless another one is named.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import click

from pynchy.cli.client import NotRunning, Refused, open_connection, printable
from pynchy.config.paths import Home
from pynchy.whatsapp.read import chat_id

NONE: Final = ""


def parse(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The value of --main: "self", `NONE` or a chat's id; None if it was not given."""
    if value is None or value == "self":
        return value
    found = NONE if value == "none" else chat_id(value)
    if found is None:
        raise click.BadParameter("expected self, none, a WhatsApp id or a number")
    return found


def settle(
    home: Home, wanted: str | None, *, own: str, groups: Sequence[tuple[str, str]], assistant: str
) -> None:
    """Make the chat that is wanted main's, and say so.

    None: if main has no WhatsApp chat, the one that is chosen on the terminal; without a terminal ``own``.
    """
    from pynchy.daemon.lock import AlreadyRunning  # here: whoever asks for --help needs none of it
    from pynchy.store.connection import StoreError

    ask = partial(_ask, home, assistant)
    try:
        if wanted is None:
            main = next(group["chats"] for group in ask("groups.list") if group["main"])
            if has := [chat for chat in main if not chat.startswith("console:")]:
                click.echo(f"Main's chat is still {has[0]}; another one: --main CHAT")
                return
            wanted = _choose(own, groups)
        chosen = own if wanted == "self" else wanted
        ask("groups.main", chat=chosen)
    except (Refused, AlreadyRunning, StoreError) as error:
        raise click.ClickException(f"linked, but main has no such chat: {error}") from None
    click.echo(f"Main's chat: {chosen}" if chosen else "Main has the console alone.")


def _choose(own: str, groups: Sequence[tuple[str, str]]) -> str:
    """Ask which chat it is to be; where there is nobody to ask, ``own``."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return own
    offers = [(own, "the chat with yourself"), *groups]
    click.echo("\nWhich chat is main? Whoever may ask there governs all groups.")
    for number, (chat, name) in enumerate(offers, 1):
        click.echo(printable(f"  {number}  {' '.join(name.split()) or 'no name'}  ({chat})"))
    click.echo("  or a number with its country code; or none, for the console alone")
    while True:
        answer = str(click.prompt("Main", default="1")).strip()
        if answer.isdecimal() and 1 <= int(answer) <= len(offers):
            return offers[int(answer) - 1][0]
        if answer in ("self", "none"):
            return own if answer == "self" else NONE
        if (found := chat_id(answer)) is not None:
            return found
        click.echo(printable(f"{answer} is none of these"))


def _ask(home: Home, assistant: str, op: str, **arguments: object) -> Any:
    """What the daemon answers or, while none runs, what comes of doing the same in its database."""
    try:
        with open_connection(home) as connection:
            return connection.ask(op, **arguments)
    except NotRunning:
        return _act(home, assistant, op, arguments)


def _act(home: Home, assistant: str, op: str, arguments: dict[str, object]) -> Any:
    import trio

    from pynchy.container.folders import scaffold
    from pynchy.control.ops.acting import Acting
    from pynchy.control.ops.groups import GroupOps
    from pynchy.control.server import OpFailed, ops_of
    from pynchy.daemon.lock import open_lock
    from pynchy.store import groups
    from pynchy.store.database import open_store

    async def nothing(effects: object) -> None:
        """What follows from it, the next start does."""

    async def nobody() -> None:
        """No messenger can be asked."""

    async def act() -> object:
        async with open_store(home.database, mark=home.store_mark) as store:
            await store.call(groups.ensure_main, name="Main", trigger=assistant)
            ops = GroupOps(Acting(store, nothing), assistant, partial(scaffold, home), nobody)
            return await ops_of(ops)[op](None, **arguments)

    try:
        with open_lock(home.lock):
            return trio.run(act)
    except OpFailed as error:
        raise Refused(error.code, str(error)) from None
