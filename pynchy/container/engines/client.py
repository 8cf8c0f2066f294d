"""What all engines share: a container behind three pipes.

An engine's client (``docker start``, the leash of bwrap) is a process of ours whose stdin, stdout and stderr are the
container's. `attach` holds it for the length of a block; how to end what it stands for is the engine's to say
(`Ending`). The rule that keeps it so: nothing here knows an engine, and every wait has a bound or an owner.
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import trio

from pynchy.container.engines.runtime import ContainerGone
from pynchy.reader_budget import Reader

CHUNK: Final = 64 << 10
STDERR_KEPT: Final = 64 << 10
CALL_TIMEOUT: Final = 30.0  # seconds for one question to an engine


class Ending(Protocol):
    """How an engine ends one container. Each may be called at any time, and more than once."""

    def kill(self) -> None:
        """Begin the end of the whole tree now, without waiting."""

    async def stop(self, exited: trio.Event) -> None:
        """Ask it to end, insist after a while, and return when it is gone. Bounded."""


class Ring:
    """The last bytes of a stream."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunks: deque[bytes] = deque()
        self._held = 0

    def add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._held += len(chunk)
        while self._held - len(self._chunks[0]) >= self._size:
            self._held -= len(self._chunks.popleft())

    def tail(self) -> bytes:
        return b"".join(self._chunks)[-self._size :]


class Attached:
    """A `Container` by way of its client process."""

    def __init__(self, name: str, process: trio.Process, ending: Ending) -> None:
        self.name = name
        self.exited = trio.Event()
        self._process = process
        self._ending = ending
        self._ring = Ring(STDERR_KEPT)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ContainerGone(self.name) from None

    async def receive(self) -> bytes:
        assert self._process.stdout is not None
        try:
            return bytes(await self._process.stdout.receive_some(CHUNK))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def stderr_tail(self) -> bytes:
        return self._ring.tail()

    async def wait(self) -> int:
        await self.exited.wait()
        code = self._process.returncode
        assert code is not None
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        if not self.exited.is_set():
            self._ending.kill()

    # --- the tasks of the block, and its end ---

    async def watch(self) -> None:
        await self._process.wait()
        self.exited.set()

    async def drain_stderr(self) -> None:
        assert self._process.stderr is not None
        reader = Reader("stderr")
        while chunk := await self._process.stderr.receive_some(CHUNK):
            self._ring.add(bytes(chunk))
            await reader.took(len(chunk))

    async def leave(self, *, grace: float) -> None:
        """The end of the conversation, in order: end of stdin, patience, the engine's ways, the client itself."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with trio.move_on_after(grace):
            await self.exited.wait()
        await self._ending.stop(self.exited)
        if not self.exited.is_set():
            self._process.kill()
            await self.exited.wait()

    async def discard(self) -> None:
        """Read what nobody wants any more, so that it cannot block the agent's way out."""
        reader = Reader("the rest of stdout")
        while chunk := await self.receive():
            await reader.took(len(chunk))


@asynccontextmanager
async def attach(
    argv: Sequence[str], *, name: str, env: Mapping[str, str], grace: float, ending: Ending
) -> AsyncIterator[Attached]:
    """Start a client and talk to its container for the length of the block. On leaving, by any road, ``ending`` has
    seen to it that the container is gone, and the client has been reaped. OSError if there is no such program."""
    async with plain_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the daemon, which ends its containers in order
        )
        container = Attached(name, process, ending)
        helpers = Helpers(nursery)
        politeness = 0.0
        try:
            helpers.start(container.watch, name=f"exit {name}")
            helpers.start(container.drain_stderr, name=f"stderr {name}")
            yield container
            politeness = grace
        finally:
            with trio.CancelScope(
                shield=True
            ):  # bounded: `Ending.stop` is, and a client that is killed ends
                helpers.start(container.discard, name=f"rest of {name}")
                try:
                    await container.leave(grace=politeness)
                finally:
                    helpers.cancel()


class Helpers:
    """Tasks that are needed until the very end, so that only we cancel them, not what cancels the block."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []

    def start(self, task: Callable[[], Awaitable[None]], *, name: str) -> None:
        scope = trio.CancelScope(shield=True)
        self._scopes.append(scope)
        self._nursery.start_soon(self._run, scope, task, name=name)

    async def _run(self, scope: trio.CancelScope, task: Callable[[], Awaitable[None]]) -> None:
        with scope:
            await task()

    def cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel("the container is gone")


@asynccontextmanager
async def plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks never fail, so that an error of the block comes out as it is, and not in a group."""
    error: BaseException
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
        return
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
    raise error


# --- one question to an engine --------------------------------------------------------------------


@attrs.frozen
class Called:
    """What an engine's client answered."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def reason(self) -> str:
        """What it said, short enough for one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines)[-500:] or f"exit code {self.code}"


async def call(
    argv: Sequence[str], *, env: Mapping[str, str], seconds: float = CALL_TIMEOUT
) -> Called:
    """Run a client to its end. A missing program and a client that hangs are answers too: 127 and 124."""
    with trio.move_on_after(seconds):
        try:
            done = await trio.run_process(
                list(argv),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=dict(env),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return Called(127, "", f"{argv[0]}: {error.strerror}")
        return Called(
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
    return Called(124, "", f"{argv[0]} did not answer within {seconds:g} seconds")
