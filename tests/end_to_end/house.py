"""A daemon of its own for a test, and somebody who talks to it: from outside, as a user would.

Everything here is real: the process that `pynchy run` starts, its control socket, its sandboxes, the CLI in them. Only
the model is the offline one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from pynchy.config.paths import Home
from tests.internet import Internet
from tests.processes import parents

HANG = 90.0  # seconds after which something hangs; nothing here takes a tenth of it

Event = dict[str, Any]


@attrs.define(eq=False)
class Talk:
    """One client of the control socket, attached to a chat."""

    chat: str
    _socket: socket.socket
    _buffer: bytes = b""
    _last: int = 0
    events: list[Event] = attrs.field(factory=list)

    def call(self, op: str, **arguments: Any) -> Any:
        """One op and its answer; events that come in between are kept."""
        self._last += 1
        self._socket.sendall(json.dumps({"id": self._last, "op": op, **arguments}).encode() + b"\n")
        deadline = time.monotonic() + HANG
        while True:
            line = self._line(deadline)
            if "event" not in line and line.get("id") == self._last:
                assert line["ok"], line
                return line["result"]
            self.events.append(line)

    def say(self, text: str, **more: Any) -> int:
        """Say something and return the number of its row."""
        return int(self.call("send", chat=self.chat, text=text, **more)["seq"])

    def wait(self, what: Callable[[Event], bool]) -> Event:
        """The first event, seen already or yet to come, that is what we wait for. It is taken."""
        deadline = time.monotonic() + HANG
        while True:
            for index, event in enumerate(self.events):
                if what(event):
                    return self.events.pop(index)
            self.events.append(self._line(deadline))

    def reply(self) -> str:
        """The text of the next message to our chat."""
        return str(self.wait(lambda event: event["event"] == "message")["text"])

    def ask(self, text: str) -> str:
        """Say something and return the text of the next reply."""
        self.say(text)
        return self.reply()

    def turn(self, state: str) -> Event:
        """The next turn that comes to this state."""
        return self.wait(lambda event: event["event"] == "turn" and event["state"] == state)

    def _line(self, deadline: float) -> Event:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                raise AssertionError(f"nothing more within {HANG:g} s; seen: {self.events}")
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the daemon hung up")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        event: Event = json.loads(line)
        return event


@attrs.define(eq=False)
class Daemon:
    """One `pynchy run`."""

    home: Home
    process: subprocess.Popen[bytes]

    @contextmanager
    def talk(self, chat: str = "console:main") -> Iterator[Talk]:
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(str(self.home.control_socket))
            client = Talk(chat, ours)
            client.call("attach", chat=chat)
            yield client

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(how)
        return self.process.wait(HANG)

    def log(self) -> str:
        return self.home.log.read_text(encoding="utf-8")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Ours, without what would reach outside, for a daemon of its own."""
    ours = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYNCHY_", "ANTHROPIC_", "CLAUDE_"))
    }
    roomy = {"PYNCHY_DISK_FREE": "1m", "PYNCHY_DISK_FREE_PERCENT": "0"}  # whatever disk this is
    return ours | {"PYNCHY_HOME": str(home), "TZ": "UTC"} | roomy | more


@contextmanager
def running(
    home: Path,
    engine: str,
    *settings: str,
    module: str = "pynchy",
    inside: Internet | None = None,
    **env: str,
) -> Iterator[Daemon]:
    """A daemon on ``home`` until the block ends; killed then, if it has not been stopped. ``inside`` is the internet
    that it has; without one it has the machine's. The model is the offline one, unless ``env`` has a key."""
    argv = [sys.executable, "-m", module, "run", "--set", f"container.engine={engine}"]
    if "ANTHROPIC_API_KEY" not in env:
        argv += ["--offline"]
    for setting in settings:
        argv += ["--set", setting]
    if inside is not None:
        argv = inside.command(argv)
    with subprocess.Popen(
        argv,
        env=environment(home, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = select.select([process.stdout], [], [], HANG)[0]
            word = process.stdout.readline() if ready else b""
            if word != b"ready\n":
                process.kill()
                raise AssertionError(f"not ready: {process.stderr.read().decode()}")
            yield Daemon(Home(home), process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def sandboxes_of(home: Path) -> list[int]:
    """Processes that still run (zombies do not) with a path of this home in their command line."""
    found = []
    for each in parents():
        with suppress(OSError):  # it ended while we looked
            line = Path(f"/proc/{each}/cmdline").read_bytes()
            if os.fsencode(home) in line and each != os.getpid():
                found.append(each)
    return found
