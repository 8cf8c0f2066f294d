"""Choose which WhatsApp chat is main's, when an account is linked.

The rule that keeps it so: a choice takes effect at once, whether the daemon runs or not; without one
a chat that main has already is left alone, and nobody is asked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from pynchy.cli.client import Connection, NotRunning, Refused, open_connection, printable
from pynchy.config.paths import Home
from pynchy.store.database import Tx
from pynchy.whatsapp.read import chat_id

T = TypeVar("T")

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
    try:
        with open_connection(home) as connection:
            _settle(_Daemon(connection), wanted, own=own, groups=groups)
    except NotRunning:
        _settle(_Rows(home, assistant), wanted, own=own, groups=groups)


def _settle(
    keeper: _Daemon | _Rows, wanted: str | None, *, own: str, groups: Sequence[tuple[str, str]]
) -> None:
    try:
        if wanted is None:
            has = [chat for chat in keeper.chats() if not chat.startswith("console:")]
            if has:
                click.echo(f"Main's chat is still {has[0]}; another one: --main CHAT")
                return
            wanted = _choose(own, groups)
        chosen = own if wanted == "self" else wanted
        keeper.set(chosen)
    except (Refused, _Kept) as error:
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


class _Kept(Exception):
    """It was not changed, and why."""


class _Daemon:
    """Main's chats, over the daemon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def chats(self) -> Sequence[str]:
        found: list[dict[str, Any]] = self._connection.ask("groups.list")
        return next((group["chats"] for group in found if group["main"]), ())

    def set(self, chat: str) -> None:
        self._connection.ask("groups.main", chat=chat)


class _Rows:
    """The same, in the database of a daemon that is down."""

    def __init__(self, home: Home, assistant: str) -> None:
        self._home = home
        self._assistant = assistant

    def chats(self) -> Sequence[str]:
        from pynchy.model import MAIN
        from pynchy.store import groups

        return self._call(lambda db, now: groups.chats_of(db, MAIN))

    def set(self, chat: str) -> None:
        from pynchy.actions.actor import OWNER
        from pynchy.actions.groups import set_main_chat
        from pynchy.actions.refused import Refused
        from pynchy.model import ChatId

        try:
            self._call(
                lambda db, now: set_main_chat(Tx(db, now), OWNER, ChatId(chat) if chat else None)
            )
        except Refused as error:
            raise _Kept(str(error)) from None

    def _call(self, work: Callable[[Any, Any], T]) -> T:
        import trio

        from pynchy.daemon.lock import AlreadyRunning, open_lock
        from pynchy.model import Micros
        from pynchy.store import groups
        from pynchy.store.connection import StoreError
        from pynchy.store.database import Database, open_store

        now = Micros(time.time_ns() // 1000)

        def with_main(db: Database) -> T:
            groups.ensure_main(Tx(db, now), name="Main", trigger=self._assistant)
            return work(db, now)

        async def call() -> T:
            async with open_store(self._home.database, mark=self._home.store_mark) as store:
                return await store.call(with_main)

        try:
            with open_lock(self._home.lock):
                return trio.run(call)
        except (AlreadyRunning, StoreError, groups.CannotRegister) as error:
            raise _Kept(str(error)) from None
