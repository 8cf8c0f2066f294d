"""The client of the control socket, synchronous, so that a command starts fast.

The rule that keeps it so: the standard library and click alone. What an answer means is its command's business.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from pynchy.config.paths import Home
from pynchy.exits import Exit
from pynchy.text import safe

STOP_FIRST: Final = "stop it first: pynchy service stop, or Ctrl-C where it runs"
AGAIN: Final = "The running daemon does not know of it yet: pynchy service restart"
ANSWER: Final = 30.0  # seconds; `limits.CLIENTS.answer`, which takes too long to import


class Failure(click.ClickException):
    """A sentence for the person, and the exit code for their script."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(printable(message))
        self.exit_code = code  # type: ignore[misc]  # click reads it off the instance, too


class NotRunning(Failure):
    """There is no daemon, or it went away."""

    def __init__(self, message: str = "pynchy is not running; start it with: pynchy run") -> None:
        super().__init__(message, Exit.NOT_RUNNING)


_EXITS: Final = {
    "not_a_console": Exit.USAGE,
    "bad_request": Exit.USAGE,
    "unknown_chat": Exit.USAGE,
    "unknown_group": Exit.USAGE,
    "taken": Exit.USAGE,
    "not_allowed": Exit.USAGE,
    "unknown_code": Exit.USAGE,
    "not_open": Exit.USAGE,
}


class Refused(Failure):
    """The daemon said no."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, _EXITS.get(code, Exit.OURS))
        self.code = code


class HungUp(Failure):
    """The daemon is running, but closed this connection or does not answer on it."""

    def __init__(self, message: str, code: Exit = Exit.OURS) -> None:
        super().__init__(message, code)


class Connection:
    """One connection to the daemon."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        self._socket = connection
        self._path = path
        self._buffer = b""
        self._events: deque[dict[str, Any]] = deque()
        self._last_id = 0

    def ask(self, op: str, **arguments: object) -> Any:
        """The result of an op. Raises `Refused`, `NotRunning` if the daemon is gone, or `HungUp` if no answer
        comes and it is not."""
        return self.ask_patiently(ANSWER, op, **arguments)

    def ask_patiently(self, patience: float, op: str, **arguments: object) -> Any:
        """The same of an op that takes its time: seconds until the daemon counts as gone."""
        self._last_id += 1
        request = {"id": self._last_id, "op": op, **arguments}
        deadline = time.monotonic() + patience
        try:
            self._socket.settimeout(ANSWER)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            self._last_words()
            raise self._gone() from error
        while (line := self._line(deadline)) is not None:
            if "event" in line:
                self._events.append(line)
            elif line.get("ok"):
                return line["result"]
            else:
                raise Refused(str(line.get("code")), str(line.get("error")))
        raise HungUp(
            f"the daemon is running but did not answer within {patience:g} s; its log may say why: pynchy logs",
            Exit.NO_ANSWER,
        )

    def event(self, deadline: float | None) -> dict[str, Any] | None:
        """The next event, or None once ``deadline`` (monotonic) is past. Raises `NotRunning`."""
        return self._events.popleft() if self._events else self._line(deadline)

    def _line(self, deadline: float | None) -> dict[str, Any] | None:
        while b"\n" not in self._buffer:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            try:
                self._socket.settimeout(left)
                chunk = self._socket.recv(64 * 1024)
            except TimeoutError:
                return None
            except OSError as error:
                raise self._gone() from error
            if not chunk:
                raise self._gone()
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        if found.get("code") == "evicted":
            raise HungUp(str(found.get("error")))
        return found

    def _last_words(self) -> None:
        """Read what the daemon sent before it closed the connection. Raises `HungUp` if it said why."""
        with contextlib.suppress(NotRunning):
            while self._line(time.monotonic() + 1.0) is not None:
                pass

    def _gone(self) -> Failure:
        """Why nothing more comes: the daemon is gone, or it closed this connection."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as another:
            try:
                another.settimeout(1.0)
                another.connect(str(self._path))
            except OSError:
                return NotRunning("the daemon went away")
        return HungUp(
            "the daemon closed this connection and is still running; its log says why: pynchy logs"
        )


@contextlib.contextmanager
def open_connection(home: Home | None = None) -> Iterator[Connection]:
    """A connection to the daemon of this home for the length of the block, or `NotRunning`."""
    path = (home or Home.of(os.environ)).control_socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(ANSWER)
            connection.connect(str(path))
        except PermissionError as error:
            raise Failure(f"{path} belongs to another user", Exit.NOT_RUNNING) from error
        except OSError as error:
            raise NotRunning from error
        yield Connection(connection, path)


def ask(op: str, **arguments: object) -> Any:
    """What the daemon of this home answers, over a connection of its own."""
    with open_connection() as connection:
        return connection.ask(op, **arguments)


def console_chat(name: str) -> str:
    """The chat that a person means: ``main`` is ``console:main``. Others than the console's are not."""
    chat = name if ":" in name or "@" in name else f"console:{name}"
    if not chat.startswith("console:"):
        raise click.UsageError(f"{name} is not a console chat; its people write from their phones")
    return chat


def one_line(text: str) -> str:
    """Somebody else's words as part of one line: without line breaks, and without the host's mark."""
    return safe.line(text, 500)


def indented(text: str) -> str:
    """A text whose further lines are indented, so that none can pass for an entry of its own."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n    ")


def printable(text: str) -> str:
    """Text that cannot colour, move or retitle a terminal, nor turn its direction round."""
    return safe.block(text)
