"""The program on a real (pseudo) terminal: what a person sees, and their keyboard."""

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from pynchy.config.paths import Home


class Terminal:
    """What a person sees, and their keyboard."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]", settings: object) -> None:
        self.master = master
        self.process = process
        self.settings = settings  # as they were before the program touched them
        self.seen = b""

    async def sees(self, text: str, *, after: int = 0) -> int:
        """Wait until this has appeared; where its end is in all that was seen."""
        while (at := self.seen.find(text.encode(), after)) < 0:
            await trio.lowlevel.wait_readable(self.master)
            try:
                chunk = os.read(self.master, 4096)
            except OSError:
                chunk = b""
            assert chunk, f"ended without {text!r}: {self.seen!r}"
            self.seen += chunk
        return at + len(text.encode())

    async def types(self, text: str) -> None:
        await trio.lowlevel.wait_writable(self.master)
        os.write(self.master, text.encode())

    async def ended(self) -> int:
        """The exit code; the terminal is as it was."""
        while True:  # what it still writes must be read, or it waits for us
            with suppress(OSError):
                if await trio.to_thread.run_sync(self.process.poll) is not None:
                    break
            with trio.move_on_after(0.05):
                await trio.lowlevel.wait_readable(self.master)
                with suppress(OSError):
                    self.seen += os.read(self.master, 4096)
        assert termios.tcgetattr(self.master)[3] == self.settings
        return int(self.process.returncode)


@asynccontextmanager
async def terminal(home: Home, *arguments: str, **environ: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    settings = termios.tcgetattr(master)[3]

    def take_over() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal

    process = subprocess.Popen(
        [sys.executable, "-m", "pynchy", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={
            "PATH": os.environ["PATH"],
            "PYNCHY_HOME": str(home.root),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            **environ,
        },
        start_new_session=True,
        preexec_fn=take_over,
    )
    try:
        yield Terminal(master, process, settings)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)
