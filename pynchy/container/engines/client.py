"""Hold a container through the client process of its engine.

An engine's client (`docker start`, the leash of bwrap) is our child process, and its stdin, stdout and stderr are the
container's. `attach` holds it for the length of a block and ends it in order: close its stdin, wait, ask the engine to
stop the container, kill the container, kill the client, and see in every case that the container is gone. How an engine
does that is its `Ending`. Nothing here knows an engine, and every wait has a limit.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from pynchy.container.engines.runtime import ContainerGone, SpawnFailed
from pynchy.container.spec import STOP_GRACE
from pynchy.reader_budget import Reader

CHUNK: Final = 64 << 10
STDERR_KEPT: Final = 64 << 10
CALL_TIMEOUT: Final = 30.0  # seconds for one question to an engine
LAST_WORDS: Final = 0.2  # seconds from the end of a client to the end of its pipes
KILL_GRACE: Final = 10.0  # seconds from a kill until a client must have ended


class Ending(Protocol):
    """How an engine ends one container. Each may be called more than once, and each returns in bounded time."""

    @property
    def engine(self) -> str: ...

    async def stop(self, client: trio.Process) -> None:
        """Ask it to end."""

    async def kill(self, client: trio.Process) -> None:
        """End the whole process tree."""

    async def see_gone(self) -> None:
        """Remove what is left of it. Raises `ContainerStays` if it is not known to be gone."""


class Attached:
    """A `Container` whose client process we hold."""

    def __init__(self, name: str, ending: Ending, nursery: trio.Nursery) -> None:
        self.name = name
        self.grace = 0.0  # seconds from the end of its stdin until it is asked to end
        self._ending = ending
        self._nursery = nursery
        self._process: trio.Process
        self._stderr = bytearray()  # its end
        # At the end a second task reads on, which may begin before the first has felt that it is cancelled.
        self._reading, self._reading_stderr = trio.Lock(), trio.Lock()
        self._killed = False

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
            async with self._reading:
                return bytes(await self._process.stdout.receive_some(CHUNK))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    def stderr_tail(self) -> bytes:
        return bytes(self._stderr)

    async def wait(self) -> int:
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        if not self._killed and self._process.returncode is None:
            self._killed = True
            self._nursery.start_soon(self._ending.kill, self._process, name=f"kill {self.name}")

    # --- the client process, and its end ---

    async def start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = await self._nursery.start(
            partial(
                trio.run_process,
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,  # an exit code is the caller's to judge
                env=dict(env),
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the daemon, which ends its containers in order
                deliver_cancel=self._end,
            ),
            name=f"client of {self.name}",
        )
        self._nursery.start_soon(self._drain_stderr, name=f"stderr of {self.name}")

    async def _end(self, process: trio.Process) -> None:
        """Ask, wait, stop, kill. Shielded from `run_process`, which cancels it as soon as the client has ended: a
        `docker stop` cut short could leave the container running. `run_process` waits for the client without a bound,
        so it is killed whatever happens here."""
        self._process = process
        assert process.stdin is not None
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    # A full pipe would block the container's way out, and its readers are cancelled.
                    nursery.start_soon(self._drain_stderr)
                    nursery.start_soon(self._discard_stdout)
                    await process.stdin.aclose()
                    await _ended(process, self.grace)
                    if process.returncode is None and not self._killed:
                        await self._ending.stop(process)
                        await _ended(process, STOP_GRACE)
                    if process.returncode is None:
                        await self._ending.kill(process)
                        await _ended(process, KILL_GRACE)
                    # Its last words are still in the pipes, which somebody else may hold open.
                    nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS
        finally:
            process.kill()

    async def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        reader = Reader("stderr")
        async with self._reading_stderr:
            while chunk := await self._process.stderr.receive_some(CHUNK):
                self._stderr += chunk
                del self._stderr[:-STDERR_KEPT]
                await reader.took(len(chunk))

    async def _discard_stdout(self) -> None:
        reader = Reader("the rest of stdout")
        while chunk := await self.receive():
            await reader.took(len(chunk))


async def _ended(process: trio.Process, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await process.wait()


@asynccontextmanager
async def attach(
    argv: Sequence[str], *, name: str, env: Mapping[str, str], grace: float, ending: Ending
) -> AsyncIterator[Attached]:
    """Start a client and talk to its container for the length of the block. On leaving, by any road, the client has
    ended and ``ending`` has seen that the container is gone. Leaving by an exception does not wait ``grace`` seconds
    first. Raises `SpawnFailed` if there is no such program."""
    has_program = True
    try:
        async with plain_nursery() as nursery:
            container = Attached(name, ending, nursery)
            try:
                await container.start(argv, env)
            except OSError as error:
                has_program = False
                raise SpawnFailed(ending.engine, f"{error.filename}: {error.strerror}") from error
            try:
                yield container
                container.grace = grace
            finally:
                nursery.cancel_scope.cancel("the conversation is over")
    finally:
        if has_program:
            with trio.CancelScope(shield=True):  # bounded, as `Ending` is
                await ending.see_gone()


@asynccontextmanager
async def plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises a single error as it is, not in a group."""
    error: BaseException
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
        return
    except BaseExceptionGroup as group:
        error = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
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
    """Run a client to its end. A missing program answers 127, and one that hangs 124."""
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
