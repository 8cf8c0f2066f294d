"""`pynchy send`: send a message to a console chat and print the answer."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Final

import attrs
import click

from pynchy.cli import words
from pynchy.cli.client import (
    Connection,
    Failure,
    console_chat,
    one_line,
    open_connection,
    printable,
)
from pynchy.exits import Exit

ORDER: Final = 10.0  # seconds that the answer to a chat command may take


@click.command()
@click.argument("chat", shell_complete=words.chats)
@click.argument("text")
@click.option("--sender", metavar="NAME", default="", help="Who says it; you, if left out.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="How long to wait for the answer; 0: not at all.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(chat: str, text: str, sender: str, wait: float, as_json: bool) -> None:
    """Send TEXT to CHAT (main, console:family …) and print the replies.

    \b
    Exit codes: 0 answered (or nothing to wait for), 2 not a console chat,
    3 no answer in time, 4 the daemon is not running, 5 the agent failed.

    \b
    pynchy send main "what is on today?"
    pynchy send family "@Pynchy hello" --sender Alice --wait 60
    """
    name = console_chat(chat)
    with open_connection() as connection:
        deadline = time.monotonic() + wait
        connection.ask("attach", chat=name)
        said = connection.ask(
            "send", chat=name, text=text, sender=sender, message_id=os.urandom(16).hex()
        )
        asked = Asked(said["seq"], show=not as_json)
        if wait > 0 and said["wakes"]:
            try:
                asked.follow(connection, deadline)
            except KeyboardInterrupt:
                click.echo(f"\nit will be answered all the same: {_later(said['seq'])}", err=True)
                raise SystemExit(Exit.INTERRUPTED) from None
        elif wait > 0 and text.startswith("/"):
            asked.hear_order(connection, min(deadline, time.monotonic() + ORDER))
        elif wait > 0 and not as_json:
            click.echo(
                f"stored, but not answered: {_why_not(connection, said['folder'])}", err=True
            )
    if as_json:
        click.echo(json.dumps(said | asked.outcome, indent=2))
    if asked.state in ("failed", "cancelled"):
        raise Failure(
            one_line(asked.error or "") or f"the turn was {asked.state}", Exit.TURN_FAILED
        )
    if asked.state is None and wait > 0 and said["wakes"]:
        raise Failure(f"no answer within {wait:g} s: {_later(said['seq'])}", Exit.NO_ANSWER)


def _later(seq: int) -> str:
    return f"pynchy why {seq} shows what becomes of it"


def _why_not(connection: Connection, folder: str) -> str:
    """Why a message that was kept calls nobody."""
    for group in connection.ask("groups.list"):
        if group["folder"] == folder and group["paused"]:
            return f"{folder} is paused; to resume: pynchy groups resume {folder}"
        if group["folder"] == folder and group["answers"] != "all":
            return f"it does not mention the assistant (@{group['trigger']})"
    return "it does not mention the assistant"


@attrs.define
class Asked:
    """What has become of a message so far, by the events that tell."""

    seq: int | None
    show: bool
    turn: int | None = None
    state: str | None = None  # how the turn ended
    error: str = ""
    awaited: set[int] = attrs.field(factory=set)
    said: list[dict[str, Any]] = attrs.field(factory=list)
    _early: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def outcome(self) -> dict[str, object]:
        return {"turn": self.turn, "state": self.state, "error": self.error, "replies": self.said}

    def follow(self, connection: Connection, deadline: float) -> None:
        """Read events until the turn has ended and its last words are here, or time is up."""
        while self.state is None or self.awaited:
            event = connection.event(deadline)
            if event is None:
                return
            if event["event"] == "turn":
                self._see_turn(event)
            elif event["event"] == "message":
                self._see_message(event)

    def hear_order(self, connection: Connection, deadline: float) -> None:
        """A chat command is answered by the daemon itself, with a message of no turn."""
        while (event := connection.event(deadline)) is not None:
            if event["event"] == "message" and event["turn"] is None:
                self._take(event)
                return

    def _see_turn(self, event: dict[str, Any]) -> None:
        if event["state"] == "started" and self.seq in event["seqs"]:
            self.turn = event["turn"]
            early, self._early = self._early, []
            for message in early:
                self._see_message(message)
        elif event["turn"] == self.turn and event["state"] == "retry":
            if self.show:
                told = one_line(event["error"]) or "it failed"
                click.echo(f"{told}; it will be tried again", err=True)
        elif event["turn"] == self.turn and event["state"] in ("done", "failed", "cancelled"):
            self.state, self.error = event["state"], event["error"]
            self.awaited = set(event["replies"]) - {reply["id"] for reply in self.said}

    def _see_message(self, event: dict[str, Any]) -> None:
        if self.turn is None:
            self._early.append(event)
        elif event["turn"] == self.turn:
            self.awaited.discard(event["id"])
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        reply = {key: event[key] for key in ("id", "message_id", "kind", "text", "path")}
        self.said.append(reply)
        if self.show:
            click.echo(printable(spoken(reply)))


def spoken(reply: dict[str, Any]) -> str:
    """A reply as a line of text, whatever it is."""
    match reply["kind"]:
        case "file":
            return f"[file {one_line(str(reply['path']))}] {reply['text']}".rstrip()
        case "reaction":
            return f"[reacts {reply['text']}]"
        case _:
            return str(reply["text"])
