"""Containers as everyone above the engines knows them: `Runtime`, `Container`, and what may go wrong.

The rule that keeps it so: no engine is named here. `choice.open_runtime` chooses one.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pynchy.container.engines.troubles import judge
from pynchy.container.spec import Spec


class NoRuntime(Exception):
    """Nothing on this machine can hold an agent, or one engine cannot; the message says what to do. ``heals``: waiting
    may help, since an engine is there and only not up."""

    def __init__(
        self, text: str, *, heals: bool = False, remedy: str = "", installed: bool = True
    ) -> None:
        super().__init__(text)
        self.heals = heals
        self.remedy = remedy
        self.installed = installed


def refused(engine: str, said: str, *, installed: bool) -> NoRuntime:
    """An engine's refusal, in its own words, as what it means for us."""
    found = judge(engine, said, installed=installed)
    return NoRuntime(
        found.reason, heals=found.heals, remedy=found.remedy, installed=found.installed
    )


class SpawnFailed(Exception):
    """The engine could not make the container: ours to tell the user, no fault of the agent's."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine = engine
        self.reason = reason


class ContainerGone(Exception):
    """Something was said to a container that no longer listens."""


class ContainerStays(Exception):
    """The engine was asked to remove a container, and still has it, or no longer answers."""


class Container(Protocol):
    """A running container, for as long as the block of `Runtime.open` lasts."""

    @property
    def name(self) -> str: ...

    async def send(self, data: bytes) -> None:
        """Write to its stdin; waits while it does not read. Raises `ContainerGone`."""

    async def receive(self) -> bytes:
        """The next bytes of its stdout, 64 KiB at most; b"" at the end. What is not received holds it back."""

    def stderr_tail(self) -> bytes:
        """The last 64 KiB of its stderr and of what its engine said. Never to be parsed."""

    async def wait(self) -> int:
        """Wait for its end: its exit code, 128 + N after signal N, 125 when the engine could not start it."""

    def kill(self) -> None:
        """End the whole process tree now. Does not wait: `wait` returns when it is done."""


class Runtime(Protocol):
    """One container engine, for the containers of one installation."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid on the host that writable folders must belong to, for an agent to write there."""

    def open(self, spec: Spec, *, grace: float) -> AbstractAsyncContextManager[Container]:
        """Run a container for the length of the block, and see that it is gone after.

        Raises `SpawnFailed` on entering. Leaving normally closes its stdin and waits ``grace`` seconds; leaving by an
        exception does not wait; then it is asked to end, then killed, and looked for. `ContainerStays` if it is still
        there after all that.
        """

    async def list(self) -> list[str]:
        """The names of this installation's containers that exist, running or not."""

    async def remove(self, name: str) -> None:
        """End and remove one; it is gone on return. No error if there is none. Raises `ContainerStays`."""

    async def versions(self) -> dict[str, str]:
        """The programs it stands on and their versions, as far as they tell."""

    async def has_image(self) -> bool:
        """Whether the image that agents run from is there; True for an engine that needs none."""

    async def storage_driver(self) -> str:
        """How images are kept, in the engine's word, such as "overlay"; "" where there are none or it does not say."""

    async def limits_held(self) -> dict[str, str]:
        """What of memory, cpus, pids, files, seccomp and more is enforced here, and by what; "" where nothing does.
        Seen, not assumed. Raises `SpawnFailed` where it cannot be seen."""
