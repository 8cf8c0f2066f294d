"""The interface of a container engine: `Runtime`, `Container`, and the errors they raise.

No engine is named here. `choice.open_runtime` chooses one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs

from pynchy.container.spec import Spec


@attrs.frozen
class Installation:
    """Whose containers an engine runs. ``id`` marks them, ``image`` is what agents run from, ``folder`` holds files of
    ours that engines are given, and ``environ`` is where engines are looked for."""

    id: str
    image: str | None
    folder: Path
    environ: Mapping[str, str]


class NoRuntime(Exception):
    """No engine on this machine can run an agent, or one engine cannot. ``heals``: waiting may help, since the engine
    is installed and not up. ``remedy`` is one sentence that says what to do, or empty."""

    def __init__(
        self, text: str, *, heals: bool = False, remedy: str = "", installed: bool = True
    ) -> None:
        super().__init__(text)
        self.heals = heals
        self.remedy = remedy
        self.installed = installed


class SpawnFailed(Exception):
    """The engine could not make the container. That is no fault of the agent's."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(f"{engine}: {reason}")
        self.engine = engine
        self.reason = reason


class ContainerGone(Exception):
    """The container no longer reads what it is sent."""


class ContainerStays(Exception):
    """The engine still has a container that it was asked to remove, or no longer answers."""


class Container(Protocol):
    """A running container, for as long as the block of `Runtime.open` lasts."""

    @property
    def name(self) -> str: ...

    async def send(self, data: bytes) -> None:
        """Write to its stdin; waits while the container does not read. Raises `ContainerGone`."""

    async def receive(self) -> bytes:
        """The next bytes of its stdout, 64 KiB at most; b"" at the end. The container waits while nobody receives."""

    def stderr_tail(self) -> bytes:
        """The last 64 KiB of its stderr and of the engine's own messages. Never to be parsed."""

    async def wait(self) -> int:
        """Wait for its exit code: 128 + N after signal N, 125 if the engine could not start it."""

    def kill(self) -> None:
        """End the whole process tree now. Does not wait: `wait` returns when it is done."""


class Runtime(Protocol):
    """One container engine, for the containers of one installation."""

    @property
    def name(self) -> str: ...

    @property
    def owner(self) -> tuple[int, int]:
        """The uid and gid on the host that must own what an agent may write."""

    def open(self, spec: Spec, *, grace: float) -> AbstractAsyncContextManager[Container]:
        """Run a container for the length of the block, and see that it is gone after it.

        Raises `SpawnFailed` on entering. Leaving normally closes its stdin and waits ``grace`` seconds; leaving by an
        exception does not wait. Then it is asked to end, then killed. Raises `ContainerStays` if it still exists after
        all that.
        """

    async def list(self) -> list[str]:
        """The names of this installation's containers that exist, running or not."""

    async def remove(self, name: str) -> None:
        """End and remove one; it is gone on return. No error if there is none. Raises `ContainerStays`."""

    async def versions(self) -> dict[str, str]:
        """The programs that the engine consists of and their versions, as far as they are known."""

    async def has_image(self) -> bool:
        """Whether the image that agents run from is there; True for an engine that needs none."""

    async def storage_driver(self) -> str:
        """How images are stored, in the engine's word, such as "overlay"; "" if it has none or does not say."""

    async def limits_held(self) -> dict[str, str]:
        """Which limits (memory, cpus, pids, files, seccomp and more) are enforced here, and by what; "" if by nothing.
        Observed, not assumed. Raises `SpawnFailed` if that is not possible."""
