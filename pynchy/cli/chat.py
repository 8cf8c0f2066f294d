"""`pynchy chat`: talk with a console chat, on a terminal or through a pipe.

The main thread reads lines and sends them; a second one reads events and shows them, over a
connection of its own; a third waits for signals. They share a `Screen`.

The rule that keeps it so: no full-screen library. What is typed is readline's business, and whatever
arrives meanwhile is put above the line that is being typed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import click

from pynchy.cli import words
from pynchy.cli.client import (
    Connection,
    HungUp,
    NotRunning,
    Refused,
    console_chat,
    one_line,
    open_connection,
    printable,
)
from pynchy.cli.send import spoken
from pynchy.exits import Exit

LOCAL: Final = "/quit or Ctrl-D leaves; /help lists the assistant's commands"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"


@click.command()
@click.argument("chat", default="main", shell_complete=words.chats)
@click.option("--sender", metavar="NAME", default="", help="Who speaks; you, if left out.")
def command(chat: str, sender: str) -> None:
    """Chat in CHAT (main, console:family …). Leave with Ctrl-D, Ctrl-C or /quit.

    Through a pipe, each line is a message; the command ends when all are answered.

    \b
    pynchy chat
    pynchy chat family --sender Alice
    printf "hello\\n" | pynchy chat main
    """
    name = console_chat(chat)
    with open_connection() as ours, open_connection() as theirs:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before there is a second thread
        screen = Screen()
        threading.Thread(target=_leave_by_signal, args=(screen,), daemon=True).start()
        Talk(name, sender, screen).run(ours, theirs)


def _leave_by_signal(screen: Screen) -> NoReturn:
    """Not by a handler: readline would run it only at the next key."""
    number = signal.sigwait(SIGNALS)
    screen.leave(128 + number)


class Screen:
    """Where lines appear. On a terminal they go above the one that is being typed."""

    def __init__(self) -> None:
        self.terminal = sys.stdin.isatty() and sys.stdout.isatty()
        # A terminal that knows no escape sequences would show them.
        self._plain = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
        self._lock = threading.Lock()
        self._prompt = ""  # what stands before the line being typed; empty when none is
        self._typing = False  # the line above says that somebody types
        self._console: Any = None
        if self.terminal:
            self._settings = termios.tcgetattr(sys.stdin)
            with contextlib.suppress(ImportError):
                import readline

                self._line = readline.get_line_buffer
                threading.Thread(target=self._console_nowait, daemon=True).start()

    def _console_nowait(self) -> None:
        """Import rich while nobody waits for it."""
        import rich.console

        self._console = rich.console.Console()

    def read(self, prompt: str) -> str:
        """The next line typed. Raises EOFError at the end."""
        if not self.terminal:
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            return line.rstrip("\n")
        with self._lock:
            self._prompt = prompt
        try:
            return input(prompt)
        finally:
            with self._lock:
                self._prompt, self._typing = "", False

    def say(self, text: str, *, dim: bool = False) -> None:
        """A line of text."""
        text = printable(text)
        self._above(lambda: print(self._dimmed(text) if dim else text))

    def reply(self, name: str, text: str) -> None:
        """A reply, as markdown on a terminal."""
        if not self.terminal:
            self.say(text)
            return

        def show() -> None:
            from rich.console import Console  # start-up time
            from rich.text import Text

            from pynchy.cli.markdown import rendered

            console = self._console or Console()
            # rich takes a terminal without escape sequences to be 80 wide.
            width = shutil.get_terminal_size().columns if self._plain else None
            console.print(Text(one_line(name), style="bold cyan"), width=width)
            console.print(rendered(printable(text)), width=width)

        self._above(show)

    def typing(self, name: str, on: bool) -> None:
        if self.terminal and on:
            said = self._dimmed(f"{one_line(name)} is typing …")
            self._above(lambda: print(said), typing=True)
        elif self.terminal:
            self._above(lambda: None)

    def leave(self, code: int, text: str = "") -> NoReturn:
        """End the process from any thread, with the terminal as it was found."""
        self._lock.acquire(timeout=1)
        if self.terminal:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)
            sys.stdout.write("\n")
        sys.stdout.flush()
        if text:
            sys.stderr.write(f"Error: {text}\n")
            sys.stderr.flush()
        os._exit(code)

    def _dimmed(self, text: str) -> str:
        return f"{_DIM}{text}{_PLAIN}" if self.terminal and not self._plain else text

    def _above(self, show: Any, *, typing: bool = False) -> None:
        """Show something above the line being typed, in place of "is typing"."""
        with self._lock:
            if self._prompt:
                sys.stdout.write("\n" if self._plain else "\r\x1b[K")
            if self._typing and not self._plain:
                sys.stdout.write("\x1b[A\x1b[K")
            show()
            self._typing = typing
            if self._prompt:
                sys.stdout.write(self._prompt + self._line())
            sys.stdout.flush()


class Talk:
    """The conversation in one chat."""

    def __init__(self, chat: str, sender: str, screen: Screen) -> None:
        self.chat = chat
        self.sender = sender
        self.screen = screen
        self._name = "Pynchy"
        self._mine: set[str] = set()  # ids of messages typed here
        self._progress = threading.Condition()
        self._asked: set[int] = set()  # messages that want an answer, and have none yet
        self._over: set[int] = set()  # messages whose turn has ended, and its words are here
        self._turns: dict[int, set[int]] = {}  # running turn -> the messages it answers
        self._awaited: dict[int, set[int]] = {}  # ended turn -> those of its words still to come
        self._shown: set[int] = set()  # outbox ids
        self._leaving = False

    def run(self, ours: Connection, theirs: Connection) -> None:
        """Talk until the person leaves, or the daemon does."""
        self._name = ours.ask("status")["assistant"]
        theirs.ask("attach", chat=self.chat)
        if self.screen.terminal:
            self._show_history(ours)
            self.screen.say(LOCAL, dim=True)
        threading.Thread(target=self._listen, args=(theirs,), daemon=True).start()
        for line in self._lines():
            if line.strip() in ("/quit", "/exit"):
                break
            if line.strip():
                self._send(ours, line)
        else:
            if not self.screen.terminal:
                with self._progress:
                    self._progress.wait_for(lambda: self._asked <= self._over)
        self._leaving = True

    def _lines(self) -> Iterator[str]:
        with contextlib.suppress(EOFError):
            while True:
                yield self.screen.read("you> ")
        if self.screen.terminal:
            self.screen.say("")

    def _show_history(self, ours: Connection) -> None:
        for entry in ours.ask("history", chat=self.chat, limit=10):
            if entry["from"] is None:
                self._shown.add(entry["id"])
                self.screen.reply(self._name, spoken(entry))
            else:
                self.screen.say(f"{entry['name']}: {entry['text']}", dim=True)

    def _send(self, ours: Connection, line: str) -> None:
        message_id = os.urandom(16).hex()
        self._mine.add(message_id)
        try:
            said = ours.ask(
                "send", chat=self.chat, text=line, sender=self.sender, message_id=message_id
            )
        except Refused as error:
            self.screen.say(f"not sent: {error.message}")
            return
        if said["wakes"]:
            with self._progress:
                self._asked.add(said["seq"])

    # --- the other thread

    def _listen(self, theirs: Connection) -> None:
        try:
            while (event := theirs.event(None)) is not None:
                self._show(event)
        except (NotRunning, HungUp) as error:
            if self._leaving:
                return  # it was us who closed the connection
            if isinstance(error, HungUp):
                self.screen.leave(Exit.OURS, error.message)
            self.screen.leave(Exit.NOT_RUNNING, "the daemon stopped")

    def _show(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "message":
                if event["id"] not in self._shown:
                    self.screen.reply(self._name, spoken(event))
                with self._progress:
                    self._shown.add(event["id"])
            case "incoming" if event["message_id"] not in self._mine:
                self.screen.say(f"{event['sender_name']}: {event['text']}", dim=True)
            case "typing":
                self.screen.typing(self._name, event["on"])
            case "turn":
                self._follow(event)
        with self._progress:
            for turn in [t for t, words in self._awaited.items() if words <= self._shown]:
                del self._awaited[turn]
                self._over |= self._turns.pop(turn, set())
            self._progress.notify_all()

    def _follow(self, event: dict[str, Any]) -> None:
        turn, state = event["turn"], event["state"]
        if state == "started":
            self._turns.setdefault(turn, set()).update(event["seqs"])
        elif state == "retry":
            self.screen.say(
                f"({one_line(event['error'] or '') or 'it failed'}; it will be tried again)",
                dim=True,
            )
        elif state in ("done", "failed", "cancelled"):
            if state != "done" and event["error"]:
                self.screen.say(f"({one_line(event['error'])})", dim=True)
            self._awaited[turn] = set(event["replies"])
