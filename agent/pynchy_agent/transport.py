"""The SDK's transport: JSON lines through pipes to a CLI that already runs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import trio
from claude_agent_sdk import CLIJSONDecodeError, ProcessError, Transport

from pynchy_agent import wire

MAX_LINE: Final = 64 << 20  # bytes; a picture that the agent looked at is in one line
GRACE: Final = 2.0  # seconds for the CLI to write its transcript after the end of its input


class CliTransport(Transport):
    """Lines to and from one process, which is gone after `close`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = trio.lowlevel.FdStream(os.dup(process.stdin.fileno()))
        self._stdout = trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))
        process.stdin.close()
        process.stdout.close()
        self._turn = trio.Lock()

    async def connect(self) -> None:
        """Nothing to do: the process is there."""

    async def write(self, data: str) -> None:
        async with self._turn:
            # A CLI that reads no more has ended, and whoever reads its last words can say why.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stdin.send_all(data.encode())

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        lines = wire.LineBuffer(MAX_LINE)
        async for data in self._stdout:
            lines.feed(data)
            while (line := lines.pop()) is not None:
                if line.startswith(b"{"):  # else a word for a terminal
                    yield _decode(line)
        if (code := await self._wait()) != 0:
            raise ProcessError(f"the CLI ended with exit code {code}", exit_code=code)

    async def close(self) -> None:
        await self.end_input()
        for insist in (self._process.terminate, self._process.kill):
            with trio.move_on_after(GRACE):
                await self._wait()
            insist()  # does nothing to one that has ended
        await self._wait()
        await self._stdout.aclose()

    async def end_input(self) -> None:
        await self._stdin.aclose()

    def is_ready(self) -> bool:
        return self._process.poll() is None

    async def _wait(self) -> int:
        """The exit code, once there is one."""
        if self._process.poll() is None:
            pidfd = os.pidfd_open(self._process.pid)
            try:
                await trio.lowlevel.wait_readable(pidfd)
            finally:
                os.close(pidfd)
        return self._process.wait()


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise CLIJSONDecodeError(repr(line[:200]), error) from error
    return message
