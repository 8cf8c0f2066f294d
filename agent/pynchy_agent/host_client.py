"""Send commands to the host as files, and match the answers to them by id.

A command is written aside and renamed into place, so that the host never sees half of one. The name is the order:
sixteen hex digits of the clock, then sixteen of chance. An answer reaches the agent on its stdin and is handed to
whoever waits for it.

A tool server that is a process of its own cannot read the agent's stdin. It makes a FIFO named after the command in
the answers folder, and whatever runs the agent writes the answer's line into it: `HostClient.take` here, ``printf``
in a shell.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

import anyio

from pynchy_agent import wire


class HostClient:
    """Hands commands to the host and gives each answer to whoever asked."""

    def __init__(self, *, commands: Path, answers: Path) -> None:
        self._commands = commands
        self._answers = answers
        self._waiting: dict[str, _Slot] = {}

    async def ask(self, command: wire.Command) -> wire.Answer:
        """Send one command and wait for its answer, however long that takes."""
        command_id = new_command_id()
        slot = self._waiting[command_id] = _Slot()
        try:
            put(self._commands, command_id, command)
            await slot.came.wait()
        finally:
            del self._waiting[command_id]
        assert slot.answer is not None
        return slot.answer

    async def take(self, answer: wire.Answer) -> None:
        """Give an answer to whoever waits for it, here or at a FIFO. Nobody may: then the call was given up."""
        slot = self._waiting.get(answer.id)
        if slot is None:
            await _to_fifo(self._answers, answer)
        else:
            slot.answer = answer
            slot.came.set()


class _Slot:
    def __init__(self) -> None:
        self.came = anyio.Event()
        self.answer: wire.Answer | None = None


async def ask_by_fifo(command: wire.Command, *, commands: Path, answers: Path) -> wire.Answer:
    """Like `HostClient.ask`, from a process that is not the one the host speaks to."""
    command_id = new_command_id()
    fifo = _make_fifo(answers, command_id)
    try:
        # Open for writing as well: so it never comes to its end, whoever opens and closes the other side.
        fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            put(commands, command_id, command)  # only now that there is a place for the answer
            line = await _read_line(fd)
        finally:
            os.close(fd)
    finally:
        fifo.unlink()
    answer = wire.decode_line(line)
    if not isinstance(answer, wire.Answer):
        raise wire.BadFrame(f"a {type(answer).__name__} where an answer belongs")
    return answer


def _make_fifo(answers: Path, command_id: str) -> Path:
    answers.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.mkfifo(answers / command_id, mode=0o600)
    return answers / command_id


async def _read_line(fd: int) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        if len(received) > wire.MAX_LINE:
            raise wire.BadFrame(f"an answer of more than {wire.MAX_LINE} bytes")
        await anyio.wait_readable(fd)
        received += os.read(fd, 1 << 16)
    return bytes(received[:-1])


async def _to_fifo(answers: Path, answer: wire.Answer) -> None:
    if wire.COMMAND_NAME.fullmatch(f"{answer.id}.json") is None:
        return
    try:
        # Fails at once where nobody reads. Anything but a FIFO in this place is not ours.
        fd = os.open(answers / answer.id, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            await _write(fd, memoryview(wire.encode_line(answer)))
    finally:
        os.close(fd)


async def _write(fd: int, data: memoryview) -> None:
    with suppress(BrokenPipeError):
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                await anyio.wait_writable(fd)


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
    aside.replace(folder / f"{command_id}.json")
