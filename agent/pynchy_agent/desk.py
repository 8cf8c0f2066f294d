"""The desk: commands go out as files, answers come back by their id.

A command is written aside and renamed into place, so that the host never sees half of one. The name is the order:
sixteen hex digits of the clock, sixteen of chance. Answers arrive wherever the agent reads its lines and are handed
to whoever waits.

A tool server that is a process of its own cannot read the agent's lines. It waits on a FIFO named after the command
in the answers folder instead, which any program can write a line into.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from pynchy_agent import wire


class Desk:
    """Hands commands to the host and waits for what it says."""

    def __init__(
        self, *, commands: Path, answers: Path, new_id: Callable[[], str] | None = None
    ) -> None:
        self._commands = commands
        self._answers = answers
        self._new_id = new_id or new_command_id
        self._waiting: dict[str, _Slot] = {}

    async def ask(self, command: wire.Command) -> wire.Answer:
        """Send one command and wait for its answer, however long that takes; a cancelled wait sends nothing back."""
        command_id = self._new_id()
        slot = self._waiting[command_id] = _Slot()
        try:
            put(self._commands, command_id, command)
            await slot.event.wait()
        finally:
            del self._waiting[command_id]
        assert slot.answer is not None
        return slot.answer

    def take(self, answer: wire.Answer) -> bool:
        """Give an answer to whoever waits for it here; False when nobody does any more."""
        slot = self._waiting.get(answer.id)
        if slot is not None:
            slot.answer = answer
            slot.event.set()
            return True
        return False


class _Slot:
    def __init__(self) -> None:
        self.event = anyio.Event()
        self.answer: wire.Answer | None = None


def new_command_id() -> str:
    """An id that sorts by the time it was made."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def put(folder: Path, command_id: str, command: wire.Command) -> None:
    """Write a command file: aside under a name that the host passes over, then into place."""
    data = wire.encode_command(command)
    if len(data) > wire.MAX_COMMAND:
        raise wire.BadFrame(f"the command has {len(data)} bytes, the limit is {wire.MAX_COMMAND}")
    aside = folder / f".{command_id}.tmp"
    aside.write_bytes(data)
    os.replace(aside, folder / f"{command_id}.json")  # noqa: PTH105  (one call, both names in view)
